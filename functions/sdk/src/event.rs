//! What a handler is given.

use weir_abi::flags;

use crate::answer::Error;
use crate::field::filled;
use crate::raw::{self, Header};
use crate::text::{Text, Writer};

/// A message.
pub struct Event<'call> {
    header: &'call Header,
}

/// An interval that elapsed. It has no topic, payload or fields.
pub struct Interval<'call> {
    header: &'call Header,
}

/// How far the event's time can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeQuality {
    /// The gateway's clock was never set.
    Unset,
    /// Continued from the last run: behind by the time that the gateway was off.
    Restored,
    /// Synchronised.
    Synced,
}

macro_rules! common {
    ($type:ident) => {
        impl $type<'_> {
            #[doc(hidden)]
            #[must_use]
            pub fn at(address: u32) -> Self {
                Self { header: raw::header(address) }
            }
            /// When it happened, milliseconds since 1970.
            #[must_use]
            pub fn time_ms(&self) -> i64 {
                self.header.time_ms
            }
            /// How far [`Self::time_ms`] can be trusted.
            #[must_use]
            pub fn time_quality(&self) -> TimeQuality {
                match self.header.time_quality {
                    2 => TimeQuality::Synced,
                    1 => TimeQuality::Restored,
                    _ => TimeQuality::Unset,
                }
            }
            /// Number of the invocation; the same when it is run again.
            #[must_use]
            pub fn sequence(&self) -> u64 {
                self.header.sequence
            }
        }
    };
}
common!(Event);
common!(Interval);

impl Event<'_> {
    /// The topic. Traps if it does not fit the `buffer`, or `wants` left it out.
    #[must_use]
    pub fn topic(&self) -> &[u8] {
        match self.header.topic() {
            Some(topic) => topic,
            None => raw::abort(b"the topic does not fit `buffer`, or is not in `wants`"),
        }
    }

    /// The device's name. Traps if it does not fit the `buffer`, or `wants` left it out.
    #[must_use]
    pub fn device(&self) -> &[u8] {
        match self.header.device() {
            Some(device) => device,
            None => raw::abort(b"the device's name does not fit `buffer`, or is not in `wants`"),
        }
    }

    /// The payload, if `wants` names it and it fits the `buffer`.
    #[must_use]
    pub fn payload(&self) -> Option<&[u8]> {
        self.header.payload()
    }

    /// The payload's true length in bytes.
    #[must_use]
    pub fn payload_len(&self) -> usize {
        self.header.payload_len()
    }

    /// Copies the payload from `offset` into `space`; what was copied.
    pub fn read_payload<'s>(&self, offset: usize, space: &'s mut [u8]) -> &'s [u8] {
        let copied = usize::try_from(raw::payload(offset, space)).unwrap_or(0);
        space.get(..copied).unwrap_or_default()
    }

    /// A number that was not bound, for paths known only now; the payload is read again for it.
    #[must_use]
    pub fn lookup(&self, path: &str) -> Option<f64> {
        Some(raw::lookup_f64(path)).filter(|value| !value.is_nan())
    }

    /// The same for text; [`Error::TooLong`] if `space` is too small.
    pub fn lookup_text<'s>(&self, path: &str, space: &'s mut [u8]) -> Result<&'s [u8], Error> {
        filled(raw::lookup_str(path, space), space)
    }

    /// Quality of service: 0, 1 or 2.
    #[must_use]
    pub fn qos(&self) -> u8 {
        self.header.qos
    }

    /// Whether the broker had retained it.
    #[must_use]
    pub fn is_retained(&self) -> bool {
        self.header.flags & flags::RETAINED != 0
    }

    /// Whether it comes from another function.
    #[must_use]
    pub fn is_chained(&self) -> bool {
        self.header.flags & flags::CHAINED != 0
    }

    /// Whether the message became a dead letter before, and is handled once more.
    #[must_use]
    pub fn is_replayed(&self) -> bool {
        self.header.flags & flags::REPLAYED != 0
    }

    pub(crate) fn number(&self, index: i32) -> Option<f64> {
        (self.header.present >> index & 1 == 1).then(|| self.header.number(index))
    }
}

/// Sends `payload` on `topic`, which the manifest's `emits` must allow. [`emit!`](crate::emit) puts both together.
pub fn emit(topic: &[u8], payload: &[u8]) -> Result<(), Error> {
    Error::check(raw::emit(topic, payload))
}

/// [`emit!`](crate::emit)'s way: refuses a text that was cut.
// Not inlined: the interpreter charges a function's whole straight-line body, so what is rare stands apart.
#[doc(hidden)]
#[inline(never)]
pub fn emit_with(write: impl FnOnce(&mut Writer, &mut Writer)) -> Result<(), Error> {
    let (mut topic, mut payload) = (Text::<128>::new(), Text::<512>::new());
    write(&mut topic, &mut payload);
    if topic.is_cut() || payload.is_cut() { Err(Error::TooLong) } else { emit(topic.as_bytes(), payload.as_bytes()) }
}

/// How much a log line matters.
#[allow(non_camel_case_types, reason = "`log!(info, ..)` names them")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Level {
    /// Something failed.
    error = weir_abi::level::ERROR,
    /// Something is odd.
    warn = weir_abi::level::WARN,
    /// Worth knowing.
    info = weir_abi::level::INFO,
    /// For the developer.
    debug = weir_abi::level::DEBUG,
}

/// [`log!`](crate::log)'s way.
#[doc(hidden)]
#[inline(never)]
pub fn log_with(level: Level, write: impl FnOnce(&mut Writer)) {
    let mut text = Text::<160>::new();
    write(&mut text);
    raw::log(level as i32, text.as_bytes());
}

/// `wants ..;`: unknown names do not compile.
#[doc(hidden)]
pub fn want(bits: i32) {
    raw::want(bits);
}

/// The bit of a name in `wants`.
#[doc(hidden)]
#[must_use]
pub const fn want_bit(name: &str) -> i32 {
    match name.as_bytes() {
        b"payload" => weir_abi::want::PAYLOAD,
        b"topic" => weir_abi::want::TOPIC,
        b"device" => weir_abi::want::DEVICE,
        _ => panic!("`wants` takes payload, topic and device"),
    }
}

/// The time of processing, milliseconds since 1970; the same throughout an invocation.
#[must_use]
pub fn now_ms() -> i64 {
    raw::now_ms()
}

/// Fills `space` (at most 256 bytes) with random bytes; the same when the invocation is run again.
pub fn random(space: &mut [u8]) -> Result<(), Error> {
    Error::check(raw::random(space))
}
