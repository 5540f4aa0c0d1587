//! What `function!` proves while it compiles.

/// Panics (at compile time) if `path` is not a field path: keys joined by `.`, places `[n]`, odd keys in quotes.
pub const fn path(path: &str) {
    let bytes = path.as_bytes();
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

/// Whether a line of `manifest` reads `key = "value"` (or `key = ..`, without `value`).
#[must_use]
pub const fn manifest_has(manifest: &str, key: &str, value: Option<&str>) -> bool {
    let bytes = manifest.as_bytes();
    let mut line = 0;
    while line < bytes.len() {
        let mut at = blanks(bytes, line);
        if starts_with(bytes, at, key.as_bytes()) {
            at = blanks(bytes, at + key.len());
            if at < bytes.len() && bytes[at] == b'=' {
                match value {
                    None => return true,
                    Some(value) => {
                        at = blanks(bytes, at + 1);
                        if at < bytes.len()
                            && bytes[at] == b'"'
                            && starts_with(bytes, at + 1, value.as_bytes())
                            && starts_with(bytes, at + 1 + value.len(), b"\"")
                        {
                            return true;
                        }
                    }
                }
            }
        }
        while line < bytes.len() && bytes[line] != b'\n' {
            line += 1;
        }
        line += 1;
    }
    false
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
        for good in ["a", "a.b", "a[0].b", "[1][2]", "[0].a", "\"a.b\".c", "\"q\\\"\"", "ä"] {
            path(good);
        }
        for bad in ["", ".", "a.", ".a", "a..b", "a[", "a[]", "a[x]", "a]b[", "\"a", "a[0]b", "a\"b"] {
            assert!(std::panic::catch_unwind(|| path(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_manifest_is_searched_by_line() {
        let manifest = "name = \"f\"\n[[meter]]\n  name=\"energy\"\n[config]\nhigh = 1.0\n";
        assert!(manifest_has(manifest, "name", Some("energy")) && manifest_has(manifest, "high", None));
        assert!(!manifest_has(manifest, "name", Some("ener")) && !manifest_has(manifest, "hig", None));
    }
}
