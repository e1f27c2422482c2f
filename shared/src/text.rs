//! Text of a peer, made fit to be shown and logged.
//!
//! Whoever names a thing may put anything into the name: sequences that a terminal obeys, line breaks that
//! forge a line of a log, marks that turn the direction of reading. Here they become visible escapes.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Of a name that is not one, so many characters are repeated to whoever gave it.
const BRIEF: usize = 100;

/// Control characters, line separators, marks of direction and characters without width.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

fn escaped(text: &str, keep: impl Fn(char) -> bool) -> Cow<'_, str> {
    if text.chars().all(|c| keep(c) || !is_hidden(c)) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if keep(c) || !is_hidden(c) {
            shown.push(c);
        } else {
            shown.extend(c.escape_default());
        }
    }
    Cow::Owned(shown)
}

/// The text in one line, with everything hidden in it escaped.
///
/// ```
/// assert_eq!(fedner_shared::text::line("a\x1b[2J\nb\u{202e}"), "a\\u{1b}[2J\\nb\\u{202e}");
/// ```
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, |_| false)
}

/// The same for text of several lines: their ends and tabs stay.
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| matches!(c, '\n' | '\t'))
}

/// The beginning of the text in one line: enough to recognise a name, and no more to log.
///
/// ```
/// assert_eq!(fedner_shared::text::brief(&"x".repeat(4_000_000)).chars().count(), 101);
/// ```
pub fn brief(text: &str) -> String {
    cut(text, BRIEF)
}

/// At most `most` characters in one line, and a sign where there were more.
pub fn cut(text: &str, most: usize) -> String {
    let mut kept: String = text.chars().take(most).collect();
    if text.chars().nth(most).is_some() {
        kept.push('…');
    }
    line(&kept).into_owned()
}

/// JSON in which no character is hidden: beyond what JSON itself demands, C1 controls, marks of direction and
/// the like are written as `\uXXXX`. It reads back as the same value.
pub fn json(text: &str) -> Cow<'_, str> {
    let kept = |c: char| matches!(c, '\n' | '\t') || !is_hidden(c);
    if text.chars().all(kept) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if kept(c) {
            shown.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a string does not fail.
            let _ = write!(shown, "\\u{unit:04x}");
        }
    }
    Cow::Owned(shown)
}

/// A writer of a log: each record that is written to it becomes one line, whatever it says.
#[derive(Debug)]
pub struct OneLine<W> {
    inner: W,
    /// Whether sequences of colour, which the log itself writes, stay.
    colour: bool,
}

impl<W> OneLine<W> {
    pub fn new(inner: W, colour: bool) -> Self {
        Self { inner, colour }
    }
}

impl<W: std::io::Write> std::io::Write for OneLine<W> {
    /// Takes one whole record.
    fn write(&mut self, record: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(record);
        let body = text.strip_suffix('\n').unwrap_or(&text);
        let shown = if self.colour {
            coloured(body)
        } else {
            line(body).into_owned()
        };
        self.inner.write_all(format!("{shown}\n").as_bytes())?;
        Ok(record.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

/// Escapes all but the sequences `ESC [ digits ; … m`, which change no more than a colour.
fn coloured(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\u{1b}') {
        shown.push_str(&line(&rest[..at]));
        let after = &rest[at + 1..];
        let end = after
            .strip_prefix('[')
            .and_then(|body| body.find(|c: char| !matches!(c, '0'..='9' | ';')))
            .map(|length| length + 1)
            .filter(|end| after[*end..].starts_with('m'));
        if let Some(end) = end {
            shown.push('\u{1b}');
            shown.push_str(&after[..=end]);
            rest = &after[end + 1..];
        } else {
            shown.push_str("\\u{1b}");
            rest = after;
        }
    }
    shown.push_str(&line(rest));
    shown
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const ATTACK: &str =
        "\u{1b}[2J\u{1b}]0;owned\u{7}\nINFO forged\r\u{9b}31m\u{202e}\u{200b}\u{feff}";

    #[test]
    fn nothing_hidden_is_left_and_plain_text_stays_as_it_is() {
        for shown in [line(ATTACK), json(ATTACK).replace('\n', "").into()] {
            assert!(!shown.chars().any(is_hidden), "{shown:?}");
        }
        let lines = lines(ATTACK);
        assert_eq!(lines.matches('\n').count(), 1);
        assert!(!lines.replace('\n', "").chars().any(is_hidden), "{lines:?}");
        let plain = "Größe ≤ 3, ε = 7.9, 日本 “quoted”";
        for shown in [line(plain), super::lines(plain), json(plain)] {
            assert!(matches!(shown, Cow::Borrowed(text) if text == plain));
        }
    }

    #[test]
    fn json_reads_back_as_the_same_value() {
        let value = serde_json::json!({ "name": ATTACK, "number": 3 });
        let text = serde_json::to_string_pretty(&value).expect("json");
        let shown = json(&text);
        assert_ne!(
            shown, text,
            "the attack has characters that JSON lets through"
        );
        let back: serde_json::Value = serde_json::from_str(&shown).expect("json");
        assert_eq!(back, value);
    }

    #[test]
    fn a_record_of_a_log_is_one_line_whatever_it_says() {
        for colour in [false, true] {
            let mut out = Vec::new();
            let record = format!("\u{1b}[32mINFO\u{1b}[0m refused {ATTACK}\n");
            OneLine::new(&mut out, colour)
                .write_all(record.as_bytes())
                .expect("memory");
            let text = String::from_utf8(out).expect("utf-8");
            assert_eq!(text.matches('\n').count(), 1, "{text:?}");
            assert!(
                !text.contains("\u{1b}[2J") && !text.contains("\u{1b}]0"),
                "{text:?}"
            );
            assert_eq!(text.contains("\u{1b}[32m"), colour, "{text:?}");
        }
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(cut("äöü", 2), "äö…");
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(brief(&"é".repeat(99)).chars().count(), 99);
    }
}
