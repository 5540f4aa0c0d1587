//! What became of the subscriptions of a session.

use core::fmt;

use super::error::reason_name;
use super::packet::Asked;
use crate::config::Qos;

/// What became of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The filter's text.
    pub filter: String,
    /// QoS asked for.
    pub asked: Qos,
    /// QoS granted, or the code of the refusal.
    pub granted: Result<Qos, u8>,
}

impl Grant {
    /// From a SUBACK's code.
    #[must_use]
    pub fn new(asked: &Asked, code: u8) -> Self {
        let granted = match code {
            0 => Ok(Qos::AtMostOnce),
            1 => Ok(Qos::AtLeastOnce),
            2 => Ok(Qos::ExactlyOnce),
            refused => Err(refused),
        };
        Self { filter: asked.filter.clone(), asked: asked.qos, granted }
    }

    /// Whether less was granted than asked.
    #[must_use]
    pub fn falls_short(&self) -> bool {
        self.granted.is_ok_and(|granted| granted < self.asked)
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.granted {
            Err(code) => write!(
                f,
                "the broker refuses the subscription `{}`: {} (0x{code:02x}); check its access rules",
                self.filter,
                reason_name(code)
            ),
            Ok(Qos::AtMostOnce) if self.falls_short() => write!(
                f,
                "`{}` was granted QoS 0 instead of {}: its messages can be lost and counted twice",
                self.filter, self.asked as u8
            ),
            Ok(granted) => {
                write!(f, "`{}` was granted QoS {} of {}", self.filter, granted as u8, self.asked as u8)
            }
        }
    }
}
