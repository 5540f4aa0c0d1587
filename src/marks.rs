//! Duplicate marks: which QoS 1 and 2 messages have been handled, until the broker is known to have our acknowledgement.
//!
//! - A mark is (packet identifier, hash of topic and payload). A publish with DUP set that matches a mark is acknowledged again
//!   without effect; any other publish is new (MQTT 5.0 §3.3.1.1, §4.4).
//! - Marks are committed with the effects of their messages, one entry for each commit, and leave when the broker's PINGRESP
//!   proves that it has read the acknowledgements: PUBACK, or at QoS 2 PUBREC and PUBCOMP.
//! - What is not confirmed is kept, whatever limit the broker should have kept to: 3.1.1 knows none, and mosquitto 2.0 passes the
//!   Receive Maximum by thousands when messages have waited. The bound is [`MARKS_MAX`]: there are no more packet identifiers.

use std::collections::VecDeque;

use crate::budget::costs;
use crate::config::Qos;
use crate::entry::{Entries, Space, put_varint, take, take_varint, unzigzag, zigzag};

/// The marks of one commit.
#[derive(Debug, Default)]
struct Batch {
    /// The number of the commit; its key on flash.
    commit: u64,
    /// `(epoch, acknowledgements sent in it)` once the acknowledgements of this batch have been handed to the link.
    acked: Option<(u64, u64)>,
    marks: Vec<Mark>,
    /// Marks of an earlier connection are among them.
    is_old: bool,
    /// A message that the broker had not sent before is among them.
    has_news: bool,
    /// All of them are of an earlier connection: no acknowledgement of this one will follow its commit.
    is_past: bool,
    /// The least and the greatest identifier among them, or more: where to look at all.
    span: (u16, u16),
    /// For how many of them a PUBREL is still to come.
    owed: usize,
    /// When the last of these came: PUBRELs of this connection until then.
    done_at: u64,
}

/// A message that was handled.
#[derive(Clone, Copy, Debug)]
struct Mark {
    packet_id: u16,
    /// QoS 2, and its PUBREL has not come over this connection.
    owes: bool,
    hash: u32,
}

impl Batch {
    fn push(&mut self, mark: Mark) {
        let Mark { packet_id, owes, .. } = mark;
        let (low, high) = if self.marks.is_empty() { (packet_id, packet_id) } else { self.span };
        self.span = (low.min(packet_id), high.max(packet_id));
        self.owed += usize::from(owes);
        self.marks.push(mark);
    }

    fn may_hold(&self, packet_id: u16) -> bool {
        (self.span.0..=self.span.1).contains(&packet_id)
    }

    /// Takes in the batch before this one. They leave together: when the acknowledgements of the later are confirmed.
    fn join(&mut self, mut before: Self) {
        self.span = (self.span.0.min(before.span.0), self.span.1.max(before.span.1));
        self.is_old |= before.is_old;
        self.has_news |= before.has_news;
        self.owed += before.owed;
        self.done_at = self.done_at.max(before.done_at);
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
    spare: Vec<Vec<Mark>>,
    /// Commits whose entry must be deleted with the next commit.
    obsolete: Vec<u64>,
    count: usize,
    receive_max: usize,
    epoch: u64,
    acks_sent: u64,
    /// PUBRELs of this connection.
    released: u64,
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
            released: 0,
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
        let near = newest_first.filter(|batch| batch.may_hold(packet_id));
        let mark = near.flat_map(|batch| batch.marks.iter().rev()).find(|mark| mark.packet_id == packet_id);
        mark.is_some_and(|mark| mark.hash == hash)
    }

    /// Marks a message as handled in the open commit. `dup`: the broker has sent it before.
    pub fn add(&mut self, packet_id: u16, hash: u32, qos: Qos, dup: bool) {
        self.open.has_news |= !dup;
        self.open.is_past = false;
        self.open.push(Mark { packet_id, owes: qos == Qos::ExactlyOnce, hash });
        self.count += 1;
    }

    /// A QoS 2 message that is marked came again, and is acknowledged again.
    pub fn again(&mut self, packet_id: u16) {
        self.turn(packet_id, true);
    }

    /// The broker has said PUBREL, and the link has answered. That it has read the answer is not known yet: until then mosquitto
    /// may forget that it had our PUBREC (2.0, when two connections break in quick succession), and send the message again.
    pub fn released(&mut self, packet_id: u16) {
        self.released += 1;
        self.turn(packet_id, false);
    }

    /// Whether the newest mark of the identifier owes a PUBREL.
    fn turn(&mut self, packet_id: u16, owes: bool) {
        let newest_first = core::iter::once(&mut self.open).chain(self.batches.iter_mut().rev());
        for batch in newest_first.filter(|batch| batch.may_hold(packet_id)) {
            let Some(mark) = batch.marks.iter_mut().rev().find(|mark| mark.packet_id == packet_id) else { continue };
            if mark.owes != owes {
                mark.owes = owes;
                batch.owed = if owes { batch.owed + 1 } else { batch.owed - 1 };
            }
            batch.done_at = self.released;
            return;
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
        (self.acks_sent, self.released) = (0, 0);
        self.news_at = None;
        for batch in self.batches.iter_mut().chain([&mut self.open]).filter(|batch| 0 < batch.owed || 0 < batch.done_at)
        {
            (batch.owed, batch.done_at) = (0, 0);
            batch.marks.iter_mut().for_each(|mark| mark.owes = false);
        }
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

    /// The broker has read the first `acks_through` acknowledgements of connection `epoch`, and our answers to the first
    /// `completed_through` PUBRELs.
    pub fn confirmed(&mut self, epoch: u64, acks_through: u64, completed_through: u64) {
        if epoch != self.epoch {
            return;
        }
        // What the broker has no acknowledgement of it sends again before anything new: in 5.0 at most Receive Maximum messages,
        // in 3.1.1 any number. When it has read as many acknowledgements, and one of something new, nothing of an earlier
        // connection can come again.
        let is_past = self.receive_max as u64 <= acks_through && self.news_at.is_some_and(|at| at <= acks_through);
        while let Some(batch) = self.batches.front() {
            let is_acked = batch.acked.is_some_and(|(at, count)| at == epoch && count <= acks_through);
            let is_completed = batch.owed == 0 && batch.done_at <= completed_through;
            if !is_acked || !is_completed || batch.is_old && !is_past {
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
                let (packet_id, hash) = (u16::try_from(next).ok()?, u32::from_le_bytes(hash.try_into().ok()?));
                batch.push(Mark { packet_id, owes: false, hash });
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
fn encode(marks: &[Mark], out: &mut Vec<u8>) {
    out.clear();
    let mut end = 0;
    for run in marks.chunk_by(|before, mark| before.packet_id.checked_add(1) == Some(mark.packet_id)) {
        let first = i64::from(run[0].packet_id);
        put_varint(out, zigzag(first - end));
        put_varint(out, run.len() as u64);
        run.iter().for_each(|mark| out.extend_from_slice(&mark.hash.to_le_bytes()));
        end = first + run.len() as i64;
    }
}

#[cfg(test)]
mod tests;
