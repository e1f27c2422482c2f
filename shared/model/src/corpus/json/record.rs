//! One JSON value of a file, its keys told apart.

use std::fmt;

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::Content;
use crate::corpus::Fault;

/// The keys that mean something here.
const KEYS: [&str; 17] = [
    "tokens",
    "ner_tags",
    "text",
    "entities",
    "document_id",
    "person_id",
    // doccano
    "label",
    "labels",
    // Prodigy
    "spans",
    "answer",
    // spaCy
    "ents",
    "paragraphs",
    // Label Studio
    "data",
    "annotations",
    "completions",
    "predictions",
    // NER Annotator
    "classes",
];

/// One JSON object.
#[derive(Debug, Default)]
pub(in crate::corpus) struct Record {
    known: Vec<(&'static str, Value)>,
    /// Those of the known keys that the record had.
    had: Vec<&'static str>,
    pub(super) ignored: Vec<String>,
}

/// A value of a file.
#[derive(Debug)]
pub(super) enum Item {
    Record(Record),
    List(Vec<Value>),
    Other(Value),
}

impl Item {
    /// What a record holds, by its keys.
    pub(super) fn content(&self) -> Option<Content> {
        let Self::Record(record) = self else {
            return None;
        };
        let has = |key: &str| record.known.iter().any(|(known, _)| *known == key);
        let text = !has("tokens") || has("spans") || has("ents") || has("classes");
        Some(if text { Content::Text } else { Content::Tokens })
    }
}

/// A value of a file of several lines, and how many lines are before it.
pub(super) struct Placed {
    pub(super) line: usize,
    pub(super) item: Result<Item, Fault>,
}

/// The values of a list, or those that stand one after another. Nothing is read after a fault.
pub(super) fn items(text: &str) -> Vec<Placed> {
    let (mut items, mut at) = (Vec::new(), 0);
    let list = text.trim_start().starts_with('[');
    let pair =
        matches!(parse(text), Ok(Item::List(list)) if list.first().is_some_and(Value::is_string));
    let in_list = list && !pair;
    if in_list {
        at = text.find('[').map_or(0, |at| at + 1);
    }
    loop {
        let rest = &text[at..];
        let blank = |c: char| c.is_ascii_whitespace() || (in_list && c == ',');
        at += rest.len() - rest.trim_start_matches(blank).len();
        let rest = &text[at..];
        if rest.is_empty() || (in_list && rest.starts_with(']')) {
            return items;
        }
        let line = text[..at].matches('\n').count();
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Item>();
        match values.next() {
            Some(Ok(item)) => items.push(Placed {
                line,
                item: Ok(item),
            }),
            Some(Err(error)) => {
                let line = line + error.line().saturating_sub(1);
                let item = Err(fault(&error));
                items.push(Placed { line, item });
                return items;
            }
            None => return items,
        }
        at += values.byte_offset();
    }
}

/// The value of a line.
pub(super) fn parse(line: &str) -> Result<Item, Fault> {
    serde_json::from_str(line).map_err(|error| fault(&error))
}

fn fault(error: &serde_json::Error) -> Fault {
    let message = error.to_string();
    if let Some(rest) = message.strip_prefix(TWICE) {
        let key = rest.split('`').next().unwrap_or_default().to_owned();
        return Fault::KeyTwice { key };
    }
    // A record is one line, so that "at line 1" would only be mistaken for the file's.
    let reason = message.split(" at line ").next().unwrap_or(&message);
    Fault::Json {
        column: error.column(),
        reason: reason.to_owned(),
        at_end: error.is_eof(),
    }
}

const TWICE: &str = "the key twice: `";

impl Record {
    pub(in crate::corpus) fn of(known: Vec<(&'static str, Value)>) -> Self {
        Self {
            had: known.iter().map(|(key, _)| *key).collect(),
            known,
            ignored: Vec::new(),
        }
    }

    pub(in crate::corpus) fn maybe(&mut self, key: &str) -> Option<Value> {
        let index = self.known.iter().position(|(known, _)| *known == key)?;
        Some(self.known.swap_remove(index).1)
    }

    pub(in crate::corpus) fn take(&mut self, key: &'static str) -> Result<Value, Fault> {
        match self.maybe(key) {
            Some(value) => Ok(value),
            None => Err(Fault::KeyMissing {
                expected: key,
                found: self.keys(),
            }),
        }
    }

    /// A name that may be missing or null; numbers are names too.
    pub(super) fn name(&mut self, key: &'static str) -> Result<Option<String>, Fault> {
        let name = match self.maybe(key) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Number(number)) => return Ok(Some(number.to_string())),
            Some(value) => string(value, &format!("`{key}`"))?,
        };
        if name.trim().is_empty() {
            return Err(Fault::NameEmpty { key });
        }
        Ok(Some(name))
    }

    fn keys(&self) -> Vec<String> {
        let known = self.had.iter().map(|key| (*key).to_owned());
        known.chain(self.ignored.iter().cloned()).collect()
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
                    record.had.push(known);
                    record.known.push((known, map.next_value()?));
                }
                Ok(record)
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Item;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Item, A::Error> {
                Record::deserialize(MapAccessDeserializer::new(map)).map(Item::Record)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Item, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(Item::List)
            }

            fn visit_str<E>(self, text: &str) -> Result<Item, E> {
                Ok(Item::Other(text.into()))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Item, E> {
                Ok(Item::Other(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Item, E> {
                Ok(Item::Other(value.into()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Item, E> {
                Ok(Item::Other(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Item, E> {
                Ok(Item::Other(value.into()))
            }

            fn visit_unit<E>(self) -> Result<Item, E> {
                Ok(Item::Other(Value::Null))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

pub(in crate::corpus) fn unlike(
    value: &Value,
    place: impl Into<String>,
    expected: &'static str,
) -> Fault {
    Fault::JsonType {
        place: place.into(),
        found: kind(value),
        expected,
    }
}

pub(super) fn strings(value: Value, key: &str) -> Result<Vec<String>, Fault> {
    let items = array(value, &format!("`{key}`"))?.into_iter().enumerate();
    items
        .map(|(index, item)| string(item, &format!("item {} of `{key}`", index + 1)))
        .collect()
}

pub(in crate::corpus) fn array(value: Value, place: &str) -> Result<Vec<Value>, Fault> {
    let Value::Array(items) = value else {
        return Err(unlike(&value, place, "a list"));
    };
    Ok(items)
}

pub(in crate::corpus) fn string(value: Value, place: &str) -> Result<String, Fault> {
    let Value::String(text) = value else {
        return Err(unlike(&value, place, "a string"));
    };
    Ok(text)
}

pub(super) const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
