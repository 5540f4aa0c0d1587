//! The house rules that a program can check: order of modules, how files open, how long they are.

use std::fs;
use std::path::{Path, PathBuf};

/// A file beyond this is not read in one sitting.
const FILE_LINES_MAX: usize = 650;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() && !entry.ends_with("target") {
            rust_files(&entry, files);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            files.push(entry);
        }
    }
}

fn sources(folders: &[&str]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let present = folders.iter().map(|folder| root().join(folder)).filter(|folder| folder.is_dir());
    present.for_each(|folder| rust_files(&folder, &mut files));
    files.sort();
    files
}

fn modules_in_order() -> Vec<String> {
    let lib = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let names = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    names.map(str::to_owned).collect()
}

/// The module of `src` that a file belongs to.
fn module_of(file: &Path) -> String {
    let inside = file.strip_prefix(root().join("src")).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// Names of modules that a line uses through `crate::`.
fn used_modules(line: &str) -> Vec<String> {
    let name = |rest: &str| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    line.split("crate::").skip(1).map(name).collect()
}

#[test]
fn a_module_uses_only_modules_above_it() {
    let order = modules_in_order();
    assert!(order.len() > 10, "src/lib.rs lists the modules");
    let place = |name: &str| order.iter().position(|module| module == name);
    let mut faults = Vec::new();
    for file in sources(&["src"]) {
        let Some(own) = place(&module_of(&file)) else { continue };
        for (number, line) in fs::read_to_string(&file).unwrap().lines().enumerate() {
            // Words in comments may point anywhere.
            if line.trim_start().starts_with("//") {
                continue;
            }
            for used in used_modules(line) {
                if place(&used).is_some_and(|used| own < used) {
                    faults.push(format!("{}:{}: {}", file.display(), number + 1, line.trim()));
                }
            }
        }
    }
    assert!(faults.is_empty(), "uses that point down the list of src/lib.rs:\n{}", faults.join("\n"));
}

/// The code of a file without comments and without the tests at its end, with line numbers.
fn code_lines(file: &Path) -> Vec<(usize, String)> {
    if file.components().any(|part| part.as_os_str().to_string_lossy().contains("tests")) {
        return Vec::new();
    }
    let text = fs::read_to_string(file).unwrap();
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
    lines.map(|(number, line)| (number + 1, line.to_owned())).collect()
}

fn banned(file: &Path, words: &[&str]) -> Vec<String> {
    let mut faults = Vec::new();
    for (number, line) in code_lines(file) {
        if let Some(word) = words.iter().find(|word| line.contains(**word)) {
            faults.push(format!("{}:{number}: `{word}`: {}", file.display(), line.trim()));
        }
    }
    faults
}

#[test]
fn the_pure_middle_knows_no_clock_lock_file_thread_or_runtime() {
    let words =
        ["tokio", "std::fs", "std::thread", "std::net", "Mutex", "RwLock", "Instant::now", "SystemTime", "mpsc"];
    let pure = |file: &PathBuf| !["shell", "main"].contains(&&*module_of(file));
    let faults: Vec<String> =
        sources(&["src"]).iter().filter(|file| pure(file)).flat_map(|file| banned(file, &words)).collect();
    assert!(faults.is_empty(), "the pure middle touches the world:\n{}", faults.join("\n"));
}

#[test]
fn no_unsafe_outside_the_guests_border_and_no_unwrap_outside_tests() {
    let files = sources(&["src", "simulator/src", "xtask/src", "fuzz/targets/src"]);
    let faults: Vec<String> =
        files.iter().flat_map(|file| banned(file, &[".unwrap()", "unsafe {", "unsafe fn"])).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_file_opens_with_what_it_is_and_can_be_read_in_one_sitting() {
    let mut faults = Vec::new();
    for file in sources(&["src", "simulator", "xtask", "tests", "benches", "functions", "fuzz"]) {
        let text = fs::read_to_string(&file).unwrap();
        if !text.starts_with("//!") {
            faults.push(format!("{}: does not open with `//!`", file.display()));
        }
        if FILE_LINES_MAX < text.lines().count() {
            faults.push(format!("{}: {} lines, at most {FILE_LINES_MAX}", file.display(), text.lines().count()));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Every test that a document names, as `file::test` or `fuzz::target`, and the line.
fn named_tests(document: &str) -> Vec<(usize, String)> {
    let mut named = Vec::new();
    for (number, line) in document.lines().enumerate() {
        let words = line.split('`').skip(1).step_by(2);
        named.extend(words.filter(|word| word.contains("::")).map(|word| (number + 1, word.to_owned())));
    }
    named
}

/// Whether the function is there, and an attribute makes it a test.
fn is_a_test(text: &str, name: &str) -> bool {
    text.match_indices(&format!("fn {name}()")).any(|(at, _)| {
        let before = text[..at].trim_end().trim_end_matches("async").trim_end();
        before
            .lines()
            .last()
            .map(str::trim)
            .is_some_and(|attribute| attribute.starts_with("#[") && attribute.contains("test"))
    })
}

#[test]
fn every_claim_of_the_threat_model_names_tests_and_every_test_named_exists() {
    let document = fs::read_to_string(root().join("docs/threat-model.md")).unwrap();
    let named = named_tests(&document);
    let mut faults = Vec::new();
    for (number, name) in &named {
        let (file, test) = name.split_once("::").unwrap();
        let exists = match file {
            // How they are named is said in these words.
            "file" => test == "test",
            "fuzz" => test == "target" || root().join(format!("fuzz/fuzz_targets/{test}.rs")).is_file(),
            file => fs::read_to_string(root().join(file)).is_ok_and(|text| is_a_test(&text, test)),
        };
        if !exists {
            faults.push(format!("line {number}: there is no test `{name}`"));
        }
    }
    // In the tables of claims, every row is held by something.
    let mut in_claims = false;
    for (number, line) in document.lines().enumerate() {
        in_claims = line.starts_with('|') && (in_claims || line.ends_with("| held by |"));
        let is_claim = in_claims && !line.ends_with("| held by |") && !line.starts_with("|---");
        if is_claim && !named.iter().any(|(at, _)| *at == number + 1) {
            faults.push(format!("line {}: a claim that no test holds: {line}", number + 1));
        }
    }
    assert!(named.len() > 60, "{} tests are named", named.len());
    assert!(faults.is_empty(), "docs/threat-model.md:\n{}", faults.join("\n"));
}
