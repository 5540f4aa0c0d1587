//! Which device a message is of: as its trigger says, from the topic or from a field of the payload.
//!
//! - State and meters are kept by this name, so two devices never share one because nothing stood there: where a trigger names a
//!   field, a message without a name in it has no device, and is a dead letter in place of a call.
//! - No name is cut: the beginnings of two long ones could be the same.

use std::io::Write as _;

use super::doubts::shown;
use super::routing::{Device, topic_level};
use crate::field::{FieldKind, Fields, Value};

/// Longest name of a device that is read from a payload: as long as a meter's key may be.
const DEVICE_BYTES_MAX: usize = crate::function::METER_KEY_BYTES_MAX;

/// The device's name, or for people why there is none; `buffer` holds it where it comes from the payload.
pub(super) fn device_of<'a>(
    device: &Device,
    topic: &'a str,
    payload: &[u8],
    fields: &Fields,
    buffer: &'a mut Vec<u8>,
) -> Result<&'a str, String> {
    match device {
        Device::Topic => Ok(topic),
        Device::TopicLevel(level) => Ok(topic_level(topic, *level)),
        Device::Field { path, name } => {
            let value = fields.value(*path);
            read_name(value, payload, buffer).ok_or_else(|| {
                format!(
                    "field {name} holds {}; device = \"field:{name}\" takes 1 to {DEVICE_BYTES_MAX} bytes of text or a \
                     whole number there",
                    shown(value, payload)
                )
            })
        }
    }
}

/// The text of the field, or its whole number; nothing for any other value.
fn read_name<'a>(value: Value, payload: &[u8], buffer: &'a mut Vec<u8>) -> Option<&'a str> {
    buffer.clear();
    if let Some(number) = value.i64() {
        write!(buffer, "{number}").ok()?;
    } else if value.kind() == FieldKind::String {
        buffer.extend(value.text_bytes(payload)?.take(DEVICE_BYTES_MAX + 1));
    }
    let name = core::str::from_utf8(buffer).ok()?;
    (1..=DEVICE_BYTES_MAX).contains(&name.len()).then_some(name)
}
