//! The site's configuration: `gateway.toml`, parsed strictly, resolved into plain data, every fault reported at once.
//!
//! - Unknown keys are refused. A fault names file, key, wish and room.
//! - Secrets come from files or the environment and never stand in a [`Config`] in a printable form.

mod flow;
mod functions;
mod lanes;
mod link;
mod pattern;
mod read;
mod settings;
mod site;
mod subscriptions;

pub use crate::field::Codec;
pub use functions::{FUNCTIONS_MAX, TRIGGERS_MAX};
pub use lanes::{LANES_MAX, SINKS_MAX};
pub use read::{Loaded, load};
pub use settings::{Setting, Source};
pub use site::{NO_SUCH_FILE, Site};
pub use subscriptions::{FILTER_BYTES_MAX, FILTERS_BYTES_MAX, Subscription, covers, merge};

use serde::{Deserialize, Serialize};

use crate::filter::Pattern;
use crate::health;
use crate::manifest::Manifest;
use crate::topic::TopicFilter;
use crate::units::{Bytes, Millis};

/// Name of the lane of dead letters, which every gateway has.
pub const DEAD_LETTER: &str = "dead-letter";

/// MQTT quality of service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
pub enum Qos {
    /// At most once.
    AtMostOnce = 0,
    /// At least once.
    #[default]
    AtLeastOnce = 1,
    /// Exactly once between two hops.
    ExactlyOnce = 2,
}

/// Which MQTT version to speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MqttVersion {
    /// 5.0, and 3.1.1 when the broker refuses it.
    #[default]
    Auto,
    /// 5.0 only.
    V5,
    /// 3.1.1 only.
    V311,
}

/// Where a secret is read from when it is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secret {
    /// First line of a file.
    File(std::path::PathBuf),
    /// An environment variable.
    Env(String),
}

/// TLS settings of one connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// PEM file with the certificates that are trusted; required for `mqtts://`.
    pub ca_file: Option<std::path::PathBuf>,
    /// PEM file with the client's certificate chain.
    pub cert_file: Option<std::path::PathBuf>,
    /// PEM file with the client's private key.
    pub key_file: Option<std::path::PathBuf>,
    /// Name that the server's certificate must bear, if not the host of the URL.
    pub server_name: Option<String>,
}

/// One MQTT connection, to the local broker or upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MqttConnection {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// `mqtts://`.
    pub tls: Option<Tls>,
    /// Client identifier; stable, so that the session is.
    pub client_id: String,
    /// Version policy.
    pub version: MqttVersion,
    /// Keep-alive interval.
    pub keep_alive: Millis,
    /// Session expiry interval (MQTT 5).
    pub session_expiry: Millis,
    /// Unacknowledged QoS 1 and 2 messages at once: our Receive Maximum, or the sink's window.
    pub in_flight: u16,
    /// Largest packet taken.
    pub packet_max: Bytes,
    /// User name.
    pub username: Option<String>,
    /// Password.
    pub password: Option<Secret>,
}

/// When a batch is committed: at the first of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitPolicy {
    /// Oldest uncommitted message waits this long at most; 0: as soon as the flash is free.
    pub interval: Millis,
    /// Messages in a batch.
    pub messages_max: u32,
    /// Bytes of records and entries in a batch.
    pub bytes_max: Bytes,
}

impl CommitPolicy {
    /// The longest interval.
    pub const INTERVAL_MAX: Millis = *crate::board::COMMIT_INTERVAL.end();
}

/// What to do with retained messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetainedPolicy {
    /// Take them when the subscription is new, skip them on a resubscription.
    #[default]
    SkipOnResubscribe,
    /// Take them always.
    Always,
    /// Never take them.
    Never,
}

/// Unit of a timestamp in a payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeUnit {
    /// Seconds since 1970, fractions allowed.
    #[default]
    Seconds,
    /// Milliseconds since 1970.
    Milliseconds,
}

/// Where the device's name comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceFrom {
    /// The n-th level of the topic, from 0.
    TopicLevel(u8),
    /// A field of the payload.
    Field(String),
    /// The whole topic.
    Topic,
}

/// A message trigger's settings.
#[derive(Clone, Debug, PartialEq)]
pub struct MessageTrigger {
    /// Topics.
    pub topics: TopicFilter,
    /// QoS asked for (ignored for chains).
    pub qos: Qos,
    /// Retained messages (ignored for chains).
    pub retained: RetainedPolicy,
    /// Payload codec.
    pub codec: Codec,
    /// Path of the payload's timestamp.
    pub time_field: Option<String>,
    /// Its unit.
    pub time_unit: TimeUnit,
    /// Device name.
    pub device: DeviceFrom,
    /// Declarative filter, evaluated before the sandbox.
    pub filter: Option<Pattern>,
}

/// What wakes a function.
#[derive(Clone, Debug, PartialEq)]
pub enum Trigger {
    /// Messages from the broker.
    Mqtt(MessageTrigger),
    /// Messages that functions emit or keep.
    Chain(MessageTrigger),
    /// Time.
    Interval(Millis),
}

/// A function at this site.
#[derive(Clone, Debug, PartialEq)]
pub struct FunctionConfig {
    /// Its manifest with the site's overrides applied (limits, meters' windows, config).
    pub manifest: Manifest,
    /// The module's file.
    pub module: std::path::PathBuf,
    /// Triggers.
    pub triggers: Vec<Trigger>,
    /// Log a REPORT line for every invocation.
    pub report: bool,
}

/// What a full lane does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FullPolicy {
    /// The oldest records leave and are counted as lost.
    #[default]
    DropOldest,
    /// New QoS 1 messages that would produce records are not acknowledged: the broker keeps them.
    Reject,
    /// Old aggregates are folded into coarser ones; where that makes no room, the oldest records leave.
    RollUp,
}

/// In which order a lane drains after an outage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Drain {
    /// Oldest first.
    #[default]
    InOrder,
    /// What is made from the reconnection on goes ahead of what has waited.
    LiveFirst,
}

/// A priority class of the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneConfig {
    /// Name: `[a-z0-9-]{1,32}`.
    pub name: String,
    /// Emitted topics that go here; the first lane that matches takes them.
    pub topics: Vec<TopicFilter>,
    /// Bytes on flash.
    pub bytes_max: Bytes,
    /// Age at which an undelivered record expires; `None`: never.
    pub ttl: Option<Millis>,
    /// When full.
    pub full: FullPolicy,
    /// Lengths of the coarser windows, ascending, each a multiple of the one before; empty unless `full` is to roll up.
    pub roll_up: Vec<Millis>,
    /// After an outage.
    pub drain: Drain,
    /// Lower is drained first.
    pub priority: u8,
    /// Name of the sink; `None`: records stay on flash until they expire or make room.
    pub sink: Option<String>,
}

/// Encoding of the envelope upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SinkFormat {
    /// One JSON document a record.
    #[default]
    Json,
    /// One CBOR item a record.
    Cbor,
}

/// Kind of sink.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a gateway has at most SINKS_MAX of them")]
pub enum SinkKind {
    /// Publishes to a broker at QoS 1.
    Mqtt {
        /// The connection.
        connection: MqttConnection,
        /// Put before `GATEWAY/LANE/TOPIC`... see `docs`; default `weir`.
        topic_prefix: String,
        /// Records a second at most while draining a backlog; `None`: unpaced.
        rate_max: Option<u32>,
    },
    /// Appends JSON lines to rotating files.
    File {
        /// Folder.
        dir: std::path::PathBuf,
        /// A file is closed at this size.
        file_bytes_max: Bytes,
        /// Files kept.
        files_max: u32,
    },
}

/// An upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkConfig {
    /// Name: `[a-z0-9-]{1,32}`.
    pub name: String,
    /// What it is.
    pub kind: SinkKind,
    /// Envelope.
    pub format: SinkFormat,
}

/// The store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// Folder; created when missing.
    pub dir: std::path::PathBuf,
    /// Keyed state in sled (`true`), or in snapshot files beside the journal only.
    pub sled: bool,
    /// sled's cache.
    pub sled_cache: Bytes,
    /// Interval of write-behind into sled.
    pub flush_interval: Millis,
    /// Interval of the full snapshot that lets old journal segments go.
    pub snapshot_interval: Millis,
    /// Size of one segment of the journal and of a lane.
    pub segment_bytes: Bytes,
    /// Journal bytes on flash; a snapshot is made before it is passed.
    pub journal_bytes_max: Bytes,
}

/// Everything that `weir run` needs to know.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Gateway id, as it stands in records upstream.
    pub id: String,
    /// The board's name.
    pub board: String,
    /// The local broker.
    pub broker: MqttConnection,
    /// Filters subscribed beside those of the triggers, so that triggers may overlap: each covers some of them.
    pub subscribe: Vec<TopicFilter>,
    /// Commit policy.
    pub commit: CommitPolicy,
    /// Bytes of messages taken from the broker and not yet committed. At the bound the reader of the link pauses, so at
    /// most this and one packet are held, whatever `in_flight` and `packet_max` would add up to.
    pub inbox_max: Bytes,
    /// Largest payload that is handed to functions.
    pub payload_max: Bytes,
    /// Event times further in the future than this count as skewed and become the arrival time.
    pub future_skew_max: Millis,
    /// Longest chain of functions.
    pub hops_max: u8,
    /// How often each function's usage is told upstream; none: never.
    pub usage_interval: Option<Millis>,
    /// Functions.
    pub functions: Vec<FunctionConfig>,
    /// Lanes, in the order in which topics are matched. The lane [`DEAD_LETTER`] always exists.
    pub lanes: Vec<LaneConfig>,
    /// Sinks.
    pub sinks: Vec<SinkConfig>,
    /// Store.
    pub store: StoreConfig,
    /// From when on something is wrong.
    pub health: health::Policy,
}
