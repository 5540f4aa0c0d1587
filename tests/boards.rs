//! Every file of `boards/` is a board that is compiled in, builds, and carries what `weir init` writes.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use weir::board::{BUILT_IN, Board};
use weir::strict::Faults;

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Name and board of each file.
fn boards() -> Vec<(String, Board)> {
    let mut boards = Vec::new();
    for entry in fs::read_dir(root("boards")).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(path.extension().unwrap(), "toml", "{}", path.display());
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let faults = Faults::default();
        let board = Board::parse(&name, &path.display().to_string(), &fs::read_to_string(&path).unwrap(), &faults);
        assert!(board.is_some(), "{:?}", faults.into_list());
        boards.push((name, board.unwrap()));
    }
    boards.sort_by(|a, b| a.0.cmp(&b.0));
    boards
}

#[test]
fn every_file_is_compiled_in_and_parses_alike() {
    let mut built_in: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
    built_in.sort_unstable();
    let boards = boards();
    assert_eq!(boards.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), built_in);
    for (name, board) in boards {
        assert_eq!(Board::built_in(&name), Some(board));
    }
}

#[test]
fn every_target_has_its_table_in_cross_toml_and_no_other_has() {
    let cross: toml::Table = fs::read_to_string(root("Cross.toml")).unwrap().parse().unwrap();
    let targets = cross["target"].as_table().unwrap();
    let boards = boards();
    for (name, board) in &boards {
        assert!(targets.contains_key(&board.target), "{name}: {}", board.target);
    }
    for target in targets.keys() {
        assert!(boards.iter().any(|(_, board)| board.target == *target), "no board names {target}");
    }
    // cross ignores keys that it does not know, with a warning that nobody reads.
    for (target, table) in targets {
        for key in table.as_table().unwrap().keys() {
            assert!(["image", "pre-build", "runner", "env"].contains(&key.as_str()), "{target}.{key}");
        }
    }
}

#[test]
fn a_bigger_board_grants_no_less() {
    let board = |name| Board::built_in(name).unwrap();
    let names = ["pi-zero", "pi-zero-2w", "pi-3b", "pi-4b", "pi-5"];
    for pair in names.windows(2) {
        let (small, big) = (board(pair[0]), board(pair[1]));
        assert!(small.memory <= big.memory && small.flash <= big.flash, "{pair:?}");
    }
}
