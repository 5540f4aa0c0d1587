//! What things cost in memory and on flash: the one place of the numbers that [`super::Budget`] adds up.
//!
//! - A structure that is counted here is bounded there: the module that owns it uses these constants as its bound, or a
//!   test of it measures that it stays below.
//! - Measured figures name the measurement; they are upper ends, rounded up.

use crate::manifest::MeterKind;
use crate::units::Bytes;

/// The process before it has work: its binary, of which in the end every page has been touched, C library, allocator, runtime,
/// log, configuration. Measured with every bound at its end (`tests/bounds.rs`): 6.9 MiB of files (x86-64-gnu, a binary of
/// 5.6 MiB); a static binary for ARM is smaller. Idle, some 0.9 MiB of memory of its own, of which the lines below have a part.
pub const PROCESS: Bytes = Bytes::mib(7);
/// Touched stack of the thread that owns the disk, and of the one that loads modules.
pub const THREAD_STACKS: Bytes = Bytes::kib(256);

/// sled beyond its cache: eight threads, I/O buffers, page table. Measured: a process with sled alone has 9 to 13 MB.
pub const SLED: Bytes = Bytes::mib(9);

/// Changes that are kept for sled between two flushes: keys and values. A flush is due when half of it is used.
pub const DIRTY_BYTES_MAX: Bytes = Bytes::kib(512);
/// Keyed state as a map in memory takes this many times its bytes: nodes and vectors.
pub const MAP_FACTOR: u64 = 2;

/// Interpreter value stack of one function (its configured maximum).
pub const VALUE_STACK: Bytes = Bytes::kib(32);
/// Names of a module's functions that are kept for reports of traps.
pub const NAMES: Bytes = Bytes::kib(16);
/// Engine, store, instance: what a function costs beside memory, code and state.
pub const FUNCTION_FIXED: Bytes = Bytes::kib(12);
/// Bytes of code that the interpreter makes of a byte of module, for the first [`CODE_STEEP`] bytes of the module.
/// Measured 13 to 19 for modules of 0.9 to 1.6 KB, 10 at 7 KB, 3.8 at 27 KB and 77 KB; fuel metering adds up to a fifth.
pub const CODE_FACTOR_STEEP: u64 = 22;
/// See [`CODE_FACTOR_STEEP`].
pub const CODE_STEEP: u64 = 4096;
/// The same for the rest of the module.
pub const CODE_FACTOR: u64 = 5;
/// Bookkeeping of one entry of a function's durable state in memory, charged against its quota with key and value: its
/// share of a tree node (48 bytes, two thirds full) and the allocator's rounding of key and value.
pub const STATE_ENTRY: u64 = 96;
/// Longest key of a meter's cell and its staged form.
pub const METER_KEY_MAX: u64 = 128;

/// One window cell in memory: key, numbers, its share of the look-up table, and room to grow.
#[must_use]
pub const fn cell(kind: MeterKind) -> u64 {
    match kind {
        MeterKind::Counter | MeterKind::Gauge => 384,
        // A sketch of at most 256 bins of 8 bytes, and its header.
        MeterKind::Distribution => 384 + 2048 + 64,
    }
}

/// One window cell as a journal entry or in a snapshot, at most.
#[must_use]
pub const fn cell_entry(kind: MeterKind) -> u64 {
    match kind {
        MeterKind::Counter | MeterKind::Gauge => 256,
        // A bin takes at most seven bytes: the gap to the one before, and its count.
        MeterKind::Distribution => 256 + 256 * 7,
    }
}

/// Read and write buffers of an MQTT connection, without the packet being read: 16 KiB in, up to 128 KiB kept for what
/// goes out together.
pub const LINK_BUFFERS: Bytes = Bytes::kib(160);
/// Messages that wait within the chain that one received message set off.
pub const CHAIN: Bytes = Bytes::mib(1);
/// One TLS connection: records of 16 KiB in both directions, plain text beside them, handshake.
pub const TLS_CONNECTION: Bytes = Bytes::kib(128);
/// Trusted certificates of one TLS connection (the whole set of Mozilla is some 150 certificates).
pub const TLS_ROOTS: Bytes = Bytes::kib(384);
/// One received, uncommitted message beside its bytes: two slots in the inbox, ack, duplicate mark.
pub const MESSAGE_SLOT: u64 = 256;

/// What a sink reads from its lanes at once, and holds in encoded form until it is delivered.
pub const SINK_READ: Bytes = Bytes::kib(64);
/// Unacknowledged records of a sink in encoded form, at most this many times [`SINK_READ`].
pub const SINK_WINDOW_FACTOR: u64 = 2;
/// A lane's extent in memory, for each of its segments: the outbox's, as of the last commit and of the batch on its way, the store's.
pub const LANE_EXTENT: u64 = 160;
/// Buffer through which snapshots are written and the journal is replayed.
pub const STORE_BUFFER: Bytes = Bytes::kib(128);
/// The watch: touched stack and runtime of its thread (128 KiB), a metrics page being written and sent (256 KiB), a portion of
/// dead letters that is being replayed (256 KiB), and a recording: its tape (128 KiB) and a portion of it being handed out, twice in
/// its form as an answer (256 KiB).
pub const WATCH: Bytes = Bytes::kib(1024);

/// Duplicate marks at most, one for each packet identifier: a broker may keep to no limit (3.1.1), or to none of ours.
pub const MARKS_MAX: u64 = 65_535;
/// One of them in memory: 8 bytes, and its share of a batch.
pub const MARK: u64 = 12;
/// One of them as an entry, of a broker that passes our limit: its hash, and its share of a run and of a batch.
pub const MARK_BEYOND_ENTRY: u64 = 8;
/// Batches of marks from which on small ones are joined.
pub const MARK_BATCHES: u64 = 1024;
/// A duplicate mark as an entry, as it is with a broker that keeps to our limit: packet id, hash, its share of the key.
pub const MARK_ENTRY: u64 = 32;
/// Any other small entry: a lane's head, a function's usage, the books.
pub const SMALL_ENTRY: u64 = 512;
/// Commits follow each other no faster than this, whatever the interval: a sync of an SD card takes as long.
pub const COMMIT_MS_MIN: u64 = 5;

/// Smallest write of flash, and the alignment of frames.
pub const FLASH_PAGE: u64 = 4096;
/// Groups and carried records of one pass that rolls a lane up: some 2,000 pairs of meter and key.
pub const ROLL_UP: Bytes = Bytes::mib(1);
/// Segments kept as ballast, so that the gateway can always commit its own bookkeeping.
pub const RESERVE_SEGMENTS: u64 = 2;
/// sled's folder when empty, and per byte of keyed state. Measured: 5 to 21 MiB for 1 to 4 MB.
pub const SLED_FLASH: Bytes = Bytes::mib(2);
/// See [`SLED_FLASH`].
pub const SLED_FLASH_FACTOR: u64 = 5;

/// Memory of the code that the interpreter makes of a module of `module` bytes.
#[must_use]
pub const fn translated(module: u64) -> u64 {
    let steep = if module < CODE_STEEP { module } else { CODE_STEEP };
    steep.saturating_mul(CODE_FACTOR_STEEP).saturating_add((module - steep).saturating_mul(CODE_FACTOR))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_of_translated_code_lies_above_what_was_measured() {
        // (module, live heap after eager translation with fuel), bytes
        for (module, measured) in [(900, 17_200), (1_200, 17_900), (1_600, 21_400), (7_000, 68_000), (77_000, 347_000)]
        {
            assert!(translated(module) >= measured, "{module}: {} < {measured}", translated(module));
            assert!(translated(module) <= 2 * measured, "{module}: {}", translated(module));
        }
    }
}
