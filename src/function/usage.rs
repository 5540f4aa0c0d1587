//! Usage of a function: what it was asked, what went wrong, and what it cost. Charged also when a call fails.
//!
//! - Totals only grow; they are durable (an entry's value) and survive restarts.
//! - Form of [`Usage`]: varints in the order of the fields; fields that a later version appends read as 0.

use crate::entry::{COUNT_MAX, put_varint, take_varint};
use crate::time::WallMillis;

/// Kinds of failed invocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ErrorKind {
    /// The guest trapped.
    Trap = 0,
    /// It called `abort`.
    Abort = 1,
    /// It spent its fuel.
    OutOfFuel = 2,
    /// It wanted more memory than it may have.
    OutOfMemory = 3,
    /// It took longer than it may.
    TimedOut = 4,
    /// Its handler returned an error of its own.
    Refused = 5,
    /// Its handler returned a number that is no verdict.
    BadVerdict = 6,
    /// It could not be instantiated (again).
    Broken = 7,
}

/// How many kinds there are.
pub const ERROR_KINDS: usize = 8;

impl ErrorKind {
    /// All kinds, in order of their codes.
    pub const ALL: [Self; ERROR_KINDS] = [
        Self::Trap,
        Self::Abort,
        Self::OutOfFuel,
        Self::OutOfMemory,
        Self::TimedOut,
        Self::Refused,
        Self::BadVerdict,
        Self::Broken,
    ];

    /// The name in logs, metrics and dead letters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Abort => "abort",
            Self::OutOfFuel => "out-of-fuel",
            Self::OutOfMemory => "out-of-memory",
            Self::TimedOut => "timed-out",
            Self::Refused => "refused",
            Self::BadVerdict => "bad-verdict",
            Self::Broken => "broken",
        }
    }
}

/// What a function used. `peak_memory` is a maximum, everything else a sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Handler calls, failed ones included.
    pub invocations: u64,
    /// Fuel spent.
    pub fuel: u64,
    /// Wall time within calls, microseconds.
    pub time_us: u64,
    /// Payload bytes handed in.
    pub bytes_in: u64,
    /// Bytes put out (topics and payloads) by calls that succeeded: emitted, or kept.
    pub bytes_out: u64,
    /// Largest linear memory, bytes.
    pub peak_memory: u64,
    /// Instances made anew: after failures, and for every call where a copy cannot restore the image.
    pub instances: u64,
    /// Failed calls by [`ErrorKind`].
    pub errors: [u64; ERROR_KINDS],
}

impl Usage {
    /// Failed calls of one kind.
    #[must_use]
    pub const fn errors_of(&self, kind: ErrorKind) -> u64 {
        self.errors[kind as usize]
    }

    /// Failed calls.
    #[must_use]
    pub fn errors_total(&self) -> u64 {
        self.errors.iter().sum()
    }

    /// Adds what another period used.
    pub fn add(&mut self, other: &Self) {
        self.invocations += other.invocations;
        self.fuel += other.fuel;
        self.time_us += other.time_us;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.peak_memory = self.peak_memory.max(other.peak_memory);
        self.instances += other.instances;
        for (sum, more) in self.errors.iter_mut().zip(other.errors) {
            *sum += more;
        }
    }

    /// What was used since `earlier`, a reading of the same totals. The peak stays the peak of all time.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut difference = *self;
        difference.invocations = self.invocations.saturating_sub(earlier.invocations);
        difference.fuel = self.fuel.saturating_sub(earlier.fuel);
        difference.time_us = self.time_us.saturating_sub(earlier.time_us);
        difference.bytes_in = self.bytes_in.saturating_sub(earlier.bytes_in);
        difference.bytes_out = self.bytes_out.saturating_sub(earlier.bytes_out);
        difference.instances = self.instances.saturating_sub(earlier.instances);
        for (value, before) in difference.errors.iter_mut().zip(earlier.errors) {
            *value = value.saturating_sub(before);
        }
        difference
    }

    /// Whether a gateway can have counted so far: of what lies on flash, nothing else may be added to.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        self.fields().into_iter().chain(self.errors).all(|count| count <= COUNT_MAX)
    }

    /// Appends the durable form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for value in self.fields() {
            put_varint(out, value);
        }
        for value in self.errors {
            put_varint(out, value);
        }
    }

    /// Reads the durable form; `None` if a number is cut short.
    #[must_use]
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut next = || if bytes.is_empty() { Some(0) } else { take_varint(&mut bytes) };
        let mut usage = Self {
            invocations: next()?,
            fuel: next()?,
            time_us: next()?,
            bytes_in: next()?,
            bytes_out: next()?,
            peak_memory: next()?,
            instances: next()?,
            errors: [0; ERROR_KINDS],
        };
        for value in &mut usage.errors {
            *value = next()?;
        }
        Some(usage)
    }

    const fn fields(&self) -> [u64; 7] {
        [self.invocations, self.fuel, self.time_us, self.bytes_in, self.bytes_out, self.peak_memory, self.instances]
    }
}

/// What a function used in a period: the payload of a record of kind `Usage`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UsageRecord {
    /// Begin of the period, gateway wall time.
    pub start_ms: WallMillis,
    /// End of the period.
    pub end_ms: WallMillis,
    /// What was used within it.
    pub usage: Usage,
}

impl UsageRecord {
    /// Appends the durable form: both times as `i64` LE, then the usage.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.start_ms.to_le_bytes());
        out.extend_from_slice(&self.end_ms.to_le_bytes());
        self.usage.encode(out);
    }

    /// The inverse of [`UsageRecord::encode`].
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (start, rest) = bytes.split_first_chunk()?;
        let (end, rest) = rest.split_first_chunk()?;
        Some(Self {
            start_ms: i64::from_le_bytes(*start),
            end_ms: i64::from_le_bytes(*end),
            usage: Usage::decode(rest)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: Usage = Usage {
        invocations: 1_000,
        fuel: u64::MAX,
        time_us: 77,
        bytes_in: 1,
        bytes_out: 2,
        peak_memory: 65_536,
        instances: 3,
        errors: [1, 2, 3, 4, 5, 6, 7, 300],
    };

    #[test]
    fn usage_comes_back_as_it_went() {
        let mut bytes = Vec::new();
        SAMPLE.encode(&mut bytes);
        assert_eq!(Usage::decode(&bytes), Some(SAMPLE));
        assert_eq!(Usage::decode(&[]), Some(Usage::default()));
        assert_eq!(Usage::decode(&[0x80]), None);
        let record = UsageRecord { start_ms: -1, end_ms: 5, usage: SAMPLE };
        bytes.clear();
        record.encode(&mut bytes);
        assert_eq!(UsageRecord::decode(&bytes), Some(record));
        assert_eq!(UsageRecord::decode(&bytes[..15]), None);
    }

    #[test]
    fn a_period_is_the_difference_of_two_readings() {
        let mut later = SAMPLE;
        later.fuel = 0;
        later.add(&Usage { invocations: 5, errors: [1; ERROR_KINDS], ..Usage::default() });
        let period = later.since(&Usage { fuel: 0, ..SAMPLE });
        assert_eq!((period.invocations, period.errors_total(), period.peak_memory), (5, 8, 65_536));
        assert_eq!(later.errors_of(ErrorKind::Broken), 301);
    }
}
