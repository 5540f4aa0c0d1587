//! The asking end, for the command line: blocking, with a bound on time and size.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::{ANSWER_BYTES_MAX, SOCKET, short};

/// Why there is no answer.
#[derive(Debug)]
pub enum AskError {
    /// No gateway listens there.
    NotRunning(PathBuf),
    /// It may not be asked, or broke off.
    Io(PathBuf, io::Error),
    /// It says no.
    Refused(String),
}

impl std::fmt::Display for AskError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotRunning(dir) => write!(f, "{}: no gateway answers there; is it running?", dir.display()),
            Self::Io(dir, error) if error.kind() == ErrorKind::PermissionDenied => {
                write!(f, "{}: the gateway may be asked by its own user and by root only", dir.display())
            }
            Self::Io(dir, error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                write!(f, "{}: the gateway does not answer in time", dir.display())
            }
            Self::Io(dir, error) => write!(f, "{}: {error}", dir.display()),
            Self::Refused(error) => write!(f, "the gateway refuses: {error}"),
        }
    }
}

impl std::error::Error for AskError {}

/// Asks the gateway whose data folder `dir` is; `{"ok": true, …}` comes back.
pub fn ask(dir: &Path, request: &Value, patience: Duration) -> Result<Value, AskError> {
    let failed = |error: io::Error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => AskError::NotRunning(dir.to_owned()),
        _ => AskError::Io(dir.to_owned(), error),
    };
    let (_open, short) = short(dir).map_err(failed)?;
    let mut stream = UnixStream::connect(short.join(SOCKET)).map_err(failed)?;
    let broke = |error: io::Error| AskError::Io(dir.to_owned(), error);
    stream.set_read_timeout(Some(patience)).map_err(broke)?;
    stream.set_write_timeout(Some(patience)).map_err(broke)?;
    stream.write_all(format!("{request}\n").as_bytes()).map_err(broke)?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).map_err(broke)?;
    let answer: Value = serde_json::from_str(&answer)
        .map_err(|_| broke(io::Error::new(ErrorKind::InvalidData, "the gateway broke off its answer")))?;
    match answer["ok"].as_bool() {
        Some(true) => Ok(answer),
        _ => Err(AskError::Refused(answer["error"].as_str().unwrap_or("without a reason").to_owned())),
    }
}
