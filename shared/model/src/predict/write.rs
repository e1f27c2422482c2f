//! Predictions in the formats that corpora are read from.

use std::fmt::Write as _;

use serde::Serialize;

use super::{Entity, Prediction};
use crate::corpus::escaped;

/// One JSON object, on one line and with a line end: `document_id` where it has one, `text`,
/// `entities`.
pub fn json_line(document: Option<&str>, text: &str, prediction: &Prediction) -> String {
    #[derive(Serialize)]
    struct Record<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        document_id: Option<&'a str>,
        text: &'a str,
        entities: &'a [Entity],
    }
    let record = Record {
        document_id: document,
        text,
        entities: &prediction.entities,
    };
    // Strings and numbers alone: nothing here can fail to become JSON.
    let mut line = serde_json::to_string(&record).unwrap_or_default();
    line.push('\n');
    line
}

/// CoNLL columns: a word and its tag a line, a tab between them, a blank line after a sentence.
pub fn conll(document: Option<&str>, prediction: &Prediction) -> String {
    let mut text = String::new();
    if let Some(document) = document {
        let _ = writeln!(
            text,
            "# document = {}\n",
            document.replace(['\r', '\n'], " ")
        );
    }
    for sentence in &prediction.sentences {
        for (word, tag) in sentence.words.iter().zip(&sentence.tags) {
            let _ = writeln!(text, "{}\t{tag}", escaped(word));
        }
        text.push('\n');
    }
    text
}

/// The `.ann` file beside the text: a line an entity, and its score as a note.
pub fn brat(prediction: &Prediction) -> String {
    let mut lines = String::new();
    for (index, entity) in prediction.entities.iter().enumerate() {
        let number = index + 1;
        let Entity {
            label,
            start,
            end,
            text,
            score,
        } = entity;
        let places = fragments(*start, *end, text);
        // A line holds one annotation, whatever the entity spans.
        let text = text
            .split(['\r', '\n'])
            .map(str::trim)
            .filter(|part| !part.is_empty());
        let text = text.collect::<Vec<_>>().join(" ").replace('\t', " ");
        let _ = writeln!(lines, "T{number}\t{label} {places}\t{text}");
        let _ = writeln!(
            lines,
            "#{number}\tAnnotatorNotes T{number}\tscore {score:.4}"
        );
    }
    lines
}

/// The places of an entity: BRAT writes one that goes over a line's end in parts, a line each.
fn fragments(start: usize, end: usize, text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let mut parts: Vec<(usize, usize)> = Vec::new();
    let mut at = 0;
    for line in characters.split(|c| matches!(c, '\r' | '\n')) {
        let blank = |c: &&char| c.is_whitespace();
        let before = line.iter().take_while(blank).count();
        let after = line.iter().rev().take_while(blank).count();
        if before + after < line.len() {
            parts.push((start + at + before, start + at + line.len() - after));
        }
        at += line.len() + 1;
    }
    if parts.is_empty() {
        parts.push((start, end));
    }
    let parts = parts.iter().map(|(start, end)| format!("{start} {end}"));
    parts.collect::<Vec<_>>().join(";")
}
