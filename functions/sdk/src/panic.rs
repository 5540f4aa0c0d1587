//! A panic becomes a trap that says where, and what: `panic at src/lib.rs:12: no such unit`.
//!
//! A text with values in it (as that of an index out of bounds) is left out: `core::fmt` would be most of the module.

use core::panic::PanicInfo;

use crate::raw;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let mut said = text!(160; "panic");
    if let Some(place) = info.location() {
        said.push(&(" at ", place.file(), ":", place.line()));
    }
    if let Some(text) = info.message().as_str() {
        said.push(&(": ", text));
    }
    raw::abort_here(said.as_bytes())
}
