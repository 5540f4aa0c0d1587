//! Which functions a topic wakes, and how their triggers read a message.

use crate::config::{Codec, Config, DeviceFrom, MessageTrigger, RetainedPolicy, TimeUnit, Trigger};
use crate::field::{PATHS_MAX, Path, PathError, PathId, Paths};
use crate::filter::{BoundPattern, Pattern};
use crate::trigger::{TopicIndex, TriggerId};

/// Where the device's name is read from.
#[derive(Debug)]
pub(super) enum Device {
    TopicLevel(u8),
    Field {
        path: PathId,
        /// As the trigger names it.
        name: String,
    },
    Topic,
}

/// Where the event's time is read from.
#[derive(Debug)]
pub(super) struct TimeField {
    pub path: PathId,
    pub unit: TimeUnit,
    pub name: String,
}

/// A message trigger, ready for use.
#[derive(Debug)]
pub(super) struct Listener {
    pub slot: usize,
    /// Number among the mqtt triggers; of no meaning for chains.
    pub wish: usize,
    pub codec: Codec,
    pub retained: RetainedPolicy,
    pub pattern: Option<BoundPattern>,
    pub time: Option<TimeField>,
    pub device: Device,
    /// Whether the payload must be read before the function is called.
    pub needs_fields: bool,
}

/// All message triggers.
#[derive(Debug, Default)]
pub(super) struct Routing {
    pub listeners: Vec<Listener>,
    pub broker: TopicIndex,
    pub chain: TopicIndex,
}

/// Why a trigger could not be made ready.
#[derive(Debug)]
pub enum RoutingError {
    /// A path is malformed.
    Path(PathError),
    /// The functions look at more different fields than a gateway keeps.
    TooManyPaths,
}

impl core::fmt::Display for RoutingError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Path(error) => write!(f, "a trigger's path: {error}"),
            Self::TooManyPaths => write!(f, "triggers and functions look at more than {PATHS_MAX} different fields"),
        }
    }
}

impl Routing {
    /// Builds the indexes; `reads[slot]` tells whether the function of that slot has bound fields or looks them up.
    pub fn new(config: &Config, reads: &[bool], paths: &mut Paths) -> Result<Self, RoutingError> {
        let (mut routing, mut wishes) = (Self::default(), 0);
        for (slot, function) in config.functions.iter().enumerate() {
            for trigger in &function.triggers {
                match trigger {
                    Trigger::Mqtt(message) => {
                        let id = routing.listen(slot, message, reads[slot], paths)?;
                        routing.listeners[usize::from(id)].wish = wishes;
                        wishes += 1;
                        routing.broker.insert(&message.topics, id);
                    }
                    Trigger::Chain(message) => {
                        let id = routing.listen(slot, message, reads[slot], paths)?;
                        routing.chain.insert(&message.topics, id);
                    }
                    Trigger::Interval(_) => {}
                }
            }
        }
        Ok(routing)
    }

    fn listen(
        &mut self,
        slot: usize,
        trigger: &MessageTrigger,
        reads: bool,
        paths: &mut Paths,
    ) -> Result<TriggerId, RoutingError> {
        let mut path = |text: &str| -> Result<PathId, RoutingError> {
            let path = Path::parse(text).map_err(RoutingError::Path)?;
            paths.add(&path).ok_or(RoutingError::TooManyPaths)
        };
        let time = match &trigger.time_field {
            Some(text) => Some(TimeField { path: path(text)?, unit: trigger.time_unit, name: text.clone() }),
            None => None,
        };
        let device = match &trigger.device {
            DeviceFrom::TopicLevel(level) => Device::TopicLevel(*level),
            DeviceFrom::Topic => Device::Topic,
            DeviceFrom::Field(text) => Device::Field { path: path(text)?, name: text.clone() },
        };
        let pattern = match &trigger.filter {
            Some(pattern) => Some(pattern.bind(paths).map_err(|_| RoutingError::TooManyPaths)?),
            None => None,
        };
        let looks = reads
            || time.is_some()
            || matches!(device, Device::Field { .. })
            || trigger.filter.as_ref().is_some_and(Pattern::reads_payload);
        self.listeners.push(Listener {
            slot,
            wish: 0,
            codec: trigger.codec,
            retained: trigger.retained,
            pattern,
            time,
            device,
            needs_fields: looks && trigger.codec != Codec::Raw,
        });
        Ok(TriggerId::try_from(self.listeners.len() - 1).unwrap_or(TriggerId::MAX))
    }
}

/// The device's level of a topic; the whole topic if it has fewer levels.
pub(super) fn topic_level(topic: &str, level: u8) -> &str {
    topic.split('/').nth(usize::from(level)).unwrap_or(topic)
}
