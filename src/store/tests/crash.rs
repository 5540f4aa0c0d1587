//! Power cuts at every step, with everything that a disk may do to what was not synced.

use super::rig::Rig;
use crate::store::mem_disk::{MemDisk, Survival};

const SURVIVALS: [Survival; 5] =
    [Survival::Dropped, Survival::Kept, Survival::Torn(512), Survival::Torn(4096), Survival::Shredded];

/// Lives until the power goes, or for so many steps.
fn live(rig: &mut Rig, steps: u32) {
    for _ in 0..steps {
        if rig.step().is_err() {
            assert!(rig.disk.is_down(), "only the power cut may fail");
            return;
        }
    }
}

/// Cuts at `cut`, checks, lives on, cuts again, checks, lives on, ends in order, checks.
fn two_cuts(seed: u64, cut: u64, survival: Survival) {
    let disk = MemDisk::default();
    let mut rig = Rig::new(&disk, seed);
    let context = format!("seed {seed}, {survival:?}, cut at {cut}");
    disk.cut_at(cut);
    if rig.open().is_ok() {
        live(&mut rig, 30);
    }
    disk.restart(survival, seed ^ cut);
    // The second cut may also hit the opening.
    let second = rig.roll(60);
    disk.cut_at(second);
    if rig.open_and_check(&context) {
        live(&mut rig, 30);
    }
    disk.restart(survival, seed + cut);
    let context = format!("{context}, again {second} steps later");
    assert!(rig.open_and_check(&context));
    live(&mut rig, 10);
    assert!(rig.open_and_check(&format!("{context}, then in order")));
}

#[test]
fn a_cut_at_every_step_loses_nothing_acknowledged_and_shows_nothing_half_done() {
    let disk = MemDisk::default();
    let mut rig = Rig::new(&disk, 11);
    rig.open().unwrap();
    live(&mut rig, 30);
    let steps = disk.steps();
    assert!(steps > 60, "{steps}");
    for survival in SURVIVALS {
        for cut in 0..steps {
            two_cuts(11, cut, survival);
        }
    }
}

#[test]
fn random_lives_with_random_cuts_lose_nothing() {
    for seed in 0..160 {
        let survival = SURVIVALS[seed as usize % SURVIVALS.len()];
        let disk = MemDisk::default();
        let mut rig = Rig::new(&disk, seed);
        for life in 0..6 {
            let cut = rig.roll(120);
            disk.cut_at(cut);
            if rig.open_and_check(&format!("seed {seed}, life {life}, {survival:?}")) {
                live(&mut rig, 100);
            }
            disk.restart(survival, seed * 31 + life);
        }
        assert!(rig.open_and_check(&format!("seed {seed}, at last")));
    }
}

#[test]
fn after_a_failed_sync_nothing_that_the_next_run_found_is_lost_in_a_power_cut() {
    for nth in 0..40 {
        let disk = MemDisk::default();
        let mut rig = Rig::new(&disk, 21 + nth);
        rig.open().unwrap();
        disk.fail_sync(nth);
        let mut steps = 0;
        while rig.step().is_ok() {
            steps += 1;
            assert!(steps < 300, "the failure must be told");
        }
        // The process ends and starts again; the pages read well, and are not on the medium.
        let context = format!("sync {nth} failed after {steps} steps");
        assert!(rig.open_and_check(&context));
        disk.restart(Survival::Dropped, 1);
        assert!(rig.open_and_check(&format!("{context}, then the power")));
        live(&mut rig, 30);
        assert!(rig.open_and_check(&format!("{context}, then in order")));
    }
}
