//! Frames: how commits lie in segments, as bytes and as arithmetic. The outbox and the store place frames by the same rule.
//!
//! - A frame is a header of 64 bytes and a body. The header's CRC covers the name of the log (as a salt), the segment's number
//!   and the body's CRC, so that what a recycled segment still holds, of whichever log, is never valid.
//! - A page (4 KiB) that holds acknowledged data is never written again, unless the journal holds a second copy of that data:
//!   a write that the power cut may then destroy the page. Journal frames and big lane frames have pages of their own; small
//!   lane frames share pages, and ride inside the journal's frame until a snapshot has made them durable in the lane.
//! - Form, little-endian: `magic u32, segment u32, body_len u32, body_crc u32, first u64, count u32, messages u32,
//!   first_message u64, at_ms i64, commit u64, salt u32, header_crc u32`.

use crate::entry::COUNT_MAX;
use crate::time::WallMillis;

/// Unit of writing: file systems and cards write no less.
pub const PAGE: u32 = 4096;
/// Unit of placing within a page.
pub const CELL: u32 = 64;
/// Bytes of a header.
pub const HEADER: u32 = 64;
/// Longest lane frame (header and body) that rides inside the journal's frame: twice `n` bytes are then still fewer than
/// a page and a file sync of its own.
pub const INLINE_MAX: u32 = 2048;
/// Longest body; keeps every offset of a segment within `u32`.
pub const BODY_MAX: u32 = 1 << 30;

/// Greatest number of a segment or snapshot. A file with a greater one is not of this store.
pub const SEGMENT_MAX: u32 = 1 << 31;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum FrameKind {
    /// A commit.
    Journal = u32::from_le_bytes(*b"wJ01"),
    /// Records of a lane.
    Lane = u32::from_le_bytes(*b"wL01"),
    /// All entries at one commit.
    Snapshot = u32::from_le_bytes(*b"wS01"),
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the body is.
    pub kind: FrameKind,
    /// Number of the segment (of the file, for snapshots).
    pub segment: u32,
    /// Bytes behind the header.
    pub body_len: u32,
    /// CRC-32 of the body.
    pub body_crc: u32,
    /// Lane: sequence of the first record. Journal and snapshot: the commit's number.
    pub first: u64,
    /// Lane: records in the body.
    pub count: u32,
    /// Lane: records in the body that close a message.
    pub messages: u32,
    /// Lane: messages closed by all records before this frame.
    pub first_message: u64,
    /// Lane: when the frame was made.
    pub at_ms: WallMillis,
    /// The commit that the frame belongs to.
    pub commit: u64,
}

impl Header {
    /// The 64 bytes; `salt` is [`salt`] of the log's name.
    #[must_use]
    pub fn encode(&self, salt: u32) -> [u8; HEADER as usize] {
        let mut out = [0; HEADER as usize];
        out[0..4].copy_from_slice(&(self.kind as u32).to_le_bytes());
        out[4..8].copy_from_slice(&self.segment.to_le_bytes());
        out[8..12].copy_from_slice(&self.body_len.to_le_bytes());
        out[12..16].copy_from_slice(&self.body_crc.to_le_bytes());
        out[16..24].copy_from_slice(&self.first.to_le_bytes());
        out[24..28].copy_from_slice(&self.count.to_le_bytes());
        out[28..32].copy_from_slice(&self.messages.to_le_bytes());
        out[32..40].copy_from_slice(&self.first_message.to_le_bytes());
        out[40..48].copy_from_slice(&self.at_ms.to_le_bytes());
        out[48..56].copy_from_slice(&self.commit.to_le_bytes());
        out[56..60].copy_from_slice(&salt.to_le_bytes());
        let crc = header_crc(&out);
        out[60..64].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The inverse; `None` unless `bytes` are a whole header of that kind, log and segment, with numbers that can be.
    #[must_use]
    pub fn decode(bytes: &[u8], kind: FrameKind, salt: u32, segment: u32) -> Option<Self> {
        let bytes: &[u8; HEADER as usize] = bytes.get(..HEADER as usize)?.try_into().ok()?;
        if !claims(bytes, kind, segment) || u32_at(bytes, 56) != salt || u32_at(bytes, 60) != header_crc(bytes) {
            return None;
        }
        let body_len = u32_at(bytes, 8);
        let possible = [16, 32, 48].into_iter().all(|at| u64_at(bytes, at) <= COUNT_MAX);
        (body_len <= BODY_MAX && possible).then(|| Self {
            kind,
            segment,
            body_len,
            body_crc: u32_at(bytes, 12),
            first: u64_at(bytes, 16),
            count: u32_at(bytes, 24),
            messages: u32_at(bytes, 28),
            first_message: u64_at(bytes, 32),
            at_ms: u64_at(bytes, 40) as i64,
            commit: u64_at(bytes, 48),
        })
    }

    /// Header and body.
    #[must_use]
    pub const fn frame_len(&self) -> u32 {
        HEADER + self.body_len
    }
}

/// Whether `bytes` begin like a frame of that kind and segment, whole or damaged.
#[must_use]
pub fn claims(bytes: &[u8], kind: FrameKind, segment: u32) -> bool {
    bytes.len() >= 8 && u32_at(bytes, 0) == kind as u32 && u32_at(bytes, 4) == segment
}

/// What the headers of the log `name` are salted with.
#[must_use]
pub fn salt(name: &str) -> u32 {
    crc32fast::hash(name.as_bytes())
}

/// The salt with which the header in `bytes` was written, whatever segment it belongs to; `None` if it is no whole header.
#[must_use]
pub fn salt_of(bytes: &[u8], kind: FrameKind) -> Option<u32> {
    let bytes: &[u8; HEADER as usize] = bytes.get(..HEADER as usize)?.try_into().ok()?;
    let whole = claims(bytes, kind, u32_at(bytes, 4)) && u32_at(bytes, 60) == header_crc(bytes);
    whole.then(|| u32_at(bytes, 56))
}

fn header_crc(bytes: &[u8; HEADER as usize]) -> u32 {
    crc32fast::hash(&bytes[..60])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(four)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// `offset` rounded up to a multiple of `unit` (a power of two).
#[must_use]
pub const fn align_up(offset: u32, unit: u32) -> u32 {
    offset.next_multiple_of(unit)
}

/// Where a lane frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Of the header.
    pub offset: u32,
    /// Where the next frame may start.
    pub end: u32,
    /// The frame rides inside the journal's frame and needs no file sync of its own.
    pub inline: bool,
}

/// Places a lane frame with a body of `body_len` bytes (all its records) behind `tail`, the end of the frame before it (0 in a
/// new segment). The outbox goes on to a new segment when `end` would pass the size of a segment; the store itself takes
/// a longer segment as it comes.
#[must_use]
pub const fn place(tail: u32, body_len: u32) -> Place {
    let len = HEADER + body_len;
    if len <= INLINE_MAX {
        let offset = align_up(tail, CELL);
        Place { offset, end: align_up(offset + len, CELL), inline: true }
    } else {
        let offset = align_up(tail, PAGE);
        Place { offset, end: align_up(offset + len, PAGE), inline: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: Header = Header {
        kind: FrameKind::Lane,
        segment: 7,
        body_len: 300,
        body_crc: 0x1234_5678,
        first: 1 << 40,
        count: 3,
        messages: 2,
        first_message: 99,
        at_ms: -1,
        commit: 12,
    };

    #[test]
    fn a_header_comes_back_only_in_its_own_log_and_segment() {
        let bytes = SAMPLE.encode(salt("lanes/a"));
        assert_eq!(Header::decode(&bytes, FrameKind::Lane, salt("lanes/a"), 7), Some(SAMPLE));
        for (kind, name, segment) in
            [(FrameKind::Journal, "lanes/a", 7), (FrameKind::Lane, "lanes/b", 7), (FrameKind::Lane, "lanes/a", 8)]
        {
            assert_eq!(Header::decode(&bytes, kind, salt(name), segment), None);
        }
        assert_eq!(Header::decode(&bytes[..63], FrameKind::Lane, salt("lanes/a"), 7), None);
        assert_eq!(salt_of(&bytes, FrameKind::Lane), Some(salt("lanes/a")));
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_noticed() {
        let bytes = SAMPLE.encode(1);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&flipped, FrameKind::Lane, 1, 7), None, "bit {bit}");
        }
    }

    #[test]
    fn small_frames_share_pages_and_big_ones_have_their_own() {
        for (tail, body, want) in [
            (0, 100, Place { offset: 0, end: 192, inline: true }),
            (192, 64, Place { offset: 192, end: 320, inline: true }),
            (4064, 1984, Place { offset: 4096, end: 6144, inline: true }),
            (192, 1985, Place { offset: 4096, end: 8192, inline: false }),
            (8192, 4032, Place { offset: 8192, end: 12288, inline: false }),
            (8192, 4033, Place { offset: 8192, end: 16384, inline: false }),
        ] {
            assert_eq!(place(tail, body), want);
        }
    }
}
