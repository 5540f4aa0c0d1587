//! A handler's refusal in words: which bound was reached, and whose key it is.
//!
//! - Codes from -1 to -5 are those of host calls, -6 to -15 the SDK's, the others the function's own; a manifest may give a word for
//!   every code that is no host call's, under `[errors]`.

use weir_abi::code;

use super::state::{KEY_BYTES_MAX, STAGED_BYTES_MAX, STAGED_KEYS_MAX, VALUE_BYTES_MAX};
use crate::manifest::{Limits, Manifest};
use crate::units::Bytes;

/// The bound that a host call last answered -4 for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The durable state of the function.
    State,
    /// Changes of the durable state in one call.
    StateOfCall,
    /// One key or value of the durable state.
    StateEntry,
    /// Messages and bytes emitted in one call.
    Emits,
    /// Meter operations in one call.
    MeterOps,
}

/// What the words are made of.
#[derive(Debug)]
pub(super) struct Refusals {
    limits: Limits,
    errors: Vec<(u16, String)>,
}

impl Refusals {
    pub(super) fn new(manifest: &Manifest) -> Self {
        Self { limits: manifest.limits.clone(), errors: manifest.errors.clone() }
    }

    /// The durable state's bound.
    pub(super) const fn state_max(&self) -> Bytes {
        self.limits.state
    }

    /// What the code means; `bound` is the one that the call ran into, if it did.
    pub(super) fn words(&self, number: i32, bound: Option<Bound>) -> String {
        if let Some((_, words)) = self.errors.iter().find(|(own, _)| i32::from(*own) == -number) {
            return words.clone();
        }
        let Limits { state, emits, emit_bytes, meter_ops, .. } = &self.limits;
        match (number, bound) {
            (code::ABSENT, _) => "what it asked the host for is not there, or a list is full".to_owned(),
            (code::INVALID, _) => {
                "an argument of a host call makes no sense: a topic that is none, a value that is not finite, a long key"
                    .to_owned()
            }
            (code::WRONG_TYPE, _) => "a field or meter is of another type than the function uses it as".to_owned(),
            (code::QUOTA, Some(Bound::State)) => format!("durable state full: function.limits.state is {state}"),
            (code::QUOTA, Some(Bound::StateOfCall)) => format!(
                "too much state for one call, which changes at most {STAGED_KEYS_MAX} keys and {} of them and their values",
                Bytes(STAGED_BYTES_MAX as u64)
            ),
            (code::QUOTA, Some(Bound::StateEntry)) => format!(
                "an entry of the state is too long: a key has at most {KEY_BYTES_MAX} bytes, a value {VALUE_BYTES_MAX}"
            ),
            (code::QUOTA, Some(Bound::Emits)) => format!(
                "too much is emitted: function.limits.emits is {emits}, function.limits.emit-bytes is {emit_bytes} a call"
            ),
            (code::QUOTA, Some(Bound::MeterOps)) => {
                format!("too much is metered: function.limits.meter-ops is {meter_ops} a call")
            }
            (code::QUOTA, None) => "a bound of function.limits is reached".to_owned(),
            (code::DENIED, _) => {
                "denied: it emits to a topic that `emits` of its function.toml does not name, or binds after its start"
                    .to_owned()
            }
            (-6, _) => "something is longer than the function has room for".to_owned(),
            (-15..=-7, _) => "a code of the SDK without a meaning so far".to_owned(),
            _ => format!(
                "an error of the function's own; its function.toml can say which: [errors] {} = \"…\"",
                number.unsigned_abs()
            ),
        }
    }
}
