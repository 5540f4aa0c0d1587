//! Dead letters in the pure middle: replayed with what the function was called with, taken out in the same commit, whatever order
//! they leave in; and the books balance after every step.

mod support;

use support::middle::{Middle, publish};
use weir::books::{DropReason, Fate};
use weir::dead_letter::DeadLetter;
use weir::effect::Effects;
use weir::event::Event;
use weir::gateway::{Expected, NoReplay};
use weir::record::{Record, RecordKind};

/// Fails while `on` is not in its configuration; then counts the call under the device's key and keeps the message.
const LATER: &str = r#"
  (import "weir1" "config_get" (func $config (param i32 i32 i32 i32) (result i32)))
  (import "weir1" "meter" (func $meter (param i32 i32) (result i32)))
  (import "weir1" "meter_add" (func $add (param i32 i32 i32 f64) (result i32)))
  (import "weir1" "random" (func $random (param i32 i32) (result i32)))
  (import "weir1" "emit" (func $emit (param i32 i32 i32 i32) (result i32)))
  (data (i32.const 0) "on") (data (i32.const 8) "calls") (data (i32.const 16) "drawn")
  (func (export "on_start") (result i32) (call $meter (i32.const 8) (i32.const 5)))
  (func $work (result i32)
    (drop (call $random (i32.const 64) (i32.const 8)))
    (if (i32.lt_s (call $config (i32.const 0) (i32.const 2) (i32.const 32) (i32.const 8)) (i32.const 0)) (then (unreachable)))
    (drop (call $emit (i32.const 16) (i32.const 5) (i32.const 64) (i32.const 8)))
    (drop (call $add (i32.const 0) (i32.const 0) (i32.const 0) (f64.const 1)))
    (i32.const 2))
  (func (export "on_event") (param i32) (result i32) (call $work))
  (func (export "on_interval") (param i32) (result i32) (call $work))"#;

const SITE: &str = "[[function]]\npath = \"later\"\n[[function.trigger]]\nmqtt = \"in/+\"\ncodec = \"raw\"\n[[function.trigger]]\ninterval = \"1 s\"\n";
const MANIFEST: &str =
    "emits = [\"drawn\"]\n[[meter]]\nname = \"calls\"\nkind = \"counter\"\nwindow = \"1 min\"\nlateness = \"10 s\"";

fn failing() -> Middle {
    Middle::new(&[("later", LATER, MANIFEST)], SITE)
}

/// The same gateway after the function was mended.
fn mended(middle: Middle) -> Middle {
    middle.changed("[[function.trigger]]", "[function.config]\non = true\n[[function.trigger]]")
}

/// The dead letters of a batch: number and record.
fn letters(middle: &Middle, effects: &Effects) -> Vec<(u64, Vec<u8>)> {
    let lane = middle.gateway.dead_letter_lane().unwrap();
    let mut letters = Vec::new();
    for batch in effects.lanes.iter().filter(|batch| batch.lane == lane) {
        let (mut rest, mut seq) = (batch.records.as_slice(), batch.first_seq);
        while let (before, Some(record)) = (rest, Record::take(&mut rest)) {
            if record.kind == RecordKind::DeadLetter {
                letters.push((seq, before[..before.len() - rest.len()].to_vec()));
            }
            seq += 1;
        }
    }
    letters
}

/// Replays one and commits; the books balance.
fn replay(middle: &mut Middle, (seq, bytes): &(u64, Vec<u8>)) -> Result<Fate, NoReplay> {
    let record = Record::take(&mut bytes.as_slice()).unwrap();
    let fate = middle.gateway.replay(middle.now, *seq, &record, None, &mut middle.effects);
    assert_eq!(middle.gateway.residue(), 0);
    fate
}

/// Payloads emitted on `drawn`.
fn drawn(effects: &Effects) -> Vec<Vec<u8>> {
    let mut drawn = Vec::new();
    for batch in &effects.lanes {
        let mut rest = batch.records.as_slice();
        while let Some(record) = Record::take(&mut rest) {
            if record.topic == "drawn" {
                drawn.push(record.payload.to_vec());
            }
        }
    }
    drawn
}

#[test]
fn letters_leave_in_any_order_once_each_over_restarts() {
    let mut middle = failing();
    for device in 0..5 {
        middle.take(publish(&format!("in/{device}"), b"x"));
    }
    let effects = middle.seal();
    let letters = letters(&middle, &effects);
    assert_eq!((letters.len(), middle.gateway.books().dead_lettered), (5, 5));
    let mut middle = mended(middle);
    let mut replayed = 0;
    for index in [3, 1, 0, 2] {
        assert_eq!(replay(&mut middle, &letters[index]), Ok(Fate::Pending), "letter {index}");
        replayed += 1;
        middle.seal();
        middle = middle.restarted();
        assert_eq!(replay(&mut middle, &letters[index]), Err(NoReplay::Absent));
        assert_eq!(middle.gateway.books().replayed, replayed);
    }
    let lane = &middle.gateway.outbox().lanes()[middle.gateway.dead_letter_lane().unwrap()];
    assert_eq!((lane.head_seq(), lane.totals().dropped[DropReason::Replayed as usize]), (5, 4));
    // A replay whose commit did not happen is another one's to do.
    assert_eq!(replay(&mut middle, &letters[4]), Ok(Fate::Pending));
    let mut middle = middle.restarted();
    assert_eq!(middle.gateway.books().replayed, 4);
    middle.gateway.purge(letters[4].0, &mut middle.effects).unwrap();
    middle.seal();
    assert_eq!(middle.gateway.books().replayed, 4);
    assert_eq!(middle.gateway.residue(), 0);
}

#[test]
fn a_replay_draws_what_the_first_call_drew_and_is_metered_at_its_own_time() {
    // What a sound function draws for this message.
    let mut sound = mended(failing());
    sound.take(publish("in/d", b"payload"));
    let want = drawn(&sound.seal());
    assert_eq!(want.len(), 1);
    let mut middle = failing();
    middle.take(publish("in/d", b"payload"));
    let effects = middle.seal();
    let letters = letters(&middle, &effects);
    let mut middle = mended(middle);
    // A day later.
    middle.now.wall_ms += 86_400_000;
    middle.now.mono_us += 86_400_000_000;
    assert_eq!(replay(&mut middle, &letters[0]), Ok(Fate::Pending));
    assert_eq!(drawn(&middle.seal()), want);
    let letter = DeadLetter::decode(Record::take(&mut letters[0].1.as_slice()).unwrap().payload).unwrap().event_ms;
    let late = middle.records_until(middle.now.wall_ms + 120_000);
    let aggregate = late.iter().find(|record| record.topic == "meter/later.calls").expect("the call was metered");
    let aggregate = weir::window::Aggregate::decode(&aggregate.payload).unwrap();
    assert!((aggregate.start_ms..aggregate.end_ms).contains(&letter), "in the window of the event, not of the replay");
    assert_eq!(aggregate.key, b"d");
}

#[test]
fn an_interval_is_replayed_beside_the_books_and_a_failure_is_a_letter_again() {
    let mut middle = failing();
    middle.now.mono_us += 1_000_000;
    middle.take(Event::Tick);
    let effects = middle.seal();
    let first = letters(&middle, &effects);
    assert_eq!((first.len(), middle.gateway.books().received), (1, 0));
    assert_eq!(replay(&mut middle, &first[0]), Ok(Fate::DeadLettered));
    let effects = middle.seal();
    let second = letters(&middle, &effects);
    assert_eq!(second.len(), 1);
    let mut middle = mended(middle);
    assert_eq!(replay(&mut middle, &second[0]), Ok(Fate::Pending));
    middle.seal();
    assert_eq!((middle.gateway.books().replayed, middle.gateway.books().received, middle.gateway.residue()), (0, 0, 0));
}

#[test]
fn what_is_not_for_a_replay_changes_nothing() {
    let mut middle = failing();
    middle.take(publish("in/d", b"x"));
    let effects = middle.seal();
    let letters = letters(&middle, &effects);
    let (seq, bytes) = &letters[0];
    let record = Record::take(&mut bytes.as_slice()).unwrap();
    let letter = DeadLetter::decode(record.payload).unwrap();
    for (change, want) in [
        (DeadLetter { kind: "poison".into(), ..letter.clone() }, NoReplay::NoMessage),
        (DeadLetter { kind: "hop-limit".into(), ..letter.clone() }, NoReplay::Handled),
        (DeadLetter { truncated: true, payload_len: 9, ..letter.clone() }, NoReplay::Cut { kept: 1, of: 9 }),
        (DeadLetter { function: "gone".into(), ..letter.clone() }, NoReplay::NoFunction("gone".into())),
        (DeadLetter { kind: "malformed".into(), topic: "out/d".into(), ..letter.clone() }, NoReplay::NoTrigger),
    ] {
        let mut payload = Vec::new();
        change.encode(&mut payload);
        let record = Record { payload: &payload, ..record };
        let refused = middle.gateway.replay(middle.now, *seq, &record, None, &mut middle.effects);
        assert_eq!(refused, Err(want));
    }
    let other = Some(Expected { function: "later", version: Some("2") });
    let refused = middle.gateway.replay(middle.now, *seq, &record, other, &mut middle.effects);
    assert_eq!(refused, Err(NoReplay::Other { function: "later".into(), version: "1".into() }));
    assert!(!middle.gateway.is_dirty() && middle.gateway.books().replayed == 0);
}

#[test]
fn dead_letters_that_make_room_are_said_by_measure() {
    let lane = "[store]\nsegment-bytes = \"64 KiB\"\n[[lane]]\nname = \"dead-letter\"\nbytes-max = \"128 KiB\"\n";
    let mut middle = Middle::new(&[("later", LATER, MANIFEST)], &format!("{lane}{SITE}"));
    let mut said = Vec::new();
    for _ in 0..400 {
        middle.take(publish("in/a", &[7; 1000]));
        said.extend(middle.seal().log.into_iter().map(|line| line.text).filter(|text| text.starts_with("lane ")));
        assert_eq!(middle.gateway.residue(), 0);
    }
    let dropped = middle
        .gateway
        .status()
        .lanes
        .iter()
        .map(|lane| lane.totals.dropped[DropReason::LaneFull as usize])
        .sum::<u64>();
    assert!(dropped > 0);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with("lane dead-letter: full (128 KiB), so the oldest dead letters make room"), "{said:?}");
}
