//! What flows where: faults that only the whole configuration shows.
//!
//! - No chain of functions comes back to where it began.
//! - Nothing that the gateway publishes comes in again.
//! - No two subscriptions overlap: a broker may deliver a message of both twice.
//! - What a function emits is taken by a lane or a chain; else a warning.

use crate::strict::Faults;
use crate::topic::TopicFilter;

use super::subscriptions::{cover, covers, overlaps};
use super::{
    Config, FILTER_BYTES_MAX, FILTERS_BYTES_MAX, FunctionConfig, MessageTrigger, MqttConnection, Qos, SinkKind, Trigger,
};

/// Adds the faults of `config`, which stands in `file`.
pub(super) fn check(file: &str, config: &Config, faults: &Faults) {
    for cycle in cycles(&config.functions) {
        let first = &config.functions[cycle[0].from].manifest.name;
        faults.refuse(file, &format!("function.{first}"), &describe(&cycle, &config.functions));
    }
    echoes(file, config, faults);
    overlapping(file, config, faults);
    unrouted(file, config, faults);
    unprotected(file, config, faults);
    if config.sinks.is_empty() {
        faults.warn(file, "sink", "there is none: records stay on flash until they expire or make room");
    }
}

/// What a function puts out: the filter of the topics, and how.
fn outputs(function: &FunctionConfig) -> impl Iterator<Item = (TopicFilter, &'static str)> {
    let emits = function.manifest.emits.iter().map(|filter| (filter.clone(), "emits"));
    let keeps = messages(function)
        .filter_map(|(_, trigger)| kept(&function.manifest.keep_prefix, &trigger.topics))
        .map(|filter| (filter, "keeps"));
    emits.chain(keeps)
}

fn messages(function: &FunctionConfig) -> impl Iterator<Item = (usize, &MessageTrigger)> {
    function.triggers.iter().enumerate().filter_map(|(index, trigger)| match trigger {
        Trigger::Mqtt(message) | Trigger::Chain(message) => Some((index, message)),
        Trigger::Interval(_) => None,
    })
}

fn chains(function: &FunctionConfig) -> impl Iterator<Item = &TopicFilter> {
    function.triggers.iter().filter_map(|trigger| match trigger {
        Trigger::Chain(message) => Some(&message.topics),
        _ => None,
    })
}

/// The topics `prefix` + T for every T that `topics` matches: exactly, or a filter that covers them where a prefix that
/// ends within a level meets a wildcard.
fn kept(prefix: &str, topics: &TopicFilter) -> Option<TopicFilter> {
    let topics = topics.as_str();
    let (levels, partial) = prefix.rsplit_once('/').map_or(("", prefix), |(levels, partial)| (levels, partial));
    let levels = if prefix.contains('/') { format!("{levels}/") } else { String::new() };
    let joined = if topics.starts_with(['+', '#']) && !partial.is_empty() {
        format!("{levels}{topics}")
    } else {
        format!("{prefix}{topics}")
    };
    joined.parse().ok()
}

/// One step of a chain: `from` puts `topics` out, which `to` takes.
#[derive(Clone, Debug)]
struct Step {
    from: usize,
    to: usize,
    how: &'static str,
    topics: TopicFilter,
}

fn steps(functions: &[FunctionConfig]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for (from, function) in functions.iter().enumerate() {
        for (topics, how) in outputs(function) {
            for (to, taker) in functions.iter().enumerate() {
                let taken = chains(taker).any(|chain| chain.overlaps(&topics));
                if taken && !steps.iter().any(|step| step.from == from && step.to == to) {
                    steps.push(Step { from, to, how, topics: topics.clone() });
                }
            }
        }
    }
    steps
}

/// For each function the shortest way back to itself, ways over the same functions once.
fn cycles(functions: &[FunctionConfig]) -> Vec<Vec<Step>> {
    let steps = steps(functions);
    let mut found: Vec<(Vec<usize>, Vec<Step>)> = Vec::new();
    for start in 0..functions.len() {
        let Some(cycle) = way_back(start, functions.len(), &steps) else { continue };
        let mut members: Vec<usize> = cycle.iter().map(|step| step.from).collect();
        members.sort_unstable();
        if found.iter().all(|(known, _)| *known != members) {
            found.push((members, cycle));
        }
    }
    found.into_iter().map(|(_, cycle)| cycle).collect()
}

/// Breadth first, so the shortest.
fn way_back(start: usize, functions: usize, steps: &[Step]) -> Option<Vec<Step>> {
    let mut came_by: Vec<Option<usize>> = vec![None; functions];
    let mut front = vec![start];
    while !front.is_empty() && came_by[start].is_none() {
        let mut next = Vec::new();
        for at in front {
            for (index, step) in steps.iter().enumerate().filter(|(_, step)| step.from == at) {
                if came_by[step.to].is_none() {
                    came_by[step.to] = Some(index);
                    next.push(step.to);
                }
            }
        }
        front = next;
    }
    let mut way = vec![steps[came_by[start]?].clone()];
    while way[way.len() - 1].from != start {
        let before = came_by[way[way.len() - 1].from]?;
        way.push(steps[before].clone());
    }
    way.reverse();
    Some(way)
}

fn describe(cycle: &[Step], functions: &[FunctionConfig]) -> String {
    let mut text = String::from("chain loop: ");
    for step in cycle {
        text += &format!("{} {} {} -> ", functions[step.from].manifest.name, step.how, step.topics);
    }
    text += &functions[cycle[0].from].manifest.name;
    text + "; narrow an emits, a keep-prefix or a chain trigger on this way"
}

/// A sink on the broker that messages come from: what it publishes must not come in again.
fn echoes(file: &str, config: &Config, faults: &Faults) {
    for sink in &config.sinks {
        let SinkKind::Mqtt { connection, topic_prefix, .. } = &sink.kind else { continue };
        if !same_broker(connection, &config.broker) {
            continue;
        }
        if connection.client_id == config.broker.client_id {
            let text = "is that of [broker] on the same host: the broker would throw one out for the other for ever";
            faults.refuse(file, &format!("sink.{}.client-id", sink.name), text);
        }
        let Ok(published) = format!("{topic_prefix}/{}/#", config.id).parse::<TopicFilter>() else { continue };
        for function in &config.functions {
            for (index, trigger) in mqtt(function).filter(|(_, trigger)| trigger.topics.overlaps(&published)) {
                let key = format!("function.{}.trigger[{index}].mqtt", function.manifest.name);
                let text = format!(
                    "`{}` takes {published}, which sink `{}` publishes to the same broker: messages would go round for \
                     ever; narrow it, or give the sink another topic-prefix",
                    trigger.topics, sink.name
                );
                faults.refuse(file, &key, &text);
            }
        }
    }
}

fn mqtt(function: &FunctionConfig) -> impl Iterator<Item = (usize, &MessageTrigger)> {
    messages(function).filter(|(index, _)| matches!(function.triggers[*index], Trigger::Mqtt(_)))
}

fn same_broker(a: &MqttConnection, b: &MqttConnection) -> bool {
    a.port == b.port && a.host.eq_ignore_ascii_case(&b.host)
}

fn unrouted(file: &str, config: &Config, faults: &Faults) {
    let lane_takes =
        |topics: &TopicFilter| config.lanes.iter().flat_map(|lane| &lane.topics).any(|lane| lane.overlaps(topics));
    let chain_takes =
        |topics: &TopicFilter| config.functions.iter().flat_map(chains).any(|chain| chain.overlaps(topics));
    for function in &config.functions {
        let manifest = &function.manifest;
        for emitted in manifest.emits.iter().filter(|topics| !lane_takes(topics) && !chain_takes(topics)) {
            let text = format!("emits {emitted}, which no lane and no chain takes: what it emits there is dropped");
            faults.warn(file, &format!("function.{}", manifest.name), &text);
        }
        let usage = format!("usage/{}", manifest.name).parse::<TopicFilter>();
        if config.usage_interval.is_some() && usage.is_ok_and(|topic| !lane_takes(&topic)) {
            let text = format!("the topic usage/{} is taken by no lane: its records go to the first", manifest.name);
            faults.warn(file, "gateway.usage-interval", &text);
        }
        for meter in &manifest.meters {
            let topic = format!("meter/{}.{}", manifest.name, meter.name);
            if topic.parse::<TopicFilter>().is_ok_and(|topic| !lane_takes(&topic)) {
                let text = format!("aggregates have the topic {topic}, which no lane takes: they go to the first lane");
                faults.warn(file, &format!("function.{}.meter.{}", manifest.name, meter.name), &text);
            }
        }
    }
}

/// Filters of which a broker may deliver a message twice, with the fix; and the bound of them all.
fn overlapping(file: &str, config: &Config, faults: &Faults) {
    let merged = config.subscriptions();
    for (one, other) in overlaps(&merged) {
        let (here, there) = (key_of(other, config), key_of(one, config));
        let fix = match cover(one, other, &merged) {
            Some(wide) => format!("add subscribe = [\"{wide}\"] to [broker] (its messages all come in), or narrow one"),
            None => String::from("put both into one share group, or narrow one"),
        };
        let text = format!(
            "`{other}` overlaps `{one}` ({there}) and neither covers the other: a broker may deliver a message of both \
             twice, and it would be counted twice; {fix}"
        );
        faults.refuse(file, &here, &text);
    }
    for wide in &config.subscribe {
        if !config.functions.iter().flat_map(mqtt).any(|(_, trigger)| covers(wide, &trigger.topics)) {
            faults.refuse(
                file,
                "broker.subscribe",
                &format!("`{wide}` covers the filter of no mqtt trigger; leave it out"),
            );
        }
    }
    let mut total = 0;
    for (_, wish) in config.wishes() {
        let bytes = wish.filter.as_str().len();
        total += bytes;
        if FILTER_BYTES_MAX < bytes {
            let text = format!("has {bytes} bytes; {FILTER_BYTES_MAX} are taken");
            faults.refuse(file, &key_of(&wish.filter, config), &text);
        }
    }
    if FILTERS_BYTES_MAX < total {
        let text = format!("the filters of all mqtt triggers have {total} bytes; {FILTERS_BYTES_MAX} are taken");
        faults.refuse(file, "function", &text);
    }
}

/// Where a subscribed filter is written.
fn key_of(filter: &TopicFilter, config: &Config) -> String {
    let mut all = config.functions.iter().flat_map(|function| mqtt(function).map(move |own| (function, own)));
    all.find(|(_, (_, trigger))| trigger.topics == *filter).map_or_else(
        || String::from("broker.subscribe"),
        |(function, (index, _))| format!("function.{}.trigger[{index}].mqtt", function.manifest.name),
    )
}

/// QoS 0 messages may be lost and counted twice: a meter that must be right wants 1 or 2.
fn unprotected(file: &str, config: &Config, faults: &Faults) {
    for function in config.functions.iter().filter(|function| !function.manifest.meters.is_empty()) {
        for (index, trigger) in mqtt(function).filter(|(_, trigger)| trigger.qos == Qos::AtMostOnce) {
            let key = format!("function.{}.trigger[{index}].qos", function.manifest.name);
            let text =
                format!("is 0 for `{}`: what is lost on the way is missing from the meters; 1 is safe", trigger.topics);
            faults.warn(file, &key, &text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_message_goes_on_under_its_prefix() {
        for (prefix, topics, want) in [
            ("mean/", "a/+/t", "mean/a/+/t"),
            ("mean/", "#", "mean/#"),
            ("", "a/#", "a/#"),
            ("x", "a/b", "xa/b"),
            ("x", "+/t", "+/t"),
            ("k/x", "#", "k/#"),
            ("/", "+", "/+"),
        ] {
            let filter: TopicFilter = topics.parse().unwrap();
            assert_eq!(kept(prefix, &filter).unwrap().to_string(), want, "{prefix} {topics}");
        }
    }
}
