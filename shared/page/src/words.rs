//! Times, sizes and figures as people read them.

use std::time::Duration;

use fedner_shared::time::Time;
use maud::{Markup, html};

/// `3 min`, at most two units of which only the first is exact enough to matter.
pub fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 => format!("{} ms", span.as_millis()),
        1..=9 => format!("{:.1} s", span.as_secs_f64()),
        10..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// How long ago, or in how long.
pub fn relative(at: Time, now: Time) -> String {
    if at > now {
        return format!("in {}", span(at.since(now)));
    }
    let past = now.since(at);
    if past < Duration::from_secs(2) {
        return "just now".to_owned();
    }
    format!("{} ago", span(past))
}

/// A time that says both how far away it is and when it is.
pub fn when(at: Time, now: Time) -> Markup {
    let exact = at.to_string();
    html! { time datetime=(exact) title=(exact) { (relative(at, now)) } }
}

/// The clock of a day, and the day where it is another one.
pub fn clock(at: Time) -> String {
    let exact = at.to_string();
    match (exact.get(..10), exact.get(11..19)) {
        (Some(day), Some(clock)) => format!("{day} {clock}"),
        _ => exact,
    }
}

pub fn bytes(count: u64) -> String {
    let count = count as f64;
    for (size, unit) in [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")] {
        if count >= size {
            return format!("{:.1} {unit}", count / size);
        }
    }
    format!("{count} B")
}

/// ε is rounded up: nobody is told less than what was spent.
pub fn epsilon(epsilon: f64) -> String {
    if !epsilon.is_finite() {
        return "∞".to_owned();
    }
    format!("{:.2}", (epsilon * 100.0).ceil() / 100.0)
}

pub fn f1(f1: f64) -> String {
    format!("{f1:.3}")
}

/// `4321` as `4 321`, with a space that does not break.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// `institution` or `institutions`.
pub fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// What an ε means for one person, in words and without a formula: by how much it can change odds.
pub fn meaning(epsilon: f64) -> String {
    if !epsilon.is_finite() {
        return "There is no bound: what leaves may reveal text.".to_owned();
    }
    let factor = epsilon.exp();
    if factor > 1e5 {
        return "A bound as large as this one hides next to nothing by itself.".to_owned();
    }
    let odds = if factor < 10.0 {
        format!("{factor:.1}")
    } else {
        grouped(factor.round() as u64)
    };
    format!(
        "Whoever sees everything that leaves can raise the odds of a guess about one unit's text at most {odds} \
         times, however much they know already."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_as_people_write_them() {
        assert_eq!(span(Duration::from_millis(250)), "250 ms");
        assert_eq!(span(Duration::from_secs(61)), "61 s");
        assert_eq!(span(Duration::from_hours(49)), "2 days");
        let now = Time::from_millis(1_000_000);
        assert_eq!(relative(now, now), "just now");
        assert_eq!(relative(now + Duration::from_mins(5), now), "in 5 min");
        assert_eq!(bytes(2_500_000), "2.5 MB");
        assert_eq!(epsilon(7.001), "7.01");
        assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
        assert!(meaning(1.0).contains("2.7 times"));
        assert!(meaning(50.0).contains("next to nothing"));
        assert!(meaning(f64::INFINITY).contains("no bound"));
    }
}
