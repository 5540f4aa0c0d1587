//! Settings: defaults in the manifest, overridden by the site, read once at start.

use crate::raw;
use crate::text::Text;

/// What can stand in `config { .. }`: `f64`, `bool`, `u32`, `i64`, [`Text`].
#[doc(hidden)]
pub trait Setting<Default>: Sized {
    fn read(key: &str, default: Default) -> Option<Self>;
}

impl Setting<f64> for f64 {
    /// The host refuses the load if what stands there is no number.
    fn read(key: &str, default: f64) -> Option<Self> {
        Some(raw::config_f64(key, default))
    }
}

impl Setting<bool> for bool {
    fn read(key: &str, default: bool) -> Option<Self> {
        let mut text = Text::<8>::new();
        match text.read(|space| raw::config_get(key, space)) {
            Err(_) => Some(default),
            Ok(()) if text.as_bytes() == b"true" => Some(true),
            Ok(()) if text.as_bytes() == b"false" => Some(false),
            Ok(()) => None,
        }
    }
}

impl Setting<i64> for i64 {
    fn read(key: &str, default: i64) -> Option<Self> {
        let value = raw::config_f64(key, default as f64);
        let whole = value as i64;
        (whole as f64 == value && value.abs() < 9e15).then_some(whole)
    }
}

impl Setting<u32> for u32 {
    fn read(key: &str, default: u32) -> Option<Self> {
        let value = raw::config_f64(key, f64::from(default));
        let whole = value as u32;
        (f64::from(whole) == value).then_some(whole)
    }
}

impl<const N: usize> Setting<&str> for Text<N> {
    fn read(key: &str, default: &str) -> Option<Self> {
        let mut text = Self::new();
        if text.read(|space| raw::config_get(key, space)).is_err() {
            text.push(default);
        }
        (!text.is_cut()).then_some(text)
    }
}

/// Refuses the load: a trap that says why reaches whoever loads the function.
#[doc(hidden)]
pub fn refuse(why: &'static str) -> ! {
    raw::abort(why.as_bytes())
}
