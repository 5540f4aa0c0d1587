//! What `function!` proves while it compiles.

/// Panics (at compile time) if `path` is not a field path: keys joined by `.`, places `[n]`, odd keys in quotes; or `.` alone,
/// the whole payload.
pub const fn path(path: &str) {
    let bytes = path.as_bytes();
    if let b"." = bytes {
        return;
    }
    let mut at = 0;
    loop {
        let start = at;
        if at < bytes.len() && bytes[at] == b'"' {
            at += 1;
            while at < bytes.len() && bytes[at] != b'"' {
                at += if bytes[at] == b'\\' { 2 } else { 1 };
            }
            assert!(at < bytes.len(), "a field path has a quote that is not closed");
            at += 1;
        } else {
            while at < bytes.len() && bytes[at] != b'.' && bytes[at] != b'[' {
                assert!(bytes[at] != b'"', "a field path has a quote within a key");
                at += 1;
            }
        }
        let rooted = start == 0 && at < bytes.len() && bytes[at] == b'[';
        assert!(at > start || rooted, "a field path has an empty key");
        while at < bytes.len() && bytes[at] == b'[' {
            let digits = at + 1;
            at = digits;
            while at < bytes.len() && bytes[at].is_ascii_digit() {
                at += 1;
            }
            assert!(
                at > digits && at < bytes.len() && bytes[at] == b']',
                "a field path has a `[` without a number and `]`"
            );
            at += 1;
        }
        if at >= bytes.len() {
            return;
        }
        assert!(bytes[at] == b'.', "a field path lacks a `.` between keys");
        at += 1;
    }
}

/// What a manifest says of a meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declared {
    /// Nothing.
    Nowhere,
    /// It is there, with another kind.
    OtherKind,
    /// It is there.
    Here,
}

/// Looks for a `[[meter]]` of this name and kind in the text of a `function.toml`.
#[must_use]
pub const fn meter(manifest: &str, name: &str, kind: &str) -> Declared {
    let bytes = manifest.as_bytes();
    let (mut line, mut within) = (0, false);
    let (mut is_it, mut is_kind) = (false, false);
    while line < bytes.len() {
        if is_header(bytes, line) {
            if within && is_it {
                break;
            }
            (is_it, is_kind) = (false, false);
            within = starts_with(bytes, blanks(bytes, line), b"[[meter]]");
        } else if within {
            is_it |= is_text(bytes, value_of(bytes, line, "name"), name);
            is_kind |= is_text(bytes, value_of(bytes, line, "kind"), kind);
        }
        line = next_line(bytes, line);
    }
    match (within && is_it, is_kind) {
        (true, true) => Declared::Here,
        (true, false) => Declared::OtherKind,
        (false, _) => Declared::Nowhere,
    }
}

/// Whether `[config]` of a `function.toml` has this key.
#[must_use]
pub const fn setting(manifest: &str, key: &str) -> bool {
    let bytes = manifest.as_bytes();
    let (mut line, mut within) = (0, false);
    while line < bytes.len() {
        if is_header(bytes, line) {
            within = starts_with(bytes, blanks(bytes, line), b"[config]");
        } else if within && value_of(bytes, line, key) < bytes.len() {
            return true;
        }
        line = next_line(bytes, line);
    }
    false
}

const fn next_line(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() && bytes[at] != b'\n' {
        at += 1;
    }
    at + 1
}

const fn is_header(bytes: &[u8], line: usize) -> bool {
    starts_with(bytes, blanks(bytes, line), b"[")
}

/// Where the value begins, if the line reads `key = ..`; else the end of the text.
const fn value_of(bytes: &[u8], line: usize, key: &str) -> usize {
    let at = blanks(bytes, line);
    if starts_with(bytes, at, key.as_bytes()) {
        let at = blanks(bytes, at + key.len());
        if starts_with(bytes, at, b"=") {
            return blanks(bytes, at + 1);
        }
    }
    bytes.len()
}

/// Whether `"wanted"` (or `'wanted'`) stands at `at`.
const fn is_text(bytes: &[u8], at: usize, wanted: &str) -> bool {
    at < bytes.len()
        && (bytes[at] == b'"' || bytes[at] == b'\'')
        && starts_with(bytes, at + 1, wanted.as_bytes())
        && starts_with(bytes, at + 1 + wanted.len(), &[bytes[at]])
}

const fn blanks(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() && (bytes[at] == b' ' || bytes[at] == b'\t') {
        at += 1;
    }
    at
}

const fn starts_with(bytes: &[u8], at: usize, wanted: &[u8]) -> bool {
    let mut i = 0;
    while i < wanted.len() {
        if at + i >= bytes.len() || bytes[at + i] != wanted[i] {
            return false;
        }
        i += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_the_host_would_refuse_do_not_compile() {
        for good in [".", "a", "a.b", "a[0].b", "[1][2]", "[0].a", "\"a.b\".c", "\"q\\\"\"", "ä"] {
            path(good);
        }
        for bad in ["", "..", "a.", ".a", "a..b", "a[", "a[]", "a[x]", "a]b[", "\"a", "a[0]b", "a\"b"] {
            assert!(std::panic::catch_unwind(|| path(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn meters_are_looked_for_among_the_meters_and_by_kind() {
        let manifest = "name = \"f\" # a function\n[[meter]]\n  name=\"energy\"\nkind = 'counter'\nwindow = \"1 s\"\n\
                        [[meter]] # another\nkind = \"gauge\"\nname = \"level\"\n[config]\nname = \"x\"\nkind = \"gauge\"";
        for (name, kind, want) in [
            ("energy", "counter", Declared::Here),
            ("energy", "gauge", Declared::OtherKind),
            ("level", "gauge", Declared::Here),
            ("level", "counter", Declared::OtherKind),
            // The function's own name, a part of a name, a setting, nothing.
            ("f", "counter", Declared::Nowhere),
            ("ener", "counter", Declared::Nowhere),
            ("x", "gauge", Declared::Nowhere),
            ("", "gauge", Declared::Nowhere),
        ] {
            assert_eq!(meter(manifest, name, kind), want, "{name} {kind}");
        }
    }

    #[test]
    fn settings_are_looked_for_in_config_alone() {
        let manifest = "name = \"f\"\n[[meter]]\nname = \"e\"\nwindow = \"1 s\"\n[config]\n high = 1.0\nlow=2\n[limits]\nfuel = 5000\n";
        for (key, want) in
            [("high", true), ("low", true), ("hig", false), ("window", false), ("fuel", false), ("name", false)]
        {
            assert_eq!(setting(manifest, key), want, "{key}");
        }
    }
}
