//! Every file of `boards/` is a board that is compiled in, builds, and carries the example site of the package.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use weir::budget::{self, Plan};
use weir::config::{Site, Source};
use weir::units::Bytes;

use weir::board::{BUILT_IN, Board};
use weir::strict::{Faults, Severity};

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
    let names = ["pi-zero", "pi-zero-2w", "pi-2b", "pi-3b", "cm4", "pi-4b", "pi-5"];
    for pair in names.windows(2) {
        let (small, big) = (board(pair[0]), board(pair[1]));
        assert!(small.memory <= big.memory && small.flash <= big.flash, "{pair:?}");
    }
}

/// The example site with modules that `cargo xtask functions` has built; other text may be put into it.
struct Example {
    text: String,
}

impl Example {
    fn new() -> Self {
        Self { text: fs::read_to_string(root("packaging/example.toml")).unwrap() }
    }

    fn with(mut self, from: &str, to: &str) -> Self {
        assert!(self.text.contains(from), "{from}");
        self.text = self.text.replacen(from, to, 1);
        self
    }

    /// The plan, and what was refused or warned of.
    fn plan(&self, board: &str) -> (Plan, Vec<String>) {
        let faults = Faults::default();
        let plan = budget::examine(Path::new("example.toml"), Some(board), self, &faults);
        let refused = faults.refused();
        let list: Vec<_> = faults.into_list();
        assert_eq!(refused, list.iter().any(|fault| fault.severity == Severity::Refusal));
        (plan.unwrap_or_else(|| panic!("{list:?}")), list.iter().map(ToString::to_string).collect())
    }
}

impl Site for Example {
    fn read(&self, path: &Path) -> Result<String, String> {
        if path == Path::new("example.toml") {
            return Ok(self.text.clone());
        }
        // Certificates are looked at when they are used.
        let built = root("target").join(path);
        fs::read_to_string(&built).map_err(|error| format!("{}: {error}; run `cargo xtask functions`", built.display()))
    }
    fn size(&self, path: &Path) -> Result<u64, String> {
        let file = if path.is_absolute() { root("packaging/example.toml") } else { root("target").join(path) };
        fs::metadata(&file).map(|metadata| metadata.len()).map_err(|error| format!("{}: {error}", file.display()))
    }
    fn mode(&self, _: &Path) -> Option<u32> {
        None
    }
    fn has_env(&self, _: &str) -> bool {
        false
    }
    fn host_name(&self) -> Option<String> {
        None
    }
}

#[test]
fn the_example_site_fits_every_board_without_a_warning() {
    for (name, board) in boards() {
        let (plan, faults) = Example::new().plan(&name);
        assert!(faults.is_empty() && plan.fits(), "{name}: {faults:?}");
        assert_eq!(plan.loaded.board, board);
        assert_eq!(plan.loaded.config.functions.len(), 7);
        // A board that is full with the examples alone would be of no use.
        let room = plan.room().unwrap();
        assert!(room.average.fit >= 1 && room.smallest.1.fit >= 3, "{name}: {room:?}");
        let days = plan.budget.writes.life_days(plan.budget.writes.steady).unwrap();
        assert!(days >= u64::from(board.flash_years) * 365, "{name}: {days} days");
    }
}

#[test]
fn what_is_said_to_fit_does_fit_and_one_more_does_not() {
    let text = "[[function]]\npath = \"functions/vibration\"\n[[function.trigger]]\nmqtt = \"devices/+/vibration\"\n";
    for board in ["pi-zero", "qemu-virt-64m"] {
        let room = Example::new().plan(board).0.room().unwrap();
        assert_eq!(room.largest.0, "vibration");
        assert!(room.largest.1.fit <= room.average.fit && room.average.fit <= room.smallest.1.fit, "{room:?}");
        for (more, fits) in [(room.largest.1.fit, true), (room.largest.1.fit + 1, false)] {
            let further: String =
                (0..more).map(|n| text.replacen("path", &format!("name = \"further-{n}\"\npath"), 1)).collect();
            let (plan, faults) = Example::new().with(text, &(further + text)).plan(board);
            assert_eq!(plan.fits(), fits, "{board}: {more} more: {faults:?}");
        }
    }
}

#[test]
fn a_boards_defaults_are_taken_and_the_file_goes_before_them() {
    let source = |plan: &Plan, key: &str| {
        let setting = plan.loaded.settings.iter().find(|setting| setting.key == key).unwrap();
        (setting.value.clone(), setting.source)
    };
    let (plan, _) = Example::new().plan("pi-zero");
    assert_eq!(source(&plan, "commit.interval"), ("500 ms".to_owned(), Source::Board));
    assert_eq!(source(&plan, "broker.in-flight"), ("512".to_owned(), Source::Board));
    assert_eq!(source(&plan, "store.segment-bytes"), ("512 KiB".to_owned(), Source::Weir));
    assert_eq!((plan.loaded.config.broker.in_flight, plan.loaded.config.store.sled), (512, false));
    let written = "in-flight = 64\n[commit]\ninterval = \"1 s\"\n[store]\nsled = true\nsled-cache = \"1 MiB\"\n";
    let url = "url = \"mqtt://localhost:1883\"\n";
    let (plan, faults) = Example::new().with(url, &format!("{url}{written}")).plan("pi-zero");
    assert!(faults.is_empty(), "{faults:?}");
    for (key, value) in [("commit.interval", "1 s"), ("broker.in-flight", "64"), ("store.sled", "true")] {
        assert_eq!(source(&plan, key), (value.to_owned(), Source::File), "{key}");
    }
    assert_eq!(plan.loaded.config.broker.in_flight, 64);
    assert_eq!(plan.loaded.config.store.sled_cache, Bytes::mib(1));
}
