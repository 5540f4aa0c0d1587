//! What a weir gateway and its functions agree on: names, layouts, codes. ABI version 1; `README.md` is the specification.
//!
//! No code, no allocation, no dependency: both sides, and any language's bindings, are written from these numbers.
#![no_std]
#![forbid(unsafe_code)]

/// The ABI's version: the value of the guest's export [`EXPORT_ABI`].
pub const VERSION: i32 = 1;

/// Import module of every host call.
pub const IMPORT_MODULE: &str = "weir1";

/// Exported memory.
pub const EXPORT_MEMORY: &str = "memory";
/// Exported function `() -> i32` whose body is the constant [`VERSION`] and nothing else, or a constant global `i32` of it.
pub const EXPORT_ABI: &str = "weir_abi";
/// Exported `() -> i64`: `(pointer << 32) | capacity` of the event buffer, 8-aligned, capacity at least [`BUFFER_MIN`].
pub const EXPORT_BUFFER: &str = "weir_buf";
/// Exported `() -> i32`, optional: called once when the function is loaded; 0 ok, < 0 refuses.
pub const EXPORT_START: &str = "on_start";
/// Exported `(event i32) -> i32`: handles a message; a verdict.
pub const EXPORT_EVENT: &str = "on_event";
/// Exported `(event i32) -> i32`, optional: handles an interval; a verdict.
pub const EXPORT_INTERVAL: &str = "on_interval";

/// Smallest event buffer in bytes.
pub const BUFFER_MIN: u32 = 256;
/// Length of the event header in bytes.
pub const HEADER_LEN: u32 = 64;
/// Most fields bound as `f64`.
pub const F64_FIELDS_MAX: u32 = 64;
/// Most fields bound for the typed getters.
pub const FIELDS_MAX: u32 = 64;
/// Most decimals that `format_f64` writes.
pub const DECIMALS_MAX: i32 = 9;

/// Byte offsets in the event header.
pub mod header {
    /// `u16`: header version, 1.
    pub const VERSION: usize = 0;
    /// `u16`: header length, 64 or more.
    pub const LENGTH: usize = 2;
    /// `u32`: flags, see [`super::flags`].
    pub const FLAGS: usize = 4;
    /// `i64`: event time, ms since 1970.
    pub const TIME_MS: usize = 8;
    /// `u64`: number of the invocation; the same when it is run again.
    pub const SEQUENCE: usize = 16;
    /// `u32`: pointer to the topic, 0 when not wanted.
    pub const TOPIC_PTR: usize = 24;
    /// `u32`: its true length.
    pub const TOPIC_LEN: usize = 28;
    /// `u32`: pointer to the payload, 0 when it was not copied.
    pub const PAYLOAD_PTR: usize = 32;
    /// `u32`: its true length.
    pub const PAYLOAD_LEN: usize = 36;
    /// `u32`: pointer to the device's name, 0 when not wanted.
    pub const DEVICE_PTR: usize = 40;
    /// `u32`: its true length.
    pub const DEVICE_LEN: usize = 44;
    /// `u16`: kind of event, see [`super::kind`].
    pub const KIND: usize = 48;
    /// `u8`: QoS of the message.
    pub const QOS: usize = 50;
    /// `u8`: time quality: 0 unset, 1 restored, 2 synced.
    pub const TIME_QUALITY: usize = 51;
    /// `u32`: pointer to `f64[n]`, the bound fields in order of `bind_f64`; 8-aligned.
    pub const FIELDS_PTR: usize = 52;
    /// `u64`: bit `i` set: bound field `i` is present and a number.
    pub const PRESENT: usize = 56;
}

/// Header flags.
pub mod flags {
    /// The message was retained by the broker.
    pub const RETAINED: u32 = 1;
    /// The message came from another function.
    pub const CHAINED: u32 = 2;
    /// The event's time was taken from the payload.
    pub const TIME_FROM_PAYLOAD: u32 = 4;
    /// The payload is longer than the buffer: it was not copied, use `payload`.
    pub const PAYLOAD_TOO_LONG: u32 = 8;
    /// The message became a dead letter before, and is handled once more.
    pub const REPLAYED: u32 = 16;
}

/// Kinds of event.
pub mod kind {
    /// A message from the broker or another function.
    pub const MESSAGE: u16 = 1;
    /// An interval elapsed.
    pub const INTERVAL: u16 = 2;
}

/// What a handler returns; anything below zero is an error of the function's own numbering.
pub mod verdict {
    /// The message is not wanted.
    pub const DROP: i32 = 0;
    /// The original bytes go on.
    pub const KEEP: i32 = 1;
    /// Handled: what it emitted, metered or stored is all.
    pub const DONE: i32 = 2;
}

/// Codes that host calls return below zero.
pub mod code {
    /// No such key, field or configuration; or a list is full.
    pub const ABSENT: i32 = -1;
    /// An argument makes no sense here (a name too long, an unknown id, a bad path).
    pub const INVALID: i32 = -2;
    /// The value is of another type.
    pub const WRONG_TYPE: i32 = -3;
    /// A limit or quota of the manifest is reached.
    pub const QUOTA: i32 = -4;
    /// The manifest does not allow it, or not in this phase.
    pub const DENIED: i32 = -5;
}

/// Bits for `want`: what the host copies beside the header. Default: topic and device.
pub mod want {
    /// The payload.
    pub const PAYLOAD: i32 = 1;
    /// The topic.
    pub const TOPIC: i32 = 2;
    /// The device's name.
    pub const DEVICE: i32 = 4;
}

/// What `field_kind` returns.
pub mod field_kind {
    /// No such field.
    pub const ABSENT: i32 = 0;
    /// null.
    pub const NULL: i32 = 1;
    /// true or false.
    pub const BOOL: i32 = 2;
    /// A whole number that fits `i64`.
    pub const INT: i32 = 3;
    /// Any other number.
    pub const FLOAT: i32 = 4;
    /// Text (or a CBOR byte string).
    pub const STRING: i32 = 5;
    /// An array.
    pub const ARRAY: i32 = 6;
    /// An object or map.
    pub const OBJECT: i32 = 7;
}

/// Log levels.
pub mod level {
    /// Something failed.
    pub const ERROR: i32 = 1;
    /// Something is odd.
    pub const WARN: i32 = 2;
    /// Worth knowing.
    pub const INFO: i32 = 3;
    /// For the developer.
    pub const DEBUG: i32 = 4;
}
