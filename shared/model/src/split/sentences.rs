//! Where sentences end, by the text alone.

use std::ops::Range;

use super::Word;

/// Marks that end a sentence where white space follows.
const STOPS: [&str; 8] = [".", "!", "?", "…", "؟", "۔", "।", "॥"];
/// Marks that end a sentence whatever follows.
const FULL_STOPS: [&str; 4] = ["。", "！", "？", "｡"];
/// Marks that may stand between a stop and the white space behind it.
const CLOSERS: [&str; 10] = ["\"", "'", ")", "]", "”", "’", "»", "」", "』", "）"];

/// Words before a full stop that end no sentence, in lower case: titles and short forms.
const ABBREVIATIONS: [&str; 40] = [
    "dr", "mr", "mrs", "ms", "prof", "st", "jr", "sr", "rev", "sgt", "capt", "lt", "vs", "eds",
    "approx", "resp", "cf", "viz", "ca", "str", "hr", "fr", "frl", "bzw", "vgl", "inkl", "evtl",
    "ggf", "sog", "dipl", "ing", "mme", "mlle", "dra", "sra", "srta", "dott", "mt", "dept", "univ",
];

/// Those that end none where a number follows.
const BEFORE_NUMBERS: [&str; 10] = [
    "no", "nos", "nr", "fig", "figs", "eq", "vol", "pp", "abb", "tab",
];

/// Ranges of words that are sentences.
///
/// A sentence ends at a stop before white space and a word that does not begin in lower case, at a
/// stop of Chinese or Japanese, and at a line's end. It does not end behind an initial or a known
/// abbreviation, nor at a single line end behind which it goes on in lower case.
pub(crate) fn sentences(text: &str, words: &[Word]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    for next in 1..words.len() {
        if ends(text, words, next) {
            found.push(start..next);
            start = next;
        }
    }
    if start < words.len() {
        found.push(start..words.len());
    }
    found
}

/// Whether a sentence ends before the word `next`.
fn ends(text: &str, words: &[Word], next: usize) -> bool {
    let is = |marks: &[&str], index: usize| marks.contains(&words[index].text.as_str());
    let between = &text[words[next - 1].bytes.end..words[next].bytes.start];
    // The last word that is no closing quote or bracket.
    let mut last = next - 1;
    while last > 0 && is(&CLOSERS, last) {
        last -= 1;
    }
    let closes_next = is(&CLOSERS, next);
    if is(&FULL_STOPS, last) && !closes_next && !is(&FULL_STOPS, next) {
        return true;
    }
    let line_ends = between.matches('\n').count();
    let lower = words[next].text.starts_with(char::is_lowercase);
    let stopped = is(&STOPS, last) && !between.is_empty() && !is_short_form(words, last, next);
    match line_ends {
        0 => stopped && !lower,
        1 => !lower || stopped,
        _ => true,
    }
}

/// Whether the full stop at `stop` belongs to an initial or an abbreviation.
fn is_short_form(words: &[Word], stop: usize, next: usize) -> bool {
    if words[stop].text != "." || stop == 0 {
        return false;
    }
    let before = &words[stop - 1];
    if before.bytes.end != words[stop].bytes.start {
        return false;
    }
    let mut letters = before.text.chars();
    let initial = letters.next().is_some_and(char::is_uppercase) && letters.next().is_none();
    let lower = before.text.to_lowercase();
    let number = words[next].text.starts_with(char::is_numeric);
    initial
        || ABBREVIATIONS.contains(&lower.as_str())
        || (number && BEFORE_NUMBERS.contains(&lower.as_str()))
}

#[cfg(test)]
mod tests {
    use super::super::words;
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let words = words(text).expect("words");
        let sentences = sentences(text, &words).into_iter();
        let of = |range: Range<usize>| {
            text[words[range.start].bytes.start..words[range.end - 1].bytes.end].to_owned()
        };
        sentences.map(of).collect()
    }

    #[test]
    fn sentences_end_at_stops_and_lines() {
        let cases: [(&str, &[&str]); 13] = [
            ("Early. Late?  Then!", &["Early.", "Late?", "Then!"]),
            ("It is e.g. flu", &["It is e.g. flu"]),
            ("Seen by Dr. Roe. Home", &["Seen by Dr. Roe.", "Home"]),
            ("J. R. Roe came", &["J. R. Roe came"]),
            ("Lung\ncancer and\nbreast", &["Lung\ncancer and\nbreast"]),
            ("Name: Roe\nDate: May", &["Name: Roe", "Date: May"]),
            ("lung\n\ncancer", &["lung", "cancer"]),
            ("(It ends.) Then", &["(It ends.)", "Then"]),
            ("done.\nthen", &["done.", "then"]),
            ("他来了。她走了。", &["他来了。", "她走了。"]),
            ("「はい。」と言う", &["「はい。」", "と言う"]),
            ("He said no. Then 3", &["He said no.", "Then 3"]),
            ("Fig. 3 shows", &["Fig. 3 shows"]),
        ];
        for (text, expected) in cases {
            assert_eq!(found(text), expected, "{text:?}");
        }
    }
}
