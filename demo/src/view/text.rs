//! Text in colours that knows its width, and numbers for people.

use core::fmt::Write as _;

/// How a piece of text looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// As the terminal has it.
    Plain,
    /// Less important.
    Dim,
    /// Important.
    Bold,
    /// Right.
    Good,
    /// Wrong.
    Bad,
    /// Worth a glance.
    Warn,
    /// Messages going in.
    In,
    /// Records going out.
    Out,
    /// Metered.
    Meter,
}

impl Look {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Dim => "2",
            Self::Bold => "1",
            Self::Good => "32",
            Self::Bad => "1;31",
            Self::Warn => "33",
            Self::In => "36",
            Self::Out => "35",
            Self::Meter => "34",
        }
    }
}

/// One line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line(Vec<(Look, String)>);

impl Line {
    /// Appends a piece.
    #[must_use]
    pub fn put(mut self, look: Look, text: impl Into<String>) -> Self {
        self.0.push((look, text.into()));
        self
    }

    /// Appends a number and what it counts.
    #[must_use]
    pub fn count(self, look: Look, number: u64, what: &str) -> Self {
        self.put(look, grouped(number)).put(Look::Dim, format!(" {what}  "))
    }

    /// Fills up with blanks to `width` columns.
    #[must_use]
    pub fn pad(self, width: usize) -> Self {
        let missing = width.saturating_sub(self.width());
        self.put(Look::Plain, " ".repeat(missing))
    }

    /// Appends another line.
    #[must_use]
    pub fn join(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Columns: every letter used here takes one.
    #[must_use]
    pub fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| text.chars().count()).sum()
    }

    /// Appends it to `out`, cut at `width` columns, in colours or without.
    pub fn write(&self, width: usize, colours: bool, out: &mut String) {
        let mut left = width;
        for (look, text) in &self.0 {
            let piece: String = text.chars().take(left).collect();
            left -= piece.chars().count();
            if piece.is_empty() {
                continue;
            }
            let _ = match look.code() {
                code if colours && !code.is_empty() => write!(out, "\x1b[{code}m{piece}\x1b[0m"),
                _ => write!(out, "{piece}"),
            };
        }
    }
}

/// `1234567` as `1,234,567`.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if 0 < index && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A sum, to the quarters that devices measure in.
#[must_use]
pub fn grouped_sum(sum: f64) -> String {
    let hundredths = (sum.abs() * 100.0).round() as u64;
    let sign = if sum < 0.0 { "-" } else { "" };
    format!("{sign}{}.{:02}", grouped(hundredths / 100), hundredths % 100)
}

/// Bytes with a unit.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.0} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

/// `part` of `whole`; 0 of nothing.
#[must_use]
pub fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { (part / whole).clamp(0.0, 1.0) } else { 0.0 }
}

/// A bar of `width` columns, filled by eighths.
#[must_use]
pub fn bar(share: f64, width: usize) -> (String, String) {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (share.clamp(0.0, 1.0) * width as f64 * 8.0).round() as usize;
    // What is there is seen.
    let eighths = if share > 0.0 { eighths.max(1) } else { eighths };
    let filled = format!("{}{}", "█".repeat(eighths / 8), PARTS[eighths % 8]);
    let empty = "░".repeat(width - eighths.div_ceil(8));
    (filled, empty)
}

/// A curve of the newest `width` points.
#[must_use]
pub fn curve(points: impl DoubleEndedIterator<Item = f64>, top: f64, width: usize) -> String {
    const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let step = |point: f64| STEPS[(share(point, top) * 7.0).round() as usize];
    let newest: Vec<char> = points.rev().take(width).map(step).collect();
    let curve: String = newest.into_iter().rev().collect();
    format!("{curve:<width$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
        for (sum, text) in [(0.0, "0.00"), (5981.25, "5,981.25"), (-0.5, "-0.50"), (1e6, "1,000,000.00")] {
            assert_eq!(grouped_sum(sum), text);
        }
        for (size, text) in [(12, "12 B"), (2048, "2 KiB"), (11_534_336, "11.0 MiB")] {
            assert_eq!(bytes(size), text);
        }
    }

    #[test]
    fn bars_and_curves_have_their_width_whatever_is_in_them() {
        for share in [0.0, 0.001, 0.33, 0.5, 0.999, 1.0, 7.0, f64::NAN] {
            let (filled, empty) = bar(share, 20);
            assert_eq!(filled.chars().count() + empty.chars().count(), 20, "{share}");
        }
        for count in [0, 3, 30] {
            assert_eq!(curve((0..count).map(f64::from), 10.0, 12).chars().count(), 12);
        }
    }

    #[test]
    fn a_line_is_cut_by_columns_and_colours_do_not_count() {
        let line = Line::default().put(Look::Good, "▶▶▶").put(Look::Plain, "abc");
        assert_eq!((line.width(), line.clone().pad(9).width()), (6, 9));
        for (width, colours, want) in
            [(4, false, "▶▶▶a"), (2, true, "\x1b[32m▶▶\x1b[0m"), (0, true, ""), (9, false, "▶▶▶abc")]
        {
            let mut out = String::new();
            line.write(width, colours, &mut out);
            assert_eq!(out, want);
        }
    }
}
