//! Functions in C: `NAME.c` with `weir.h`, by a clang that knows wasm32, or by zig, which has one inside.

use std::path::Path;
use std::process::Command;

use super::find::{Tool, find_version, output, run};
use super::{Compiled, Linker, Source, Trouble, zig};

const COMPILE: [&str; 7] = ["-std=c17", "-Os", "-ffreestanding", "-mbulk-memory", "-Wall", "-Wextra", "-c"];

/// A clang that makes wasm, told its target.
#[must_use]
pub fn find() -> Option<Tool> {
    let makes_wasm =
        |clang: &Path| output(Command::new(clang).arg("--print-targets")).is_some_and(|text| text.contains(" wasm32 "));
    let clang = find_version("clang", makes_wasm).map(Tool::plain);
    clang.map(|clang| clang.and("--target=wasm32-unknown-unknown")).or_else(|| {
        let zig = zig::find()?.and("cc");
        Some(zig.and("-target").and("wasm32-freestanding").and("-fno-sanitize=undefined").and("-g0"))
    })
}

/// Compiles and links.
///
/// # Errors
/// A tool is missing, or the source does not compile.
pub fn build(source: &Source<'_>) -> Result<Compiled, Trouble> {
    let compiler = find().ok_or_else(|| {
        Trouble::Missing(
            "no C compiler that makes wasm: sudo apt-get install clang lld, or pip install ziglang (zig has one inside)"
                .to_owned(),
        )
    })?;
    let linker = Linker::get()?;
    let (object, module) =
        (source.work.join(source.name).with_extension("o"), source.work.join(source.name).with_extension("wasm"));
    let mut compile = zig::cached(compiler.command(), source.work);
    compile.args(COMPILE).arg("-I").arg(source.sdk);
    run(compile.arg(source.folder.join(source.name).with_extension("c")).arg("-o").arg(&object), "the C compiler")?;
    linker.link(&object, &module)?;
    Ok(Compiled { module, by: format!("{}, {}", compiler.file.display(), linker.shown()) })
}
