//! MQTT packets as they stand in the stream: whole frames, told apart by their first byte.

use tokio::io::{AsyncRead, AsyncReadExt};

/// What the relay tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    ConnAck,
    Publish,
    PubAck,
    SubAck,
    Other,
}

impl Kind {
    const fn of(first: u8) -> Self {
        match first >> 4 {
            2 => Self::ConnAck,
            3 => Self::Publish,
            4 => Self::PubAck,
            9 => Self::SubAck,
            _ => Self::Other,
        }
    }
}

/// One direction of a connection.
#[derive(Default)]
pub(super) struct Frames {
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Frames {
    /// Waits for more bytes; false: there will be none.
    pub async fn fill(&mut self, from: &mut (impl AsyncRead + Unpin)) -> bool {
        self.input.reserve(16 * 1024);
        from.read_buf(&mut self.input).await.is_ok_and(|read| 0 < read)
    }

    /// Hands over every whole frame, to be changed in place; those for which `passes` says yes go into [`Frames::out`].
    pub fn each(&mut self, mut passes: impl FnMut(Kind, &mut [u8]) -> bool) {
        self.output.clear();
        let mut done = 0;
        while let Some(len) = frame_len(&self.input[done..]) {
            let frame = &mut self.input[done..done + len];
            if passes(Kind::of(frame[0]), frame) {
                self.output.extend_from_slice(frame);
            }
            done += len;
        }
        self.input.drain(..done);
    }

    /// What is to be written.
    pub fn out(&self) -> &[u8] {
        &self.output
    }
}

/// Where the variable header begins, and the length of the whole frame (MQTT 5.0 §2.1); `None`: it is not all there.
pub(super) fn header(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut remaining = 0;
    for (index, byte) in bytes.iter().skip(1).take(4).enumerate() {
        remaining |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((index + 2, index + 2 + remaining));
        }
    }
    None
}

fn frame_len(bytes: &[u8]) -> Option<usize> {
    header(bytes).map(|(_, len)| len).filter(|len| *len <= bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_are_told_apart_wherever_the_stream_is_cut() {
        let long = [&[0x30, 0xc8, 0x01][..], &[7; 200]].concat();
        let stream = [&[0x20, 2, 0, 0][..], &long, &[0x40, 2, 0, 9], &[0xd0, 0]].concat();
        for step in [1, 2, 3, 100, 1000] {
            let (mut frames, mut kinds, mut out) = (Frames::default(), Vec::new(), Vec::new());
            for mut part in stream.chunks(step) {
                assert!(frames.fill(&mut part).await);
                frames.each(|kind, frame| {
                    kinds.push((kind, frame.len()));
                    kind != Kind::PubAck
                });
                out.extend_from_slice(frames.out());
            }
            assert_eq!(kinds, [(Kind::ConnAck, 4), (Kind::Publish, 203), (Kind::PubAck, 4), (Kind::Other, 2)]);
            assert_eq!(out.len(), stream.len() - 4, "steps of {step}");
        }
    }
}
