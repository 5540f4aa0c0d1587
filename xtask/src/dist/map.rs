//! A linker's map (LLD's `-Map`) taken apart: which crate each byte of code comes from.

use std::collections::BTreeMap;

/// Bytes by crate or kind.
pub type Sizes = BTreeMap<String, u64>;

/// Output sections that are loaded from the file, and so cost room in it.
const TABLES: [&str; 7] =
    [".eh_frame", ".eh_frame_hdr", ".gcc_except_table", ".ARM.exidx", ".ARM.extab", ".rela.dyn", ".rel.dyn"];

/// Adds up a map: code by crate (`code NAME`), constants by crate where their section's name tells, and tables.
pub fn sizes(map: &str) -> Sizes {
    let mut sizes = Sizes::new();
    let mut out = "";
    for line in map.lines() {
        // `VMA LMA SIZE ALIGN OUT IN SYMBOL`: hexadecimal numbers, then a name whose indentation tells what it is.
        let mut fields = line.split_ascii_whitespace();
        let numbers: Vec<u64> = fields.by_ref().take(3).map_while(|word| u64::from_str_radix(word, 16).ok()).collect();
        let [_, _, size] = numbers[..] else { continue };
        let Some(_align) = fields.next() else { continue };
        let Some(name) = fields.next() else { continue };
        let indent = line.find(name).unwrap_or(0);
        let head = map_indent(map);
        if indent < head + 4 {
            out = name;
            continue;
        }
        // A section of an object file: `FILE:(.text.SYMBOL)`.
        let Some(section) = line.rsplit_once(":(").and_then(|(_, rest)| rest.strip_suffix(')')) else { continue };
        let key = if TABLES.contains(&out) {
            format!("table {out}")
        } else if out == ".text" {
            format!("code {}", owner(section, line))
        } else if out == ".rodata" || out == ".data.rel.ro" {
            format!("constants {}", owner(section, line))
        } else {
            continue;
        };
        *sizes.entry(key).or_default() += size;
    }
    sizes
}

/// Where names of output sections begin: below the word `Out` of the first line.
fn map_indent(map: &str) -> usize {
    map.find("Out").unwrap_or(40)
}

/// The crate of a section's symbol; what is not Rust's belongs to ring or to the C library.
fn owner(section: &str, line: &str) -> String {
    let symbol = section.splitn(3, '.').nth(2).unwrap_or("");
    if symbol.contains("ring_core") || line.contains("libring-") {
        return "ring".to_owned();
    }
    mangled(symbol).unwrap_or_else(|| {
        let rust = line.contains(".rcgu.o") || line.contains(".rlib") || line.contains("lto.o");
        if rust { "(no name)".to_owned() } else { "(libc)".to_owned() }
    })
}

/// The crate in a mangled name, of the old form (`_ZN5tokio…`) or the new one (`_RNvCs…_5tokio…`).
fn mangled(symbol: &str) -> Option<String> {
    if let Some(rest) = symbol.strip_prefix("_ZN") {
        let digits = rest.chars().take_while(char::is_ascii_digit).count();
        let len: usize = rest[..digits].parse().ok()?;
        let first = rest[digits..].get(..len)?;
        // `<impl of a type>`: the first crate that is named within.
        let inside = first.rsplit("$LT$").next()?.trim_start_matches("_$RF$").trim_start_matches('_');
        let name: String = inside.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        return Some(name).filter(|name| !name.is_empty());
    }
    let rest = symbol.strip_prefix("_R")?;
    // A crate root: `C`, perhaps `s…_` to tell two of a name apart, the length of the name, the name.
    for (at, _) in rest.match_indices('C') {
        let mut tail = &rest[at + 1..];
        if let Some(after) = tail.strip_prefix('s') {
            tail = after.split_once('_')?.1;
        }
        let digits = tail.chars().take_while(char::is_ascii_digit).count();
        let Ok(len) = tail[..digits].parse::<usize>() else { continue };
        let name = tail[digits..].trim_start_matches('_');
        if let Some(name) = name.get(..len).filter(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')) {
            return Some(name.to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_are_found_in_both_forms_of_names() {
        for (symbol, want) in [
            ("_ZN5tokio7runtime4park17h0123456789abcdefE", "tokio"),
            ("_ZN62_$LT$rustls..msgs..Codec$u20$as$u20$core..fmt..Debug$GT$3fmt17h0E", "rustls"),
            ("_RNvNtCs1234_7weirabi5shell3run", "weirabi"),
            ("_RNvXs_NtCsdF_6rustls4msgsNtB4_5Codec3fmt", "rustls"),
        ] {
            assert_eq!(mangled(symbol).as_deref(), Some(want), "{symbol}");
        }
        assert_eq!(mangled("memcpy"), None);
    }

    #[test]
    fn a_map_is_added_up() {
        let map = "             VMA              LMA     Size Align Out     In      Symbol\n\
                   \x20         200000           200000      100     4 .text\n\
                   \x20         200000           200000       60     4         a.rcgu.o:(.text._ZN5tokio4parkE)\n\
                   \x20         200000           200000       60     1                 tokio::park\n\
                   \x20         200060           200060       40     4         libc.a(memcpy.o):(.text.memcpy)\n\
                   \x20         200100           200100       20     4 .eh_frame\n\
                   \x20         200100           200100       20     4         a.rcgu.o:(.eh_frame)\n";
        let want = [("code (libc)", 0x40), ("code tokio", 0x60), ("table .eh_frame", 0x20)];
        assert_eq!(sizes(map), want.map(|(name, size)| (name.to_owned(), size)).into());
    }
}
