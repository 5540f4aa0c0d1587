//! `gateway.toml` from its text to a [`Config`].

use std::path::Path;

use crate::board::{self, BUILT_IN, Board, Defaults};
use crate::strict::{self, Faults, Section, nearest};
use crate::topic::TopicFilter;
use crate::units::{Bytes, Millis};

use super::settings::{Setting, Settings};
use super::site::{Place, Site};
use super::{CommitPolicy, Config, StoreConfig, flow, functions, lanes, link};

/// A configuration that was read, with what is known beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The board that it names.
    pub board: Board,
    /// Size of each function's module, in the order of `config.functions`.
    pub modules: Vec<Bytes>,
    /// What a board may set, and who has set it.
    pub settings: Vec<Setting>,
}

/// Reads `file` and all that it names. `board` takes the place of the file's own board. The answer counts only if
/// `faults` has no refusal; it is given all the same where it can be, so that the budget finds its faults as well.
pub fn load(file: &Path, board: Option<&str>, site: &dyn Site, faults: &Faults) -> Option<Loaded> {
    let label = file.display().to_string();
    let text = match site.read(file) {
        Ok(text) => text,
        Err(why) => {
            // Of a file that is there, but cannot be read, `init` would not write another.
            let hint = match why.as_str() {
                super::site::NO_SUCH_FILE => format!("; `weir init {label}` writes a starting file"),
                _ => String::new(),
            };
            faults.refuse(&label, "", &format!("{why}{hint}"));
            return None;
        }
    };
    let table = strict::parse(&label, &text, faults)?;
    let mut top = Section::top(&label, &table, faults);
    let place = Place { folder: file.parent().unwrap_or(Path::new("")), site };
    let loaded = read(&mut top, place, board, faults);
    top.close();
    let loaded = loaded?;
    flow::check(&label, &loaded.config, faults);
    Some(loaded)
}

fn read(top: &mut Section<'_>, place: Place<'_>, board: Option<&str>, faults: &Faults) -> Option<Loaded> {
    let mut gateway = top.section("gateway");
    let id = id(&mut gateway, place);
    let named = gateway.text("board").unwrap_or("generic");
    let board = find_board(&gateway, place, board, named, faults);
    let defaults = board.as_ref().map(|board| board.defaults).unwrap_or_default();
    let mut settings = Settings::default();
    let dir = place.path(gateway.text("data-dir").unwrap_or("weir-data"));
    let payload_max = gateway.bytes("payload-max", Bytes::kib(64), Bytes(64)..=Bytes::mib(16));
    let future_skew_max = gateway.millis("future-skew-max", Millis(300_000), Millis(0)..=Millis(366 * 86_400_000));
    let hops_max = gateway.number("hops-max", 4, 1..=32);
    let usage_interval = gateway.millis_option("usage-interval", Millis(1000)..=Millis(366 * 86_400_000));
    gateway.close();

    let mut section = top.section("broker");
    // Read by the link, which knows neither board nor settings.
    let in_flight = settings.read(&mut section, "in-flight", defaults.in_flight, 1024, |_, _, default| default);
    let mut broker = link::read(&mut section, place, format!("weir-{id}"), in_flight);
    settings.correct("broker.in-flight", broker.in_flight);
    let kept = Millis(7 * 86_400_000);
    broker.session_expiry = section.millis("session-expiry", kept, Millis(0)..=Millis(4_294_967_294_000));
    let subscribe = section.list::<TopicFilter>("subscribe").unwrap_or_default();
    let inbox_max =
        settings.read(&mut section, "inbox-max", defaults.inbox_max, Bytes::kib(512), |section, key, default| {
            section.bytes(key, default, board::INBOX)
        });
    if broker.packet_max < payload_max {
        let text = format!("{} is less than gateway.payload-max, {payload_max}", broker.packet_max);
        section.refuse("packet-max", &text);
    }
    section.close();

    let store = store(top, dir, defaults, &mut settings);
    let commit = commit(top, store.segment_bytes, defaults, &mut settings);
    let (functions, modules) = functions::read(top, place, faults).into_iter().unzip();
    let sinks = lanes::sinks(top, place, &id);
    let lanes = lanes::lanes(top, &sinks, store.segment_bytes);
    let board = board?;
    let config = Config {
        id,
        board: board.name.clone(),
        broker,
        subscribe,
        commit,
        inbox_max,
        payload_max,
        future_skew_max,
        hops_max,
        usage_interval,
        functions,
        lanes,
        sinks,
        store,
    };
    Some(Loaded { config, board, modules, settings: settings.into_list() })
}

/// The id given, or the host's name. It tells gateways apart upstream, where two of one name would be taken for one.
fn id(gateway: &mut Section<'_>, place: Place<'_>) -> String {
    const COMMON: [&str; 5] = ["localhost", "raspberrypi", "debian", "ubuntu", "weir"];
    let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if let Some(id) = gateway.text("id") {
        if id.is_empty() || id.len() > 64 || !id.chars().all(letter) {
            gateway.refuse("id", "wants 1 to 64 letters, digits, `-`, `_` or `.`: it is a level of topics upstream");
        }
        return id.to_owned();
    }
    let host: String = place.site.host_name().unwrap_or_default().chars().filter(|c| letter(*c)).take(64).collect();
    if host.is_empty() {
        gateway.refuse("id", "is missing, and the host has no name; write id = \"hall-3\"");
    } else if COMMON.contains(&host.as_str()) {
        gateway.warn(
            "id",
            &format!("is not given, and many hosts have the name `{host}`; two gateways of one id lose records"),
        );
    }
    host
}

fn find_board(
    gateway: &Section<'_>,
    place: Place<'_>,
    wanted: Option<&str>,
    named: &str,
    faults: &Faults,
) -> Option<Board> {
    let name = wanted.unwrap_or(named);
    if let Some(board) = Board::built_in(name) {
        return Some(board);
    }
    if Path::new(name).extension().is_some_and(|extension| extension == "toml") {
        // A path on the command line begins where the user stands, one in the file beside the file.
        let path = if wanted.is_some() { Path::new(name).to_owned() } else { place.path(name) };
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        return match place.site.read(&path) {
            Ok(text) => Board::parse(&stem, &path.display().to_string(), &text, faults),
            Err(why) => {
                gateway.refuse("board", &format!("{}: {why}", path.display()));
                None
            }
        };
    }
    let known: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
    let meant =
        nearest(name, known.iter().copied()).map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
    let text = format!("`{}` is none of {}, nor a file \"….toml\"{meant}", name.escape_debug(), known.join(", "));
    gateway.refuse("board", &text);
    None
}

fn store(top: &mut Section<'_>, dir: std::path::PathBuf, defaults: Defaults, settings: &mut Settings) -> StoreConfig {
    let mut section = top.section("store");
    let (own, of_board) = (Bytes::kib(512), defaults.segment_bytes);
    let segment_bytes = settings.read(&mut section, "segment-bytes", of_board, own, |section, key, default| {
        section.bytes(key, default, board::SEGMENT)
    });
    if !segment_bytes.0.is_multiple_of(4096) {
        section.refuse("segment-bytes", &format!("wants {segment_bytes}; multiples of 4 KiB are taken"));
    }
    // A snapshot is written while the journal goes on: one segment is live, one is being closed, two are room for that.
    let least = Bytes(segment_bytes.0 * 4);
    let sled =
        settings.read(&mut section, "sled", defaults.sled, true, |section, key, default| section.flag(key, default));
    let (own, of_board) = (Bytes::mib(2), defaults.sled_cache);
    let sled_cache = settings.read(&mut section, "sled-cache", of_board, own, |section, key, default| {
        section.bytes(key, default, board::SLED_CACHE)
    });
    let store = StoreConfig {
        dir,
        sled,
        sled_cache,
        flush_interval: section.millis("flush-interval", Millis(60_000), Millis(100)..=Millis(86_400_000)),
        snapshot_interval: section.millis("snapshot-interval", Millis(600_000), Millis(1_000)..=Millis(86_400_000)),
        journal_bytes_max: section.bytes("journal-bytes-max", Bytes::mib(8).max(least), least..=Bytes::mib(1024)),
        segment_bytes,
    };
    section.close();
    store
}

fn commit(top: &mut Section<'_>, segment: Bytes, defaults: Defaults, settings: &mut Settings) -> CommitPolicy {
    let mut section = top.section("commit");
    let (own, of_board) = (Millis(100), defaults.commit_interval);
    let interval = settings.read(&mut section, "interval", of_board, own, |section, key, default| {
        section.millis(key, default, board::COMMIT_INTERVAL)
    });
    // A frame does not span segments, and a batch may pass its bound by one message's effects.
    let most = Bytes(segment.0 / 2);
    let policy = CommitPolicy {
        interval,
        messages_max: section.number("messages-max", 1000, 1..=100_000),
        bytes_max: section.bytes("bytes-max", Bytes::kib(128).min(most), Bytes::kib(4)..=most),
    };
    section.close();
    policy
}
