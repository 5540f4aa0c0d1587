//! A standing session's socket: buffers in and out, keep-alive.
//!
//! - A turn writes all that is pending in one call and reads once; both buffers are reused.
//! - A PINGREQ leaves when either direction was quiet for a keep-alive interval. No sign of life within half an interval
//!   after it, and the link is dead. While reading is paused no answer is expected, but pings go on.
//! - Acks are counted as they are written; the PINGRESP to a later PINGREQ proves that the broker has them.

use core::future::poll_fn;
use core::pin::{Pin, pin};
use core::task::{Context, Poll};
use core::time::Duration;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::connect::{Session, Stream};
use super::error::LinkError;
use super::packet::{self, Ack, Decoder, Next, Packet, Version};
use super::status::SharedStatus;

/// Read buffer; a packet that is larger makes it grow for as long as it takes.
const INPUT: usize = 16 * 1024;
/// Below this much free space a read is not worth its call.
const INPUT_MIN: usize = 2 * 1024;
/// Output beyond this waits: the writer adds no more until it has gone out.
const OUTPUT_MAX: usize = 32 * 1024;
/// Output memory above this is given back when it is empty.
const OUTPUT_KEPT: usize = 128 * 1024;
/// The farthest timer.
const FAR: Duration = Duration::from_secs(3600);

/// The two directions of one session.
#[derive(Debug)]
pub struct Wire {
    stream: Stream,
    input: BytesMut,
    wanted: usize,
    output: BytesMut,
    unflushed: bool,
    decoder: Decoder,
    keep_alive: Option<Duration>,
    heard: Instant,
    spoke: Instant,
    pings: Pings,
    written: Written,
    timer: Pin<Box<Sleep>>,
    status: Arc<SharedStatus>,
}

/// PINGREQs without their answers. Only the answer to the last one counts, so their number is all there is to keep.
#[derive(Clone, Copy, Debug)]
struct Pings {
    unanswered: u32,
    last: Instant,
    before_last: Written,
}

/// What a broker needs to have read before a message is over for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// PUBACK and PUBREC since the session began.
    pub acks: u64,
    /// PUBCOMP.
    pub completions: u64,
}

/// How often a quiet link is looked after: ours, or more often where the broker asks for that. A broker that wants none, or to be
/// asked once in eighteen hours, does not keep us from noticing that it is gone: pings may be sent at any time.
fn interval(ours: Duration, theirs: Option<u16>) -> Option<Duration> {
    let theirs = theirs.map(|seconds| Duration::from_secs(seconds.into()));
    let wanted = [Some(ours), theirs].into_iter().flatten();
    wanted.filter(|interval| !interval.is_zero()).min()
}

impl Wire {
    /// Takes over a session. `packet_max`: larger publishes are passed over. `keep_alive` zero: none.
    #[must_use]
    pub fn new(session: Session, packet_max: usize, keep_alive: Duration, status: Arc<SharedStatus>) -> Self {
        let now = Instant::now();
        Self {
            stream: session.stream,
            input: session.input,
            wanted: 0,
            output: BytesMut::new(),
            unflushed: false,
            decoder: Decoder::new(session.version, packet_max),
            keep_alive: interval(keep_alive, session.connack.keep_alive),
            heard: now,
            spoke: now,
            pings: Pings { unanswered: 0, last: now, before_last: Written::default() },
            written: Written::default(),
            timer: Box::pin(sleep_until(now + FAR)),
            status,
        }
    }

    /// Spoken version.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.decoder.version
    }

    /// The next packet that has come in, if there is one.
    pub fn take(&mut self) -> Result<Option<Packet>, LinkError> {
        match self.decoder.take(&mut self.input)? {
            Next::Packet(packet) => Ok(Some(packet)),
            Next::Wants(wanted) => {
                self.wanted = wanted;
                Ok(None)
            }
        }
    }

    /// Where packets are written; see [`Wire::has_room`].
    pub const fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// Whether more may be written now.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.output.len() < OUTPUT_MAX
    }

    /// Writes an acknowledgement that [`Wire::pong`] will confirm.
    pub fn ack(&mut self, ack: Ack) {
        self.written.acks += 1;
        packet::ack(self.decoder.version, ack, &mut self.output);
    }

    /// Writes a PUBCOMP, which [`Wire::pong`] will confirm as well.
    pub fn complete(&mut self, ack: Ack) {
        self.written.completions += 1;
        packet::ack(self.decoder.version, ack, &mut self.output);
    }

    /// What was written since the session began.
    #[must_use]
    pub const fn written(&self) -> Written {
        self.written
    }

    /// Writes a PINGREQ.
    pub fn ping(&mut self) {
        packet::ping(&mut self.output);
        let now = Instant::now();
        // Also if the socket takes nothing now: one ping an interval is enough.
        self.spoke = now;
        let unanswered = self.pings.unanswered.saturating_add(1);
        self.pings = Pings { unanswered, last: now, before_last: self.written };
    }

    /// Whether a PINGREQ waits for its answer.
    #[must_use]
    pub const fn is_pinging(&self) -> bool {
        self.pings.unanswered > 0
    }

    /// A PINGRESP came. `Some` if none is missing now: so much lay before the last PINGREQ.
    pub const fn pong(&mut self) -> Option<Written> {
        self.pings.unanswered = self.pings.unanswered.saturating_sub(1);
        if self.pings.unanswered == 0 { Some(self.pings.before_last) } else { None }
    }

    /// Writes what is pending and reads once. Returns when something was read, when all was written, or at `wake_at`; the
    /// caller then looks at everything again. Nothing is lost if the future is dropped.
    pub async fn turn(&mut self, reading: bool, wake_at: Option<Instant>) -> Result<(), LinkError> {
        self.keep_alive(reading)?;
        self.arm(reading, wake_at);
        if reading && self.input.capacity() - self.input.len() < INPUT_MIN.max(self.wanted) {
            self.input.reserve(INPUT.max(self.wanted));
        }
        poll_fn(|cx| self.poll_turn(cx, reading)).await
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>, reading: bool) -> Poll<Result<(), LinkError>> {
        let mut progress = match self.poll_write(cx) {
            Poll::Ready(Ok(wrote)) => wrote,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(LinkError::from_io(error))),
            Poll::Pending => false,
        };
        if reading {
            let read = pin!(self.stream.read_buf(&mut self.input)).poll(cx);
            match read {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(LinkError::Closed)),
                Poll::Ready(Ok(count)) => {
                    self.heard = Instant::now();
                    self.status.update(|status| status.bytes_in += count as u64);
                    progress = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(LinkError::from_io(error))),
                Poll::Pending => {}
            }
        }
        if progress || self.timer.as_mut().poll(cx).is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Ready when nothing is left to write; `true` if there was something.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<bool>> {
        let pending = self.output.len();
        if pending == 0 && !self.unflushed {
            return Poll::Ready(Ok(false));
        }
        while !self.output.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.output) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => {
                    self.output.advance(count);
                    self.unflushed = true;
                    self.spoke = Instant::now();
                    self.status.update(|status| status.bytes_out += count as u64);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        if self.output.capacity() > OUTPUT_KEPT {
            self.output = BytesMut::new();
        }
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Ready(Ok(())) => {
                self.unflushed = false;
                Poll::Ready(Ok(true))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    fn keep_alive(&mut self, reading: bool) -> Result<(), LinkError> {
        let Some(interval) = self.keep_alive else { return Ok(()) };
        let now = Instant::now();
        if !reading {
            // No answer can come in; neither may one be missed later.
            self.heard = now;
        }
        let quiet = now.saturating_duration_since(if reading { self.heard.min(self.spoke) } else { self.spoke });
        if reading && self.is_pinging() {
            let silent = now.saturating_duration_since(self.pings.last.max(self.heard));
            return if interval / 2 <= silent { Err(LinkError::Silent) } else { Ok(()) };
        }
        if interval <= quiet {
            self.ping();
        }
        Ok(())
    }

    /// Sets the timer no later than needed; one that fires early does no harm.
    fn arm(&mut self, reading: bool, wake_at: Option<Instant>) {
        let due = self.keep_alive.map(|interval| match reading {
            true if self.is_pinging() => self.pings.last.max(self.heard) + interval / 2,
            true => self.heard.min(self.spoke) + interval,
            false => self.spoke + interval,
        });
        let due = due.into_iter().chain(wake_at).min().unwrap_or_else(|| Instant::now() + FAR);
        if due < self.timer.deadline() || self.timer.is_elapsed() {
            self.timer.as_mut().reset(due);
        }
    }

    /// Says why, and closes; waits for at most a second.
    pub async fn close(mut self, reason: u8) {
        packet::put_disconnect(self.decoder.version, reason, &mut self.output);
        let goodbye = async {
            self.stream.write_all(&self.output).await?;
            self.stream.shutdown().await
        };
        if !matches!(timeout(Duration::from_secs(1), goodbye).await, Ok(Ok(()))) {
            log::debug!("the connection was gone before a DISCONNECT");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_may_shorten_the_keep_alive_and_not_do_away_with_it() {
        const OURS: Duration = Duration::from_secs(30);
        for (ours, theirs, want) in [
            (OURS, None, Some(30)),
            (OURS, Some(0), Some(30)),
            (OURS, Some(u16::MAX), Some(30)),
            (OURS, Some(5), Some(5)),
            (Duration::ZERO, None, None),
            (Duration::ZERO, Some(0), None),
            (Duration::ZERO, Some(60), Some(60)),
        ] {
            assert_eq!(interval(ours, theirs), want.map(Duration::from_secs), "{ours:?} {theirs:?}");
        }
    }
}
