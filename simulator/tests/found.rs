//! Worlds that once found a defect: each file in `found/` is a seed, the shortest schedule of faults that showed it, and why.

use std::fs;
use std::path::PathBuf;

use weir_simulator::world::{Case, watch};

fn cases() -> Vec<(String, Case)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("found");
    let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<(String, Case)> = files
        .map(|file| {
            let (name, text) =
                (file.file_stem().unwrap().to_string_lossy().into_owned(), fs::read_to_string(&file).unwrap());
            assert!(text.starts_with("# "), "{name}: a case begins with why it is one");
            (name, text.parse().unwrap_or_else(|error| panic!("{}: {error}", file.display())))
        })
        .collect();
    cases.sort_by(|a, b| a.0.cmp(&b.0));
    cases
}

#[test]
fn what_went_wrong_once_goes_right() {
    let cases = cases();
    assert!(!cases.is_empty());
    for (name, Case { seed, schedule }) in cases {
        if let Err(failure) = watch(seed, Some(&schedule), &mut |_, _| {}) {
            panic!("{name}: {failure}");
        }
    }
}
