//! What fits and what does not.

use weir::budget::costs;
use weir::units::Bytes;

use crate::texts::*;

#[test]
fn what_does_not_fit_the_board_is_refused_with_wish_and_room() {
    let board = |memory: &str, flash: &str| {
        format!("target = \"x-musl\"\nmemory = \"{memory}\"\nflash = \"{flash}\"\nflash-writes-per-day = \"64 GiB\"\n")
    };
    let gateway = |limits: &str| {
        format!(
            "[gateway]\nboard = \"small.toml\"\n{}",
            SMALL.replace("[[sink]]", &format!("[function.limits]\n{limits}\n[[sink]]"))
        )
    };
    let total = accepted(SMALL).budget.memory.total();
    let room = Bytes(total.0 + 128 * 1024);

    let texts =
        |limits: &str, memory: &str, flash: &str| site(&gateway(limits)).with("small.toml", &board(memory, flash));
    assert!(examine(&texts("", &format!("{} B", room.0), "1 GiB")).1.is_empty());
    // The default 64 KiB fit with 128 KiB to spare; 256 KiB find those and their own 64, but less what the image takes.
    let (_, faults) = examine(&texts("memory = \"1 MiB\"", &format!("{} B", room.0), "1 GiB"));
    assert!(faults[0].starts_with("gateway.toml: function.mean.limits.memory: wants 2 MiB (1 MiB for linear memory, 1 MiB for its image, or room to grow); board small has "), "{faults:?}");
    assert!(faults[0].ends_with(" left after outbox and queues"), "{faults:?}");

    let (_, faults) = examine(&texts("", "10 MiB", "1 GiB"));
    let want = "gateway.toml: store.sled-cache: wants 11 MiB; board small has 2.8 MiB left after the process";
    assert!(faults.iter().any(|fault| fault == want), "{faults:?}");

    let (_, faults) = examine(&texts("", "64 MiB", "64 MiB"));
    assert!(
        faults[0].starts_with("gateway.toml: lane.telemetry.bytes-max: wants 64.5 MiB; board small has "),
        "{faults:?}"
    );
    assert!(faults[0].ends_with(" of flash left after journal and snapshots"), "{faults:?}");
}

#[test]
fn the_price_of_the_commit_interval_is_told() {
    let quick = format!("{SMALL}[commit]\ninterval = \"100 ms\"\n");
    let (plan, faults) = examine_on(&site(&quick), Some("pi-zero"));
    assert!(faults.len() == 1 && faults[0].contains("warning: commit.interval: 100 ms writes "), "{faults:?}");
    assert!(faults[0].ends_with("board pi-zero grants 3 GiB; 250 ms would fit"), "{faults:?}");
    let writes = plan.unwrap().budget.writes;
    assert!(writes.idle == Bytes(0) && writes.steady < writes.worst);
    let slower = format!("{SMALL}[commit]\ninterval = \"250 ms\"\n");
    assert!(examine_on(&site(&slower), Some("pi-zero")).1.is_empty());
}

#[test]
fn a_bigger_wish_is_a_bigger_sum() {
    let base = accepted(SMALL).budget;
    let with = |function: &str, rest: &str| {
        accepted(&(SMALL.replace("[[sink]]", &format!("{function}\n[[sink]]")) + rest)).budget
    };
    let lane = "[[lane]]\nname = \"telemetry\"\ntopics = [\"#\"]\nbytes-max = \"65 MiB\"";
    for (function, rest, memory, flash) in [
        // Itself and its image.
        ("[function.limits]\nmemory = \"128 KiB\"", "", 2 * 64 * 1024, 0),
        ("", lane, 2 * costs::LANE_EXTENT, 1 << 20),
        ("", "[commit]\nbytes-max = \"129 KiB\"", 4 * 1024, 0),
    ] {
        let budget = with(function, rest);
        assert_eq!(budget.memory.total().0 - base.memory.total().0, memory, "{function}{rest}");
        assert_eq!(budget.flash.total().0 - base.flash.total().0, flash, "{function}{rest}");
    }
    let more_keys = with("[function.meter.t]\nkeys-max = 1000", "");
    assert!(more_keys.keyed > base.keyed && more_keys.memory.total() > base.memory.total());
    assert_eq!(base.guests, Bytes::kib(64));
}

#[test]
fn too_many_keys_are_refused_by_their_own_key_once_for_memory_and_once_for_flash() {
    let many = SMALL.replace("[[sink]]", "[function.meter.t]\nkeys-max = 500000\n[store]\nsled = true\n[[sink]]");
    let (_, faults) = examine_on(&site(&many), Some("pi-zero"));
    let refused: Vec<&String> = faults.iter().filter(|fault| !fault.contains("warning: ")).collect();
    assert_eq!(refused.len(), 2, "{faults:#?}");
    for (fault, end) in refused.iter().zip([" left after outbox and queues", " of flash left"]) {
        assert!(fault.starts_with("gateway.toml: function.mean.meter.t.keys-max: wants "), "{fault}");
        assert!(fault.ends_with(end) && fault.contains("keyed state"), "{fault}");
    }
    assert!(refused[0].contains(" for 3 open windows of 500000 keys"), "{}", refused[0]);
    // What finds no room is not written either: neither the snapshots nor the commits are the cause.
    assert_eq!(faults.len(), refused.len(), "{faults:#?}");
    // Where all has room, snapshots that come too often are: no commit interval would help.
    let often = SMALL.replace("[[sink]]", "[store]\nsnapshot-interval = \"1 s\"\n[[sink]]");
    let (_, warned) = examine_on(&site(&often), Some("pi-zero"));
    let want = "warning: store.snapshot-interval: snapshots and flushes of the state write ";
    assert!(warned.len() == 1 && warned[0].contains(want), "{warned:#?}");
    assert!(faults.iter().all(|fault| !fault.contains("after nothing") && !fault.contains("would fit")), "{faults:#?}");
}

#[test]
fn a_fault_of_the_budget_names_a_key_that_the_file_takes() {
    // Each key that a line of the plan names, set as the plan says it, is known where it stands.
    let limits = |key: &str, value: &str| {
        accepted(&SMALL.replace("[[sink]]", &format!("[function.limits]\n{key} = {value}\n[[sink]]")));
    };
    let plan = accepted(SMALL);
    for line in &plan.budget.memory.lines {
        if let Some(key) = line.key.strip_prefix("function.mean.limits.") {
            limits(key, "\"64 KiB\"");
        }
    }
    let named: Vec<&str> = plan.budget.memory.lines.iter().map(|line| line.key.as_str()).collect();
    for key in ["memory", "state", "emit-bytes"] {
        assert!(named.contains(&format!("function.mean.limits.{key}").as_str()), "{named:?}");
    }
}
