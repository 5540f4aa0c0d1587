//! The middle in virtual time: what devices sent while the clock was wrong is where it belongs, or marked; nothing is lost.

use weir::event::Event;
use weir::record::{Record, RecordKind};
use weir::time::Now;
use weir::time::TimeQuality::{self, Restored, Synced, Unset};
use weir::window::Aggregate;

use super::support::middle::{Middle, NOW, publish};

/// Adds 1 to the counter `n` under the device's key; keeps the message.
const COUNT: &str = r#"
  (import "weir1" "meter" (func $meter (param i32 i32) (result i32)))
  (import "weir1" "meter_add" (func $add (param i32 i32 i32 f64) (result i32)))
  (data (i32.const 0) "n")
  (func (export "on_start") (result i32) (call $meter (i32.const 0) (i32.const 1)))
  (func (export "on_event") (param $ev i32) (result i32)
    (drop (call $add (i32.const 0) (i32.const 0) (i32.const 0) (f64.const 1)))
    (i32.const 1))"#;
const MANIFEST: &str = "[[meter]]\nname = \"n\"\nkind = \"counter\"\nwindow = \"1 min\"\nlateness = \"0 s\"";

/// What left: (window's start as seconds from [`NOW`], count, quality).
type Told = Vec<(i64, u64, TimeQuality)>;

struct Rig {
    middle: Middle,
    told: Told,
}

/// Seconds since the start of the process; the wall clock, in seconds from [`NOW`].
const fn at(mono_s: u64, from_now_s: i64, quality: TimeQuality) -> Now {
    Now { mono_us: mono_s * 1_000_000, wall_ms: NOW + from_now_s * 1000, quality }
}

/// 1970, so many seconds after the boot.
const fn in_1970(mono_s: u64) -> Now {
    at(mono_s, mono_s as i64 - NOW / 1000, Unset)
}

impl Rig {
    fn boot(site: &str, now: Now) -> Self {
        let trigger = format!("[[function]]\npath = \"count\"\n[[function.trigger]]\nmqtt = \"in/+\"\n{site}");
        let middle = Middle::new(&[("count", COUNT, MANIFEST)], &trigger).restarted_at(now);
        Self { middle, told: Told::new() }
    }

    fn restart(self, now: Now) -> Self {
        Self { middle: self.middle.restarted_at(now), ..self }
    }

    fn event(&mut self, now: Now, event: Event<'_>) {
        self.middle.now = now;
        self.middle.take(event);
        assert_eq!(self.middle.gateway.residue(), 0);
        for batch in self.middle.seal().lanes {
            let mut bytes = batch.records.as_slice();
            while let Some(record) = Record::take(&mut bytes) {
                if record.kind != RecordKind::Aggregate {
                    continue;
                }
                let aggregate = Aggregate::decode(record.payload).unwrap();
                assert_eq!(aggregate.end_ms - aggregate.start_ms, 60_000);
                self.told.push(((aggregate.start_ms - NOW) / 1000, aggregate.stats.count, aggregate.quality));
            }
        }
    }

    fn message(&mut self, now: Now) {
        self.tick(now);
        self.event(now, publish("in/a", b"{}"));
    }

    fn tick(&mut self, now: Now) {
        self.event(now, Event::Tick);
    }
}

#[test]
fn what_came_in_1970_stands_in_its_windows_when_the_network_brings_the_time() {
    let mut rig = Rig::boot("", in_1970(1));
    // Two minutes after the boot it is NOW; the network tells it ten seconds earlier.
    (1..110).for_each(|second| rig.message(in_1970(second)));
    assert_eq!(rig.told, [], "the first minute waits");
    rig.tick(at(110, -10, Synced));
    assert_eq!(rig.told, [(-120, 59, Restored)]);
    (110..130).for_each(|second| rig.message(at(second, second as i64 - 120, Synced)));
    rig.tick(at(180, 60, Synced));
    assert_eq!(rig.told[1..], [(-60, 60, Restored), (0, 10, Synced)]);
}

#[test]
fn a_clock_that_is_never_set_delays_no_window_for_long_and_marks_them_all() {
    let mut rig = Rig::boot("", in_1970(1));
    (1..600).for_each(|second| rig.message(in_1970(second)));
    assert_eq!(rig.told.len(), 9);
    assert!(rig.told.iter().all(|(_, _, quality)| *quality == Unset));
    assert_eq!(rig.told.iter().map(|(_, count, _)| count).sum::<u64>(), 539);
}

#[test]
fn a_restart_before_the_clock_is_set_loses_nothing_and_what_waited_still_does() {
    let mut rig = Rig::boot("", in_1970(1));
    (1..60).for_each(|second| rig.message(in_1970(second)));
    let mut rig = rig.restart(in_1970(2));
    (2..30).for_each(|second| rig.message(in_1970(second)));
    assert_eq!(rig.told, []);
    // The time goes on from flash: of the 87 the first 60 are of one minute.
    rig.tick(at(62, 0, Synced));
    assert_eq!(rig.told.iter().map(|(_, count, _)| count).sum::<u64>(), 87);
    assert!(rig.told.iter().all(|(start, _, quality)| (-180..0).contains(start) && *quality == Restored));
    // And with the time there at the start: it is put right by what is known.
    let mut rig = Rig::boot("", in_1970(1));
    (1..60).for_each(|second| rig.message(in_1970(second)));
    let mut rig = rig.restart(at(0, 3, Synced));
    rig.tick(at(0, 3, Synced));
    assert_eq!(rig.told, [(-60, 59, Restored)]);
}

#[test]
fn steps_of_an_hour_lose_nothing_delay_nothing_and_what_was_open_is_marked() {
    for step in [3600, -3600] {
        let mut rig = Rig::boot("", at(0, 0, Synced));
        (0..90).for_each(|second| rig.message(at(second, second as i64, Synced)));
        (90..150).for_each(|second| rig.message(at(second, second as i64 + step, Synced)));
        (150..200).for_each(|second| rig.message(at(second, second as i64, Synced)));
        rig.tick(at(240, 240, Synced));
        assert_eq!(rig.told.iter().map(|(_, count, _)| count).sum::<u64>(), 200, "{:?}", rig.told);
        let right: Told = vec![(0, 60, Synced), (60 + step, 60, Restored), (120, 60, Restored), (180, 20, Synced)];
        assert_eq!(rig.told, right, "the step of {step} s");
    }
}

#[test]
fn what_devices_timed_is_right_while_the_gateway_is_in_1970() {
    let mut rig = Rig::boot("time-field = \"ts\"\ntime-unit = \"s\"\n", in_1970(1));
    for second in 1..=150 {
        let payload = format!("{{\"ts\":{}}}", NOW / 1000 + second);
        rig.event(in_1970(second as u64), publish("in/a", payload.as_bytes()));
    }
    rig.tick(at(151, 151, Synced));
    rig.tick(at(400, 400, Synced));
    assert_eq!(rig.told, [(0, 59, Unset), (60, 60, Unset), (120, 31, Unset)], "right, and marked as not checked");
    assert_eq!(rig.middle.gateway.status().skewed, 0);
}

#[test]
fn a_device_far_ahead_of_a_set_clock_counts_as_of_now_and_is_marked() {
    let mut rig = Rig::boot("time-field = \"ts\"\ntime-unit = \"s\"\n", at(0, 0, Synced));
    let payload = format!("{{\"ts\":{}}}", NOW / 1000 + 3600);
    rig.event(at(1, 1, Synced), publish("in/a", payload.as_bytes()));
    rig.tick(at(60, 60, Synced));
    assert_eq!((rig.told.as_slice(), rig.middle.gateway.status().skewed), (&[(0, 1, Restored)][..], 1));
}

#[test]
fn a_clock_put_right_by_decades_lets_no_record_expire() {
    let lane = "[[lane]]\nname = \"telemetry\"\ntopics = [\"#\"]\nttl = \"1 h\"\n";
    let mut rig = Rig::boot(lane, in_1970(1));
    (1..30).for_each(|second| rig.message(in_1970(second)));
    rig.tick(at(30, 0, Synced));
    rig.tick(at(31, 7200, Synced));
    rig.tick(at(32, -7200, Synced));
    let mut rig = rig.restart(in_1970(1));
    rig.message(in_1970(2));
    rig.tick(at(3, 500_000, Synced));
    assert_eq!(rig.middle.gateway.status().books.expired, 0);
    assert_eq!(rig.middle.gateway.outbox().messages_pending(), 30);
    // What grows old by the time that passes still does: it is an hour that they may wait, and a quarter for the segment.
    rig.tick(at(3 + 4500, 504_500, Synced));
    rig.tick(at(4 + 4500, 504_501, Synced));
    assert_eq!(rig.middle.gateway.status().books.expired, 30);
}
