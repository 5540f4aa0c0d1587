//! One message's payload, read at most once a codec, whichever triggers and functions look.

use super::routing::Listener;
use crate::config::Codec;
use crate::field::{Fields, Malformed, Paths};

/// The fields found in the current payload.
#[derive(Debug, Default)]
pub(super) struct Scans {
    json: Scan,
    cbor: Scan,
    none: Fields,
}

#[derive(Debug, Default)]
struct Scan {
    fields: Fields,
    result: Option<Result<(), Malformed>>,
}

impl Scans {
    /// The next payload is another one.
    pub fn forget(&mut self) {
        self.json.result = None;
        self.cbor.result = None;
    }

    /// The fields as the listener reads them.
    pub fn read(&mut self, listener: &Listener, paths: &Paths, payload: &[u8]) -> Result<&Fields, Malformed> {
        self.read_as(listener.codec, listener.needs_fields, paths, payload)
    }

    /// The fields as this codec reads them, if somebody looks at them.
    pub fn read_as(&mut self, codec: Codec, needed: bool, paths: &Paths, payload: &[u8]) -> Result<&Fields, Malformed> {
        let scan = match codec {
            _ if !needed => return Ok(&self.none),
            Codec::Json => &mut self.json,
            Codec::Cbor => &mut self.cbor,
            Codec::Raw => return Ok(&self.none),
        };
        let result = scan.result.get_or_insert_with(|| paths.scan(codec, payload, &mut scan.fields));
        result.map(|()| &scan.fields)
    }
}
