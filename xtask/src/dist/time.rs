//! The time of a release: of its commit, so that the same commit makes the same packages.

use std::path::Path;
use std::process::Command;

use crate::need;

/// `SOURCE_DATE_EPOCH`, or the time of the last commit, in seconds since 1970; 0 where there is neither.
pub fn release_seconds(root: &Path) -> u64 {
    let given = std::env::var("SOURCE_DATE_EPOCH").ok();
    let commit = || need::output(Command::new("git").current_dir(root).args(["log", "-1", "--format=%ct"]));
    given.or_else(commit).and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// The day of `seconds` since 1970, as `2026-01-31`.
///
/// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
pub fn date(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (seconds, want) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (1_709_251_199, "2024-02-29"),
            (4_102_444_800, "2100-01-01"),
        ] {
            assert_eq!(date(seconds), want);
        }
    }
}
