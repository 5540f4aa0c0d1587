//! Cells of the tables.

/// Median (lowest to highest).
pub fn spread(values: &[f64], digits: usize) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (Some(low), Some(high)) = (sorted.first(), sorted.last()) else { return "-".to_owned() };
    format!("{:.digits$} ({low:.digits$}-{high:.digits$})", median(&sorted))
}

/// The middle value; of an even number the lower of the two.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

/// The value below which `percent` of `ascending` lie (nearest rank).
pub fn percentile(ascending: &[u64], percent: f64) -> u64 {
    let rank = (percent / 100.0 * ascending.len() as f64).ceil() as usize;
    ascending.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}
