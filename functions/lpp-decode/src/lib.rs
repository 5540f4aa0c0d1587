//! Cayenne LPP, the binary payload of many LoRaWAN devices, to JSON on `decoded/DEVICE`:
//! `01 67 01 10 02 68 55` becomes `{"temperature_1":27.2,"relative_humidity_2":42.5}`.
//!
//! - Items are `channel u8, type u8, data`, big-endian; the names are those that The Things Stack uses.
//! - A payload that is empty, cut short, or holds a type that is not in the table is an error, never half a reading.
//! - For a trigger with `codec = "raw"`.
#![no_std]

use weir_sdk::event::emit;
use weir_sdk::prelude::*;
use weir_sdk::text::{Show, Writer};

weir_sdk::function! {
    wants payload, device;
    on_event = handle;
}

/// Verdict code: the payload ends within an item, is empty, or longer than LoRaWAN allows.
const CUT_SHORT: u16 = 16;
/// Verdict code: an item's type is not known, so its length is not either.
const UNKNOWN_TYPE: u16 = 17;

/// 242 bytes of payload are at most 80 items.
static OUT: Scratch<Text<3072>> = Scratch::new(Text::new());

fn handle(_: &Function, event: &Event) -> Result<Verdict, Error> {
    let Some(payload) = event.payload().filter(|payload| !payload.is_empty()) else {
        return Ok(Verdict::Error(CUT_SHORT));
    };
    OUT.with(|out| {
        out.clear();
        if let Err(code) = decode(payload, out) {
            return Ok(Verdict::Error(code));
        }
        if out.is_cut() {
            return Err(Error::TooLong);
        }
        let topic = text!(128; "decoded/", event.device());
        if topic.is_cut() {
            return Err(Error::TooLong);
        }
        emit(topic.as_bytes(), out.as_bytes())?;
        Ok(Verdict::Done)
    })
}

fn decode(mut payload: &[u8], out: &mut Writer) -> Result<(), u16> {
    let mut separator = "{";
    while let Some((channel, rest)) = payload.split_first() {
        let (code, data) = rest.split_first().ok_or(CUT_SHORT)?;
        let (name, shape) = item(*code).ok_or(UNKNOWN_TYPE)?;
        let (data, rest) = data.split_at_checked(shape.len()).ok_or(CUT_SHORT)?;
        (separator, "\"", name, "_", *channel, "\":").show(out);
        shape.show(data, out);
        payload = rest;
        separator = ",";
    }
    out.bytes(b"}");
    Ok(())
}

/// How an item's data is read.
enum Shape {
    /// `bytes` long, times `factor`, with so many decimals.
    Unsigned { bytes: u8, factor: i64, decimals: u8 },
    /// The same, two's complement.
    Signed { bytes: u8, decimals: u8 },
    /// Three signed 16-bit numbers.
    Axes { decimals: u8 },
    /// Latitude and longitude in 0.0001 degrees, altitude in cm; 24 bits each.
    Gps,
}

/// Name and shape of a type.
fn item(code: u8) -> Option<(&'static str, Shape)> {
    let unsigned = |bytes, decimals| Shape::Unsigned { bytes, factor: 1, decimals };
    let signed = |bytes, decimals| Shape::Signed { bytes, decimals };
    Some(match code {
        0 => ("digital_in", unsigned(1, 0)),
        1 => ("digital_out", unsigned(1, 0)),
        2 => ("analog_in", signed(2, 2)),
        3 => ("analog_out", signed(2, 2)),
        100 => ("generic", unsigned(4, 0)),
        101 => ("luminosity", unsigned(2, 0)),
        102 => ("presence", unsigned(1, 0)),
        103 => ("temperature", signed(2, 1)),
        104 => ("relative_humidity", Shape::Unsigned { bytes: 1, factor: 5, decimals: 1 }),
        113 => ("accelerometer", Shape::Axes { decimals: 3 }),
        115 => ("barometric_pressure", unsigned(2, 1)),
        116 => ("voltage", unsigned(2, 2)),
        117 => ("current", unsigned(2, 3)),
        118 => ("frequency", unsigned(4, 0)),
        120 => ("percentage", unsigned(1, 0)),
        121 => ("altitude", signed(2, 0)),
        125 => ("concentration", unsigned(2, 0)),
        128 => ("power", unsigned(2, 0)),
        130 => ("distance", unsigned(4, 3)),
        131 => ("energy", unsigned(4, 3)),
        132 => ("direction", unsigned(2, 0)),
        133 => ("unix_time", unsigned(4, 0)),
        134 => ("gyrometer", Shape::Axes { decimals: 2 }),
        136 => ("gps", Shape::Gps),
        142 => ("switch", unsigned(1, 0)),
        _ => return None,
    })
}

impl Shape {
    fn len(&self) -> usize {
        match self {
            Self::Unsigned { bytes, .. } | Self::Signed { bytes, .. } => usize::from(*bytes),
            Self::Axes { .. } => 6,
            Self::Gps => 9,
        }
    }

    fn show(&self, data: &[u8], out: &mut Writer) {
        match self {
            Self::Unsigned { factor, decimals, .. } => Scaled(unsigned(data) * factor, *decimals).show(out),
            Self::Signed { decimals, .. } => Scaled(signed(data), *decimals).show(out),
            Self::Axes { decimals } => three(data, ["x", "y", "z"], [*decimals; 3], out),
            Self::Gps => three(data, ["latitude", "longitude", "altitude"], [4, 4, 2], out),
        }
    }
}

/// Three signed numbers of equal length as an object.
fn three(data: &[u8], names: [&str; 3], decimals: [u8; 3], out: &mut Writer) {
    let mut separator = "{\"";
    for ((name, decimals), part) in names.iter().zip(decimals).zip(data.chunks((data.len() / 3).max(1))) {
        (separator, *name, "\":").show(out);
        Scaled(signed(part), decimals).show(out);
        separator = ",\"";
    }
    out.bytes(b"}");
}

fn unsigned(data: &[u8]) -> i64 {
    data.iter().fold(0, |value, byte| value << 8 | i64::from(*byte))
}

fn signed(data: &[u8]) -> i64 {
    let unused = 64 - 8 * data.len() as u32;
    unsigned(data) << unused >> unused
}
