//! The files of a package: where each lies on the machine, its mode and its content, in one order.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::board::{self, Board};
use super::{completions, gzip, page};

/// A file that is laid on the machine.
pub struct Item {
    /// Permission bits.
    pub mode: u32,
    /// Content.
    pub bytes: Vec<u8>,
}

/// Path on the machine, without the first `/`, to file.
pub type Tree = BTreeMap<String, Item>;

/// Everything that a package for `board` holds.
pub fn tree(root: &Path, board: &Board, binary: Vec<u8>, version: &str, date: &str) -> Result<Tree, String> {
    let read = |path: &str| fs::read(root.join(path)).map_err(|error| format!("{path}: {error}"));
    let text = |path: &str| read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let mut tree = Tree::new();
    let mut put = |path: &str, bytes: Vec<u8>, mode: u32| drop(tree.insert(path.to_owned(), Item { mode, bytes }));
    put("usr/bin/weir", binary, 0o755);
    let memory_max = board.memory_bytes / 4 * 5;
    let unit = replaced(text("packaging/weir.service")?, "@MEMORY_MAX@", &format!("{}M", memory_max >> 20))?;
    put("usr/lib/systemd/system/weir.service", unit.into_bytes(), 0o644);
    put("usr/lib/sysusers.d/weir.conf", read("packaging/sysusers.conf")?, 0o644);
    put("etc/weir/gateway.toml", configuration(text("src/shell/cli/starting.toml")?, board)?.into_bytes(), 0o640);
    put("usr/share/weir/example.toml", read("packaging/example.toml")?, 0o644);
    put("usr/share/man/man1/weir.1.gz", gzip(page::manual(version, date).as_bytes())?, 0o644);
    let [bash, zsh, fish] = completions::all(&board::names(root)).map(|(_, text)| text.into_bytes());
    put("usr/share/bash-completion/completions/weir", bash, 0o644);
    put("usr/share/zsh/vendor-completions/_weir", zsh, 0o644);
    put("usr/share/fish/vendor_completions.d/weir.fish", fish, 0o644);
    put("usr/share/doc/weir/copyright", read("packaging/copyright")?, 0o644);
    put("usr/share/doc/weir/changelog.gz", gzip(&read("CHANGELOG.md")?)?, 0o644);
    functions(root, &mut tree)?;
    Ok(tree)
}

/// The starting file of `weir init`, for this board and the folders of a package.
fn configuration(text: String, board: &Board) -> Result<String, String> {
    let text = replaced(text, "board = \"generic\"", &format!("board = \"{}\"", board.name))?;
    let text = replaced(text, "#data-dir = \"weir-data\"", "data-dir = \"/var/lib/weir/data\"")?;
    let text = replaced(text, "path = \"functions/threshold\"", "path = \"/usr/share/weir/functions/threshold\"")?;
    replaced(text, "\ndir = \"upstream\"", "\ndir = \"/var/lib/weir/upstream\"")
}

/// `from` replaced once; it must be there.
fn replaced(text: String, from: &str, to: &str) -> Result<String, String> {
    if text.contains(from) {
        Ok(text.replacen(from, to, 1))
    } else {
        Err(format!("packaging looks for `{from}`, which is gone"))
    }
}

/// The example functions that were built; `selftest` is for the project's own tests.
fn functions(root: &Path, tree: &mut Tree) -> Result<(), String> {
    let folder = root.join("target/functions");
    let entries = fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == "selftest" {
            continue;
        }
        for file in ["function.toml", &format!("{name}.wasm")] {
            let bytes = fs::read(entry.path().join(file)).map_err(|error| format!("{name}/{file}: {error}"))?;
            tree.insert(format!("usr/share/weir/functions/{name}/{file}"), Item { mode: 0o644, bytes });
        }
    }
    Ok(())
}
