//! What marks remember, for how long, and that no crash, broker or number of messages makes them forget it too soon.

use std::collections::BTreeMap;

use super::*;
use crate::entry::entries;

fn sealed(marks: &mut Marks, commit: u64, ids: &[u16]) -> Entries {
    let mut list = Entries::default();
    for id in ids {
        marks.add(*id, u32::from(*id) * 7, Qos::AtLeastOnce, false);
    }
    marks.seal(commit, &mut list, &mut Vec::new());
    list
}

/// What is on flash after a commit with these entries.
fn take_in(flash: &mut BTreeMap<Vec<u8>, Vec<u8>>, list: &Entries) {
    for entry in entries(list.bytes()) {
        let entry = entry.unwrap();
        match entry.value {
            Some(value) => drop(flash.insert(entry.key, value.to_vec())),
            None => drop(flash.remove(&entry.key)),
        }
    }
}

fn restored(list: &Entries) -> Marks {
    let mut marks = Marks::new(8);
    for entry in entries(list.bytes()) {
        let entry = entry.unwrap();
        if let Some(value) = entry.value {
            marks.restore(&entry.key, value).unwrap();
        }
    }
    marks
}

#[test]
fn a_redelivery_after_a_crash_is_recognised_and_a_reused_identifier_is_not() {
    let mut marks = Marks::new(8);
    let list = sealed(&mut marks, 3, &[5, 6, 65535, 1]);
    let back = restored(&list);
    assert!(back.is_duplicate(5, 35) && back.is_duplicate(1, 7) && back.is_duplicate(65535, 65535 * 7));
    assert!(!back.is_duplicate(5, 36) && !back.is_duplicate(7, 49));
    assert_eq!(entries(list.bytes()).next().unwrap().unwrap().value.unwrap().len(), 4 * 4 + 2 + 4 + 4);
}

#[test]
fn the_newest_mark_of_an_identifier_counts() {
    let mut marks = Marks::new(8);
    sealed(&mut marks, 1, &[5]);
    marks.add(5, 99, Qos::AtLeastOnce, false);
    assert!(marks.is_duplicate(5, 99) && !marks.is_duplicate(5, 35));
}

#[test]
fn a_confirmed_batch_leaves_and_its_entry_is_deleted() {
    let mut marks = Marks::new(8);
    marks.connected(1, true);
    sealed(&mut marks, 1, &[1, 2]);
    sealed(&mut marks, 2, &[3]);
    marks.acked(1, 1, 2);
    marks.confirmed(1, 1, 0);
    assert_eq!(marks.len(), 3, "half a batch is not confirmed");
    marks.confirmed(1, 2, 0);
    assert_eq!(marks.len(), 1);
    marks.acked(2, 1, 1);
    marks.confirmed(0, 99, 0);
    assert_eq!(marks.len(), 1, "another connection's confirmation proves nothing");
    assert_eq!(sealed(&mut marks, 3, &[]).len(), 1, "the deletion of commit 1");
}

#[test]
fn marks_of_an_earlier_connection_leave_when_everything_that_could_come_again_has_been_acknowledged() {
    let mut marks = Marks::new(3);
    marks.connected(1, true);
    sealed(&mut marks, 1, &[1, 2]);
    marks.connected(2, true);
    sealed(&mut marks, 2, &[3, 4, 5]);
    marks.acked(2, 2, 5);
    marks.confirmed(2, 2, 0);
    assert!(marks.is_duplicate(1, 7), "the acknowledgement of 1 may have been lost with the connection");
    marks.confirmed(2, 5, 0);
    assert!(marks.is_empty());
}

#[test]
fn marks_of_an_earlier_connection_stay_while_the_broker_sends_nothing_new() {
    let mut marks = Marks::new(2);
    sealed(&mut marks, 1, &[1, 2, 3, 4, 5]);
    marks.add(6, 42, Qos::AtLeastOnce, false);
    // 3.1.1 knows no Receive Maximum: five come again, and three are acknowledged and confirmed so far.
    marks.connected(2, true);
    marks.seal(2, &mut Entries::default(), &mut Vec::new());
    marks.acked(2, 2, 3);
    marks.confirmed(2, 3, 0);
    assert!(marks.is_duplicate(5, 35) && marks.is_duplicate(6, 42));
    sealed(&mut marks, 3, &[7]);
    marks.acked(3, 2, 4);
    marks.confirmed(2, 6, 0);
    assert!(marks.is_duplicate(5, 35), "the news may not have been read yet");
    marks.confirmed(2, 7, 0);
    assert!(marks.is_empty());
}

#[test]
fn what_a_broker_sent_beyond_our_receive_maximum_is_known_when_it_comes_again_whatever_the_batches() {
    for batch in [1, 7, 1000] {
        let (mut marks, mut scratch) = (Marks::new(8), Vec::new());
        let (mut flash, mut commit) = (BTreeMap::new(), 0);
        let ids: Vec<u16> = (1..=30_000).collect();
        for ids in ids.chunks(batch) {
            commit += 1;
            take_in(&mut flash, &sealed(&mut marks, commit, ids));
            marks.acked(commit, 0, ids.len() as u64);
        }
        assert!(marks.batches.len() <= BATCHES_MAX + 30_000 / JOINED_MAX * 2 + 2, "{}", marks.batches.len());
        let mut back = Marks::new(8);
        flash.iter().for_each(|(key, value)| back.restore(key, value).unwrap());
        back.connected(1, true);
        assert!(ids.iter().all(|id| back.is_duplicate(*id, u32::from(*id) * 7)), "batches of {batch}");
        assert!(!back.is_duplicate(30_001, 30_001 * 7) && !back.is_duplicate(5, 7));
        // What came again is acknowledged again; what is new then proves that it was read.
        back.add(30_001, 1, Qos::AtLeastOnce, false);
        back.seal(commit + 1, &mut Entries::default(), &mut scratch);
        back.acked(commit + 1, 1, 30_001);
        back.confirmed(1, 30_001, 0);
        assert!(back.is_empty(), "{} stay", back.len());
    }
}

#[test]
fn a_message_of_qos_2_is_known_until_the_broker_has_read_that_it_is_complete() {
    let mut marks = Marks::new(1);
    marks.connected(1, true);
    marks.add(1, 7, Qos::ExactlyOnce, false);
    marks.add(2, 14, Qos::ExactlyOnce, false);
    marks.seal(1, &mut Entries::default(), &mut Vec::new());
    marks.acked(1, 1, 2);
    marks.confirmed(1, 2, 0);
    marks.released(1);
    marks.confirmed(1, 2, 1);
    assert!(marks.is_duplicate(1, 7) && marks.is_duplicate(2, 14), "the PUBREL of 2 is still to come");
    marks.released(2);
    marks.confirmed(1, 2, 1);
    assert!(marks.is_duplicate(2, 14), "the broker may not have read our answer to it");
    // The connection breaks; 2 comes again all the same, and something new.
    marks.connected(2, true);
    marks.again(2);
    marks.add(3, 21, Qos::AtLeastOnce, false);
    marks.seal(2, &mut Entries::default(), &mut Vec::new());
    marks.acked(2, 2, 2);
    marks.confirmed(2, 2, 0);
    assert!(marks.is_duplicate(2, 14));
    marks.released(2);
    marks.confirmed(2, 2, 1);
    assert!(marks.is_empty());
}

#[test]
fn there_are_no_more_marks_than_packet_identifiers() {
    let mut marks = Marks::new(8);
    for commit in 0..200 {
        let ids: Vec<u16> = (0..1000u32).map(|n| ((commit as u32 * 1000 + n) % 65_535 + 1) as u16).collect();
        sealed(&mut marks, commit, &ids);
        assert!(marks.len() <= MARKS_MAX);
    }
    assert!(MARKS_MAX - 1000 < marks.len());
    assert!((1..=65_000).filter(|id| marks.is_duplicate(*id, u32::from(*id) * 7)).count() >= 64_000);
}

#[test]
fn a_batch_of_an_earlier_connection_only_does_not_keep_later_ones() {
    let mut marks = Marks::new(2);
    marks.connected(1, true);
    marks.add(1, 7, Qos::AtLeastOnce, false);
    // The connection breaks before its commit: no acknowledgement of the next one will follow it.
    marks.connected(2, true);
    marks.seal(1, &mut Entries::default(), &mut Vec::new());
    sealed(&mut marks, 2, &[2, 3]);
    marks.acked(2, 2, 3);
    marks.confirmed(2, 2, 0);
    assert!(marks.is_duplicate(1, 7));
    marks.confirmed(2, 3, 0);
    assert!(marks.is_empty());
}

#[test]
fn a_lost_session_forgets_every_mark() {
    let mut marks = Marks::new(8);
    sealed(&mut marks, 1, &[1]);
    marks.add(2, 14, Qos::AtLeastOnce, false);
    marks.connected(2, false);
    assert!(marks.is_empty() && !marks.is_duplicate(1, 7) && !marks.is_duplicate(2, 14));
}
