//! Fields of the payload. The host reads JSON or CBOR once, natively; a function names what it wants when it starts.

use weir_abi::field_kind;

use crate::answer::Error;
use crate::event::Event;
use crate::raw;

/// A number, written beside every event: reading it costs next to nothing. At most 64.
#[derive(Clone, Copy)]
pub struct Number(i32);

/// A truth value, asked for by host call.
#[derive(Clone, Copy)]
pub struct Flag(Field);

/// A field of any type, asked for by host call.
#[derive(Clone, Copy)]
pub struct Field(i32);

/// Type of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// There is none.
    Absent,
    /// null.
    Null,
    /// true or false.
    Bool,
    /// A whole number within `i64`.
    Int,
    /// Another number.
    Float,
    /// Text.
    String,
    /// An array.
    Array,
    /// An object or map.
    Object,
}

/// What can stand in `fields { .. }`.
#[doc(hidden)]
pub trait Bind: Sized {
    const NUMBERS: usize;
    fn bind(path: &str) -> Result<Self, i32>;
}

impl Bind for Number {
    const NUMBERS: usize = 1;
    fn bind(path: &str) -> Result<Self, i32> {
        let id = raw::bind_f64(path);
        if id < 0 { Err(id) } else { Ok(Self(id)) }
    }
}

impl Bind for Field {
    const NUMBERS: usize = 0;
    fn bind(path: &str) -> Result<Self, i32> {
        let id = raw::bind(path);
        if id < 0 { Err(id) } else { Ok(Self(id)) }
    }
}

impl Bind for Flag {
    const NUMBERS: usize = 0;
    fn bind(path: &str) -> Result<Self, i32> {
        Field::bind(path).map(Self)
    }
}

impl Number {
    /// The value; `None` if the field is absent, NaN or not a number.
    #[must_use]
    pub fn get(self, event: &Event<'_>) -> Option<f64> {
        event.number(self.0)
    }
}

impl Flag {
    /// The value; `None` if the field is absent or neither `true` nor `false`.
    #[must_use]
    pub fn get(self, event: &Event<'_>) -> Option<bool> {
        self.0.boolean(event).ok()
    }
}

impl Field {
    /// Its type.
    #[must_use]
    pub fn kind(self, _: &Event<'_>) -> Kind {
        match raw::field_kind(self.0) {
            field_kind::NULL => Kind::Null,
            field_kind::BOOL => Kind::Bool,
            field_kind::INT => Kind::Int,
            field_kind::FLOAT => Kind::Float,
            field_kind::STRING => Kind::String,
            field_kind::ARRAY => Kind::Array,
            field_kind::OBJECT => Kind::Object,
            _ => Kind::Absent,
        }
    }

    /// `true` or `false`; [`Error::WrongType`] for anything else, also for 0 and 1.
    pub fn boolean(self, event: &Event<'_>) -> Result<bool, Error> {
        let value = self.integer(event)?;
        if self.kind(event) == Kind::Bool { Ok(value != 0) } else { Err(Error::WrongType) }
    }

    /// The numbers of an array, NaN for an item that is none; [`Error::TooLong`] if it has more than fit `space`.
    pub fn numbers<'s>(self, _: &Event<'_>, space: &'s mut [f64]) -> Result<&'s [f64], Error> {
        filled(raw::field_f64s(self.0, space), space)
    }

    /// The exact whole number; of `true` 1, of `false` 0.
    pub fn integer(self, _: &Event<'_>) -> Result<i64, Error> {
        raw::field_i64(self.0).map_err(Error::from_code)
    }

    /// The number; `None` if the field is absent, NaN or not a number.
    #[must_use]
    pub fn number(self, _: &Event<'_>) -> Option<f64> {
        Some(raw::field_f64(self.0)).filter(|value| !value.is_nan())
    }

    /// Unescaped text, or the raw bytes of an array or object; [`Error::TooLong`] if `space` is too small.
    pub fn read<'s>(self, _: &Event<'_>, space: &'s mut [u8]) -> Result<&'s [u8], Error> {
        filled(raw::field_str(self.0, space), space)
    }
}

/// What a call wrote whose answer is a true length or a code.
pub(crate) fn filled<T>(answer: i32, space: &[T]) -> Result<&[T], Error> {
    let len = usize::try_from(answer).map_err(|_| Error::from_code(answer))?;
    space.get(..len).ok_or(Error::TooLong)
}
