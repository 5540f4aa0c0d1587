//! Functions in Zig: `NAME.zig` with `weir.zig` as the module `weir`. (zig is also a C compiler and a linker.)

use std::path::{Path, PathBuf};
use std::process::Command;

use super::find::{Tool, find as find_program, output, run};
use super::{Compiled, Linker, Source, Trouble};

impl Tool {
    /// With one more word before all other arguments.
    #[must_use]
    pub fn and(mut self, word: &str) -> Self {
        self.words.push(word.to_owned());
        self
    }
}

/// The program: `$WEIR_ZIG`, `zig` in `PATH`, or the one that pip brought.
#[must_use]
pub fn find() -> Option<Tool> {
    let named = std::env::var_os("WEIR_ZIG").map(PathBuf::from);
    let found = named.or_else(|| find_program("zig")).or_else(|| {
        let module = "import ziglang, os; print(os.path.join(os.path.dirname(ziglang.__file__), 'zig'))";
        let file = output(Command::new("python3").args(["-c", module]))?;
        Some(PathBuf::from(file.trim())).filter(|file| file.is_file())
    });
    found.map(Tool::plain)
}

/// With zig's cache in `work`, so that nothing lands in a home folder.
#[must_use]
pub fn cached(mut command: Command, work: &Path) -> Command {
    let cache = std::path::absolute(work.join("zig-cache")).unwrap_or_else(|_| work.join("zig-cache"));
    command.env("ZIG_GLOBAL_CACHE_DIR", &cache).env("ZIG_LOCAL_CACHE_DIR", &cache);
    command
}

/// Compiles and links.
///
/// # Errors
/// A tool is missing, or the source does not compile.
pub fn build(source: &Source<'_>) -> Result<Compiled, Trouble> {
    let zig = find().ok_or_else(|| {
        Trouble::Missing(
            "no zig: pip install ziglang, or https://ziglang.org/download; or name yours: WEIR_ZIG=FILE".to_owned(),
        )
    })?;
    let linker = Linker::get()?;
    let (object, module) =
        (source.work.join(source.name).with_extension("o"), source.work.join(source.name).with_extension("wasm"));
    let mut compile = cached(zig.command(), source.work);
    compile.args(["build-obj", "-target", "wasm32-freestanding", "-OReleaseSmall", "-fno-strip"]);
    compile.arg(with("-femit-bin=", &object)).args(["--dep", "weir"]);
    compile.arg(with("-Mroot=", &source.folder.join(source.name).with_extension("zig")));
    run(compile.arg(with("-Mweir=", &source.sdk.join("weir.zig"))), "zig")?;
    linker.link(&object, &module)?;
    Ok(Compiled { module, by: format!("{}, {}", zig.shown(), linker.shown()) })
}

fn with(flag: &str, path: &Path) -> std::ffi::OsString {
    let mut argument = std::ffi::OsString::from(flag);
    argument.push(path);
    argument
}
