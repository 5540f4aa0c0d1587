//! Publishes on their way: sent and not yet acknowledged, by packet id.
//!
//! - At most `window` at once; ids are 1..=window and each is used by one publish at a time.
//! - After a lost connection they are sent again in their first order (MQTT 5.0 §4.4, §4.6).

use super::codec::{Outcome, Step};
use crate::fleet::Message;

/// The publishes on their way of one connection.
#[derive(Debug)]
pub(super) struct Flight {
    /// By packet id - 1.
    slots: Vec<Option<Sent>>,
    free: Vec<u16>,
    sent: u64,
}

#[derive(Debug)]
struct Sent {
    message: Message,
    order: u64,
    again: bool,
    /// The broker has it (PUBREC): only the release is outstanding.
    received: bool,
}

/// What an answer of the broker means.
#[derive(Debug)]
pub(super) enum Settled {
    /// The broker has taken the message; `again`: it may have it twice.
    Taken { message: Message, again: bool },
    /// The broker has it (QoS 2): release it.
    Release,
    /// The broker refuses it.
    Refused(Message),
    /// An answer to nothing, which happens after a reconnect.
    Unknown,
}

/// What has to be sent again.
pub(super) enum Resend<'a> {
    Publish(&'a Message, u16),
    Release(u16),
}

impl Flight {
    pub(super) fn new(window: u16) -> Self {
        Self { slots: (0..window).map(|_| None).collect(), free: (1..=window).rev().collect(), sent: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether another one may be sent, if the broker allows `receive_max`.
    pub(super) const fn has_room(&self, receive_max: u16) -> bool {
        !self.free.is_empty() && self.len() < receive_max as usize
    }

    /// Gives `message` a packet id.
    pub(super) fn add(&mut self, message: Message) -> (u16, &Message) {
        let id = self.free.pop().expect("the caller asked has_room");
        self.sent += 1;
        let sent = Sent { message, order: self.sent, again: false, received: false };
        (id, &self.slots[usize::from(id) - 1].insert(sent).message)
    }

    pub(super) fn answer(&mut self, step: Step, id: u16, outcome: &Outcome) -> Settled {
        let Some(slot) = usize::from(id).checked_sub(1).and_then(|place| self.slots.get_mut(place)) else {
            return Settled::Unknown;
        };
        match (slot.as_mut(), step, outcome) {
            (None, ..) => Settled::Unknown,
            (Some(sent), Step::Received, Outcome::Taken | Outcome::NoSubscribers) => {
                sent.received = true;
                Settled::Release
            }
            // A broker that does not know the release has it done already.
            (Some(_), Step::Complete, _) | (Some(_), Step::Ack, Outcome::Taken | Outcome::NoSubscribers) => {
                self.free.push(id);
                slot.take().map_or(Settled::Unknown, |sent| Settled::Taken { message: sent.message, again: sent.again })
            }
            (Some(_), Step::Ack | Step::Received, Outcome::Refused(_)) => {
                self.free.push(id);
                slot.take().map_or(Settled::Unknown, |sent| Settled::Refused(sent.message))
            }
        }
    }

    /// Hands everything on its way to `send`, in order, after a reconnect. `is_same_session`: the broker remembers the QoS 2
    /// ids, so that those are not doubled.
    pub(super) fn resend(&mut self, is_same_session: bool, mut send: impl FnMut(Resend<'_>)) {
        let mut places: Vec<(u64, usize)> =
            self.slots.iter().enumerate().filter_map(|(place, sent)| Some((sent.as_ref()?.order, place))).collect();
        places.sort_unstable();
        for (_, place) in places {
            let (id, Some(sent)) = (place as u16 + 1, &mut self.slots[place]) else { continue };
            let is_exact = is_same_session && sent.message.qos == weir::config::Qos::ExactlyOnce;
            if sent.received && is_same_session {
                send(Resend::Release(id));
            } else {
                sent.again |= !is_exact;
                sent.received = false;
                send(Resend::Publish(&sent.message, id));
            }
        }
    }

    /// What never was acknowledged.
    pub(super) fn rest(self) -> impl Iterator<Item = Message> {
        self.slots.into_iter().flatten().map(|sent| sent.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir::config::Qos;

    fn message(seq: u64, qos: Qos) -> Message {
        let (topic, payload, flaws) = ("t".into(), Vec::new(), Default::default());
        Message { due_us: 0, device: 0, seq, topic, payload, qos, retain: false, flaws, metered: None }
    }

    fn resent(flight: &mut Flight, is_same_session: bool) -> Vec<(u64, u16)> {
        let mut list = Vec::new();
        flight.resend(is_same_session, |resend| match resend {
            Resend::Publish(message, id) => list.push((message.seq, id)),
            Resend::Release(id) => list.push((0, id)),
        });
        list
    }

    #[test]
    fn ids_are_used_once_at_a_time_and_the_window_holds() {
        let mut flight = Flight::new(2);
        assert_eq!(flight.add(message(1, Qos::AtLeastOnce)).0, 1);
        assert!(flight.has_room(2) && !flight.has_room(1));
        assert_eq!(flight.add(message(2, Qos::AtLeastOnce)).0, 2);
        assert!(!flight.has_room(9));
        assert!(matches!(flight.answer(Step::Ack, 1, &Outcome::Taken), Settled::Taken { again: false, .. }));
        assert!(matches!(flight.answer(Step::Ack, 1, &Outcome::Taken), Settled::Unknown));
        assert!(matches!(flight.answer(Step::Ack, 99, &Outcome::Taken), Settled::Unknown));
        assert_eq!((flight.add(message(3, Qos::AtLeastOnce)).0, flight.len()), (1, 2));
    }

    #[test]
    fn a_lost_connection_sends_again_in_order_and_remembers_what_may_be_double() {
        let mut flight = Flight::new(4);
        for (seq, qos) in [(1, Qos::AtLeastOnce), (2, Qos::ExactlyOnce), (3, Qos::ExactlyOnce), (4, Qos::AtLeastOnce)] {
            flight.add(message(seq, qos));
        }
        flight.answer(Step::Ack, 1, &Outcome::Taken);
        assert!(matches!(flight.answer(Step::Received, 2, &Outcome::Taken), Settled::Release));
        flight.add(message(5, Qos::AtLeastOnce));
        assert_eq!(resent(&mut flight, true), [(0, 2), (3, 3), (4, 4), (5, 1)]);
        assert!(matches!(flight.answer(Step::Complete, 2, &Outcome::Taken), Settled::Taken { again: false, .. }));
        assert!(matches!(flight.answer(Step::Ack, 4, &Outcome::Taken), Settled::Taken { again: true, .. }));
        assert_eq!(resent(&mut flight, false), [(3, 3), (5, 1)]);
        flight.answer(Step::Received, 3, &Outcome::Taken);
        assert!(matches!(flight.answer(Step::Complete, 3, &Outcome::Taken), Settled::Taken { again: true, .. }));
        assert_eq!(flight.rest().map(|message| message.seq).collect::<Vec<_>>(), [5]);
    }
}
