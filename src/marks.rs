//! Duplicate marks: which QoS 1 and 2 messages have been handled, until the broker is known to have our acknowledgement.
//!
//! - A mark is (packet identifier, hash of topic and payload). A publish with DUP set that matches a mark is acknowledged again
//!   without effect; any other publish is new (MQTT 5.0 §3.3.1.1, §4.4).
//! - Marks are committed with the effects of their messages, one entry for each commit, and leave when the broker's PINGRESP
//!   proves that it has read the acknowledgements, or when so many newer ones exist that its Receive Maximum proves it.
//! - What is not confirmed is kept, whatever limit the broker should have kept to: 3.1.1 knows none, and mosquitto 2.0 passes the
//!   Receive Maximum by thousands when messages have waited. The bound is [`MARKS_MAX`]: there are no more packet identifiers.

use std::collections::VecDeque;

use crate::budget::costs;
use crate::entry::{Entries, Space, put_varint, take, take_varint, unzigzag, zigzag};

/// The marks of one commit.
#[derive(Debug, Default)]
struct Batch {
    /// The number of the commit; its key on flash.
    commit: u64,
    /// `(epoch, acknowledgements sent in it)` once the acknowledgements of this batch have been handed to the link.
    acked: Option<(u64, u64)>,
    marks: Vec<(u16, u32)>,
    /// Marks of an earlier connection are among them.
    is_old: bool,
    /// A message that the broker had not sent before is among them.
    has_news: bool,
    /// All of them are of an earlier connection: no acknowledgement of this one will follow its commit.
    is_past: bool,
    /// The least and the greatest identifier among them, or more: where to look at all.
    span: (u16, u16),
}

impl Batch {
    fn push(&mut self, packet_id: u16, hash: u32) {
        let (low, high) = if self.marks.is_empty() { (packet_id, packet_id) } else { self.span };
        self.span = (low.min(packet_id), high.max(packet_id));
        self.marks.push((packet_id, hash));
    }

    /// Takes in the batch before this one. They leave together: when the acknowledgements of the later are confirmed.
    fn join(&mut self, mut before: Self) {
        self.span = (self.span.0.min(before.span.0), self.span.1.max(before.span.1));
        self.is_old |= before.is_old;
        self.has_news |= before.has_news;
        before.marks.append(&mut self.marks);
        self.marks = before.marks;
    }
}

/// All marks, oldest first.
#[derive(Debug)]
pub struct Marks {
    batches: VecDeque<Batch>,
    /// The batch being filled.
    open: Batch,
    /// Emptied vectors, to be used again.
    spare: Vec<Vec<(u16, u32)>>,
    /// Commits whose entry must be deleted with the next commit.
    obsolete: Vec<u64>,
    count: usize,
    receive_max: usize,
    epoch: u64,
    acks_sent: u64,
    /// Acknowledgements of this connection up to the first of a message that was new to it.
    news_at: Option<u64>,
}

/// Marks at most: one for each packet identifier (MQTT 5.0 §2.2.1). The newest of an identifier counts, so an older one than these
/// tells nothing.
pub const MARKS_MAX: usize = costs::MARKS_MAX as usize;
/// From so many batches on, small ones are joined.
const BATCHES_MAX: usize = costs::MARK_BATCHES as usize;
/// Marks of a batch that was joined at most: 4 KiB are written again.
const JOINED_MAX: usize = 1024;
const SPARE_MAX: usize = 4;

impl Marks {
    /// No marks yet; `receive_max` is the Receive Maximum that the link announces.
    #[must_use]
    pub fn new(receive_max: u16) -> Self {
        Self {
            batches: VecDeque::new(),
            open: Batch::default(),
            spare: Vec::new(),
            obsolete: Vec::new(),
            count: 0,
            receive_max: usize::from(receive_max),
            epoch: 0,
            acks_sent: 0,
            news_at: None,
        }
    }

    /// Hash of a message's topic and payload.
    #[must_use]
    pub fn hash(topic: &[u8], payload: &[u8]) -> u32 {
        let mut crc = crc32fast::Hasher::new_with_initial(topic.len() as u32);
        crc.update(topic);
        crc.update(payload);
        crc.finalize()
    }

    /// Whether a publish that came with DUP set has been handled already, in an earlier commit or in the open one.
    #[must_use]
    pub fn is_duplicate(&self, packet_id: u16, hash: u32) -> bool {
        // The newest mark of an identifier counts: the broker reused it after it had our acknowledgement.
        let newest_first = core::iter::once(&self.open).chain(self.batches.iter().rev());
        let near = newest_first.filter(|batch| batch.span.0 <= packet_id && packet_id <= batch.span.1);
        let mark = near.flat_map(|batch| batch.marks.iter().rev()).find(|(id, _)| *id == packet_id);
        mark.is_some_and(|(_, marked)| *marked == hash)
    }

    /// Marks a message as handled in the open commit. `dup`: the broker has sent it before.
    pub fn add(&mut self, packet_id: u16, hash: u32, dup: bool) {
        self.open.has_news |= !dup;
        self.open.is_past = false;
        self.open.push(packet_id, hash);
        self.count += 1;
    }

    /// The broker has said PUBREL: it has our PUBREC, and a QoS 2 message of this identifier is another one from now on. On
    /// flash the mark stays until its batch leaves.
    pub fn released(&mut self, packet_id: u16) {
        for (id, _) in self.batches.iter_mut().flat_map(|batch| &mut batch.marks).filter(|(id, _)| *id == packet_id) {
            // A released mark keeps its place: 0 is no identifier (MQTT 5.0 §2.2.1).
            *id = 0;
        }
    }

    /// Closes the open batch as commit number `commit` and writes its entry, and the deletions of obsolete ones.
    pub fn seal(&mut self, commit: u64, entries: &mut Entries, scratch: &mut Vec<u8>) {
        for obsolete in self.obsolete.drain(..) {
            entries.delete(&[&[Space::Marks as u8], &obsolete.to_be_bytes()]);
        }
        if self.open.marks.is_empty() {
            return;
        }
        let next = Batch { marks: self.spare.pop().unwrap_or_default(), ..Batch::default() };
        let mut sealed = core::mem::replace(&mut self.open, next);
        let are_many = BATCHES_MAX <= self.batches.len();
        if are_many && self.batches.back().is_some_and(|last| last.marks.len() + sealed.marks.len() <= JOINED_MAX) {
            let before = self.batches.pop_back().expect("there are many");
            entries.delete(&[&[Space::Marks as u8], &before.commit.to_be_bytes()]);
            sealed.join(before);
        }
        sealed.commit = commit;
        if sealed.is_past {
            sealed.acked = Some((self.epoch, self.acks_sent));
        }
        encode(&sealed.marks, scratch);
        entries.put(&[&[Space::Marks as u8], &commit.to_be_bytes()], scratch);
        if 2 * self.receive_max < self.count {
            // They may stay for long.
            sealed.marks.shrink_to_fit();
        }
        self.batches.push_back(sealed);
        while MARKS_MAX < self.count {
            self.drop_oldest();
        }
    }

    /// Whether the number of marks asks for a commit soon (their count must stay bounded).
    #[must_use]
    pub fn open_len(&self) -> usize {
        self.open.marks.len()
    }

    /// A connection was made. Without a session the broker knows none of the marked identifiers any more.
    pub fn connected(&mut self, epoch: u64, session_present: bool) {
        self.epoch = epoch;
        self.acks_sent = 0;
        self.news_at = None;
        for batch in &mut self.batches {
            batch.acked = Some((epoch, 0));
            batch.is_old = true;
        }
        if !session_present {
            while !self.batches.is_empty() {
                self.drop_oldest();
            }
            self.count -= self.open.marks.len();
            self.open.marks.clear();
        }
        self.open.is_old = !self.open.marks.is_empty();
        self.open.is_past = self.open.is_old;
        self.open.has_news = false;
    }

    /// The acknowledgements of commit `commit` (`acks` of them, of connection `epoch`) have been handed to the link.
    pub fn acked(&mut self, commit: u64, epoch: u64, acks: u64) {
        if epoch != self.epoch {
            return;
        }
        self.acks_sent += acks;
        if let Some(batch) = self.batches.iter_mut().find(|batch| batch.commit == commit) {
            batch.acked = Some((epoch, self.acks_sent));
            if batch.has_news {
                self.news_at.get_or_insert(self.acks_sent);
            }
        }
    }

    /// The broker has read the first `acks_through` acknowledgements of connection `epoch`.
    pub fn confirmed(&mut self, epoch: u64, acks_through: u64) {
        // What the broker has no acknowledgement of it sends again before anything new: in 5.0 at most Receive Maximum messages,
        // in 3.1.1 any number. When it has read as many acknowledgements, and one of something new, nothing of an earlier
        // connection can come again.
        let is_past = self.receive_max as u64 <= acks_through && self.news_at.is_some_and(|at| at <= acks_through);
        while let Some(Batch { acked: Some((at, count)), is_old, .. }) = self.batches.front() {
            if *at != epoch || acks_through < *count || *is_old && !is_past {
                break;
            }
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some(mut batch) = self.batches.pop_front() else { return };
        self.count -= batch.marks.len();
        self.obsolete.push(batch.commit);
        if self.spare.len() < SPARE_MAX {
            batch.marks.clear();
            self.spare.push(batch.marks);
        }
    }

    /// Takes back one entry from flash. Entries come in order of their keys, that is of their commits.
    pub fn restore(&mut self, key: &[u8], mut value: &[u8]) -> Option<()> {
        let commit = u64::from_be_bytes(key.get(1..)?.try_into().ok()?);
        let mut batch = Batch { commit, ..Batch::default() };
        let mut next = 0i64;
        while !value.is_empty() {
            next = next.checked_add(unzigzag(take_varint(&mut value)?))?;
            let hashes_len = take_varint(&mut value)?.checked_mul(4)?;
            for hash in take(&mut value, hashes_len)?.chunks_exact(4) {
                batch.push(u16::try_from(next).ok()?, u32::from_le_bytes(hash.try_into().ok()?));
                next += 1;
            }
        }
        self.count += batch.marks.len();
        self.batches.push_back(batch);
        Some(())
    }

    /// Writes every mark, for a snapshot.
    pub fn export(&self, entries: &mut Entries) {
        let mut scratch = Vec::new();
        for batch in &self.batches {
            encode(&batch.marks, &mut scratch);
            entries.put(&[&[Space::Marks as u8], &batch.commit.to_be_bytes()], &scratch);
        }
    }

    /// How many marks there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// Marks as bytes: for each run of consecutive identifiers (brokers count up) `zigzag varint (first - end of the run before),
/// varint length`, then the hashes, 4 bytes each. So a mark takes little more than its hash.
fn encode(marks: &[(u16, u32)], out: &mut Vec<u8>) {
    out.clear();
    let mut end = 0;
    for run in marks.chunk_by(|(before, _), (id, _)| before.checked_add(1) == Some(*id)) {
        let first = i64::from(run[0].0);
        put_varint(out, zigzag(first - end));
        put_varint(out, run.len() as u64);
        run.iter().for_each(|(_, hash)| out.extend_from_slice(&hash.to_le_bytes()));
        end = first + run.len() as i64;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::entry::entries;

    fn sealed(marks: &mut Marks, commit: u64, ids: &[u16]) -> Entries {
        let mut list = Entries::default();
        for id in ids {
            marks.add(*id, u32::from(*id) * 7, false);
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
        marks.add(5, 99, false);
        assert!(marks.is_duplicate(5, 99) && !marks.is_duplicate(5, 35));
    }

    #[test]
    fn a_confirmed_batch_leaves_and_its_entry_is_deleted() {
        let mut marks = Marks::new(8);
        marks.connected(1, true);
        sealed(&mut marks, 1, &[1, 2]);
        sealed(&mut marks, 2, &[3]);
        marks.acked(1, 1, 2);
        marks.confirmed(1, 1);
        assert_eq!(marks.len(), 3, "half a batch is not confirmed");
        marks.confirmed(1, 2);
        assert_eq!(marks.len(), 1);
        marks.acked(2, 1, 1);
        marks.confirmed(0, 99);
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
        marks.confirmed(2, 2);
        assert!(marks.is_duplicate(1, 7), "the acknowledgement of 1 may have been lost with the connection");
        marks.confirmed(2, 5);
        assert!(marks.is_empty());
    }

    #[test]
    fn marks_of_an_earlier_connection_stay_while_the_broker_sends_nothing_new() {
        let mut marks = Marks::new(2);
        sealed(&mut marks, 1, &[1, 2, 3, 4, 5]);
        marks.add(6, 42, false);
        // 3.1.1 knows no Receive Maximum: five come again, and three are acknowledged and confirmed so far.
        marks.connected(2, true);
        marks.seal(2, &mut Entries::default(), &mut Vec::new());
        marks.acked(2, 2, 3);
        marks.confirmed(2, 3);
        assert!(marks.is_duplicate(5, 35) && marks.is_duplicate(6, 42));
        sealed(&mut marks, 3, &[7]);
        marks.acked(3, 2, 4);
        marks.confirmed(2, 6);
        assert!(marks.is_duplicate(5, 35), "the news may not have been read yet");
        marks.confirmed(2, 7);
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
            back.add(30_001, 1, false);
            back.seal(commit + 1, &mut Entries::default(), &mut scratch);
            back.acked(commit + 1, 1, 30_001);
            back.confirmed(1, 30_001);
            assert!(back.is_empty(), "{} stay", back.len());
        }
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
        marks.add(1, 7, false);
        // The connection breaks before its commit: no acknowledgement of the next one will follow it.
        marks.connected(2, true);
        marks.seal(1, &mut Entries::default(), &mut Vec::new());
        sealed(&mut marks, 2, &[2, 3]);
        marks.acked(2, 2, 3);
        marks.confirmed(2, 2);
        assert!(marks.is_duplicate(1, 7));
        marks.confirmed(2, 3);
        assert!(marks.is_empty());
    }

    #[test]
    fn a_lost_session_forgets_every_mark() {
        let mut marks = Marks::new(8);
        sealed(&mut marks, 1, &[1]);
        marks.add(2, 14, false);
        marks.connected(2, false);
        assert!(marks.is_empty() && !marks.is_duplicate(1, 7) && !marks.is_duplicate(2, 14));
    }
}
