//! What of the outbox and the books is on flash: as of one commit, and what sinks have settled since.
//!
//! - A batch that finds the disk full waits, and everything behind it. But what sinks deliver meanwhile is room: it can be said
//!   alone, because it is known here how lanes and books stand without that batch.
//! - So there are two of these beside the outbox: as of the last commit that happened, and as of the batch on its way. What is
//!   settled is entered in all; the batch that waits is then told of it before it is tried again.
//! - Sinks go by the former: what a batch gives up is theirs until it is committed. So they settle a lane without a gap.

use super::ahead::Point;
use super::{Lane, Outbox, Settled};
use crate::books::Books;
use crate::effect::Release;
use crate::entry::Entries;
use crate::store::Lost;

/// See the module.
#[derive(Debug, Default)]
pub struct Heads {
    outbox: Outbox,
    books: Books,
    /// Segments that may go when these heads are on flash.
    releases: Vec<Release>,
}

impl Heads {
    /// Becomes as `outbox`, of which everything is sealed, and `books`.
    pub fn follow(&mut self, outbox: &Outbox, books: &Books) {
        let Outbox { lanes, segment_bytes } = outbox;
        self.outbox.segment_bytes = *segment_bytes;
        for lane in lanes.iter().skip(self.outbox.lanes.len()) {
            self.outbox.lanes.push(Lane::new(lane.config.clone()));
        }
        for (own, lane) in self.outbox.lanes.iter_mut().zip(lanes) {
            own.follow(lane);
        }
        self.books.clone_from(books);
        self.releases.clear();
    }

    /// These segments may go as well.
    pub fn owe(&mut self, releases: &[Release]) {
        self.releases.extend_from_slice(releases);
    }

    /// The lanes. Nothing is staged in them.
    #[must_use]
    pub fn lanes(&self) -> &[Lane] {
        self.outbox.lanes()
    }

    /// A sink has settled records.
    pub fn settle(&mut self, lane: usize, settled: &[Settled]) {
        self.outbox.settle(lane, settled, &mut self.books, &mut self.releases);
    }

    /// The store cannot read some records any more.
    pub fn gone(&mut self, lane: usize, lost: &Lost) {
        self.outbox.gone(lane, lost, &mut self.books, &mut self.releases);
    }

    /// Says them, for every lane; what may go then is added to `releases`.
    pub fn say(&mut self, entries: &mut Entries, releases: &mut Vec<Release>, scratch: &mut Vec<u8>) {
        self.outbox.lanes.iter().for_each(|lane| lane.save(entries, scratch));
        self.books.save(entries, scratch);
        releases.append(&mut self.releases);
    }

    /// Whether room is made by saying alone what was settled, or a sink waits for it. `ahead`: the outbox, whose batch waits;
    /// `behind`: as of that batch.
    pub fn makes_room(&mut self, ahead: &mut Outbox, behind: &mut Self) -> bool {
        let lanes = self.outbox.lanes.iter_mut().zip(&mut behind.outbox.lanes).zip(&mut ahead.lanes);
        let mut grants = false;
        for (index, ((own, sealed), lane)) in lanes.enumerate() {
            own.close_newest(index, lane.newest_segment(), &mut self.releases);
            grants |= own.grant_with(sealed, lane);
        }
        grants || !self.releases.is_empty()
    }
}

impl Lane {
    fn follow(&mut self, other: &Self) {
        self.extents.clone_from(&other.extents);
        self.next_seq = other.next_seq;
        self.next_message = other.next_message;
        self.head_seq = other.head_seq;
        self.head_message = other.head_message;
        self.next_segment = other.next_segment;
        self.released_below = other.released_below;
        self.totals.clone_from(&other.totals);
        self.losses.clone_from(&other.losses);
        self.ahead.clone_from(&other.ahead);
        self.reach = other.reach;
    }

    fn newest_segment(&self) -> u32 {
        self.extents.back().map_or(self.next_segment, |last| last.segment)
    }

    /// A segment of which all has left may go although none follows it here, if records go to another one by now.
    fn close_newest(&mut self, index: usize, writing: u32, releases: &mut Vec<Release>) {
        let is_closed = self.extents.len() == 1 && self.extents[0].segment < writing;
        if is_closed && self.next_seq <= self.head_seq {
            let below = self.extents[0].segment + 1;
            self.extents.clear();
            self.let_go_below(index, below, releases);
        }
    }

    /// Lets the sink go on as far as `lane` would, of which `sealed` waits for room; within what is here.
    fn grant_with(&mut self, sealed: &mut Self, lane: &mut Self) -> bool {
        // What has been given up or rolled up there, and is not here, must not be seen by half.
        if self.head_seq != lane.head_seq || self.ahead != lane.ahead {
            return false;
        }
        let (Some(limit), Some(granted)) = (lane.next_grant(), self.reach.granted) else { return false };
        let end = Point { seq: self.next_seq, message: self.next_message };
        let limit = if limit.seq < end.seq { limit } else { end };
        if limit.seq <= granted.seq {
            return false;
        }
        for lane in [self, sealed, lane] {
            lane.reach.granted = Some(limit);
        }
        true
    }
}
