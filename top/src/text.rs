//! Numbers as a person reads them in a narrow column.

const STEPS: [(f64, &str); 4] = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
const BYTE_STEPS: [(f64, &str); 4] =
    [(1_099_511_627_776.0, "T"), (1_073_741_824.0, "G"), (1_048_576.0, "M"), (1024.0, "K")];
const DAY_S: u64 = 86_400;

/// `999`, `1.2k`, `34M`.
pub fn count(number: u64) -> String {
    stepped(number as f64, &STEPS).unwrap_or_else(|| number.to_string())
}

/// `1023B`, `1.2K`, `34M`, in powers of 1024.
pub fn bytes(number: u64) -> String {
    stepped(number as f64, &BYTE_STEPS).unwrap_or_else(|| format!("{number}B"))
}

/// `0`, `0.5`, `12`, `1.2k`.
pub fn rate(number: f64) -> String {
    stepped(number, &STEPS)
        .unwrap_or_else(|| if number > 0.0 && number < 9.95 { format!("{number:.1}") } else { format!("{number:.0}") })
}

fn stepped(number: f64, steps: &[(f64, &str)]) -> Option<String> {
    // What would be rounded up to a full step is one.
    let (step, unit) = steps.iter().find(|(step, _)| number >= step * 0.9995)?;
    let number = number / step;
    Some(if number < 9.95 { format!("{number:.1}{unit}") } else { format!("{number:.0}{unit}") })
}

/// `340ms`, `1.2s`, `34s`, and from a minute on as [`span`].
pub fn millis(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms}ms"),
        1000..9950 => format!("{:.1}s", ms as f64 / 1000.0),
        _ => span(ms / 1000),
    }
}

/// `34s`, `5m12s`, `3h07m`, `12d4h`.
pub fn span(seconds: u64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..DAY_S => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{}d{}h", seconds / DAY_S, hours % 24),
    }
}

/// `83.2 %`
pub fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A line as long as a share of so many columns, in halves of one.
pub fn line(share: f64, columns: usize) -> String {
    let halves = (share.clamp(0.0, 1.0) * columns as f64 * 2.0).round() as usize;
    "━".repeat(halves / 2) + ["", "╸"].get(halves % 2).unwrap_or(&"")
}

/// A bar as long as a share of so many columns, in eighths of one.
pub fn bar(share: f64, columns: usize) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (share.clamp(0.0, 1.0) * columns as f64 * 8.0).round() as usize;
    "█".repeat(eighths / 8) + PARTS.get(eighths % 8).unwrap_or(&"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let counts = [0, 999, 1000, 1234, 9949, 9950, 34_000_000, 999_400, 999_900].map(count);
        assert_eq!(counts, ["0", "999", "1.0k", "1.2k", "9.9k", "10k", "34M", "999k", "1.0M"]);
        assert_eq!([0, 1023, 1024, 1 << 20, 1234 << 20].map(bytes), ["0B", "1023B", "1.0K", "1.0M", "1.2G"]);
        assert_eq!([0.0, 0.04, 0.5, 9.96, 12.4, 1234.0].map(rate), ["0", "0.0", "0.5", "10", "12", "1.2k"]);
    }

    #[test]
    fn times() {
        assert_eq!([0, 340, 1234, 34_000, 312_000].map(millis), ["0ms", "340ms", "1.2s", "34s", "5m12s"]);
        assert_eq!([3 * 3600 + 425, 12 * DAY_S + 5 * 3600].map(span), ["3h07m", "12d5h"]);
    }

    #[test]
    fn bars() {
        let bars = [0.0, 0.5, 0.55, 1.0, 7.0].map(|share| bar(share, 5));
        assert_eq!(bars, ["", "██▌", "██▊", "█████", "█████"]);
        assert_eq!([0.0, 0.5, 0.55, 1.0].map(|share| line(share, 5)), ["", "━━╸", "━━━", "━━━━━"]);
    }
}
