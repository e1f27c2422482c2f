//! The formats: how each is told, and what reads its lines.

use std::path::Path;

use super::conll::layout::Layout;
use super::reading::Reading;
use super::{Fault, Format, conll, csv, json, pubtator, xml};

/// BRAT is told by the names of the files.
pub(super) fn is_brat(path: &Path) -> bool {
    let ends = |ending: &str| path.extension().is_some_and(|found| found == ending);
    path.is_dir() || ends("ann") || (ends("txt") && path.with_extension("ann").is_file())
}

/// The format of a file of lines, by the first that is not blank. No word with a tag looks
/// like the beginning of a JSON object or array.
pub(super) fn of_line(line: &str) -> Format {
    let begins = |mark: char, after: &[char]| {
        let Some(rest) = line.trim_start().strip_prefix(mark) else {
            return false;
        };
        let rest = rest.trim();
        rest.is_empty() || rest.starts_with(after)
    };
    if csv::is_heading(line) {
        return Format::Csv;
    }
    if xml::is_beginning(line) {
        return Format::Xml;
    }
    if pubtator::is_title(line) {
        return Format::PubTator;
    }
    if !begins('{', &['"', '}']) && !begins('[', &['{', '"', '[']) {
        return Format::Conll;
    }
    let has = |key: &str| line.contains(&format!("\"{key}\""));
    let tokens = has("tokens") && !has("spans") && !has("ents");
    let text =
        has("text") || has("annotations") || has("data") || line.trim_start().starts_with('[');
    if text && !tokens {
        Format::JsonText
    } else {
        Format::JsonTokens
    }
}

/// The parser of a format of lines.
pub(super) enum Parser {
    Conll(conll::Parser),
    Csv(csv::Parser),
    Json(json::Parser),
    PubTator(pubtator::Parser),
}

impl Parser {
    pub(super) fn new(format: Format, layout: Option<Layout>) -> Self {
        match format {
            Format::Conll | Format::Brat | Format::Xml => Self::Conll(conll::Parser::new(layout)),
            Format::Csv => Self::Csv(csv::Parser::default()),
            Format::JsonTokens => Self::Json(json::Parser::new(json::Content::Tokens)),
            Format::JsonText => Self::Json(json::Parser::new(json::Content::Text)),
            Format::PubTator => Self::PubTator(pubtator::Parser::default()),
        }
    }

    pub(super) fn line(
        &mut self,
        number: usize,
        line: &str,
        reading: &mut Reading,
    ) -> Result<(), Fault> {
        match self {
            Self::Conll(parser) => parser.line(number, line, reading),
            Self::Csv(parser) => parser.line(number, line, reading),
            Self::Json(parser) => parser.line(number, line, reading),
            Self::PubTator(parser) => parser.line(number, line, reading),
        }
    }

    pub(super) fn finish(self, reading: &mut Reading) -> Format {
        match self {
            Self::Conll(parser) => parser.finish(reading),
            Self::Csv(parser) => parser.finish(reading),
            Self::Json(parser) => parser.format(),
            Self::PubTator(parser) => parser.finish(reading),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_its_format() {
        let cases = [
            ("a\tO", Format::Conll),
            ("{\tO", Format::Conll),
            ("{ O", Format::Conll),
            ("[1] O", Format::Conll),
            ("# document = {\"text\"}", Format::Conll),
            (r#"{"tokens": [], "ner_tags": []}"#, Format::JsonTokens),
            (r#" { "text": "a", "entities": []}"#, Format::JsonText),
            (r#"{"id": 1, "tokens": [], "text": ""}"#, Format::JsonTokens),
            ("{", Format::JsonTokens),
            ("[", Format::JsonText),
            (r#"[{"text": "a"}]"#, Format::JsonText),
            (r#"["a text", {"entities": []}]"#, Format::JsonText),
            (
                r#"{"text": "a", "tokens": [], "spans": []}"#,
                Format::JsonText,
            ),
            (
                r#"[{"tokens": ["a"], "ner_tags": ["O"]}]"#,
                Format::JsonTokens,
            ),
            ("Sentence #,Word,POS,Tag", Format::Csv),
            ("word;tag", Format::Csv),
            ("1234567|t|Naloxone", Format::PubTator),
            ("a|b O", Format::Conll),
            ("<?xml version=\"1.0\"?>", Format::Xml),
            ("< O", Format::Conll),
        ];
        for (line, format) in cases {
            assert_eq!(of_line(line), format, "{line}");
        }
        for format in Format::ALL.iter().copied() {
            assert_eq!(format.as_str().parse(), Ok(format));
        }
        assert!("html".parse::<Format>().is_err());
    }
}
