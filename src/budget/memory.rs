//! Resident memory, line by line.

use crate::config::{Config, Drain, FullPolicy, FunctionConfig, LaneConfig, MqttConnection, SinkKind, Trigger};
use crate::manifest::MeterSpec;
use crate::units::Bytes;

use super::{Keyed, Line, costs};

const FIRST: &str = "";
const PROCESS: &str = "the process";
const STORE: &str = "process and store";
const QUEUES: &str = "outbox and queues";

pub(super) fn lines(config: &Config, modules: &[Bytes], keyed: &Keyed) -> Vec<Line> {
    let mut lines = vec![Line::new(FIRST, "board", "process: binary, runtime, allocator, stacks", process())];
    store(config, keyed, &mut lines);
    queues(config, &mut lines);
    // Counted whether asked for or not, so that the answer does not hang on a flag of `run`.
    lines.push(Line::new(STORE, "--metrics", "watch: metrics, health, control socket", costs::WATCH.0));
    if let Some(largest) = modules.iter().map(|module| module.0).max() {
        lines.push(Line::new(STORE, "function", "loading of the largest module", largest));
    }
    for function in &config.functions {
        meters(function, &mut lines);
    }
    for (function, module) in config.functions.iter().zip(modules) {
        self::function(function, *module, &mut lines);
    }
    lines
}

const fn process() -> u64 {
    costs::PROCESS.0 + costs::THREAD_STACKS.0
}

fn store(config: &Config, keyed: &Keyed, lines: &mut Vec<Line>) {
    if config.store.sled {
        let sled = costs::SLED.0 + config.store.sled_cache.0;
        lines.push(Line::new(PROCESS, "store.sled-cache", "sled: threads, buffers, cache", sled));
        // Gathered and handed over; after a fault of sled all of it once.
        let behind =
            costs::MAP_FACTOR.saturating_mul(keyed.bytes.saturating_add(keyed.bytes.min(costs::DIRTY_BYTES_MAX.0)));
        lines.push(Line::new(PROCESS, &*keyed.key, "keyed state on its way to sled", behind));
    }
    // A batch is filled while the one before is written, each once as entries and once as frames.
    let commit = 4 * config.commit.bytes_max.0 + costs::STORE_BUFFER.0;
    lines.push(Line::new(PROCESS, "commit.bytes-max", "batches being filled and written", commit));
    lines.push(Line::new(PROCESS, &*keyed.key, "keyed state on its way to a snapshot", keyed.bytes));
}

fn queues(config: &Config, lines: &mut Vec<Line>) {
    let slots = u64::from(config.broker.in_flight) * costs::MESSAGE_SLOT;
    lines.push(Line::new(STORE, "broker.in-flight", "slots, acks and marks of unacknowledged messages", slots));
    // Not only in memory, but on their way to a snapshot, and to sled should that have missed something.
    let copies = if config.store.sled { 1 + costs::MAP_FACTOR } else { 1 };
    let marks = costs::MARKS_MAX * (costs::MARK + copies * costs::MARK_BEYOND_ENTRY);
    lines.push(Line::new(STORE, "broker", "marks, should the broker keep to no limit of messages", marks));
    lines.push(Line::new(STORE, "broker.inbox-max", "messages received, not yet committed", config.inbox_max.0));
    link("broker", &config.broker, lines);
    let mut triggers = config.functions.iter().flat_map(|function| &function.triggers);
    if triggers.any(|trigger| matches!(trigger, Trigger::Chain(_))) {
        lines.push(Line::new(STORE, "gateway.hops-max", "messages within a chain of functions", costs::CHAIN.0));
    }
    for sink in &config.sinks {
        let key = format!("sink.{}", sink.name);
        let buffers = costs::SINK_READ.0 * (1 + costs::SINK_WINDOW_FACTOR);
        match &sink.kind {
            SinkKind::Mqtt { connection, .. } => {
                // A lane that drains live first reads in two places.
                let is_split =
                    |lane: &LaneConfig| lane.drain == Drain::LiveFirst && lane.sink.as_ref() == Some(&sink.name);
                let buffers = buffers + if config.lanes.iter().any(is_split) { costs::SINK_READ.0 } else { 0 };
                let window = buffers + u64::from(connection.in_flight) * costs::MESSAGE_SLOT;
                lines.push(Line::new(STORE, format!("{key}.in-flight"), "records read and on their way", window));
                link(&key, connection, lines);
            }
            SinkKind::File { .. } => {
                lines.push(Line::new(STORE, key, "records read and on their way", buffers));
            }
        }
    }
    for lane in &config.lanes {
        let segments = lane.bytes_max.0.div_ceil(config.store.segment_bytes.0.max(1)) + 1;
        let key = format!("lane.{}.bytes-max", lane.name);
        lines.push(Line::new(STORE, key, "index of the lane's segments", segments * costs::LANE_EXTENT));
        if lane.full == FullPolicy::RollUp {
            // What is read, gathered, and appended.
            let pass = costs::ROLL_UP.0 + costs::ROLL_UP.0 / 4 + costs::SINK_READ.0;
            lines.push(Line::new(STORE, format!("lane.{}.full", lane.name), "aggregates being rolled up", pass));
        }
    }
}

fn link(key: &str, connection: &MqttConnection, lines: &mut Vec<Line>) {
    let buffers = costs::LINK_BUFFERS.0 + connection.packet_max.0;
    lines.push(Line::new(STORE, format!("{key}.packet-max"), "link: buffers and one packet", buffers));
    if connection.tls.is_some() {
        let tls = costs::TLS_CONNECTION.0 + costs::TLS_ROOTS.0;
        lines.push(Line::new(STORE, format!("{key}.tls"), "TLS: records, handshake, trusted certificates", tls));
    }
}

fn meters(function: &FunctionConfig, lines: &mut Vec<Line>) {
    for meter in &function.manifest.meters {
        let key = keys_max(function, meter);
        let (windows, keys) = (meter.open_windows_max(), meter.keys_max);
        let what = format!("{windows} open windows of {keys} keys");
        lines.push(Line::new(QUEUES, key, what, cells(meter, costs::cell(meter.kind))));
    }
}

fn cells(meter: &MeterSpec, each: u64) -> u64 {
    meter.cells_max().saturating_mul(each)
}

fn function(function: &FunctionConfig, module: Bytes, lines: &mut Vec<Line>) {
    let manifest = &function.manifest;
    let limits = &manifest.limits;
    let mut line = |key: &str, what: &str, bytes: u64| {
        lines.push(Line::new(QUEUES, format!("function.{}.{key}", manifest.name), what, bytes));
    };
    line("limits.memory", "linear memory", limits.memory.0);
    // Where a copy resets the instance, the memory cannot grow; elsewhere the vector that holds it doubles.
    line("limits.memory", "its image, or room to grow", limits.memory.0);
    let names = module.0.min(costs::NAMES.0);
    let code = costs::translated(module.0) + costs::VALUE_STACK.0 + costs::FUNCTION_FIXED.0 + names;
    line("path", "translated code, names, stack, instance", code);
    line("limits.state", "durable state, and a call's changes to it", 2 * limits.state.0);
    line("limits.emit-bytes", "a call's outputs, log and meter operations", staged(function));
}

fn staged(function: &FunctionConfig) -> u64 {
    let limits = &function.manifest.limits;
    limits.emit_bytes.0 + limits.log_bytes.0 + u64::from(limits.meter_ops) * costs::METER_KEY_MAX
}

/// Linear memories of all functions.
pub(super) fn guests(config: &Config) -> Bytes {
    Bytes(config.functions.iter().map(|function| function.manifest.limits.memory.0).sum())
}

fn keys_max(function: &FunctionConfig, meter: &MeterSpec) -> String {
    format!("function.{}.meter.{}.keys-max", function.manifest.name, meter.name)
}

/// Keyed state as entries: cells, function state, marks, books and lane heads.
pub(super) fn keyed(config: &Config) -> Keyed {
    let marks = u64::from(config.broker.in_flight) * costs::MARK_ENTRY;
    // Of a function its usage, and where the period of it began.
    let fixed = (config.lanes.len() + 2 * config.functions.len() + 4) as u64 * costs::SMALL_ENTRY;
    let mut keyed = Keyed { bytes: marks + fixed, key: "broker.in-flight".to_owned() };
    let mut most = marks;
    let mut add = |bytes: u64, key: &dyn Fn() -> String| {
        keyed.bytes = keyed.bytes.saturating_add(bytes);
        if most < bytes {
            (most, keyed.key) = (bytes, key());
        }
    };
    for function in &config.functions {
        let manifest = &function.manifest;
        add(manifest.limits.state.0, &|| format!("function.{}.limits.state", manifest.name));
        for meter in &manifest.meters {
            add(cells(meter, costs::cell_entry(meter.kind)), &|| keys_max(function, meter));
        }
    }
    keyed
}
