//! Windows against a naive model: whatever the order, the clock and the restarts, the parts add up to the whole.

use super::*;

/// One case: random folds, closes, clock steps, commits, crashes and snapshots; then all partials must add up.
fn a_case(seed: u64) {
    let mut random = Random(seed);
    let meters: Vec<MeterDef> = (0..1 + random.below(3))
        .map(|n| {
            let kind = KINDS[random.below(3) as usize];
            let window_ms = [1000, 10_000, 60_000][random.below(3) as usize];
            let lateness_ms = [0, 500, 25_000][random.below(3) as usize];
            let mut def = meter(&format!("f.m{n}"), kind, window_ms, lateness_ms, 1 + random.below(8) as u32);
            if random.below(4) == 0 {
                def.spec.time = MeterTime::Processing;
            }
            def
        })
        .collect();
    let mut windows = Windows::new(meters.clone()).unwrap();
    let mut flash = Flash::default();
    // What upstream has (committed), and what this turn emitted and folded and the next commit makes durable.
    let mut upstream = Totals::new();
    let mut turn: Vec<Aggregate<'static>> = Vec::new();
    let (mut truth, mut folded) = (BTreeMap::<(String, i64), Stats>::new(), Vec::new());
    let mut keyed = BTreeMap::<(String, Vec<u8>, i64), u64>::new();
    let mut now_ms = random.below(1_000_000) as i64;
    let mut overflowed = false;
    for _ in 0..20 + random.below(300) {
        match random.below(40) {
            0 => now_ms += random.below(30_000_000) as i64,
            1 => now_ms -= random.below(100_000) as i64,
            2..6 => now_ms += random.below(3_000) as i64,
            6..9 => windows.close_due(now_ms, &mut |_, aggregate| turn.push(owned(aggregate))),
            9 => {
                // A crash: what was not committed never happened, and is not in the truth either.
                turn.clear();
                folded.clear();
                windows = flash.restart(&meters, &mut nothing);
            }
            10 => {
                // A snapshot holds what the drained entries add up to.
                let mut list = Entries::default();
                windows.drain_dirty(&mut list);
                commit(&list, &mut flash, &mut turn, &mut upstream, &mut folded, &mut truth, &mut keyed);
                list.clear();
                windows.export(&mut list);
                let mut snapshot = Flash::default();
                snapshot.commit(&list);
                assert_eq!(snapshot.0, flash.0);
            }
            11..15 => {
                let mut list = Entries::default();
                windows.drain_dirty(&mut list);
                commit(&list, &mut flash, &mut turn, &mut upstream, &mut folded, &mut truth, &mut keyed);
            }
            _ => {
                let number = random.below(meters.len() as u64) as u16;
                let def = &meters[usize::from(number)];
                let key = format!("device-{}", random.below(10));
                let value = match random.below(3) {
                    0 => random.below(100) as f64,
                    1 => (random.below(2000) as f64 - 1000.0) / 100.0,
                    _ => random.below(u64::MAX) as f64 / 3.0,
                };
                let event_ms = now_ms + 1000 - random.below(80_000) as i64;
                let mut emit = |_: &MeterDef, aggregate: &Aggregate<'_>| turn.push(owned(aggregate));
                let fold = windows.fold(at(event_ms, now_ms), number, key.as_bytes(), value, &mut emit).unwrap();
                overflowed |= fold.overflow;
                let time_ms = if def.spec.time == MeterTime::Event { event_ms } else { now_ms };
                folded.push((number, fold.overflow, key, time_ms, value, def.clone()));
                assert!(windows.meters.iter().all(|meter| {
                    meter.cells <= meter.cells_max()
                        && meter.windows.len() <= meter.windows_max()
                        && meter.cells == meter.windows.iter().map(Window::len).sum::<usize>()
                        && meter.windows.is_sorted_by_key(|window| window.start_ms)
                }));
            }
        }
        let due = windows.meters.iter().flat_map(|meter| &meter.windows).map(|window| window.due_ms).min();
        assert!(windows.deadline_ms().is_none_or(|deadline| Some(deadline) <= due), "seed {seed}");
        assert_eq!(windows.deadline_ms().is_some(), due.is_some());
    }
    windows.close_all(&mut |_, aggregate| turn.push(owned(aggregate)));
    let mut list = Entries::default();
    windows.drain_dirty(&mut list);
    commit(&list, &mut flash, &mut turn, &mut upstream, &mut folded, &mut truth, &mut keyed);
    assert!(flash.0.keys().all(|key| key.len() == 5), "only definitions are left, seed {seed}");

    let mut totals = BTreeMap::<(String, i64), Stats>::new();
    for ((name, key, start_ms), aggregate) in &upstream {
        assert!(overflowed || key != OVERFLOW_KEY);
        assert_eq!(Some(&aggregate.stats.count), keyed.get(&(name.clone(), key.clone(), *start_ms)), "seed {seed}");
        totals.entry((name.clone(), *start_ms)).or_default().merge(&aggregate.stats);
    }
    assert_eq!(upstream.len(), keyed.len());
    assert_eq!(totals.keys().collect::<Vec<_>>(), truth.keys().collect::<Vec<_>>(), "seed {seed}");
    for (key, total) in &mut totals {
        let truth = &truth[key];
        let (ours, theirs) = (total.sum.to_f64(), truth.sum.to_f64());
        assert!((ours - theirs).abs() <= 1e-15 * theirs.abs(), "seed {seed}: {ours} {theirs}");
        if let (Some(ours), Some(theirs)) = (total.sum.exact_micros(), truth.sum.exact_micros()) {
            assert_eq!(ours, theirs);
        }
        assert!((total.m2 - truth.m2).abs() <= 1e-6 * truth.m2.abs() + 1e-9, "seed {seed}");
        let parts = |stats: &Stats| (stats.count, stats.min, stats.max, stats.first_at_ms, stats.last_at_ms);
        assert_eq!(parts(total), parts(truth), "seed {seed}");
        assert_eq!(total.sketch, truth.sketch, "seed {seed}");
    }
}

type Folded = (u16, bool, String, i64, f64, MeterDef);

/// What one commit makes true at once: the entries, the records of what was emitted, and the messages that were folded.
fn commit(
    list: &Entries,
    flash: &mut Flash,
    turn: &mut Vec<Aggregate<'static>>,
    upstream: &mut Totals,
    folded: &mut Vec<Folded>,
    truth: &mut BTreeMap<(String, i64), Stats>,
    keyed: &mut BTreeMap<(String, Vec<u8>, i64), u64>,
) {
    flash.commit(list);
    let def = meter("any", MeterKind::Counter, 1, 0, 1);
    turn.drain(..).for_each(|aggregate| collect(upstream)(&def, &aggregate));
    for (_, overflow, key, time_ms, value, def) in folded.drain(..) {
        let start_ms = time_ms.div_euclid(def.spec.window.0 as i64) * def.spec.window.0 as i64;
        let stats = truth.entry((def.name.clone(), start_ms)).or_default();
        stats.fold(def.spec.kind, &Mapping::default(), time_ms, value);
        let key = if overflow { OVERFLOW_KEY.to_vec() } else { key.into_bytes() };
        *keyed.entry((def.name, key, start_ms)).or_default() += 1;
    }
}

#[test]
fn the_merge_of_all_partials_is_the_whole_whatever_happens_between() {
    (0..3000).for_each(a_case);
}
