//! `PubTator`: a title and an abstract of an article, and the entities in them.
//!
//! Offsets count from the beginning of the title; one character stands between it and the abstract.

use super::mention::RawMention;
use super::reading::Reading;
use super::text::{self, Source};
use super::{Fault, Format};

/// Whether a line is the title of an article, such as `1234567|t|Title`.
pub(super) fn is_title(line: &str) -> bool {
    passage(line).is_some_and(|(_, kind, _)| kind == "t")
}

fn passage(line: &str) -> Option<(&str, &str, &str)> {
    let (article, rest) = line.split_once('|')?;
    let (kind, text) = rest.split_once('|')?;
    let sound = !article.is_empty() && !article.contains(char::is_whitespace);
    (sound && matches!(kind, "t" | "a")).then_some((article, kind, text))
}

/// Reads line after line.
#[derive(Default)]
pub(super) struct Parser {
    article: Option<Article>,
}

struct Article {
    name: String,
    line: usize,
    title: String,
    summary: Option<String>,
    mentions: Vec<RawMention>,
    sound: bool,
}

impl Parser {
    pub(super) fn line(
        &mut self,
        number: usize,
        line: &str,
        reading: &mut Reading,
    ) -> Result<(), Fault> {
        if line.trim().is_empty() {
            self.end(reading);
            return Ok(());
        }
        if let Some((name, kind, text)) = passage(line) {
            return self.passage(number, (name, kind, text), reading);
        }
        let Some(article) = &mut self.article else {
            return Err(Fault::PubTator);
        };
        match annotation(number, line, &article.name) {
            Ok(Some(mention)) => article.mentions.push(mention),
            Ok(None) => reading.ignored("relations (PubTator)"),
            Err(fault) => {
                article.sound = false;
                return Err(fault);
            }
        }
        Ok(())
    }

    fn passage(
        &mut self,
        line: usize,
        (name, kind, text): (&str, &str, &str),
        reading: &mut Reading,
    ) -> Result<(), Fault> {
        if kind == "t" {
            self.end(reading);
            self.article = Some(Article {
                name: name.to_owned(),
                line,
                title: text.to_owned(),
                summary: None,
                mentions: Vec::new(),
                sound: true,
            });
            return Ok(());
        }
        match &mut self.article {
            Some(article) if article.name == name && article.summary.is_none() => {
                article.summary = Some(text.to_owned());
                Ok(())
            }
            Some(_) | None => Err(Fault::PubTator),
        }
    }

    pub(super) fn finish(mut self, reading: &mut Reading) -> Format {
        self.end(reading);
        Format::PubTator
    }

    fn end(&mut self, reading: &mut Reading) {
        let Some(article) = self.article.take().filter(|article| article.sound) else {
            return;
        };
        let mut text = article.title;
        if let Some(summary) = article.summary {
            // A title is a sentence of its own.
            text.push('\n');
            text.push_str(&summary);
        }
        text::read(&text, article.mentions, reading, |reading| Source {
            document: Some(reading.documents.named(&article.name)),
            person: None,
            line: Box::new(|_| article.line),
        });
    }
}

/// An entity: article, start, end, text, type and perhaps an identifier; `None` for a relation.
fn annotation(number: usize, line: &str, article: &str) -> Result<Option<RawMention>, Fault> {
    let columns: Vec<&str> = line.split('\t').collect();
    match columns.as_slice() {
        [name, start, end, text, label, ..] if *name == article => {
            let offset = |text: &str| {
                text.trim().parse::<usize>().map_err(|_| Fault::Offset {
                    found: text.to_owned(),
                })
            };
            Ok(Some(RawMention {
                parts: vec![(offset(start)?, offset(end)?)],
                label: label.trim().to_owned(),
                text: Some((*text).to_owned()),
                name: format!("`{text}`"),
                line: number,
            }))
        }
        [name, _, _, _] if *name == article => Ok(None),
        _ => Err(Fault::PubTator),
    }
}
