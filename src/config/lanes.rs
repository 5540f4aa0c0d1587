//! `[[lane]]` and `[[sink]]`: the outbox and where it drains to.

use crate::manifest::check_label;
use crate::strict::{Section, nearest};
use crate::topic::{self, TopicFilter};
use crate::units::{Bytes, Millis};

use super::site::Place;
use super::{DEAD_LETTER, Drain, FullPolicy, LaneConfig, SinkConfig, SinkFormat, SinkKind, link};

/// Lanes of one gateway, the lane of dead letters among them.
pub const LANES_MAX: usize = 16;
/// Sinks of one gateway.
pub const SINKS_MAX: usize = 8;

const DAY: u64 = 86_400_000;

/// Coarser windows where the site names none: a minute, a quarter of an hour, an hour, a day.
const ROLL_UP: [Millis; 4] = [Millis(60_000), Millis(900_000), Millis(3_600_000), Millis(DAY)];
const ROLL_UPS_MAX: usize = 8;
/// Two segments may be pinned, one is written, and what a pass appends takes its room before what it read is let go.
const ROLL_UP_SEGMENTS_MIN: u64 = 16;

/// Reads the sinks.
pub(super) fn sinks(top: &mut Section<'_>, place: Place<'_>, id: &str) -> Vec<SinkConfig> {
    let mut sinks: Vec<SinkConfig> = Vec::new();
    for mut section in top.sections("sink", SINKS_MAX) {
        let Some(name) = name(&mut section, "sink", "cloud") else {
            section.close();
            continue;
        };
        if sinks.iter().any(|sink| sink.name == name) {
            section.refuse("name", "is the name of two sinks");
        }
        let formats = [("json", SinkFormat::Json), ("cbor", SinkFormat::Cbor)];
        let format = section.choice("format", &formats).unwrap_or_default();
        let kind = match section.choice("type", &[("mqtt", true), ("file", false)]) {
            Some(true) => mqtt(&mut section, place, format!("weir-{id}-{name}")),
            Some(false) => file(&mut section, place, format),
            None => {
                if !section.has("type") {
                    section.refuse("type", "is missing; write type = \"mqtt\" or \"file\"");
                }
                continue;
            }
        };
        sinks.push(SinkConfig { name, kind, format });
        section.close();
    }
    sinks
}

fn name(section: &mut Section<'_>, list: &str, example: &str) -> Option<String> {
    let name = section.required_text("name", example)?.to_owned();
    section.rename(format!("{list}.{name}"));
    if let Err(why) = check_label(&name) {
        section.refuse("name", &why);
    }
    Some(name)
}

fn mqtt(section: &mut Section<'_>, place: Place<'_>, client_id: String) -> SinkKind {
    let connection = link::read(section, place, client_id, 64);
    let topic_prefix = section.text("topic-prefix").unwrap_or("weir").to_owned();
    if let Err(error) = topic::check_name(&topic_prefix) {
        section.refuse("topic-prefix", &error.to_string());
    } else if topic_prefix.starts_with('$') {
        section.refuse("topic-prefix", "begins with `$`, which belongs to the broker");
    }
    let rate_max = section.has("rate-max").then(|| section.number("rate-max", 1000, 1..=1_000_000));
    SinkKind::Mqtt { connection, topic_prefix, rate_max }
}

fn file(section: &mut Section<'_>, place: Place<'_>, format: SinkFormat) -> SinkKind {
    if format == SinkFormat::Cbor {
        section.refuse("format", "is \"cbor\"; a file sink writes lines of JSON");
    }
    SinkKind::File {
        dir: place.path(section.required_text("dir", "upstream").unwrap_or_default()),
        file_bytes_max: section.bytes("file-bytes-max", Bytes::mib(8), Bytes::kib(4)..=Bytes::mib(1024)),
        files_max: section.number("files-max", 8, 1..=10_000),
    }
}

/// Reads the lanes; adds the default lane when there is none, and the lane of dead letters always.
pub(super) fn lanes(top: &mut Section<'_>, sinks: &[SinkConfig], segment: Bytes) -> Vec<LaneConfig> {
    let mut lanes: Vec<LaneConfig> = Vec::new();
    for mut section in top.sections("lane", LANES_MAX - 1) {
        if let Some(name) = name(&mut section, "lane", "telemetry") {
            if lanes.iter().any(|lane| lane.name == name) {
                section.refuse("name", "is the name of two lanes");
            }
            lanes.push(lane(&mut section, name, sinks, segment));
        }
        section.close();
    }
    if lanes.iter().all(|lane| lane.name == DEAD_LETTER) {
        let everything = "#".parse().expect("# is a filter");
        lanes.insert(0, LaneConfig { topics: vec![everything], ..plain(String::from("telemetry"), first(sinks)) });
    }
    if lanes.iter().all(|lane| lane.name != DEAD_LETTER) {
        lanes.push(plain(String::from(DEAD_LETTER), None));
    }
    lanes
}

fn first(sinks: &[SinkConfig]) -> Option<String> {
    sinks.first().map(|sink| sink.name.clone())
}

/// A lane as it is when its section says nothing.
fn plain(name: String, sink: Option<String>) -> LaneConfig {
    let dead = name == DEAD_LETTER;
    LaneConfig {
        name,
        topics: Vec::new(),
        bytes_max: if dead { Bytes::mib(1) } else { Bytes::mib(64) },
        ttl: None,
        full: FullPolicy::DropOldest,
        roll_up: Vec::new(),
        drain: Drain::InOrder,
        priority: if dead { 200 } else { 100 },
        sink,
    }
}

fn lane(section: &mut Section<'_>, name: String, sinks: &[SinkConfig], segment: Bytes) -> LaneConfig {
    let dead = name == DEAD_LETTER;
    let base = plain(name, if dead { None } else { first(sinks) });
    let topics = section.list::<TopicFilter>("topics").unwrap_or_default();
    if topics.is_empty() && !dead {
        section.refuse("topics", "is missing: no record would go here; write topics = [\"#\"] for all");
    }
    if let Some(shared) = topics.iter().find(|topic| topic.share_group().is_some()) {
        section.refuse("topics", &format!("`{shared}` is shared; topics of emitted records are not"));
    }
    // Room is made by whole segments, so one is written while another leaves.
    let least = Bytes(segment.0.saturating_mul(2));
    let policies =
        [("drop-oldest", FullPolicy::DropOldest), ("reject", FullPolicy::Reject), ("roll-up", FullPolicy::RollUp)];
    let drains = [("in-order", Drain::InOrder), ("live-first", Drain::LiveFirst)];
    let full = section.choice("full", &policies).unwrap_or(base.full);
    let lane = LaneConfig {
        topics,
        bytes_max: section.bytes("bytes-max", base.bytes_max.max(least), least..=Bytes(1 << 42)),
        ttl: section.millis_option("ttl", Millis(1000)..=Millis(3660 * DAY)),
        full,
        roll_up: roll_up(section, full),
        drain: section.choice("drain", &drains).unwrap_or(base.drain),
        priority: section.number("priority", base.priority, 0..=255),
        sink: sink(section, sinks).or(base.sink),
        name: base.name,
    };
    if lane.full == FullPolicy::RollUp && lane.drain == Drain::LiveFirst {
        let text = "is \"live-first\": a lane that rolls up is drained in order; give what must come first a lane of its own, \
                    with a lower priority";
        section.refuse("drain", text);
    }
    let segments_min = Bytes(segment.0.saturating_mul(ROLL_UP_SEGMENTS_MIN));
    if lane.full == FullPolicy::RollUp && lane.bytes_max < segments_min {
        let text = format!(
            "wants at least {segments_min} where full is \"roll-up\": {ROLL_UP_SEGMENTS_MIN} times store.segment-bytes, because \
             whole segments are folded"
        );
        section.refuse("bytes-max", &text);
    }
    if lane.name == DEAD_LETTER && lane.full == FullPolicy::Reject {
        section.refuse("full", "is \"reject\": a poison message would come back for ever; wants \"drop-oldest\"");
    }
    lane
}

/// The lengths of coarser windows.
fn roll_up(section: &mut Section<'_>, full: FullPolicy) -> Vec<Millis> {
    let lengths = section.list::<Millis>("roll-up");
    match (full, lengths) {
        (FullPolicy::RollUp, None) => ROLL_UP.to_vec(),
        (FullPolicy::RollUp, Some(lengths)) => {
            let multiples = lengths.windows(2).all(|pair| pair[0] < pair[1] && pair[1].0 % pair[0].0.max(1) == 0);
            if lengths.is_empty() || ROLL_UPS_MAX < lengths.len() || !multiples || lengths[0].0 < 1000 {
                let text = format!(
                    "wants 1 to {ROLL_UPS_MAX} lengths from \"1 s\" on, each a multiple of the one before: [\"1 min\", \"15 min\"]"
                );
                section.refuse("roll-up", &text);
            }
            lengths
        }
        (_, Some(_)) => {
            section.refuse("roll-up", "is for full = \"roll-up\"");
            Vec::new()
        }
        (_, None) => Vec::new(),
    }
}

fn sink(section: &mut Section<'_>, sinks: &[SinkConfig]) -> Option<String> {
    let name = section.text("sink")?;
    if sinks.iter().any(|sink| sink.name == name) {
        return Some(name.to_owned());
    }
    let meant = nearest(name, sinks.iter().map(|sink| sink.name.as_str()));
    let meant = meant.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
    section.refuse("sink", &format!("no [[sink]] has the name `{}`{meant}", name.escape_debug()));
    None
}
