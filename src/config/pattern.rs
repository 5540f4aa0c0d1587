//! The seam to fields and filters: paths and patterns are checked by the modules that use them.

use crate::field::Path;
use crate::filter::Pattern;
use crate::strict::Section;

use super::Codec;

/// The declarative filter of a trigger.
pub(super) fn read(section: &mut Section<'_>, codec: Codec) -> Option<Pattern> {
    let value = section.raw("filter")?;
    match Pattern::from_toml(value) {
        Ok(pattern) => {
            if codec == Codec::Raw && pattern.reads_payload() {
                section.refuse("filter", "looks into the payload; codec = \"raw\" has no fields");
            }
            Some(pattern)
        }
        Err(faults) => {
            for fault in faults {
                section.refuse(
                    &format!("filter{}{}", if fault.key.is_empty() { "" } else { "." }, fault.key),
                    &fault.what,
                );
            }
            None
        }
    }
}

/// Whether `path` names a field.
pub(super) fn check_path(path: &str) -> Result<(), String> {
    Path::parse(path).map(drop).map_err(|error| error.to_string())
}
