//! Which messages are on their way to the gateway, under which identifiers.
//!
//! - The gateway's identifier of a message stays the same until it acknowledges it, over connections.
//! - Messages are told by their content; of two alike, the older one is delivered again first.

use core::hash::{Hash as _, Hasher as _};
use std::collections::VecDeque;
use std::hash::DefaultHasher;

use super::frames::header;

const DUP: u8 = 0b1000;
const QOS: u8 = 0b0110;

#[derive(Debug, Default)]
pub(super) struct Flight {
    /// Delivered in this connection and not acknowledged, in order.
    open: VecDeque<Open>,
    /// Delivered in earlier connections and not acknowledged: the broker owes them, in order.
    owed: VecDeque<(u16, u64)>,
    last_id: u16,
}

#[derive(Debug)]
struct Open {
    gateway_id: u16,
    broker_id: u16,
    content: u64,
}

impl Flight {
    /// A new connection begins.
    pub fn reconnected(&mut self) {
        let open = self.open.drain(..).map(|open| (open.gateway_id, open.content));
        let owed = open.chain(self.owed.iter().copied()).collect();
        self.owed = owed;
    }

    /// The broker's answer to CONNECT: without a session it owes nothing.
    pub fn connected(&mut self, frame: &[u8]) {
        let session_present = header(frame).and_then(|(at, _)| frame.get(at)).is_some_and(|flags| flags & 1 == 1);
        if !session_present {
            self.owed.clear();
        }
    }

    /// The broker delivers a PUBLISH; `frame` gets its identifier for the gateway. Whether it was delivered before.
    pub fn delivers(&mut self, frame: &mut [u8]) -> bool {
        let Some(at) = id_of_publish(frame) else { return false };
        let (broker_id, content) = (id(frame, at), content(frame, at));
        let owed = self.owed.iter().position(|(_, owed)| *owed == content).and_then(|place| self.owed.remove(place));
        let gateway_id = owed.map_or_else(|| self.fresh(), |(id, _)| id);
        self.open.push_back(Open { gateway_id, broker_id, content });
        frame[at..at + 2].copy_from_slice(&gateway_id.to_be_bytes());
        if owed.is_some() {
            frame[0] |= DUP;
        }
        owed.is_some()
    }

    /// The gateway acknowledges; `frame` gets the broker's identifier. False: there is nothing to acknowledge.
    pub fn acknowledges(&mut self, frame: &mut [u8]) -> bool {
        let Some((at, _)) = header(frame).filter(|(at, len)| at + 2 <= *len) else { return false };
        let gateway_id = id(frame, at);
        let place = self.open.iter().position(|open| open.gateway_id == gateway_id);
        let Some(open) = place.and_then(|place| self.open.remove(place)) else { return false };
        frame[at..at + 2].copy_from_slice(&open.broker_id.to_be_bytes());
        true
    }

    /// The next identifier that nothing on its way has. The broker has some hundred messages on their way at most.
    fn fresh(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id % u16::MAX + 1;
            let id = self.last_id;
            if self.open.iter().all(|open| open.gateway_id != id) && self.owed.iter().all(|(owed, _)| *owed != id) {
                return id;
            }
        }
    }
}

/// Where the identifier of a PUBLISH stands; `None`: it has none (QoS 0), or is cut short.
fn id_of_publish(frame: &[u8]) -> Option<usize> {
    let (at, len) = header(frame)?;
    let topic_len = usize::from(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
    let id_at = at + 2 + topic_len;
    (frame[0] & QOS != 0 && id_at + 2 <= len).then_some(id_at)
}

fn id(frame: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([frame[at], frame[at + 1]])
}

/// A hash of topic, properties and payload.
fn content(frame: &[u8], id_at: usize) -> u64 {
    let mut hasher = DefaultHasher::new();
    let head = header(frame).map_or(0, |(at, _)| at);
    frame[head..id_at].hash(&mut hasher);
    frame[id_at + 2..].hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(id: u16, payload: u8) -> Vec<u8> {
        let [high, low] = id.to_be_bytes();
        vec![0x32, 7, 0, 1, b't', high, low, 0, payload]
    }

    /// What arrives at the gateway: (identifier, DUP).
    fn deliver(flight: &mut Flight, id: u16, payload: u8) -> (u16, bool) {
        let mut frame = publish(id, payload);
        let again = flight.delivers(&mut frame);
        assert_eq!(again, frame[0] & DUP != 0);
        (super::id(&frame, 5), again)
    }

    /// The identifier that the broker gets.
    fn acknowledge(flight: &mut Flight, id: u16) -> Option<u16> {
        let [high, low] = id.to_be_bytes();
        let mut frame = vec![0x40, 2, high, low];
        flight.acknowledges(&mut frame).then(|| super::id(&frame, 2))
    }

    const SESSION: [u8; 5] = [0x20, 3, 1, 0, 0];
    const NO_SESSION: [u8; 5] = [0x20, 3, 0, 0, 0];

    #[test]
    fn what_had_no_acknowledgement_comes_again_under_its_identifier_with_dup() {
        let mut flight = Flight::default();
        for (id, payload) in [(1, b'a'), (2, b'b'), (3, b'b'), (4, b'c')] {
            assert_eq!(deliver(&mut flight, id, payload), (id, false));
        }
        assert_eq!(acknowledge(&mut flight, 1), Some(1));
        flight.reconnected();
        flight.connected(&SESSION);
        // The broker counts from 1 again.
        assert_eq!(deliver(&mut flight, 1, b'b'), (2, true));
        assert_eq!(deliver(&mut flight, 2, b'b'), (3, true));
        flight.reconnected();
        flight.connected(&SESSION);
        let again: Vec<_> = [(1, b'b'), (2, b'b'), (3, b'c'), (4, b'd'), (5, b'c')]
            .into_iter()
            .map(|(id, payload)| deliver(&mut flight, id, payload))
            .collect();
        assert_eq!(again, [(2, true), (3, true), (4, true), (5, false), (6, false)]);
        let acks: Vec<_> = [2, 3, 4, 5, 6, 6, 77].into_iter().map(|id| acknowledge(&mut flight, id)).collect();
        assert_eq!(acks, [Some(1), Some(2), Some(3), Some(4), Some(5), None, None]);
    }

    #[test]
    fn a_new_session_owes_nothing() {
        let mut flight = Flight::default();
        deliver(&mut flight, 1, b'a');
        flight.reconnected();
        flight.connected(&NO_SESSION);
        assert!(!deliver(&mut flight, 1, b'a').1);
    }

    #[test]
    fn an_identifier_on_its_way_is_not_given_again() {
        let mut flight = Flight { last_id: u16::MAX - 1, ..Flight::default() };
        assert_eq!(deliver(&mut flight, 1, b'a').0, u16::MAX);
        assert_eq!(deliver(&mut flight, 2, b'b').0, 1);
        flight.last_id = u16::MAX - 1;
        assert_eq!(deliver(&mut flight, 3, b'c').0, 2);
    }

    #[test]
    fn qos_0_and_broken_frames_pass_unchanged() {
        let mut flight = Flight::default();
        for frame in [&[0x30, 4, 0, 1, b't', 0][..], &[0x32, 2, 0, 9], &[0x32, 1, 0]] {
            let mut changed = frame.to_vec();
            assert!(!flight.delivers(&mut changed));
            assert_eq!(changed, frame);
        }
    }
}
