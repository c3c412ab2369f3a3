//! Figures as people read them: the same in every table.

/// Three significant digits, for rates.
pub fn rate(x: f64) -> String {
    match x {
        x if x >= 99.95 => format!("{x:.0}"),
        x if x >= 9.995 => format!("{x:.1}"),
        x if x >= 0.9995 => format!("{x:.2}"),
        x => format!("{x:.3}"),
    }
}

/// A part of something; one more digit where it is small.
pub fn percent(x: f64) -> String {
    if x < 0.0995 { format!("{:.1} %", 100.0 * x) } else { format!("{:.0} %", 100.0 * x) }
}

/// Powers of 1024.
pub fn bytes(value: f64) -> String {
    scaled(value, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB"])
}

/// Powers of 1000, without a unit.
pub fn count(value: f64) -> String {
    scaled(value, 1000.0, &["", "k", "M", "G", "T"])
}

/// From nanoseconds to seconds.
pub fn time(nanoseconds: f64) -> String {
    scaled(nanoseconds, 1000.0, &["ns", "µs", "ms", "s"])
}

fn scaled(value: f64, base: f64, units: &[&str]) -> String {
    let mut rest = value;
    let mut unit = 0;
    while rest >= base && unit + 1 < units.len() {
        rest /= base;
        unit += 1;
    }
    let digits = if unit == 0 && rest.fract() == 0.0 { 0 } else { 2 };
    format!("{rest:.digits$} {}", units[unit]).trim_end().to_owned()
}

/// "1 layer", "2 layers".
pub fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_readable() {
        assert_eq!(bytes(0.0), "0 B");
        assert_eq!(bytes(1536.0), "1.50 KiB");
        assert_eq!(count(999.0), "999");
        assert_eq!(count(12_345_678.0), "12.35 M");
        assert_eq!(time(2_500_000.0), "2.50 ms");
        assert_eq!([0.0123, 0.999].map(percent), ["1.2 %", "100 %"]);
        assert_eq!([plural(1, "layer"), plural(2, "layer")], ["1 layer", "2 layers"]);
    }

    #[test]
    fn rates_have_three_digits() {
        assert_eq!(
            [0.1144, 0.9996, 9.994, 9.996, 99.96, 117.4].map(rate),
            ["0.114", "1.00", "9.99", "10.0", "100", "117"]
        );
    }
}
