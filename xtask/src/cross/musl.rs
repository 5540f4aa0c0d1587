//! What rustc links into a static musl program, as rustup's own targets have it in their folder `self-contained`:
//! start files, libc and an unwinder, made by zig, which compiles musl for the exact processor. (Debian's `armhf` is ARMv7
//! code, which ends in SIGILL on a Pi Zero.)

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::target::Target;
use super::zig;
use crate::need;

/// zig keeps what other libcs have in one archive in three: memory functions in its runtime, parts of libc in its own.
const LIBC: [&str; 3] = ["libc.a", "libzigc.a", "libcompiler_rt.a"];
const EMPTY: [&str; 4] = ["crti.o", "crtn.o", "crtbegin.o", "crtend.o"];

/// Fills `out`. `folder` is the one of everything that is made for cross builds.
pub fn self_contained(program: &Path, folder: &Path, target: &Target, out: &Path) -> Result<(), String> {
    let work = folder.join("musl").join(target.triple);
    let _ = fs::remove_dir_all(&work);
    make(&work)?;
    make(out)?;
    let cc = |cache: bool| {
        let mut cc = zig::command(program, folder);
        if cache {
            // A cache of its own: what is found in it is of this target and no other.
            cc.env("ZIG_GLOBAL_CACHE_DIR", &work);
        }
        cc.args(["cc", "-target", target.zig, &format!("-mcpu={}", target.zig_cpu)]);
        cc
    };
    let (main, empty) = (work.join("main.c"), work.join("empty.c"));
    need::write(&main, b"int main(void) { return 0; }\n")?;
    need::write(&empty, b"")?;
    let kind: &[&str] = if target.pie { &["-fPIE", "-Os"] } else { &["-static", "-Os"] };
    need::run(cc(true).args(kind).arg(&main).arg("-lunwind").arg("-o").arg(work.join("main")))?;
    let found = found(&work.join("o"));
    let one = |name: &str| {
        let file = found.iter().find(|file| file.ends_with(name));
        file.ok_or_else(|| format!("zig made no {name} for {}; the recipe is for {}", target.triple, "ziglang 0.17"))
    };
    copy(one("libunwind.a")?, &out.join("libunwind.a"))?;
    // Only one of the two is ever linked for a target.
    let start = one(if target.pie { "rcrt1.o" } else { "crt1.o" })?;
    for name in ["crt1.o", "rcrt1.o"] {
        copy(start, &out.join(name))?;
    }
    merge(program, folder, &LIBC.map(one).into_iter().collect::<Result<Vec<_>, _>>()?, &out.join("libc.a"))?;
    for name in EMPTY {
        need::run(cc(false).arg("-c").arg(&empty).arg("-o").arg(out.join(name)))?;
    }
    let _ = fs::remove_dir_all(&work);
    Ok(())
}

/// All archives into one, by a script of `ar`.
fn merge(program: &Path, folder: &Path, archives: &[&PathBuf], out: &Path) -> Result<(), String> {
    use std::io::Write;
    let _ = fs::remove_file(out);
    let add: String = archives.iter().map(|archive| format!("addlib {}\n", archive.display())).collect();
    let text = format!("create {}\n{add}save\nend\n", out.display());
    let mut ar: Command = zig::command(program, folder);
    let mut child = ar.args(["ar", "-M"]).stdin(Stdio::piped()).spawn().map_err(|error| format!("zig ar: {error}"))?;
    let written = child.stdin.take().map(|mut input| input.write_all(text.as_bytes()));
    let status = child.wait().map_err(|error| format!("zig ar: {error}"))?;
    match written {
        Some(Ok(())) if status.success() && out.is_file() => Ok(()),
        _ => Err(format!("zig ar could not write {}: {status}", out.display())),
    }
}

fn found(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(found(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn make(folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    fs::copy(from, to).map(drop).map_err(|error| format!("{}: {error}", to.display()))
}
