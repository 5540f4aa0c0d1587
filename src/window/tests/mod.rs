//! Windows by example; `model` holds them against a naive model.

mod model;
mod shift;

use std::collections::{BTreeMap, HashMap};

use super::*;
use crate::entry::entries;
use crate::manifest::MeterKind;
use crate::units::Millis;

const SECOND: i64 = 1000;
const KINDS: [MeterKind; 3] = [MeterKind::Counter, MeterKind::Gauge, MeterKind::Distribution];

/// (meter, key, window's start): the merged aggregates.
type Totals = BTreeMap<(String, Vec<u8>, i64), Aggregate<'static>>;

fn meter(name: &str, kind: MeterKind, window_ms: u64, lateness_ms: u64, keys_max: u32) -> MeterDef {
    MeterDef {
        name: name.into(),
        topic: format!("meters/{name}"),
        spec: MeterSpec {
            name: name.into(),
            kind,
            window: Millis(window_ms),
            lateness: Millis(lateness_ms),
            time: MeterTime::Event,
            keys_max,
            unit: "kWh".into(),
        },
    }
}

fn at(event_ms: i64, now_ms: i64) -> FoldTime {
    let synced = TimeQuality::Synced;
    FoldTime { event_ms, now_ms, quality: synced, is_own: false, clock: synced, hold_until_ms: i64::MIN }
}

fn owned(aggregate: &Aggregate<'_>) -> Aggregate<'static> {
    let mut bytes = Vec::new();
    aggregate.encode(&mut bytes);
    let bytes: &'static [u8] = bytes.leak();
    Aggregate::decode(bytes).expect("what was encoded is decoded")
}

fn collect(totals: &mut Totals) -> impl FnMut(&MeterDef, &Aggregate<'_>) + '_ {
    |_, aggregate| {
        let aggregate = owned(aggregate);
        let key = (aggregate.meter.to_string(), aggregate.key.to_vec(), aggregate.start_ms);
        match totals.entry(key) {
            std::collections::btree_map::Entry::Vacant(entry) => _ = entry.insert(aggregate),
            std::collections::btree_map::Entry::Occupied(mut entry) => entry.get_mut().merge(&aggregate).unwrap(),
        }
    }
}

/// Emissions as (meter, key, start s, revision, count, sum).
fn list<'a>(out: &'a mut Vec<(String, String, i64, u8, u64, f64)>) -> impl FnMut(&MeterDef, &Aggregate<'_>) + 'a {
    |def, a| {
        assert_eq!(def.name, a.meter);
        let key = String::from_utf8_lossy(a.key).into_owned();
        out.push((def.name.clone(), key, a.start_ms / SECOND, a.revision, a.stats.count, a.stats.sum.to_f64()));
    }
}

fn nothing(_: &MeterDef, aggregate: &Aggregate<'_>) {
    panic!("emitted unexpectedly: {aggregate:?}");
}

/// A linear congruential generator: the cases are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// What lies on flash: a map, as the store keeps it.
#[derive(Default)]
struct Flash(HashMap<Vec<u8>, Vec<u8>>);

impl Flash {
    fn commit(&mut self, list: &Entries) {
        for entry in entries(list.bytes()).map(|entry| entry.unwrap()) {
            match entry.value {
                Some(value) => _ = self.0.insert(entry.key.to_vec(), value.to_vec()),
                None => assert!(self.0.remove(&entry.key).is_some(), "deleted what was not there"),
            }
        }
    }

    fn restart(&self, meters: &[MeterDef], emit: Emit<'_>) -> Windows {
        let mut windows = Windows::new(meters.to_vec()).unwrap();
        for (key, value) in &self.0 {
            windows.restore(key, value).unwrap();
        }
        assert_eq!(windows.restored(emit).lost, 0);
        windows
    }
}

#[test]
fn a_window_is_emitted_at_its_end_then_with_what_was_late_then_with_what_was_later() {
    let mut windows = Windows::new(vec![meter("f.m", MeterKind::Gauge, 60_000, 30_000, 10)]).unwrap();
    let mut out = Vec::new();
    let fold = |windows: &mut Windows, event_s: i64, now_s: i64, value| {
        windows.fold(at(event_s * SECOND, now_s * SECOND), 0, b"k", value, &mut nothing).unwrap().lateness
    };
    assert_eq!(windows.deadline_ms(), None);
    assert_eq!(fold(&mut windows, 60, 61, 1.0), Lateness::OnTime);
    assert_eq!(fold(&mut windows, 119, 119, 2.0), Lateness::OnTime);
    assert_eq!(windows.deadline_ms(), Some(120 * SECOND));
    windows.close_due(119_999, &mut nothing);
    windows.close_due(120_000, &mut list(&mut out));
    assert_eq!(fold(&mut windows, 119, 121, 4.0), Lateness::Late);
    assert_eq!(windows.deadline_ms(), Some(150 * SECOND));
    windows.close_due(150_000, &mut list(&mut out));
    assert_eq!(fold(&mut windows, 119, 150, 8.0), Lateness::TooLate);
    assert_eq!(windows.deadline_ms(), Some(160 * SECOND));
    windows.close_due(160_000, &mut list(&mut out));
    let emitted: Vec<_> =
        out.iter().map(|(_, _, start, revision, count, sum)| (*start, *revision, *count, *sum)).collect();
    assert_eq!(emitted, [(60, REVISION_END, 2, 3.0), (60, REVISION_LATENESS, 1, 4.0), (60, REVISION_LATE, 1, 8.0)]);
    assert_eq!((windows.cells(), windows.deadline_ms()), (0, None));
}

#[test]
fn emissions_come_in_the_order_of_meter_window_and_key() {
    let meters = vec![meter("f.b", MeterKind::Counter, 10_000, 0, 9), meter("f.a", MeterKind::Counter, 10_000, 0, 9)];
    let mut windows = Windows::new(meters).unwrap();
    for (meter, key, event_ms) in [(1, "z", 5), (0, "y", 12_000), (0, "x", 12_000), (0, "y", 0), (1, "a", 0)] {
        _ = windows.fold(at(event_ms, 0), meter, key.as_bytes(), 1.0, &mut nothing).unwrap();
    }
    let mut out = Vec::new();
    windows.close_due(i64::MAX, &mut list(&mut out));
    let order: Vec<_> = out.iter().map(|(meter, key, start, ..)| (meter.as_str(), *start, key.as_str())).collect();
    assert_eq!(order, [("f.b", 0, "y"), ("f.b", 10, "x"), ("f.b", 10, "y"), ("f.a", 0, "a"), ("f.a", 0, "z")]);
}

#[test]
fn keys_beyond_the_bound_share_the_overflow_key() {
    let mut windows = Windows::new(vec![meter("f.m", MeterKind::Counter, 1000, 0, 2)]).unwrap();
    let long = [b'k'; METER_KEY_MAX as usize + 1];
    let mut overflow = |key: &[u8]| windows.fold(at(0, 0), 0, key, 1.0, &mut nothing).unwrap().overflow;
    let table: [(&[u8], bool); 7] =
        [(b"~overflow", true), (&long, true), (b"a", false), (b"b", false), (b"c", true), (b"a", false), (b"", true)];
    for (key, expected) in table {
        assert_eq!(overflow(key), expected, "{key:?}");
    }
    let mut out = Vec::new();
    windows.close_all(&mut list(&mut out));
    let counts: Vec<_> = out.iter().map(|(_, key, .., count, _)| (key.as_str(), *count)).collect();
    assert_eq!(counts, [("a", 2), ("b", 1), ("~overflow", 4)]);
}

#[test]
fn where_windows_are_too_many_the_furthest_is_emitted_early() {
    let mut windows = Windows::new(vec![meter("f.m", MeterKind::Counter, 1000, 0, 1)]).unwrap();
    let mut totals = Totals::new();
    let bound = windows.meters[0].windows_max();
    for n in 0..500 {
        _ = windows.fold(at(n * 1000, 1_000_000), 0, b"k", 1.0, &mut collect(&mut totals)).unwrap();
        assert!(windows.meters[0].windows.len() <= bound && windows.cells() <= windows.meters[0].cells_max());
    }
    windows.close_all(&mut collect(&mut totals));
    assert_eq!(totals.len(), 500);
    assert!(totals.values().all(|aggregate| aggregate.stats.count == 1));
}

#[test]
fn values_that_are_no_numbers_are_not_taken() {
    let mut windows = Windows::new(vec![meter("f.m", MeterKind::Gauge, 1000, 0, 1)]).unwrap();
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(windows.fold(at(0, 0), 0, b"k", value, &mut nothing), None);
    }
    assert_eq!(windows.cells(), 0);
}

#[test]
fn the_worst_time_quality_is_the_cells() {
    let mut windows = Windows::new(vec![meter("f.m", MeterKind::Gauge, 1000, 0, 1)]).unwrap();
    for quality in [TimeQuality::Synced, TimeQuality::Restored, TimeQuality::Synced] {
        let time = FoldTime { quality, ..at(0, 0) };
        _ = windows.fold(time, 0, b"k", 1.0, &mut nothing).unwrap();
    }
    let mut qualities = Vec::new();
    windows.close_all(&mut |_, aggregate| qualities.push(aggregate.quality));
    assert_eq!(qualities, [TimeQuality::Restored]);
}

#[test]
fn processing_time_goes_by_now() {
    let mut def = meter("f.m", MeterKind::Gauge, 1000, 0, 1);
    def.spec.time = MeterTime::Processing;
    let mut windows = Windows::new(vec![def]).unwrap();
    let fold = windows.fold(at(-5_000_000, 7_500), 0, b"k", 1.0, &mut nothing).unwrap();
    assert_eq!(fold.lateness, Lateness::OnTime);
    assert_eq!(windows.deadline_ms(), Some(8_000));
}

#[test]
fn equal_names_are_refused() {
    let twice = vec![meter("f.m", MeterKind::Gauge, 1000, 0, 1), meter("f.m", MeterKind::Gauge, 1000, 5, 2)];
    assert!(Windows::new(twice).unwrap_err().to_string().contains("defined twice"));
}

#[test]
fn times_at_the_ends_of_the_world_are_taken() {
    let mut windows = Windows::new(vec![meter("f.m", MeterKind::Distribution, u64::MAX, u64::MAX, 3)]).unwrap();
    let mut count = 0;
    for event_ms in [i64::MIN, -1, 0, i64::MAX] {
        for now_ms in [i64::MIN, -1, 0, i64::MAX] {
            let mut emit = |_: &MeterDef, aggregate: &Aggregate<'_>| count += aggregate.stats.count;
            _ = windows.fold(at(event_ms, now_ms), 0, b"k", 1.0, &mut emit).unwrap();
        }
    }
    let mut flash = Flash::default();
    let mut list = Entries::default();
    windows.drain_dirty(&mut list);
    flash.commit(&list);
    let meters: Vec<MeterDef> = windows.meters().cloned().collect();
    flash.restart(&meters, &mut nothing).close_due(i64::MAX, &mut |_, aggregate| count += aggregate.stats.count);
    assert_eq!(count, 16);
}

#[test]
fn a_removed_or_changed_meter_is_emitted_for_good_at_the_restart() {
    let meters = [meter("f.gone", MeterKind::Gauge, 60_000, 0, 5), meter("f.stays", MeterKind::Counter, 60_000, 0, 5)];
    let mut windows = Windows::new(meters.to_vec()).unwrap();
    let mut list_of = Entries::default();
    for (meter, key, value) in [(0, b"b", 2.5), (0, b"a", 1.5), (1, b"c", 4.0)] {
        _ = windows.fold(at(60_000, 60_000), meter, key, value, &mut nothing).unwrap();
    }
    windows.drain_dirty(&mut list_of);
    let mut flash = Flash::default();
    flash.commit(&list_of);
    assert_eq!(flash.0.len(), 2 + 3);

    // The other one lost its room for keys, too.
    let edited = [meter("f.stays", MeterKind::Counter, 60_000, 0, 0)];
    let mut out = Vec::new();
    let mut windows = flash.restart(&edited, &mut list(&mut out));
    let emitted: Vec<_> = out.iter().map(|(meter, key, .., sum)| (meter.as_str(), key.as_str(), *sum)).collect();
    assert_eq!(emitted.len(), 3);
    for expected in [("f.gone", "a", 1.5), ("f.gone", "b", 2.5), ("f.stays", "c", 4.0)] {
        assert!(emitted.contains(&expected), "{emitted:?}");
    }
    list_of.clear();
    windows.drain_dirty(&mut list_of);
    flash.commit(&list_of);
    assert_eq!(flash.0.len(), 1, "what is left is the definition of the meter that stays");
    let mut again = flash.restart(&edited, &mut nothing);
    again.close_all(&mut nothing);
}

#[test]
fn damaged_entries_are_refused_and_never_panic() {
    let meters = [meter("f.m", MeterKind::Distribution, 60_000, 0, 5)];
    let mut windows = Windows::new(meters.to_vec()).unwrap();
    (0..50).for_each(|n| {
        _ = windows.fold(at(60_000 + n, 60_000), 0, b"key", (n as f64).exp2(), &mut nothing).unwrap();
    });
    let mut list_of = Entries::default();
    windows.export(&mut list_of);
    for entry in entries(list_of.bytes()).map(|entry| entry.unwrap()) {
        let value = entry.value.unwrap();
        for cut in 0..value.len() {
            let mut fresh = Windows::new(meters.to_vec()).unwrap();
            assert_eq!(fresh.restore(&entry.key, &value[..cut]), Err(RestoreError::Value));
        }
        for cut in 0..entry.key.len().min(6) {
            let mut fresh = Windows::new(meters.to_vec()).unwrap();
            assert!(cut == 5 || fresh.restore(&entry.key[..cut], value) == Err(RestoreError::Key));
        }
        for at in 0..value.len() {
            let mut damaged = value.to_vec();
            damaged[at] ^= 0x91;
            let mut fresh = Windows::new(meters.to_vec()).unwrap();
            if fresh.restore(&entry.key, &damaged).is_ok() {
                fresh.restored(&mut |_, _| ());
                fresh.close_all(&mut |_, aggregate| _ = owned(aggregate));
            }
        }
    }
    let mut fresh = Windows::new(vec![]).unwrap();
    assert_eq!(fresh.restore(b"c1234\x02key", b"value"), Ok(()));
    assert_eq!(fresh.restored(&mut nothing).lost, 1);
}

#[test]
fn a_touched_cell_of_a_hundred_devices_takes_at_most_forty_bytes_of_journal() {
    for (kind, bound) in [(MeterKind::Counter, 30.0), (MeterKind::Gauge, 40.0), (MeterKind::Distribution, 260.0)] {
        let mut windows = Windows::new(vec![meter("energy.power", kind, 60_000, 5_000, 1000)]).unwrap();
        let start = 1_767_225_600_000;
        let mut random = Random(3);
        let (mut list, mut worst, mut total, mut commits) = (Entries::default(), 0, 0, 0);
        for second in 0..60 {
            for n in 0..1000 {
                let value = 20.0 + random.below(1000) as f64 / 100.0;
                let value = (value * 100.0).round() / 100.0;
                let key = format!("dev-{:04}", n % 100);
                let time = start + second * SECOND + n;
                _ = windows.fold(at(time, time), 0, key.as_bytes(), value, &mut nothing).unwrap();
            }
            list.clear();
            windows.drain_dirty(&mut list);
            worst = worst.max(list.bytes().len());
            total += list.bytes().len();
            commits += 1;
        }
        let mean = total as f64 / commits as f64 / 100.0;
        println!("{kind:?}: {mean:.1} bytes a touched cell, {:.1} at most", worst as f64 / 100.0);
        assert!(mean <= bound, "{kind:?}: {mean}");
        list.clear();
        windows.drain_dirty(&mut list);
        assert!(list.is_empty(), "what was drained and not touched is not written again");
    }
}

#[test]
fn memory_at_the_bounds_is_within_the_budgets_cost_of_a_cell() {
    use crate::budget::costs::cell;
    for (kind, keys_max) in KINDS.into_iter().flat_map(|kind| [3, 20, 300].map(|keys_max| (kind, keys_max))) {
        let def = meter("f.m", kind, 1000, 2000, keys_max);
        let mut windows = Windows::new(vec![def.clone()]).unwrap();
        let mut random = Random(7);
        let mut worst = 0;
        for n in 0..50_000 {
            let now_ms = n / i64::from(keys_max);
            let key = format!("{:0128}", random.below(u64::from(keys_max) * 2));
            let event_ms = now_ms + 500 - random.below(5000) as i64;
            let value = (random.below(1400) as f64 - 700.0).exp();
            _ = windows.fold(at(event_ms, now_ms), 0, key.as_bytes(), value, &mut |_, _| ()).unwrap();
            if n % 500 == 0 {
                windows.close_due(now_ms, &mut |_, _| ());
                let meter = &windows.meters[0];
                worst = worst.max(meter.windows.iter().chain(&meter.spare).map(Window::bytes).sum::<usize>());
            }
        }
        let bound = def.spec.cells_max() * cell(kind);
        println!("{kind:?}, {keys_max} keys: {worst} of {bound} bytes");
        assert!(worst as u64 <= bound, "{kind:?}: {worst} > {bound}");
    }
}

#[test]
fn folds_into_a_cell_that_is_there_allocate_nothing_and_windows_reuse_memory() {
    for kind in KINDS {
        let mut windows = Windows::new(vec![meter("f.m", kind, 1000, 0, 100)]).unwrap();
        let round = |windows: &mut Windows, second: i64| {
            for n in 0..500 {
                let key = [b'k', (n % 50) as u8];
                let time = at(second * SECOND + n, second * SECOND + n);
                _ = windows.fold(time, 0, &key, f64::from((n % 7) as i32) + 0.5, &mut nothing).unwrap();
            }
        };
        (0..3).for_each(|second| {
            round(&mut windows, second);
            windows.close_due((second + 1) * SECOND, &mut |_, _| ());
        });
        let measured = allocation_counter::measure(|| round(&mut windows, 3));
        assert_eq!(measured.count_total, 0, "{kind:?}");
    }
}

#[test]
fn the_same_calls_leave_the_same_trace() {
    let run = || {
        let mut windows = Windows::new(vec![meter("f.m", MeterKind::Distribution, 5000, 1000, 20)]).unwrap();
        let (mut random, mut trace, mut list) = (Random(5), Vec::new(), Entries::default());
        for n in 0..5000 {
            let key = random.below(30).to_string();
            let mut emit = |_: &MeterDef, aggregate: &Aggregate<'_>| aggregate.encode(&mut trace);
            let time = at(n * 7 - random.below(9000) as i64, n * 7);
            _ = windows.fold(time, 0, key.as_bytes(), random.below(99) as f64, &mut emit).unwrap();
            if n % 20 == 0 {
                windows.close_due(n * 7, &mut emit);
                windows.drain_dirty(&mut list);
            }
        }
        (trace, list.bytes().to_vec())
    };
    assert!(run() == run());
}

/// `cargo test --release --no-default-features --lib window::tests::fold_speed -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
#[expect(clippy::disallowed_methods, reason = "a measurement reads a clock")]
fn fold_speed() {
    let keys: Vec<String> = (0..100).map(|n| format!("dev-{n:04}")).collect();
    for kind in KINDS {
        for decimals in [true, false] {
            let mut windows = Windows::new(vec![meter("f.m", kind, 60_000, 5_000, 1000)]).unwrap();
            let mut ns = f64::INFINITY;
            for round in 0..20 {
                let started = std::time::Instant::now();
                for n in 0..200_000 {
                    let value = (n % 1000) as f64 / if decimals { 100.0 } else { 7.0 };
                    let time = at(round * 2000 + n / 100, round * 2000 + n / 100);
                    let key = keys[n as usize % 100].as_bytes();
                    _ = windows.fold(time, 0, key, value, &mut nothing).unwrap();
                }
                ns = ns.min(started.elapsed().as_nanos() as f64 / 200_000.0);
            }
            println!("{kind:?}, {}: {ns:.1} ns a fold", if decimals { "decimals" } else { "other numbers" });
        }
    }
}
