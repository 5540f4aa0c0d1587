//! `weir check`.

use std::process::ExitCode;

use super::arguments::CheckOptions;
use super::{EXIT_CONFIG, complain, examine, plan, say};
use crate::strict::Severity;

pub(super) fn check(options: &CheckOptions) -> ExitCode {
    let examined = examine(&options.file, options.board.as_deref());
    if options.json {
        say(&plan::document(examined.plan.as_ref(), &examined.faults, examined.refused));
    } else {
        if let Some(plan) = &examined.plan {
            say(&plan::table(plan));
        }
        complain(&examined.faults);
        let refusals = examined.faults.iter().filter(|fault| fault.severity == Severity::Refusal).count();
        let file = options.file.display();
        match &examined.plan {
            Some(plan) if !examined.refused => say(&format!("\n{file}: ok, fits board {}\n", plan.loaded.board.name)),
            _ => eprintln!("{file}: refused, {refusals} {}", if refusals == 1 { "fault" } else { "faults" }),
        }
    }
    if examined.refused { ExitCode::from(EXIT_CONFIG) } else { ExitCode::SUCCESS }
}
