//! The gateway: one value that owns functions, windows, outbox, marks and books, and decides.
//!
//! - `handle` takes what happened and when, and leaves [`Effects`]; `seal` closes a batch of them for one commit. Nothing here
//!   waits, reads a clock or touches the world.
//! - Effects become true when their commit is; the shell acknowledges and delivers nothing before.
//! - The books balance after every event: [`Gateway::residue`] is 0.

mod apply;
mod complaints;
mod deadline;
mod device;
mod doubts;
mod durable;
mod letters;
mod message;
mod outlets;
mod recording;
mod routing;
mod scans;
mod status;
mod usage;

use crate::books::{Books, DropReason};
use crate::effect::Effects;
use crate::event::Event;
use crate::field::Paths;
use crate::function::Function;
use crate::manifest::Manifest;
use crate::marks::Marks;
use crate::outbox::{Heads, Lane, Outbox};
use crate::printable::Printable;
use crate::store_id::StoreId;
use crate::subscribed::{Found, Subscribed};
use crate::tape::Tape;
use crate::time::{Now, Stopwatch, Timeline};
use crate::window::{Fold, Lateness, Windows};

pub use durable::StartError;
pub use letters::{Expected, NoReplay};
pub use routing::RoutingError;
pub use status::{FunctionStatus, LaneStatus, Status};

use complaints::Complaints;
use deadline::Interval;
use message::Scratch;
use routing::Routing;
use usage::{Period, Periods};

/// A function in its place: the guest, and what the site says of it.
struct Slot {
    name: String,
    version: String,
    /// With what the site changes of it.
    manifest: Box<Manifest>,
    function: Function,
    keep_prefix: String,
    report: bool,
    /// Gateway-wide number of the function's first meter.
    meter_first: u16,
    /// Messages that its declarative filters turned away.
    filtered: u64,
    /// Fields that it reads as numbers and that were something else.
    misfits: u64,
    usage_dirty: bool,
    /// The running period of usage, if the site wants records of them (or once did).
    period: Option<Period>,
}

/// The whole gateway.
pub struct Gateway {
    payload_max: usize,
    future_skew_max_ms: i64,
    hops_max: u8,
    slots: Vec<Slot>,
    routing: Routing,
    intervals: Vec<Interval>,
    usage_periods: Option<Periods>,
    paths: Paths,
    windows: Windows,
    outbox: Outbox,
    /// The outbox as it is on flash, and as it will be with the batch on its way.
    on_flash: Heads,
    on_its_way: Heads,
    is_on_its_way: bool,
    dead_letter_lane: Option<usize>,
    marks: Marks,
    subscribed: Subscribed,
    books: Books,
    timeline: Timeline,
    commit: u64,
    store: StoreId,
    /// The number of the store has been written by this process.
    store_told: bool,
    /// Something waits for a commit.
    dirty: bool,
    skewed: u64,
    hop_limited: u64,
    dead_letters_lost: u64,
    complaints: Complaints,
    aggregates_lost: u64,
    fold_counts: FoldCounts,
    kept_topic: String,
    bytes: Vec<u8>,
    scratch: Scratch,
    stopwatch: Box<dyn Stopwatch>,
    /// What somebody records of the calls, and how many have done so.
    tape: Option<Tape>,
    recordings: u64,
}

/// How values came to their windows, since the start.
#[derive(Debug, Default)]
struct FoldCounts {
    late: u64,
    overflow: u64,
}

impl FoldCounts {
    fn count(&mut self, fold: Option<Fold>) {
        let Some(fold) = fold else { return };
        self.late += u64::from(fold.lateness != Lateness::OnTime);
        self.overflow += u64::from(fold.overflow);
    }
}

impl Gateway {
    /// Takes one event and adds what follows from it to `effects`.
    pub fn handle(&mut self, now: Now, event: Event<'_>, effects: &mut Effects) {
        let now = self.time_now(now, effects);
        match event {
            Event::Message(message) => self.on_message(now, &message, effects),
            Event::Poison(poison) => self.on_poison(now, &poison, effects),
            Event::Lost { count } => self.on_lost(count),
            Event::Connected { epoch, session_present } => self.on_connected(epoch, session_present, effects),
            Event::Granted { filters } => {
                self.subscribed.granted(filters);
                self.dirty |= self.subscribed.is_dirty();
            }
            Event::Released { packet_id } => self.marks.released(packet_id),
            Event::Confirmed { epoch, acks_through, completed_through } => {
                self.marks.confirmed(epoch, acks_through, completed_through);
            }
            Event::Settled { lane, records } => {
                self.outbox.settle(lane, records, &mut self.books, &mut effects.releases);
                self.heads().for_each(|heads| heads.settle(lane, records));
                self.dirty = true;
            }
            Event::Gone { lane, lost } => {
                self.outbox.gone(lane, &lost, &mut self.books, &mut effects.releases);
                self.heads().for_each(|heads| heads.gone(lane, &lost));
                self.dirty = true;
            }
            Event::Fetched { lane, fetched } => {
                let Self { outbox, books, .. } = self;
                let back = (&mut effects.releases, &mut effects.reads);
                outbox.fetched(lane, fetched.as_ref(), now, books, back);
                self.dirty = true;
            }
            Event::Upstream { lane, is_up } => {
                self.dirty |= self.outbox.upstream(lane, is_up);
            }
            Event::Tick => self.on_tick(now, effects),
        }
    }

    fn on_connected(&mut self, epoch: u64, session_present: bool, effects: &mut Effects) {
        self.marks.connected(epoch, session_present);
        match self.subscribed.connected(epoch, session_present) {
            Found::Known => {}
            Found::Elsewhere(host) => {
                let text = format!(
                    "the broker kept a session that is recorded under another name of it ({}): filters of its earlier \
                     configurations are ended as if it had not changed",
                    Printable(&host)
                );
                effects.say(log::Level::Info, "", text);
            }
            Found::Unknown => {
                let text = "the broker kept a session that this store knows nothing of: if another configuration subscribed \
                        other filters in it, they go on to deliver, and messages of both are counted twice; a new \
                        broker.client-id begins a session of its own";
                effects.say(log::Level::Warn, "", text.to_owned());
            }
        }
        self.dirty |= self.subscribed.is_dirty();
    }

    fn on_lost(&mut self, count: u64) {
        self.books.received += count;
        self.books.drop(DropReason::InboxFull, count);
        self.dirty = true;
    }

    /// Takes notice of the clock; what goes by it moves with it.
    fn time_now(&mut self, now: Now, effects: &mut Effects) -> Now {
        let (now, shift) = self.timeline.read(now);
        if let Some(shift) = shift {
            self.on_shift(now, shift, effects);
        }
        now
    }

    /// The gateway's own time: that of the clock, or going on from the last one on flash until the clock is set.
    #[must_use]
    pub fn time(&self, now: Now) -> Now {
        self.timeline.peek(now)
    }

    /// The acknowledgements of a commit have been handed to the link.
    pub fn acked(&mut self, commit: u64, epoch: u64, acks: u64) {
        self.marks.acked(commit, epoch, acks);
    }

    fn heads(&mut self) -> impl Iterator<Item = &mut Heads> {
        let on_its_way = self.is_on_its_way.then_some(&mut self.on_its_way);
        [&mut self.on_flash].into_iter().chain(on_its_way)
    }

    /// Whether a full lane asks for back-pressure: hand in no message until it drains.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.outbox.is_blocked()
    }

    /// Whether a sink waits for a commit to go on.
    #[must_use]
    pub fn is_starved(&self) -> bool {
        self.dirty && self.outbox.is_starved()
    }

    /// Whether something waits for a commit.
    #[must_use]
    pub const fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Received messages that are not accounted for: 0, or there is a defect.
    #[must_use]
    pub fn residue(&self) -> i128 {
        self.books.residue(self.outbox.messages_pending())
    }

    /// The books.
    #[must_use]
    pub const fn books(&self) -> &Books {
        &self.books
    }

    /// The number of the store, of which records tell upstream.
    #[must_use]
    pub const fn store(&self) -> StoreId {
        self.store
    }

    /// What the broker's session may hold.
    #[must_use]
    pub const fn subscribed(&self) -> &Subscribed {
        &self.subscribed
    }

    /// The outbox as of the last commit, and what was settled since: what sinks go by.
    #[must_use]
    pub fn on_flash(&self) -> &[Lane] {
        self.on_flash.lanes()
    }

    /// Whether the open batch is about to be more than a segment takes.
    #[must_use]
    pub fn fills_segment(&self) -> bool {
        self.outbox.fills_segment()
    }

    /// The outbox.
    #[must_use]
    pub const fn outbox(&self) -> &Outbox {
        &self.outbox
    }
}
