//! What of a message is doubted and not refused: a field that is no number where the function reads one, and a time that cannot be.
//!
//! - Each is counted, and said in the log with function, field, topic and what stood there, by the measure of [`Complaints`].
//! - A field that is absent is no doubt: payloads may differ. A time of arrival is taken in place of one that is not believed.

use super::Slot;
use super::complaints::Complaints;
use super::routing::{Listener, TimeField};
use crate::config::TimeUnit;
use crate::effect::Effects;
use crate::field::{FieldKind, Fields, Value};
use crate::function::Invocation;
use crate::time::{Now, TimeQuality, WallMillis};

/// 2000-01-01: a set clock tells no earlier time; a device that does counts from its boot, or in another unit.
const EARLIEST_MS: WallMillis = 946_684_800_000;
/// 2200-01-01: no device of today means a later time.
const LATEST_MS: WallMillis = 7_258_118_400_000;
/// Characters of a text that are shown.
const SHOWN_MAX: usize = 40;

/// Where doubts go.
pub(super) struct Doubts<'a> {
    pub slot: usize,
    pub now: Now,
    pub complaints: &'a mut Complaints,
    pub effects: &'a mut Effects,
}

impl Doubts<'_> {
    /// Sets the event's time: the payload's where the trigger names a field that can be believed, else the arrival stays.
    /// Answers whether there was one that is not believed.
    pub fn time(
        &mut self,
        listener: &Listener,
        fields: &Fields,
        skew_max_ms: i64,
        function: &str,
        invocation: &mut Invocation<'_>,
    ) -> bool {
        let Some(field) = &listener.time else { return false };
        let value = fields.value(field.path);
        if value.kind() == FieldKind::Absent {
            return false;
        }
        if let Some(ms) = believed(value, field, self.now, skew_max_ms) {
            (invocation.time_ms, invocation.time_from_payload) = (ms, true);
            return false;
        }
        let unit = match field.unit {
            TimeUnit::Seconds => "s",
            TimeUnit::Milliseconds => "ms",
        };
        self.say("time", function, invocation, &field.name, value, &|| {
            format!("is no time in {unit} that can be believed; the time of arrival is taken")
        });
        true
    }

    /// Counts the fields that the function reads as numbers and that are there, but no finite numbers.
    pub fn numbers(&mut self, slot: &Slot, fields: &Fields, invocation: &Invocation<'_>) -> u64 {
        let mut count = 0;
        for (path, value) in slot.function.misfits(fields) {
            count += 1;
            self.say("not-a-number", &slot.name, invocation, path, value, &|| {
                "is no finite number; the function finds none there".to_owned()
            });
        }
        count
    }

    fn say(
        &mut self,
        kind: &'static str,
        function: &str,
        invocation: &Invocation<'_>,
        field: &dyn core::fmt::Display,
        value: Value,
        what: &dyn Fn() -> String,
    ) {
        let Some(more) = self.complaints.due(Some(self.slot), kind, self.now) else { return };
        let shown = shown(value, invocation.payload);
        let text = format!("field {field} on {}: {shown} {}{more}", invocation.topic, what());
        self.effects.say(log::Level::Warn, function, text);
    }
}

fn believed(value: Value, field: &TimeField, now: Now, skew_max_ms: i64) -> Option<WallMillis> {
    let number = value.f64()?;
    let ms = match field.unit {
        TimeUnit::Seconds => number * 1000.0,
        TimeUnit::Milliseconds => number,
    };
    // A gateway whose own clock is not set lives before 2000 as well.
    let earliest = if now.wall_ms < EARLIEST_MS { 0 } else { EARLIEST_MS };
    // And it cannot say what lies in the future.
    let latest = match now.quality {
        TimeQuality::Synced => now.wall_ms.saturating_add(skew_max_ms),
        _ => LATEST_MS,
    };
    (earliest as f64 <= ms && ms < latest as f64).then_some(ms as WallMillis)
}

fn shown(value: Value, payload: &[u8]) -> String {
    match value.kind() {
        FieldKind::Absent => "nothing".to_owned(),
        FieldKind::Null => "null".to_owned(),
        FieldKind::Bool => (if value.bool() == Some(true) { "true" } else { "false" }).to_owned(),
        FieldKind::Array => "an array".to_owned(),
        FieldKind::Object => "an object".to_owned(),
        FieldKind::Int | FieldKind::Float => match value.f64() {
            None => "NaN".to_owned(),
            Some(number) if number.abs() < 1e18 => number.to_string(),
            Some(number) => format!("{number:e}"),
        },
        FieldKind::String => {
            let bytes: Vec<u8> = value.text_bytes(payload).into_iter().flatten().take(SHOWN_MAX).collect();
            format!("the text \"{}\"", String::from_utf8_lossy(&bytes).escape_debug())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::{Codec, Path, Paths};

    const NOW: WallMillis = 1_800_000_000_000;

    /// `ts` of a JSON payload as a time, and as it is shown.
    fn read(json: &str, unit: TimeUnit, wall_ms: WallMillis) -> (Option<WallMillis>, String) {
        let mut paths = Paths::new();
        let path = paths.add(&Path::parse("ts").unwrap()).unwrap();
        let mut fields = Fields::new();
        let payload = format!("{{\"ts\":{json}}}");
        paths.scan(Codec::Json, payload.as_bytes(), &mut fields).unwrap();
        let now = Now { mono_us: 0, wall_ms, quality: TimeQuality::Synced };
        let value = fields.value(path);
        (believed(value, &TimeField { path, unit, name: "ts".to_owned() }, now, 1000), shown(value, payload.as_bytes()))
    }

    #[test]
    fn a_time_is_believed_from_2000_to_a_little_past_now() {
        use TimeUnit::{Milliseconds as Ms, Seconds as S};
        for (json, unit, want) in [
            ("1799999999000", Ms, Some(NOW - 1000)),
            ("1799999999", S, Some(NOW - 1000)),
            ("1799999999.5", S, Some(NOW - 500)),
            ("1800000000999", Ms, Some(NOW + 999)),
            ("1800000001000", Ms, None),
            // The wrong unit.
            ("1799999999000", S, None),
            ("1799999999", Ms, None),
            ("946684800000", Ms, Some(EARLIEST_MS)),
            ("946684799999", Ms, None),
            ("0", Ms, None),
            ("-5", Ms, None),
            ("1e300", Ms, None),
            ("\"today\"", Ms, None),
            ("null", Ms, None),
        ] {
            assert_eq!(read(json, unit, NOW).0, want, "{json} {unit:?}");
        }
        assert_eq!(read("5000", Ms, 60_000).0, Some(5000), "a gateway that lives in 1970 believes its devices of 1970");
    }

    #[test]
    fn what_stood_there_is_shown_short_and_escaped() {
        let long = format!("\"{}\"", "x".repeat(100));
        for (json, want) in [
            ("null", "null"),
            ("false", "false"),
            ("[1]", "an array"),
            ("{}", "an object"),
            ("4070908800000", "4070908800000"),
            ("1e300", "1e300"),
            ("-0.5", "-0.5"),
            (r#""a\u001bb""#, r#"the text "a\u{1b}b""#),
            (&long, &format!("the text \"{}\"", "x".repeat(40))),
        ] {
            assert_eq!(read(json, TimeUnit::Milliseconds, NOW).1, want, "{json}");
        }
    }
}
