//! The image: memory and globals of an instance as `on_start` left them, and how an instance gets back to it.
//!
//! - Where the scan proves that memory and globals are all that a guest can change, copying them back *is* a new
//!   instance. The proof: no operator that writes a table or drops a segment, at most 16 mutable globals, none of them a
//!   reference, all of them exported by the rewrite, so that the host can read and set them.
//! - Memory that has grown does not shrink by a copy: its size is compared at each reset, and a grown instance is replaced.
//! - Zeros at the image's end are not kept; they are written, not copied.

use wasmi::{AsContextMut, Global, Memory, Store, Val};

use super::host::Host;

/// Memory and globals of a fresh instance.
#[derive(Debug)]
pub struct Image {
    /// The memory without the zeros at its end.
    bytes: Box<[u8]>,
    size: usize,
    globals: Box<[Val]>,
}

impl Image {
    /// Takes the image of an instance.
    pub(super) fn take(store: &Store<Host>, memory: Memory, globals: &[Global]) -> Self {
        let data = memory.data(store);
        let end = data.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        Self {
            bytes: data[..end].into(),
            size: data.len(),
            globals: globals.iter().map(|global| global.get(store)).collect(),
        }
    }

    /// Bytes that the image holds.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Puts memory and globals back; `false`: the memory has grown, and nothing was done.
    pub(super) fn restore(&self, store: &mut Store<Host>, memory: Memory, globals: &[Global]) -> bool {
        let data = memory.data_mut(store.as_context_mut());
        if data.len() != self.size {
            return false;
        }
        let (used, zeros) = data.split_at_mut(self.bytes.len());
        used.copy_from_slice(&self.bytes);
        zeros.fill(0);
        for (global, value) in globals.iter().zip(&self.globals) {
            // The scan found these globals mutable, and the value was read from them.
            let _ = global.set(store.as_context_mut(), value.clone());
        }
        true
    }
}
