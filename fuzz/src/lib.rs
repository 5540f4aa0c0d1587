//! What the harnesses share: a target by its name.
#![forbid(unsafe_code)]

/// Runs the target of that name.
///
/// # Panics
/// If there is none, or if it finds something.
pub fn run(name: &str, data: &[u8]) {
    let target = weir_fuzz_targets::target(name).expect("a harness has the name of its target");
    (target.run)(data);
}
