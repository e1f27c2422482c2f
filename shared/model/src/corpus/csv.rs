//! Columns with commas or semicolons between them, named in the first line (RFC 4180); with tabs, where
//! a column names the sentence.

use super::conll::layout::{TAGS, WORDS, named};
use super::reading::Reading;
use super::{Fault, Format, Sentence, joined};

/// Whether a first line names a column of words and one of tags.
pub(super) fn is_heading(line: &str) -> bool {
    separator(line).is_some()
}

fn separator(line: &str) -> Option<char> {
    [',', ';', '\t'].into_iter().find(|separator| {
        fields(line, *separator).is_ok_and(|fields| {
            let names: Vec<&str> = fields.iter().map(|field| field.trim()).collect();
            let named = named(&names, &WORDS).is_some() && named(&names, &TAGS).is_some();
            named && (*separator != '\t' || names.iter().any(is_sentence))
        })
    })
}

/// Whether it is the name of a column that tells sentences apart.
fn is_sentence(name: &&str) -> bool {
    name.to_lowercase().starts_with("sent")
}

/// Reads line after line.
#[derive(Default)]
pub(super) struct Parser {
    columns: Option<Columns>,
    open: Sentence,
    lines: Vec<usize>,
    /// The sentence's name, where a column has one.
    name: String,
}

struct Columns {
    separator: char,
    count: usize,
    first: usize,
    word: usize,
    tag: usize,
    sentence: Option<usize>,
}

impl Parser {
    pub(super) fn line(
        &mut self,
        number: usize,
        line: &str,
        reading: &mut Reading,
    ) -> Result<(), Fault> {
        let Some(columns) = &self.columns else {
            self.columns = Some(heading(number, line, reading)?);
            return Ok(());
        };
        if line.trim().is_empty() {
            self.end_sentence(reading);
            return Ok(());
        }
        let fields = fields(line, columns.separator)?;
        if fields.len() != columns.count {
            return Err(Fault::Columns {
                found: fields.len(),
                expected: columns.count,
                first: columns.first,
            });
        }
        let (word, tag) = (&fields[columns.word], fields[columns.tag].trim());
        if let Some(sentence) = columns.sentence {
            let name = fields[sentence].trim().to_owned();
            if !name.is_empty() && name != self.name {
                self.end_sentence(reading);
                self.name = name;
            }
        }
        if word.trim().is_empty() || tag.is_empty() {
            return Err(Fault::EmptyColumn);
        }
        reading.check_tag(tag)?;
        if self.open.words.is_empty() {
            self.open.line = number;
        }
        self.open.words.push(word.clone());
        self.open.tags.push(tag.to_owned());
        self.lines.push(number);
        Ok(())
    }

    pub(super) fn finish(mut self, reading: &mut Reading) -> Format {
        self.end_sentence(reading);
        reading.summary.columns = self.columns.map_or(0, |columns| columns.count);
        Format::Csv
    }

    fn end_sentence(&mut self, reading: &mut Reading) {
        let lines = std::mem::take(&mut self.lines);
        let mut sentence = std::mem::take(&mut self.open);
        if sentence.words.is_empty() {
            return;
        }
        sentence.offsets = joined(&sentence.words);
        reading.written(sentence, |word| lines[word]);
    }
}

fn heading(number: usize, line: &str, reading: &Reading) -> Result<Columns, Fault> {
    let separator = separator(line).ok_or(Fault::NoHeading)?;
    let fields = fields(line, separator)?;
    let names: Vec<&str> = fields.iter().map(|field| field.trim()).collect();
    let asked = reading.options.columns;
    let asked_word = asked.and_then(|asked| asked.word).map(|number| number - 1);
    let asked_tag = asked.and_then(|asked| asked.tag).map(|number| number - 1);
    let word = asked_word.or_else(|| named(&names, &WORDS));
    let tag = asked_tag.or_else(|| named(&names, &TAGS));
    let (Some(word), Some(tag)) = (word, tag) else {
        return Err(Fault::NoHeading);
    };
    let count = names.len();
    if word >= count || tag >= count {
        let (word, tag) = (word + 1, tag + 1);
        return Err(Fault::NoColumn {
            found: count,
            word,
            tag,
        });
    }
    Ok(Columns {
        separator,
        count,
        first: number,
        word,
        tag,
        sentence: names.iter().position(is_sentence),
    })
}

/// The fields of a line. A field in quotes may hold separators, and quotes written twice.
fn fields(line: &str, separator: char) -> Result<Vec<String>, Fault> {
    let mut fields = Vec::new();
    let mut rest = line.chars().peekable();
    loop {
        let mut field = String::new();
        if rest.next_if_eq(&'"').is_some() {
            loop {
                match rest.next() {
                    Some('"') if rest.next_if_eq(&'"').is_some() => field.push('"'),
                    Some('"') => break,
                    Some(c) => field.push(c),
                    None => return Err(Fault::Quote),
                }
            }
            if rest.peek().is_some_and(|c| *c != separator) {
                return Err(Fault::Quote);
            }
        } else {
            while let Some(c) = rest.next_if(|c| *c != separator) {
                field.push(c);
            }
        }
        fields.push(field);
        if rest.next().is_none() {
            return Ok(fields);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hold_separators() {
        let found = |line: &str| fields(line, ',').map(|fields| fields.join("|"));
        assert_eq!(found("a,b,,c"), Ok("a|b||c".to_owned()));
        assert_eq!(
            found("\",\",\"say \"\"x\"\"\","),
            Ok(",|say \"x\"|".to_owned())
        );
        assert_eq!(found("\"a"), Err(Fault::Quote));
        assert_eq!(found("\"a\"b,c"), Err(Fault::Quote));
        assert!(is_heading("Sentence #,Word,POS,Tag") && is_heading("token;label"));
        assert!(!is_heading("word\ttag") && !is_heading("a,O"));
        assert!(is_heading("Sentence #\tWord\tTag") && is_heading("sentence_id,words,labels"));
    }
}
