//! What is on flash beside a batch that waits.

use super::*;

/// A lane of `count` messages on flash, one a segment; and one more that waits.
fn waiting(count: i64) -> (Rig, Heads, Heads) {
    let mut rig = Rig::new(config(1 << 20, FullPolicy::DropOldest, None));
    (0..count).for_each(|at| rig.message(6000, at));
    let (mut on_flash, mut on_its_way) = (Heads::default(), Heads::default());
    on_flash.follow(&rig.outbox, &rig.books);
    rig.message(6000, count);
    on_its_way.follow(&rig.outbox, &rig.books);
    rig.releases.clear();
    (rig, on_flash, on_its_way)
}

fn settled(sequence: u64) -> [Settled; 1] {
    [Settled { sequence, closes_message: true, outcome: Outcome::Delivered }]
}

/// Books and lane as a restart reads them from `entries`, on flash up to `next_seq`.
fn restarted(entries: &Entries, next_seq: u64) -> (Books, u64, u64) {
    let mut outbox = Outbox::new(&[config(1 << 20, FullPolicy::DropOldest, None)], 8192);
    let lane = LaneRecovered {
        name: "telemetry".into(),
        extents: Vec::new(),
        next_seq,
        next_message: next_seq - 1,
        next_segment: 100,
    };
    outbox.recover(vec![lane]);
    let mut books = Books::default();
    for entry in entry::entries(entries.bytes()).flatten() {
        match entry.key.first() {
            Some(b'l') => outbox.restore(&entry.key, entry.value.unwrap()).unwrap(),
            _ => books = Books::restore(entry.value.unwrap()).unwrap(),
        }
    }
    (books, outbox.lanes()[0].head_seq(), outbox.messages_pending())
}

#[test]
fn an_offer_and_a_delivery_within_a_segment_release_nothing() {
    let mut rig = Rig::new(config(1 << 20, FullPolicy::DropOldest, None));
    (0..3).for_each(|at| rig.message(100, at));
    rig.settle(1, Outcome::Delivered);
    assert!(rig.releases.is_empty(), "{:?}", rig.releases);
}

#[test]
fn what_is_delivered_is_said_past_the_batch_that_waits_and_both_balance() {
    let (mut rig, mut on_flash, mut on_its_way) = waiting(3);
    assert!(!on_flash.makes_room(&mut rig.outbox, &mut on_its_way));
    for sequence in 1..=2 {
        rig.settle(sequence, Outcome::Delivered);
        on_flash.settle(0, &settled(sequence));
        on_its_way.settle(0, &settled(sequence));
    }
    assert!(on_flash.makes_room(&mut rig.outbox, &mut on_its_way));
    let (mut entries, mut releases) = (Entries::default(), Vec::new());
    on_flash.say(&mut entries, &mut releases, &mut Vec::new());
    assert_eq!(releases, [Release { lane: 0, from_segment: 0, below_segment: 3 }]);
    let (books, head, pending) = restarted(&entries, 4);
    assert_eq!((books.received, books.delivered, head, pending), (3, 2, 3, 1), "as without the batch");
    assert_eq!(books.residue(pending), 0);
    // The batch, once more: it knows of the delivery.
    let mut entries = Entries::default();
    on_its_way.say(&mut entries, &mut Vec::new(), &mut Vec::new());
    let (books, head, pending) = restarted(&entries, 5);
    assert_eq!((books.received, books.delivered, head, pending), (4, 2, 3, 2));
    assert_eq!(books.residue(pending), 0);
    assert!(!on_flash.makes_room(&mut rig.outbox, &mut on_its_way), "it is said");
}

#[test]
fn the_newest_segment_goes_when_the_batch_that_waits_begins_another() {
    let (mut rig, mut on_flash, mut on_its_way) = waiting(1);
    rig.settle(1, Outcome::Delivered);
    on_flash.settle(0, &settled(1));
    on_its_way.settle(0, &settled(1));
    assert!(on_flash.makes_room(&mut rig.outbox, &mut on_its_way));
    let mut releases = Vec::new();
    on_flash.say(&mut Entries::default(), &mut releases, &mut Vec::new());
    assert_eq!(releases, [Release { lane: 0, from_segment: 0, below_segment: 2 }]);
}

#[test]
fn a_list_is_cut_back_to_its_mark_and_goes_on() {
    let mut entries = Entries::default();
    entries.put(&[b"abc"], b"1");
    let mark = entries.mark();
    let before = entries.bytes().to_vec();
    entries.put(&[b"abd"], b"2");
    entries.cut(&mark);
    assert_eq!((entries.bytes(), entries.len()), (before.as_slice(), 1));
    entries.put(&[b"abe"], b"3");
    let keys: Vec<Vec<u8>> = entry::entries(entries.bytes()).flatten().map(|entry| entry.key).collect();
    assert_eq!(keys, [b"abc".to_vec(), b"abe".to_vec()]);
}
