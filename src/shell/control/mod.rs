//! The control socket: how a person or a program on the box asks a running gateway and tells it what to do.
//!
//! - A Unix domain socket in the data folder, `control.sock`, mode 0600: who may use it may read the store anyway.
//! - One request a connection: a line of JSON, `{"do": WORD, …}`; one line of JSON back, `{"ok": true, …}` or
//!   `{"ok": false, "error": TEXT}`. Both are bounded, and so are connections and the time that each may take.
//! - Served by the watch's thread, so that it answers when the loop does not. What only the loop can do goes to it as an
//!   [`Order`]. A new word is a variant of [`Request`], its form in [`Request::parse`], its work in `shell/orders.rs`.

mod client;
mod server;

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::dlq::Wanted;

pub use client::{AskError, ask};
pub use server::{Served, serve};

/// Name of the socket in the data folder.
pub const SOCKET: &str = "control.sock";
/// Longest request.
pub const REQUEST_BYTES_MAX: u64 = 64 * 1024;
/// Longest answer.
pub const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// What may be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// `status`: health and the main numbers.
    Status,
    /// `record-begin`: calls of these functions (none: all) are recorded from now on.
    RecordBegin(Vec<String>),
    /// `record-take`: what was recorded since the last time.
    RecordTake {
        /// Which recording.
        id: u64,
        /// No more is wanted.
        end: bool,
    },
    /// `dlq-replay`, `dlq-purge`: something about dead letters.
    Letters(Wanted),
}

/// A request on its way to the loop.
#[derive(Debug)]
pub struct Order {
    /// What.
    pub request: Request,
    /// Where the answer is awaited.
    pub reply: oneshot::Sender<Value>,
}

impl Request {
    /// Reads a request.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn parse(line: &str) -> Result<Self, String> {
        const WORDS: &str = "status, dlq-replay, dlq-purge, record-begin, record-take";
        let value: Value = serde_json::from_str(line).map_err(|error| format!("not a line of JSON: {error}"))?;
        match value["do"].as_str() {
            Some("status") => Ok(Self::Status),
            Some("record-begin") => names(&value["functions"]).map(Self::RecordBegin),
            Some("record-take") => Ok(Self::RecordTake {
                id: value["id"].as_u64().ok_or("wants `id`, the number of the recording")?,
                end: value["end"].as_bool().unwrap_or(false),
            }),
            Some(word @ ("dlq-replay" | "dlq-purge")) => Wanted::parse(word == "dlq-purge", &value).map(Self::Letters),
            Some(word) => Err(format!("`{}` is none of {WORDS}", word.escape_debug())),
            None => Err(format!("has no \"do\"; known: {WORDS}")),
        }
    }
}

/// A list of names, or nothing.
fn names(value: &Value) -> Result<Vec<String>, String> {
    let wrong = "`functions` is a list of names";
    let Some(list) = value.as_array() else {
        return if value.is_null() { Ok(Vec::new()) } else { Err(wrong.to_owned()) };
    };
    list.iter().map(|name| name.as_str().map(str::to_owned).ok_or_else(|| wrong.to_owned())).collect()
}

/// An answer that says no.
#[must_use]
pub fn refusal(error: &str) -> Value {
    json!({ "ok": false, "error": error })
}

/// A path to `dir` that is short enough for a socket's address, for as long as the file is open.
fn short(dir: &Path) -> io::Result<(File, PathBuf)> {
    let open = File::open(dir)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd()));
    Ok((open, path))
}

/// Listens in the data folder, in place of whoever did before: the store's lock says that it has gone. Nobody else can reach
/// the socket, not even before it has its mode.
pub fn bind(dir: &Path) -> io::Result<UnixListener> {
    let (_open, short) = short(dir)?;
    let private = short.join(format!("control.{}", std::process::id()));
    let _ = fs::remove_dir_all(&private);
    DirBuilder::new().mode(0o700).create(&private)?;
    let listen = || {
        let socket = private.join("s");
        let listener = UnixListener::bind(&socket)?;
        fs::set_permissions(&socket, Permissions::from_mode(0o600))?;
        fs::rename(&socket, short.join(SOCKET))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    let listener = listen();
    let _ = fs::remove_dir_all(&private);
    listener
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_and_wrong_ones_say_what_is_known() {
        assert_eq!(Request::parse(r#"{"do":"status"}"#), Ok(Request::Status));
        for (line, want) in [
            ("", "not a line of JSON"),
            ("[]", "has no \"do\""),
            (r#"{"do":"stat\n"}"#, "`stat\\n` is none of status, dlq-replay, dlq-purge, record-begin, record-take"),
            (r#"{"do":"dlq-purge"}"#, "wants `letters`"),
            (r#"{"do":"record-begin","functions":[1]}"#, "is a list of names"),
            (r#"{"do":"record-take"}"#, "wants `id`"),
            (r#"{"do":"dlq-purge","letters":[1,"2"]}"#, "wants `letters`"),
        ] {
            let error = Request::parse(line).unwrap_err();
            assert!(error.contains(want), "{line}: {error}");
        }
    }

    #[test]
    fn the_socket_is_its_owners_alone_and_may_lie_deep() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("a-long-name-of-a-folder/".repeat(8));
        fs::create_dir_all(&dir).unwrap();
        let first = bind(&dir).unwrap();
        let _second = bind(&dir).unwrap();
        drop(first);
        assert_eq!(fs::metadata(dir.join(SOCKET)).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "nothing but the socket");
    }
}
