//! An invocation's event, and how it is laid into the guest's buffer (the layout is `functions/abi/README.md`'s).
//!
//! - Header, then the bound `f64` fields, then topic, device and payload as wanted; what does not fit is not copied:
//!   its pointer is 0 and its length true.
//! - Writing allocates nothing.

use serde::{Deserialize, Serialize};
use weir_abi::{HEADER_LEN, flags, header, kind, want};

use super::guest::Buffer;
use super::host::splitmix;
use super::{FNV_BASIS, fnv1a};
use crate::config::Qos;
use crate::field::{Codec, Fields, PathId};
use crate::time::{TimeQuality, WallMillis};

/// Kind of event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u16)]
pub enum EventKind {
    /// A message from the broker or another function: `on_event`.
    #[default]
    Message = kind::MESSAGE,
    /// An interval elapsed: `on_interval`. No topic, payload or fields.
    Interval = kind::INTERVAL,
}

/// What a function is called with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Invocation<'a> {
    /// Kind of event.
    pub kind: EventKind,
    /// The event's number in the books; invocations of one message share it.
    pub sequence: u64,
    /// What `random` gives.
    pub seed: Seed,
    /// Event time.
    pub time_ms: WallMillis,
    /// How far the event time can be trusted.
    pub quality: TimeQuality,
    /// The event time was taken from the payload.
    pub time_from_payload: bool,
    /// Time of processing: what `now_ms` answers.
    pub now_ms: WallMillis,
    /// QoS of the message.
    pub qos: Qos,
    /// The broker had retained the message.
    pub retained: bool,
    /// The message came from another function.
    pub chained: bool,
    /// Topic name.
    pub topic: &'a str,
    /// Device name.
    pub device: &'a str,
    /// The original bytes.
    pub payload: &'a [u8],
    /// How fields are read from them.
    pub codec: Codec,
}

/// Where the bytes of `random` come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seed {
    /// From the event: event time, topic and payload, and which call of the event's it is (0: the first). An interval has
    /// neither topic nor payload; it counts by the place of its trigger.
    OfCall(u32),
    /// As it was when the invocation failed: a replay.
    Given(u64),
}

impl Default for Seed {
    fn default() -> Self {
        Self::OfCall(0)
    }
}

impl Invocation<'_> {
    /// The number that seeds `random`.
    #[must_use]
    pub fn random_seed(&self) -> u64 {
        let call = match self.seed {
            Seed::Given(seed) => return seed,
            Seed::OfCall(call) => call,
        };
        let numbers = [self.time_ms as u64, self.topic.len() as u64, u64::from(call), self.kind as u64];
        let mut seed = numbers.iter().fold(FNV_BASIS, |hash, number| fnv1a(hash, &number.to_le_bytes()));
        seed = fnv1a(fnv1a(seed, self.topic.as_bytes()), self.payload);
        splitmix(&mut seed)
    }
}

const HEADER: usize = HEADER_LEN as usize;

/// What is behind the header, as places in the buffer.
struct Layout<'m> {
    data: &'m mut [u8],
    pointer: u32,
    end: usize,
}

impl Layout<'_> {
    fn u16(&mut self, at: usize, value: u16) {
        self.data[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }

    fn u32(&mut self, at: usize, value: u32) {
        self.data[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, at: usize, value: u64) {
        self.data[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    /// Copies `bytes` behind what is there if they are wanted and fit; writes pointer and length at `at`.
    fn part(&mut self, at: usize, wanted: bool, bytes: &[u8]) -> bool {
        let end = self.end + bytes.len();
        let fits = end <= self.data.len();
        if wanted && fits {
            self.data[self.end..end].copy_from_slice(bytes);
            self.u32(at, self.pointer + self.end as u32);
            self.end = end;
        } else {
            self.u32(at, 0);
        }
        self.u32(at + 4, u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        fits
    }
}

/// Writes the event; `None`: the buffer is no longer within the memory.
pub(super) fn write(
    memory: &mut [u8],
    buffer: Buffer,
    invocation: &Invocation<'_>,
    wanted: i32,
    bound: &[PathId],
    fields: &Fields,
) -> Option<()> {
    let data = memory.get_mut(buffer.pointer as usize..)?.get_mut(..buffer.capacity as usize)?;
    let end = HEADER + 8 * bound.len();
    if data.len() < end {
        return None;
    }
    let mut out = Layout { data, pointer: buffer.pointer, end };
    let mut present = 0;
    for (index, id) in bound.iter().enumerate() {
        let value = fields.f64(*id).filter(|_| invocation.kind == EventKind::Message);
        present |= u64::from(value.is_some()) << index;
        out.u64(HEADER + 8 * index, value.unwrap_or(f64::NAN).to_bits());
    }
    let is = |flag: bool, bit: u32| if flag { bit } else { 0 };
    let mut bits = is(invocation.retained, flags::RETAINED)
        | is(invocation.chained, flags::CHAINED)
        | is(invocation.time_from_payload, flags::TIME_FROM_PAYLOAD);
    out.part(header::TOPIC_PTR, wanted & want::TOPIC != 0, invocation.topic.as_bytes());
    out.part(header::DEVICE_PTR, wanted & want::DEVICE != 0, invocation.device.as_bytes());
    let wants_payload = wanted & want::PAYLOAD != 0;
    let fits = out.part(header::PAYLOAD_PTR, wants_payload, invocation.payload);
    bits |= is(wants_payload && !fits, flags::PAYLOAD_TOO_LONG);
    out.u16(header::VERSION, 1);
    out.u16(header::LENGTH, HEADER as u16);
    out.u32(header::FLAGS, bits);
    out.u64(header::TIME_MS, invocation.time_ms as u64);
    out.u64(header::SEQUENCE, invocation.sequence);
    out.u16(header::KIND, invocation.kind as u16);
    out.data[header::QOS] = invocation.qos as u8;
    out.data[header::TIME_QUALITY] = invocation.quality as u8;
    out.u32(header::FIELDS_PTR, buffer.pointer + HEADER_LEN);
    out.u64(header::PRESENT, present);
    Some(())
}
