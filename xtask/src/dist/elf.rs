//! The head of a binary, read so that no package carries one that cannot run: ELF, little-endian.

use crate::cross::Target;

/// A segment that names a dynamic loader (`PT_INTERP`).
const INTERP: u32 = 3;

/// Refuses what is not a static binary for the target's processor.
pub fn check(bytes: &[u8], target: &Target) -> Result<(), String> {
    let number = |at: usize, len: usize| -> Result<u64, String> {
        let part = bytes.get(at..at + len).ok_or("is cut off")?;
        Ok(part.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    if !bytes.starts_with(b"\x7fELF") {
        return Err("is not an ELF binary".to_owned());
    }
    let machine = number(18, 2)?;
    if machine != u64::from(target.elf_machine) {
        return Err(format!("is for machine {machine}; {} is {}", target.triple, target.elf_machine));
    }
    let wide = bytes.get(4) == Some(&2);
    let (table, size, count) = if wide {
        (number(32, 8)?, number(54, 2)?, number(56, 2)?)
    } else {
        (number(28, 4)?, number(42, 2)?, number(44, 2)?)
    };
    for index in 0..count {
        let kind = number((table + index * size) as usize, 4)?;
        if kind == u64::from(INTERP) {
            return Err("wants a dynamic loader: it is not static".to_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dynamic_or_for_another_machine_is_refused() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let x86 = Target::get("x86_64-unknown-linux-musl").unwrap();
        let arm = Target::get("arm-unknown-linux-musleabihf").unwrap();
        if cfg!(all(target_arch = "x86_64", target_env = "gnu")) {
            assert_eq!(check(&own, x86), Err("wants a dynamic loader: it is not static".to_owned()));
        }
        assert!(check(&own, arm).is_err());
        assert_eq!(check(b"#!/bin/sh\n", x86), Err("is not an ELF binary".to_owned()));
        assert!(check(b"\x7fELF", x86).is_err());
    }
}
