//! A door contact: `{"seq":1,"ts":1700000000000,"open":1}`; what is metered is `open`, 0 or 1.

use super::{Memory, Moment, field, write};
use crate::rng::Rng;

/// Settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Door {
    /// Probability per reading that the door is in the other state than before.
    pub change: f64,
}

impl Default for Door {
    fn default() -> Self {
        Self { change: 0.3 }
    }
}

impl Door {
    pub(super) fn read(
        &self,
        memory: &mut Memory,
        rng: &mut Rng,
        moment: Moment,
        payload: &mut Vec<u8>,
    ) -> Option<f64> {
        memory.counter ^= u64::from(rng.chance(self.change));
        let open = memory.counter as f64;
        write(payload, format_args!("{{\"seq\":{},\"ts\":{},", moment.seq, moment.stamp_ms));
        field(payload, moment, "open", open);
        payload.push(b'}');
        Some(open)
    }
}
