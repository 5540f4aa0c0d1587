//! `cargo xtask dist`: functions, a static binary and its packages (`.deb`, `.tar.gz`) for boards, in `target/packages/`.
//!
//! - The same commit gives the same packages: times are of the commit (or `SOURCE_DATE_EPOCH`), paths of this machine are
//!   taken out of the binary.
//! - Which way a binary was built is said.

pub mod board;
mod completions;
mod elf;
mod help;
mod map;
mod pack;
mod page;
pub mod size;
mod time;
mod tree;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use board::Board;

use crate::cross::{Cross, TARGETS, Target};
use crate::{functions, need};

const USAGE: &str = "\
cargo xtask dist --board NAME        package for a board (boards/NAME.toml); several --board are taken
cargo xtask dist --target TRIPLE     package for any board of a target
cargo xtask dist --all               packages for all boards
  --binary FILE                      pack this binary, which was built before, instead of building one
  --out DIR                          where packages go (target/packages)";

/// The command.
pub fn run(root: &Path, arguments: &[String]) -> Result<(), String> {
    let (mut boards, mut binary, mut out) = (Vec::new(), None, root.join("target/packages"));
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().cloned().ok_or_else(|| format!("{argument} wants a value\n{USAGE}"));
        match argument.as_str() {
            "--board" => boards.push(Board::get(root, &value()?)?),
            "--target" => boards.push(Board::of_target(root, Target::get(&value()?)?)?),
            "--all" => {
                let names = board::names(root).into_iter().filter(|name| !name.starts_with("qemu-"));
                boards = names.map(|name| Board::get(root, &name)).collect::<Result<_, _>>()?;
            }
            "--binary" => binary = Some(PathBuf::from(value()?)),
            "--out" => out = value()?.into(),
            _ => return Err(USAGE.to_owned()),
        }
    }
    if boards.is_empty() {
        return Err(USAGE.to_owned());
    }
    for package in packages(root, boards, binary.as_deref(), &out)? {
        println!("{}", package.display());
    }
    Ok(())
}

/// Builds and packs for `boards`, and answers with the `.deb` files; each target is built once.
pub fn packages(root: &Path, boards: Vec<Board>, binary: Option<&Path>, out: &Path) -> Result<Vec<PathBuf>, String> {
    functions::build(root)?;
    let mut built: Vec<(&str, Vec<u8>)> = Vec::new();
    let mut packages = Vec::new();
    for board in boards {
        let bytes = match (binary, built.iter().find(|(triple, _)| *triple == board.target.triple)) {
            (Some(file), _) => fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?,
            (None, Some((_, bytes))) => bytes.clone(),
            (None, None) => {
                let file = build(root, board.target)?;
                let bytes = fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?;
                elf::check(&bytes, board.target).map_err(|why| format!("{}: {why}", file.display()))?;
                built.push((board.target.triple, bytes.clone()));
                bytes
            }
        };
        packages.push(pack(root, &board, bytes, out)?);
    }
    Ok(packages)
}

/// Builds the stripped static binary; beside it lies the linker's map, of which the table of sizes is made.
pub fn build(root: &Path, target: &'static Target) -> Result<PathBuf, String> {
    let cross = Cross::get(root, target)?;
    eprintln!("xtask: {}", cross.describe());
    eprintln!("xtask: the gateway, shipped profile: its link alone takes minutes");
    let folder = root.join("target/dist");
    let mut cargo = cross.cargo(root, "rustc");
    // Who writes functions does so on a laptop: the feature `author` stays there.
    cargo.env("CARGO_TARGET_DIR", &folder).args([
        "--release",
        "--locked",
        "--no-default-features",
        "--features",
        "shell",
    ]);
    cargo.args(["--package", "weir", "--bin", "weir", "--"]);
    if cross.has_map() {
        cargo.arg(format!("-Clink-arg=-Map={}", map_file(root, target).display()));
    }
    need::run(&mut cargo).map_err(|error| format!("{}: {error}", target.triple))?;
    Ok(folder.join(target.triple).join("release/weir"))
}

/// Where the linker's map of a target lies.
fn map_file(root: &Path, target: &Target) -> PathBuf {
    root.join("target/dist").join(format!("{}.map", target.triple))
}

fn pack(root: &Path, board: &Board, binary: Vec<u8>, out: &Path) -> Result<PathBuf, String> {
    let version = version(root)?;
    let seconds = time::release_seconds(root);
    let tree = tree::tree(root, board, binary, &version, &time::date(seconds))?;
    let script = |name: &'static str| {
        let file = root.join("packaging/debian").join(name);
        fs::read(&file).map(|bytes| (name, bytes)).map_err(|error| format!("{}: {error}", file.display()))
    };
    let control = pack::Control {
        version: &version,
        architecture: board.target.debian,
        made_for: &format!("Board: {} ({}).", board.name, board.target.triple),
        scripts: ["postinst", "prerm", "postrm"].into_iter().map(script).collect::<Result<_, _>>()?,
    };
    let name = format!("weir_{version}_{}_{}", board.name, board.target.debian);
    let deb = out.join(format!("{name}.deb"));
    need::write(&deb, &pack::deb(&tree, &control, seconds)?)?;
    let archive = out.join(format!("{name}.tar.gz"));
    need::write(&archive, &pack::tar_gz(&tree, &format!("{name}/"), seconds)?)?;
    eprintln!("xtask: {} and .tar.gz", deb.display());
    Ok(deb)
}

/// The gateway's version, from its manifest.
fn version(root: &Path) -> Result<String, String> {
    let text = fs::read_to_string(root.join("Cargo.toml")).map_err(|error| format!("Cargo.toml: {error}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("version = \""));
    line.and_then(|rest| rest.split('"').next()).map(str::to_owned).ok_or_else(|| "Cargo.toml: no version".to_owned())
}

/// gzip without a time or a name in it.
pub fn gzip(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).map_err(|error| format!("gzip: {error}"))
}

/// All targets, for commands that go through them.
pub fn targets() -> impl Iterator<Item = &'static Target> {
    TARGETS.iter()
}
