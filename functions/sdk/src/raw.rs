//! The border to the host: imports, the event's memory, the statics. The only module with `unsafe`.
//!
//! - A module has one thread and the host never calls into it while it runs, so a static is touched by one call at a time.
//! - Pointers in the event's header come from the host and stay valid, and unchanged, until the handler returns.
//! - On other targets than wasm32 (unit tests) every host call panics.
#![allow(unsafe_code)]

use core::cell::{Cell, UnsafeCell};
use core::mem::offset_of;

use weir_abi::{code, header};

macro_rules! imports {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),*) $(-> $out:ty)?;)*) => {
        #[cfg(target_arch = "wasm32")]
        mod host {
            #[link(wasm_import_module = "weir1")]
            unsafe extern "C" {
                $(pub(super) fn $name($($arg: $type),*) $(-> $out)?;)*
            }
        }
        #[cfg(not(target_arch = "wasm32"))]
        mod host {
            $(pub(super) unsafe fn $name($(_: $type),*) $(-> $out)? {
                panic!(concat!("host call `", stringify!($name), "` outside of a gateway"))
            })*
        }
    };
}

imports! {
    fn bind_f64(path: *const u8, len: usize) -> i32;
    fn bind(path: *const u8, len: usize) -> i32;
    fn want(bits: i32) -> i32;
    fn meter(name: *const u8, len: usize) -> i32;
    fn field_kind(id: i32) -> i32;
    fn field_f64(id: i32) -> f64;
    fn field_i64(id: i32, out: *mut i64) -> i32;
    fn field_str(id: i32, dst: *mut u8, cap: usize) -> i32;
    fn field_f64s(id: i32, dst: *mut f64, cap: usize) -> i32;
    fn lookup_f64(path: *const u8, len: usize) -> f64;
    fn lookup_str(path: *const u8, len: usize, dst: *mut u8, cap: usize) -> i32;
    fn payload(off: usize, dst: *mut u8, cap: usize) -> i32;
    fn emit(topic: *const u8, topic_len: usize, ptr: *const u8, len: usize) -> i32;
    fn meter_add(id: i32, key: *const u8, len: usize, value: f64) -> i32;
    fn meter_set(id: i32, key: *const u8, len: usize, value: f64) -> i32;
    fn meter_observe(id: i32, key: *const u8, len: usize, value: f64) -> i32;
    fn state_get(key: *const u8, len: usize, dst: *mut u8, cap: usize) -> i32;
    fn state_put(key: *const u8, key_len: usize, ptr: *const u8, len: usize) -> i32;
    fn state_delete(key: *const u8, len: usize) -> i32;
    fn config_get(key: *const u8, len: usize, dst: *mut u8, cap: usize) -> i32;
    fn config_f64(key: *const u8, len: usize, default: f64) -> f64;
    fn format_f64(value: f64, decimals: i32, dst: *mut u8, cap: usize) -> i32;
    fn log(level: i32, ptr: *const u8, len: usize);
    fn now_ms() -> i64;
    fn random(dst: *mut u8, len: usize) -> i32;
    fn abort(ptr: *const u8, len: usize);
}

// SAFETY, for all calls below: pointer and length are of one live slice; the host reads or writes within it only.

pub(crate) fn bind_f64(path: &str) -> i32 {
    unsafe { host::bind_f64(path.as_ptr(), path.len()) }
}
pub(crate) fn bind(path: &str) -> i32 {
    unsafe { host::bind(path.as_ptr(), path.len()) }
}
pub(crate) fn want(bits: i32) -> i32 {
    unsafe { host::want(bits) }
}
pub(crate) fn meter(name: &str) -> i32 {
    unsafe { host::meter(name.as_ptr(), name.len()) }
}
pub(crate) fn field_kind(id: i32) -> i32 {
    unsafe { host::field_kind(id) }
}
pub(crate) fn field_f64(id: i32) -> f64 {
    unsafe { host::field_f64(id) }
}
pub(crate) fn field_i64(id: i32) -> Result<i64, i32> {
    let mut out = 0;
    match unsafe { host::field_i64(id, &raw mut out) } {
        0 => Ok(out),
        code => Err(code),
    }
}
pub(crate) fn field_str(id: i32, dst: &mut [u8]) -> i32 {
    unsafe { host::field_str(id, dst.as_mut_ptr(), dst.len()) }
}
pub(crate) fn field_f64s(id: i32, dst: &mut [f64]) -> i32 {
    unsafe { host::field_f64s(id, dst.as_mut_ptr(), dst.len()) }
}
pub(crate) fn lookup_f64(path: &str) -> f64 {
    unsafe { host::lookup_f64(path.as_ptr(), path.len()) }
}
pub(crate) fn lookup_str(path: &str, dst: &mut [u8]) -> i32 {
    unsafe { host::lookup_str(path.as_ptr(), path.len(), dst.as_mut_ptr(), dst.len()) }
}
pub(crate) fn payload(off: usize, dst: &mut [u8]) -> i32 {
    unsafe { host::payload(off, dst.as_mut_ptr(), dst.len()) }
}
pub(crate) fn emit(topic: &[u8], payload: &[u8]) -> i32 {
    unsafe { host::emit(topic.as_ptr(), topic.len(), payload.as_ptr(), payload.len()) }
}
pub(crate) fn meter_add(id: i32, key: &[u8], value: f64) -> i32 {
    unsafe { host::meter_add(id, key.as_ptr(), key.len(), value) }
}
pub(crate) fn meter_set(id: i32, key: &[u8], value: f64) -> i32 {
    unsafe { host::meter_set(id, key.as_ptr(), key.len(), value) }
}
pub(crate) fn meter_observe(id: i32, key: &[u8], value: f64) -> i32 {
    unsafe { host::meter_observe(id, key.as_ptr(), key.len(), value) }
}
pub(crate) fn state_get(key: &[u8], dst: &mut [u8]) -> i32 {
    unsafe { host::state_get(key.as_ptr(), key.len(), dst.as_mut_ptr(), dst.len()) }
}
pub(crate) fn state_put(key: &[u8], value: &[u8]) -> i32 {
    unsafe { host::state_put(key.as_ptr(), key.len(), value.as_ptr(), value.len()) }
}
pub(crate) fn state_delete(key: &[u8]) -> i32 {
    unsafe { host::state_delete(key.as_ptr(), key.len()) }
}
pub(crate) fn config_get(key: &str, dst: &mut [u8]) -> i32 {
    unsafe { host::config_get(key.as_ptr(), key.len(), dst.as_mut_ptr(), dst.len()) }
}
pub(crate) fn config_f64(key: &str, default: f64) -> f64 {
    unsafe { host::config_f64(key.as_ptr(), key.len(), default) }
}
pub(crate) fn format_f64(value: f64, decimals: i32, dst: &mut [u8]) -> i32 {
    unsafe { host::format_f64(value, decimals, dst.as_mut_ptr(), dst.len()) }
}
pub(crate) fn log(level: i32, text: &[u8]) {
    unsafe { host::log(level, text.as_ptr(), text.len()) }
}
pub(crate) fn now_ms() -> i64 {
    unsafe { host::now_ms() }
}
pub(crate) fn random(dst: &mut [u8]) -> i32 {
    unsafe { host::random(dst.as_mut_ptr(), dst.len()) }
}

/// Ends the invocation with a trap that says `text`.
#[inline(never)]
pub(crate) fn abort(text: &[u8]) -> ! {
    abort_here(text)
}

/// The same without a frame of its own: a trap report shows the five innermost.
#[inline(always)]
pub(crate) fn abort_here(text: &[u8]) -> ! {
    unsafe { host::abort(text.as_ptr(), text.len()) };
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_arch = "wasm32"))]
    panic!("aborted");
}

/// The event's header as the host writes it.
#[repr(C)]
pub(crate) struct Header {
    version: u16,
    length: u16,
    pub(crate) flags: u32,
    pub(crate) time_ms: i64,
    pub(crate) sequence: u64,
    topic: Span,
    payload: Span,
    device: Span,
    pub(crate) kind: u16,
    pub(crate) qos: u8,
    pub(crate) time_quality: u8,
    fields: u32,
    pub(crate) present: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Span {
    at: u32,
    len: u32,
}

const _: () = {
    assert!(size_of::<Header>() == weir_abi::HEADER_LEN as usize);
    assert!(offset_of!(Header, flags) == header::FLAGS && offset_of!(Header, time_ms) == header::TIME_MS);
    assert!(offset_of!(Header, sequence) == header::SEQUENCE && offset_of!(Header, topic) == header::TOPIC_PTR);
    assert!(offset_of!(Header, payload) == header::PAYLOAD_PTR && offset_of!(Header, device) == header::DEVICE_PTR);
    assert!(offset_of!(Header, kind) == header::KIND && offset_of!(Header, qos) == header::QOS);
    assert!(offset_of!(Header, time_quality) == header::TIME_QUALITY);
    assert!(offset_of!(Header, fields) == header::FIELDS_PTR && offset_of!(Header, present) == header::PRESENT);
};

/// The header of the event being handled; valid until the handler returns.
pub(crate) fn header<'call>(at: u32) -> &'call Header {
    // SAFETY: `at` is what the host passed to a handler: the start of the 8-aligned event buffer, with a header in it.
    unsafe { &*(at as usize as *const Header) }
}

impl Header {
    pub(crate) fn topic(&self) -> Option<&[u8]> {
        self.topic.get()
    }
    pub(crate) fn device(&self) -> Option<&[u8]> {
        self.device.get()
    }
    pub(crate) fn payload(&self) -> Option<&[u8]> {
        self.payload.get()
    }
    pub(crate) fn payload_len(&self) -> usize {
        self.payload.len as usize
    }
    /// The bound field `index`; 0.0 if it is absent (`present` tells).
    pub(crate) fn number(&self, index: i32) -> f64 {
        // SAFETY: ids come from `bind_f64` (`Number` cannot be made otherwise), and the host writes a place for each.
        unsafe { *(self.fields as usize as *const f64).add(index as usize) }
    }
}

impl Span {
    /// `None` if the bytes were not copied.
    fn get<'call>(self) -> Option<&'call [u8]> {
        match (self.at, self.len) {
            (_, 0) => Some(&[]),
            (0, _) => None,
            // SAFETY: a pointer that is not 0 points at `len` bytes in the event buffer.
            (at, len) => Some(unsafe { core::slice::from_raw_parts(at as usize as *const u8, len as usize) }),
        }
    }
}

/// The event buffer. Made by `function!`.
#[doc(hidden)]
#[repr(C, align(8))]
pub struct Buffer<const N: usize>(UnsafeCell<[u8; N]>);

// SAFETY: only the host writes it, between calls; one thread.
unsafe impl<const N: usize> Sync for Buffer<N> {}

impl<const N: usize> Buffer<N> {
    #[doc(hidden)]
    pub const fn new() -> Self {
        assert!(N >= weir_abi::BUFFER_MIN as usize, "`buffer` must be at least 256 bytes");
        assert!(N <= 64 * 1024, "`buffer` must be at most 65536 bytes");
        Self(UnsafeCell::new([0; N]))
    }
    /// `(pointer << 32) | capacity`.
    #[doc(hidden)]
    pub fn address(&self) -> i64 {
        ((self.0.get() as usize as u64) << 32 | N as u64) as i64
    }
}

/// What `on_start` found out, kept for the handlers. Made by `function!`.
#[doc(hidden)]
pub struct Slot<T>(UnsafeCell<Option<T>>);

// SAFETY: one thread; written once, before any reference is given out.
unsafe impl<T> Sync for Slot<T> {}

impl<T> Slot<T> {
    #[doc(hidden)]
    pub const fn new() -> Self {
        Self(UnsafeCell::new(None))
    }
    #[doc(hidden)]
    pub fn set(&self, value: T) {
        // SAFETY: one thread; a second `set`, which could pull the value from under a reference, aborts.
        let slot = unsafe { &mut *self.0.get() };
        if slot.is_some() {
            abort(b"on_start was called twice");
        }
        *slot = Some(value);
    }
    #[doc(hidden)]
    pub fn get(&self) -> &T {
        // SAFETY: one thread, and nothing writes after `set`.
        match unsafe { &*self.0.get() } {
            Some(value) => value,
            None => abort(b"on_start was not called"),
        }
    }
}

/// Memory for what is too large for the 2 KiB stack; a `static`, borrowed for the length of a closure.
///
/// Under the policy `pristine` its content is what `new` was given, at each invocation; a `warm` instance keeps it.
///
/// ```
/// # use weir_sdk::prelude::*;
/// static ROOM: Scratch<[u8; 4096]> = Scratch::new([0; 4096]);
/// let first = ROOM.with(|room| room[0]);
/// ```
pub struct Scratch<T> {
    value: UnsafeCell<T>,
    lent: Cell<bool>,
}

// SAFETY: one thread; `lent` keeps a second reference from being made.
unsafe impl<T> Sync for Scratch<T> {}

impl<T> Scratch<T> {
    /// A place that holds `value`.
    pub const fn new(value: T) -> Self {
        Self { value: UnsafeCell::new(value), lent: Cell::new(false) }
    }
    /// Lends the place to `work`. Traps when it is lent already.
    pub fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        if self.lent.replace(true) {
            abort(b"a Scratch was lent twice");
        }
        // SAFETY: `lent` was false, so no other reference lives.
        let result = work(unsafe { &mut *self.value.get() });
        self.lent.set(false);
        result
    }
}

pub(crate) const ABSENT: i32 = code::ABSENT;
/// What `weir_abi` returns.
#[doc(hidden)]
pub const VERSION: i32 = weir_abi::VERSION;
