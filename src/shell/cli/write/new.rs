//! `weir new`: a function to start from, whole: source, SDK, manifest and cases.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lexopt::{Arg, Parser, ValueExt as _};

use super::super::arguments::WrongUse;
use super::super::{EXIT_CANNOT_CREATE, EXIT_USAGE, say, site};
use super::{template, unknown};
use crate::manifest::check_label;
use crate::shell::toolchain::{Language, Linker};

#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct Options {
    /// The folder; its last level is the function's name.
    folder: PathBuf,
    language: Language,
}

pub(super) fn parse(parser: &mut Parser) -> Result<Option<Options>, WrongUse> {
    let (mut folder, mut language) = (None, None);
    let known = || Language::ALL.map(Language::name).join(", ");
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(None),
            Arg::Short('l') | Arg::Long("lang") => {
                let name = parser.value()?.string()?;
                let wrong = || WrongUse::of(&format!("--lang: `{}` is none of {}", name.escape_debug(), known()));
                language = Some(Language::named(&name).ok_or_else(wrong)?);
            }
            Arg::Value(value) => match folder.replace(PathBuf::from(value)) {
                None => {}
                Some(_) => return Err(WrongUse::of("weir new takes one NAME")),
            },
            wrong => return Err(unknown(&wrong, "weir new", &["--lang", "--help"])),
        }
    }
    let folder = folder.ok_or_else(|| WrongUse::of("weir new wants a NAME, as in `weir new hot --lang rust`"))?;
    let language = language.ok_or_else(|| WrongUse::of(&format!("weir new wants --lang: one of {}", known())))?;
    Ok(Some(Options { folder, language }))
}

pub(super) fn new(options: &Options) -> ExitCode {
    let folder = &options.folder;
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let named = check_label(&name).and_then(|()| match name.starts_with(|first: char| first.is_ascii_lowercase()) {
        true => Ok(()),
        false => Err(format!("`{name}` does not begin with a letter, as compilers want it")),
    });
    if let Err(why) = named {
        eprintln!("weir new: {why}");
        return ExitCode::from(EXIT_USAGE);
    }
    // Older linkers make memories of whole pages of 64 KiB.
    let small_pages = Linker::find().is_none_or(|linker| linker.small_pages);
    if let Err(why) = write(folder, &template::files(options.language, &name, small_pages)) {
        eprintln!("weir new: {why}");
        return ExitCode::from(EXIT_CANNOT_CREATE);
    }
    let shown = folder.display();
    let first = match options.language {
        Language::AssemblyScript => format!("  (cd {shown} && npm install)    the compiler, once\n"),
        _ => String::new(),
    };
    say(&format!(
        "{shown}: the function `{name}` in {}; next:\n{first}  weir build {shown}\n  weir test {shown}\n",
        options.language.name()
    ));
    ExitCode::SUCCESS
}

/// All files, into a folder that is new or empty.
fn write(folder: &Path, files: &[(String, String)]) -> Result<(), String> {
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |error: std::io::Error| format!("{path}: {}", site::plain(&error))
    };
    if std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) || folder.is_file() {
        return Err(format!("{}: is there already; take another name", folder.display()));
    }
    for (path, text) in files {
        let file = folder.join(path);
        let parent = file.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).map_err(failed(parent))?;
        std::fs::write(&file, text).map_err(failed(&file))?;
    }
    Ok(())
}
