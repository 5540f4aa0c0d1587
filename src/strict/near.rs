//! The nearest of some names, for "did you mean".

/// The candidate with the fewest edits from `wrong` (letters inserted, left out, replaced or swapped with the next), if
/// they are few: at most a third of the letters, or the one name holds the other.
#[must_use]
pub fn nearest<'a>(wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong_plain = plain(wrong);
    candidates
        .into_iter()
        .map(|candidate| (edits(&wrong_plain, &plain(candidate)), candidate))
        .filter(|(edits, candidate)| {
            let longest = wrong_plain.len().max(candidate.len());
            let held = wrong_plain.len() >= 3 && candidate.contains(wrong.trim_matches('-'));
            held || *edits <= (longest / 3).max(1) && *edits < longest
        })
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// `Keep_Alive` and `keep-alive` are the same mistake-free name in another style.
fn plain(name: &str) -> Vec<char> {
    name.chars().take(64).map(|c| if c == '_' || c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

/// Damerau's distance with adjacent swaps only (optimal string alignment), three rows at a time.
fn edits(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        before = core::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not() {
        const KEYS: [&str; 6] = ["keep-alive", "interval", "client-id", "payload-max", "url", "keys-max"];
        for (wrong, want) in [
            ("keep_alive", Some("keep-alive")),
            ("intreval", Some("interval")),
            ("Client-ID", Some("client-id")),
            ("payload", Some("payload-max")),
            ("ulr", Some("url")),
            ("keys-maxx", Some("keys-max")),
            ("banana", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(wrong, KEYS), want, "{wrong}");
        }
    }
}
