//! Names of a guest's functions, from the module's name section, for trap reports.
//!
//! - Bounded: a section above [`SECTION_BYTES_MAX`] is ignored, names are cut at [`NAME_BYTES_MAX`], and at most
//!   [`KEPT_BYTES_MAX`] bytes are kept.
//! - A malformed name section costs the names, never the load.

use wasmparser::{Name, NameSectionReader};

use crate::printable::cut;

/// Largest name section that is read.
pub const SECTION_BYTES_MAX: usize = 64 << 10;
/// Bytes kept of one name.
pub const NAME_BYTES_MAX: usize = 80;
/// Bytes kept of all names.
pub const KEPT_BYTES_MAX: usize = 16 << 10;

/// Function index → name.
#[derive(Debug, Default)]
pub struct Names {
    text: String,
    /// (function index, end of its name in `text`), in order of indices.
    ends: Vec<(u32, u32)>,
}

impl Names {
    /// Reads the function names of a name section.
    #[must_use]
    pub fn read(section: NameSectionReader<'_>, section_bytes: usize) -> Self {
        let mut names = Self::default();
        if section_bytes <= SECTION_BYTES_MAX {
            for subsection in section {
                match subsection {
                    Ok(Name::Function(map)) => names.take(map),
                    Ok(_) => {}
                    Err(_) => break,
                }
            }
        }
        names.text.shrink_to_fit();
        names.ends.shrink_to_fit();
        names
    }

    fn take(&mut self, map: wasmparser::NameMap<'_>) {
        for naming in map {
            let Ok(naming) = naming else { return };
            let kept = cut(naming.name, NAME_BYTES_MAX);
            let in_order = self.ends.last().is_none_or(|(index, _)| *index < naming.index);
            if !in_order || KEPT_BYTES_MAX < self.text.len() + kept.len() {
                return;
            }
            self.text.push_str(kept);
            self.ends.push((naming.index, self.text.len() as u32));
        }
    }

    /// The name of a function, or `func N`.
    #[must_use]
    pub fn get(&self, function: u32) -> String {
        match self.ends.binary_search_by_key(&function, |(index, _)| *index) {
            Ok(place) => {
                let start = place.checked_sub(1).map_or(0, |before| self.ends[before].1);
                self.text[start as usize..self.ends[place].1 as usize].to_owned()
            }
            Err(_) => format!("func {function}"),
        }
    }
}
