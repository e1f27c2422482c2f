//! JSON: objects with tagged words, or with text and entities; one a line, or in one list, or over
//! several lines.

mod record;

use serde_json::Value;

use self::record::{Item, Record, strings};
use super::lines::Whole;
use super::reading::Reading;
use super::text::{self, Source};
use super::{Fault, Format, Sentence, joined, tools};

pub(super) use self::record::{Record as JsonRecord, array, string, unlike};

/// What the records hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// `tokens` and `ner_tags`.
    Tokens,
    /// `text` and entities.
    Text,
}

pub(super) struct Parser {
    content: Content,
    begun: bool,
}

impl Parser {
    pub(super) fn new(content: Content) -> Self {
        Self {
            content,
            begun: false,
        }
    }

    pub(super) fn format(&self) -> Format {
        match self.content {
            Content::Tokens => Format::JsonTokens,
            Content::Text => Format::JsonText,
        }
    }

    /// Whether the first line that is not blank begins a list, or an object over several lines.
    pub(super) fn begins_document(&mut self, line: &str) -> bool {
        if std::mem::replace(&mut self.begun, true) || line.trim().is_empty() {
            return false;
        }
        match record::parse(line) {
            // A text and what is known of it, in a list of two.
            Ok(Item::List(list)) => !list.first().is_some_and(Value::is_string),
            Err(Fault::Json { at_end, .. }) => at_end,
            Ok(Item::Record(_) | Item::Other(_)) | Err(_) => false,
        }
    }

    pub(super) fn line(
        &mut self,
        number: usize,
        line: &str,
        reading: &mut Reading,
    ) -> Result<(), Fault> {
        if line.trim().is_empty() {
            return Ok(());
        }
        self.item(record::parse(line)?, number, reading)
    }

    /// Reads a whole file: a list, or objects one after another. `first` is the line that it begins
    /// in.
    pub(super) fn document(&mut self, first: usize, text: Whole, reading: &mut Reading) {
        let text = match text {
            Ok(text) => text,
            Err((line, fault)) => return reading.problem(line, &fault),
        };
        // A broken first line among records of a line each is no reason to read it otherwise.
        let mut following = text.lines().skip(1).filter(|line| !line.trim().is_empty());
        let next_is_record = following
            .next()
            .is_some_and(|line| matches!(record::parse(line), Ok(Item::Record(_))));
        if next_is_record && !text.trim_start().starts_with('[') {
            for (index, line) in text.lines().enumerate() {
                if let Err(fault) = self.line(first + index, line, reading) {
                    reading.problem(first + index, &fault);
                }
            }
            return;
        }
        for (index, item) in record::items(&text).into_iter().enumerate() {
            let (line, item) = (first + item.line, item.item);
            let outcome = item.and_then(|item| {
                if index == 0 {
                    self.content = item.content().unwrap_or(self.content);
                }
                self.item(item, line, reading)
            });
            if let Err(fault) = outcome {
                reading.problem(line, &fault);
            }
        }
    }

    fn item(&mut self, item: Item, number: usize, reading: &mut Reading) -> Result<(), Fault> {
        let mut record = match item {
            Item::Record(record) => record,
            Item::List(list) => tools::spacy_pair(list)?,
            Item::Other(value) => {
                let found = record::kind(&value);
                return Err(Fault::JsonObject { found });
            }
        };
        if let Some(paragraphs) = record.maybe("paragraphs") {
            return tools::spacy_document(paragraphs, number, reading);
        }
        if record.maybe("classes").is_some() {
            let list = array(record.take("annotations")?, "`annotations`")?;
            return self.annotator(list, number, reading);
        }
        let about = About {
            document: record.name("document_id")?,
            person: record.name("person_id")?,
            line: number,
        };
        match self.content {
            Content::Tokens => tokens(&mut record, about, reading),
            Content::Text => of_text(&mut record, about, reading),
        }?;
        for key in record.ignored {
            reading.ignored(format!("the key `{key}`"));
        }
        Ok(())
    }
}

impl Parser {
    /// The pairs of NER Annotator; texts that nobody has looked at are null.
    fn annotator(
        &mut self,
        list: Vec<Value>,
        number: usize,
        reading: &mut Reading,
    ) -> Result<(), Fault> {
        for pair in list {
            if pair.is_null() {
                reading.ignored("texts without an annotation (NER Annotator)");
                continue;
            }
            let Value::Array(pair) = pair else {
                let expected = "a list of a text and its entities";
                return Err(unlike(&pair, "an annotation", expected));
            };
            self.item(Item::Record(tools::spacy_pair(pair)?), number, reading)?;
        }
        Ok(())
    }
}

/// What a record says of all its sentences.
struct About {
    document: Option<String>,
    person: Option<String>,
    line: usize,
}

fn tokens(record: &mut Record, about: About, reading: &mut Reading) -> Result<(), Fault> {
    let words = strings(record.take("tokens")?, "tokens")?;
    let tags = record.take("ner_tags")?;
    let numbers = |value: &Value| {
        value
            .as_array()
            .is_some_and(|a| a.iter().any(Value::is_number))
    };
    if numbers(&tags) {
        return Err(Fault::TagNumbers);
    }
    let tags = strings(tags, "ner_tags")?;
    if words.len() != tags.len() {
        let (words, tags) = (words.len(), tags.len());
        return Err(Fault::Lengths { words, tags });
    }
    if let Some(index) = words.iter().position(|word| word.trim().is_empty()) {
        let position = index + 1;
        return Err(Fault::EmptyWord { position });
    }
    tags.iter().try_for_each(|tag| reading.check_tag(tag))?;
    if words.is_empty() {
        return Ok(());
    }
    let About {
        document,
        person,
        line,
    } = about;
    let sentence = Sentence {
        offsets: joined(&words),
        words,
        tags,
        document: document.map(|name| reading.documents.named(&name)),
        person,
        line,
        ..Sentence::default()
    };
    reading.written(sentence, |_| line);
    Ok(())
}

fn of_text(record: &mut Record, about: About, reading: &mut Reading) -> Result<(), Fault> {
    let Some((text, mentions)) = tools::entities(record, about.line, reading)? else {
        return Ok(());
    };
    let person = about.person.as_deref();
    text::read(&text, mentions, reading, |reading| Source {
        // A record without a name is a document of its own.
        document: Some(match &about.document {
            Some(name) => reading.documents.named(name),
            None => reading.documents.unnamed(),
        }),
        person,
        line: Box::new(|_| about.line),
    });
    Ok(())
}
