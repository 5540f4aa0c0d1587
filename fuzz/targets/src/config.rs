//! `gateway.toml`, `function.toml` and a board to a plan.
//!
//! Input: the three texts, with a line of `----` between them.

use std::path::Path;

use weir::budget::{self, Plan};
use weir::printable::is_escaped;
use weir::strict::{Fault, Faults, Severity};

use crate::sites::Texts;

pub(crate) const WORDS: &[&[u8]] = &[
    b"\n----\n",
    b"[gateway]\n",
    b"[broker]\n",
    b"[[function]]\n",
    b"[[function.trigger]]\n",
    b"[[lane]]\n",
    b"[[sink]]\n",
    b"[store]\n",
    b"[commit]\n",
    b"[limits]\n",
    b"[[meter]]\n",
    b"[config]\n",
    b"url = \"mqtt://localhost\"\n",
    b"\"mqtts://[::1]:8883\"",
    b"path = \"f\"\n",
    b"mqtt = \"a/+/b\"\n",
    b"interval = \"1 s\"\n",
    b"filter = { payload = { t = [1] } }\n",
    b"name = \"a\"\n",
    b"kind = \"gauge\"\n",
    b"\"64 KiB\"",
    b"\"18446744073709551615 B\"",
    b"\"16777216 TiB\"",
    b"\"99999999999 d\"",
    b"-1",
    b"9223372036854775807",
    b"nan",
    b"inf",
    b"1979-05-27",
    b"\"\"\"",
    b"'''",
    b"\"\\u001b[2J\"",
    b"{",
    b"}",
    b"[",
    b"]",
    b"=",
    b"\n",
    b"type = \"file\"\n",
    b"board = \"x.toml\"\n",
    b"window = \"100 ms\"\n",
    b"lateness = \"30 d\"\n",
    b"keys-max = 1000000\n",
    b"topics = [\"#\"]\n",
    b"a.b.c.d = 1\n",
    b"size = ",
];

pub(crate) fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut parts = text.splitn(3, "\n----\n");
    let mut part = || parts.next().unwrap_or_default();
    let site = Texts { gateway: part(), manifest: part(), board: part() };
    let faults = Faults::default();
    let plan = budget::examine(Path::new("gateway.toml"), None, &site, &faults);
    let refused = faults.refused();
    let list = faults.into_list();
    list.iter().for_each(check_fault);
    assert_eq!(refused, list.iter().any(|fault| fault.severity == Severity::Refusal));
    match plan {
        Some(plan) if !refused => check_plan(&plan),
        Some(_) => {}
        None => assert!(refused, "no plan, and no fault that says why"),
    }
}

fn check_fault(fault: &Fault) {
    let shown = fault.to_string();
    assert!(!shown.chars().any(is_escaped) && shown.len() < 16_000, "{shown:?}");
}

/// What may be run fits.
fn check_plan(plan: &Plan) {
    let (budget, board) = (&plan.budget, &plan.loaded.board);
    for (ledger, granted) in [(&budget.memory, board.memory), (&budget.flash, board.flash)] {
        assert!(ledger.room == granted && ledger.total() <= ledger.room, "{ledger:?}");
    }
    let linear: u64 = plan.loaded.config.functions.iter().map(|function| function.manifest.limits.memory.0).sum();
    assert!(linear <= budget.memory.room.0 && linear <= budget.guests.0);
    for function in &plan.loaded.config.functions {
        let module = &function.module;
        assert!(!module.components().any(|part| part == std::path::Component::ParentDir), "{}", module.display());
    }
}
