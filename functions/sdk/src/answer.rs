//! What a handler answers, and what a host call may refuse.

use weir_abi::{code, verdict};

/// What becomes of the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// The original bytes go on, on the manifest's `keep-prefix` + topic.
    Keep,
    /// The message is not wanted.
    Drop,
    /// Handled: what was emitted, metered or stored is all.
    Done,
    /// The function cannot handle it: a dead letter with this code, and none of its effects. Codes below 16 are the SDK's
    /// (see [`Error`]); the function's own start at 16.
    Error(u16),
}

impl Verdict {
    /// `Keep` if `condition` holds, else `Drop`.
    pub const fn keep_if(condition: bool) -> Self {
        if condition { Self::Keep } else { Self::Drop }
    }
}

/// Why a host call did nothing. `?` in a handler makes it the verdict: a dead letter, and nothing else of the invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// There is no such thing, or a list is full.
    Absent,
    /// The argument makes no sense: a topic that is none, a value that is not finite.
    Invalid,
    /// The value is of another type.
    WrongType,
    /// A limit of the manifest is reached.
    Quota,
    /// The manifest does not allow it.
    Denied,
    /// It does not fit the space that the caller gave.
    TooLong,
}

impl Error {
    pub(crate) const fn from_code(code: i32) -> Self {
        match code {
            code::ABSENT => Self::Absent,
            code::WRONG_TYPE => Self::WrongType,
            code::QUOTA => Self::Quota,
            code::DENIED => Self::Denied,
            _ => Self::Invalid,
        }
    }

    const fn code(self) -> i32 {
        match self {
            Self::Absent => code::ABSENT,
            Self::Invalid => code::INVALID,
            Self::WrongType => code::WRONG_TYPE,
            Self::Quota => code::QUOTA,
            Self::Denied => code::DENIED,
            Self::TooLong => -6,
        }
    }

    /// `Ok` for codes of 0 or more.
    pub(crate) const fn check(code: i32) -> Result<(), Self> {
        if code < 0 { Err(Self::from_code(code)) } else { Ok(()) }
    }
}

/// What a handler may return: a [`Verdict`], or a `Result` of one, so that `?` works.
pub trait Answer {
    /// As the ABI wants it.
    fn into_code(self) -> i32;
}

impl Answer for Verdict {
    fn into_code(self) -> i32 {
        match self {
            Self::Keep => verdict::KEEP,
            Self::Drop => verdict::DROP,
            Self::Done => verdict::DONE,
            Self::Error(code) => -i32::from(code.max(1)),
        }
    }
}

impl<A: Answer> Answer for Result<A, Error> {
    fn into_code(self) -> i32 {
        match self {
            Ok(answer) => answer.into_code(),
            Err(error) => error.code(),
        }
    }
}
