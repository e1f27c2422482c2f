//! JSON lines: an object a line, with tagged words or with text and entities.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::read::Reading;
use super::text::{Mention, annotate};
use super::{Fault, Format, Sentence, joined, scheme};

/// What the records hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// `tokens` and `ner_tags`.
    Tokens,
    /// `text` and `entities`.
    Text,
}

pub(super) struct Parser {
    content: Content,
}

impl Parser {
    pub(super) fn new(content: Content) -> Self {
        Self { content }
    }

    pub(super) fn format(&self) -> Format {
        match self.content {
            Content::Tokens => Format::JsonTokens,
            Content::Text => Format::JsonText,
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
        let mut record = Record::parse(line)?;
        let about = About {
            document: record.name("document_id")?,
            person: record.name("person_id")?,
            line: number,
        };
        match self.content {
            Content::Tokens => tokens(&mut record, about, reading),
            Content::Text => text(&mut record, about, reading),
        }?;
        for key in record.ignored {
            let key = format!("the key `{key}`");
            *reading.summary.ignored.entry(key).or_default() += 1;
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
    tags.iter().try_for_each(|tag| scheme::check(tag))?;
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
    };
    reading.written(sentence, |_| line);
    Ok(())
}

fn text(record: &mut Record, about: About, reading: &mut Reading) -> Result<(), Fault> {
    let text = string(record.take("text")?, "`text`")?;
    let entities = array(record.take("entities")?, "`entities`")?;
    let mentions = entities
        .into_iter()
        .enumerate()
        .map(|(index, entity)| mention(index, entity, about.line))
        .collect::<Result<Vec<Mention>, Fault>>()?;
    let annotated = match annotate(&text, mentions) {
        Ok(annotated) => annotated,
        Err(faults) => {
            for (line, fault) in &faults {
                reading.problem(*line, fault);
            }
            return Ok(());
        }
    };
    // A record without a name is a document of its own.
    let document = match &about.document {
        Some(name) => reading.documents.named(name),
        None => reading.documents.unnamed(),
    };
    reading.summary.split_words += annotated.split_words;
    for sentence in annotated.sentences {
        let sentence = Sentence {
            document: Some(document),
            person: about.person.clone(),
            line: about.line,
            ..sentence
        };
        reading.converted(sentence, |_| about.line);
    }
    Ok(())
}

fn mention(index: usize, value: Value, line: usize) -> Result<Mention, Fault> {
    let place = format!("entity {}", index + 1);
    let Value::Object(mut entity) = value else {
        return Err(unlike(&value, place, "an object with start, end and label"));
    };
    let mut take = |key: &'static str| match entity.remove(key) {
        Some(value) => Ok(value),
        None => Err(Fault::JsonType {
            place: format!("`{key}` of {place}"),
            found: "missing",
            expected: if key == "label" {
                "a string"
            } else {
                "a number"
            },
        }),
    };
    let (start, end, label) = (take("start")?, take("end")?, take("label")?);
    let label = string(label, &format!("`label` of {place}"))?;
    let text = match entity.remove("text") {
        None | Some(Value::Null) => None,
        Some(text) => Some(string(text, &format!("`text` of {place}"))?),
    };
    Ok(Mention {
        start: offset(&start, "start", &place)?,
        end: offset(&end, "end", &place)?,
        label,
        text,
        name: format!("{place} of the record"),
        line,
    })
}

fn offset(value: &Value, key: &str, place: &str) -> Result<usize, Fault> {
    let Value::Number(number) = value else {
        let place = format!("`{key}` of {place}");
        return Err(unlike(value, place, "a number"));
    };
    let offset = number
        .as_u64()
        .and_then(|number| usize::try_from(number).ok());
    offset.ok_or_else(|| Fault::Offset {
        found: number.to_string(),
    })
}

fn unlike(value: &Value, place: impl Into<String>, expected: &'static str) -> Fault {
    Fault::JsonType {
        place: place.into(),
        found: kind(value),
        expected,
    }
}

fn strings(value: Value, key: &str) -> Result<Vec<String>, Fault> {
    let items = array(value, &format!("`{key}`"))?.into_iter().enumerate();
    items
        .map(|(index, item)| string(item, &format!("item {} of `{key}`", index + 1)))
        .collect()
}

fn array(value: Value, place: &str) -> Result<Vec<Value>, Fault> {
    let Value::Array(items) = value else {
        return Err(unlike(&value, place, "a list"));
    };
    Ok(items)
}

fn string(value: Value, place: &str) -> Result<String, Fault> {
    let Value::String(text) = value else {
        return Err(unlike(&value, place, "a string"));
    };
    Ok(text)
}

const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The keys that mean something here.
const KEYS: [&str; 6] = [
    "tokens",
    "ner_tags",
    "text",
    "entities",
    "document_id",
    "person_id",
];

/// One JSON object.
#[derive(Debug, Default)]
struct Record {
    known: Vec<(&'static str, Value)>,
    ignored: Vec<String>,
}

impl Record {
    fn parse(line: &str) -> Result<Self, Fault> {
        match line.trim_start().chars().next() {
            Some('{') => {}
            Some('[') => return Err(Fault::JsonArray),
            _ => {
                // Not an object; JSON of another kind, or no JSON.
                let value: Value = serde_json::from_str(line).map_err(|e| syntax(&e))?;
                let found = kind(&value);
                return Err(Fault::JsonObject { found });
            }
        }
        serde_json::from_str(line).map_err(|error| {
            let message = error.to_string();
            match message.strip_prefix(TWICE) {
                Some(rest) => Fault::KeyTwice {
                    key: rest.split('`').next().unwrap_or_default().to_owned(),
                },
                None => syntax(&error),
            }
        })
    }

    fn take(&mut self, key: &'static str) -> Result<Value, Fault> {
        match self.known.iter().position(|(known, _)| *known == key) {
            Some(index) => Ok(self.known.swap_remove(index).1),
            None => Err(Fault::KeyMissing {
                expected: key,
                found: self.keys(),
            }),
        }
    }

    /// A name that may be missing or null; numbers are names too.
    fn name(&mut self, key: &'static str) -> Result<Option<String>, Fault> {
        let Ok(value) = self.take(key) else {
            return Ok(None);
        };
        if let Value::Number(number) = value {
            return Ok(Some(number.to_string()));
        }
        if value.is_null() {
            return Ok(None);
        }
        let name = string(value, &format!("`{key}`"))?;
        if name.trim().is_empty() {
            return Err(Fault::NameEmpty { key });
        }
        Ok(Some(name))
    }

    fn keys(&self) -> Vec<String> {
        let known = self.known.iter().map(|(key, _)| (*key).to_owned());
        known.chain(self.ignored.iter().cloned()).collect()
    }
}

const TWICE: &str = "the key twice: `";

fn syntax(error: &serde_json::Error) -> Fault {
    let message = error.to_string();
    // A record is one line, so that "at line 1" would only be mistaken for the file's.
    let reason = message.split(" at line ").next().unwrap_or(&message);
    Fault::Json {
        column: error.column(),
        reason: reason.to_owned(),
    }
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Record;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Record, A::Error> {
                let mut record = Record::default();
                while let Some(key) = map.next_key::<String>()? {
                    let Some(known) = KEYS.into_iter().find(|known| *known == key) else {
                        map.next_value::<IgnoredAny>()?;
                        record.ignored.push(key);
                        continue;
                    };
                    if record.known.iter().any(|(earlier, _)| *earlier == known) {
                        return Err(A::Error::custom(format!("{TWICE}{key}`")));
                    }
                    record.known.push((known, map.next_value()?));
                }
                Ok(record)
            }
        }
        deserializer.deserialize_map(Keys)
    }
}
