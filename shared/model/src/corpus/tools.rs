//! What annotation tools export: one text with its entities, under the keys of each tool.
//!
//! | tool | told by |
//! |---|---|
//! | fedner, Hugging Face | `text`, `entities` |
//! | doccano | `text` (once `data`), `label` with lists of start, end and type; or `start_offset` in `entities` |
//! | Prodigy | `text`, `spans`; `answer` other than accept is left out |
//! | spaCy | `text`, `ents`; a list of a text and `entities`; `paragraphs` of its training format |
//! | NER Annotator | `classes`, `annotations` with such lists |
//! | Label Studio | `data`, `annotations` with `result`; cancelled ones are left out |

use serde_json::{Map, Value};

use super::json::{JsonRecord, array, string, unlike};
use super::mention::RawMention;
use super::reading::Reading;
use super::{Fault, Sentence, joined};

type Annotated = (String, Vec<RawMention>);

/// The text of a record and its entities; `None` where people rejected what it says.
pub(super) fn entities(
    record: &mut JsonRecord,
    line: usize,
    reading: &mut Reading,
) -> Result<Option<Annotated>, Fault> {
    let answer = record.maybe("answer");
    let said = answer.as_ref().and_then(Value::as_str);
    if said.is_some_and(|said| said != "accept") {
        reading.ignored("records that were rejected or ignored (Prodigy)");
        return Ok(None);
    }
    let accepted = answer.is_some();
    let annotations = record
        .maybe("annotations")
        .or_else(|| record.maybe("completions"));
    let data = record.maybe("data");
    let text = match (data, annotations) {
        (Some(data), Some(annotations)) => {
            return label_studio(data, annotations, line, reading);
        }
        (Some(text @ Value::String(_)), None) => record.maybe("text").unwrap_or(text),
        _ => record.take("text")?,
    };
    let text = string(text, "`text`")?;
    // Words of the tool's own tokeniser, beside the text.
    record.maybe("tokens");
    let found = ["spans", "ents", "label", "labels"]
        .into_iter()
        .find_map(|key| Some((key, record.maybe(key)?)));
    let (key, list) = match (record.maybe("entities"), found) {
        // A text in which nothing was marked.
        (None, None | Some((_, Value::Null))) if accepted => ("spans", Value::Array(Vec::new())),
        (Some(list), _) => ("entities", list),
        (None, Some(found)) => found,
        (None, None) => ("entities", record.take("entities")?),
    };
    let list = array(list, &format!("`{key}`"))?.into_iter().enumerate();
    let mentions = list.map(|(index, entity)| mention(index, entity, line));
    Ok(Some((text, mentions.collect::<Result<_, _>>()?)))
}

/// An entity: an object with start, end and type, or a list of these.
fn mention(index: usize, value: Value, line: usize) -> Result<RawMention, Fault> {
    let place = format!("entity {}", index + 1);
    let mut entity = if let Value::Object(entity) = value {
        entity
    } else if let Value::Array(list) = value {
        of_list(list, &place)?
    } else {
        return Err(unlike(&value, place, "an object with start, end and label"));
    };
    let start = take(&mut entity, &STARTS, &place, "a number")?;
    let end = take(&mut entity, &ENDS, &place, "a number")?;
    let label = label(&mut entity, &place)?;
    let text = match entity.remove("text") {
        None | Some(Value::Null) => None,
        Some(text) => Some(string(text, &format!("`text` of {place}"))?),
    };
    Ok(RawMention {
        parts: vec![(
            offset(&start, "start", &place)?,
            offset(&end, "end", &place)?,
        )],
        label,
        text,
        name: format!("{place} of the record"),
        line,
    })
}

/// What tools call the place at which an entity begins.
const STARTS: [&str; 5] = [
    "start",
    "start_offset",
    "start_char",
    "begin",
    "startOffset",
];
/// That behind its last character.
const ENDS: [&str; 4] = ["end", "end_offset", "end_char", "endOffset"];
/// Its type.
const LABELS: [&str; 7] = [
    "label",
    "labels",
    "entity_group",
    "type",
    "entity",
    "entity_type",
    "category",
];

fn of_list(list: Vec<Value>, place: &str) -> Result<Map<String, Value>, Fault> {
    let [start, end, label] = <[Value; 3]>::try_from(list).map_err(|list| Fault::JsonType {
        place: place.to_owned(),
        found: if list.is_empty() {
            "an empty list"
        } else {
            "a list of other length"
        },
        expected: "a list of start, end and label",
    })?;
    let entity = [("start", start), ("end", end), ("label", label)];
    let entity = entity.into_iter();
    Ok(entity.map(|(key, value)| (key.to_owned(), value)).collect())
}

/// The value of the first of these keys.
fn take(
    entity: &mut Map<String, Value>,
    keys: &[&str],
    place: &str,
    expected: &'static str,
) -> Result<Value, Fault> {
    let found = keys.iter().find_map(|key| entity.remove(*key));
    found.ok_or_else(|| Fault::JsonType {
        place: format!("`{}` of {place}", keys[0]),
        found: "missing",
        expected,
    })
}

fn label(entity: &mut Map<String, Value>, place: &str) -> Result<String, Fault> {
    let value = take(entity, &LABELS, place, "a string")?;
    let named = format!("`label` of {place}");
    let Value::Array(mut labels) = value else {
        return string(value, &named);
    };
    if labels.len() != 1 {
        return Err(unlike(&Value::Array(labels), named, "one label"));
    }
    string(labels.remove(0), &named)
}

fn offset(value: &Value, key: &str, place: &str) -> Result<usize, Fault> {
    let Value::Number(number) = value else {
        let place = format!("`{key}` of {place}");
        return Err(unlike(value, place, "a number"));
    };
    // pandas writes whole numbers as 3.0 where a column lacks some.
    let whole = |number: f64| {
        (number.fract() == 0.0 && (0.0..1e15).contains(&number)).then_some(number as u64)
    };
    let offset = number
        .as_u64()
        .or_else(|| number.as_f64().and_then(whole))
        .and_then(|number| usize::try_from(number).ok());
    offset.ok_or_else(|| Fault::Offset {
        found: number.to_string(),
    })
}

/// A task of Label Studio: the first annotation that was not cancelled.
fn label_studio(
    data: Value,
    annotations: Value,
    line: usize,
    reading: &mut Reading,
) -> Result<Option<Annotated>, Fault> {
    let Value::Object(mut data) = data else {
        return Err(unlike(
            &data,
            "`data`",
            "an object with the text (Label Studio)",
        ));
    };
    let text = match data.remove("text") {
        Some(text) => text,
        None => only_string(data)?,
    };
    let text = string(text, "`text` of `data`")?;
    let mut kept = None;
    for annotation in array(annotations, "`annotations`")? {
        let Value::Object(mut annotation) = annotation else {
            return Err(unlike(
                &annotation,
                "an annotation",
                "an object (Label Studio)",
            ));
        };
        if annotation.get("was_cancelled").and_then(Value::as_bool) == Some(true) {
            reading.ignored("annotations that were cancelled (Label Studio)");
        } else if kept.is_some() {
            reading.ignored("further annotations of one text (Label Studio)");
        } else {
            kept = Some(annotation.remove("result").unwrap_or(Value::Null));
        }
    }
    let Some(result) = kept else {
        reading.ignored("texts without an annotation (Label Studio)");
        return Ok(None);
    };
    let mut mentions = Vec::new();
    for (index, region) in array(result, "`result`")?.into_iter().enumerate() {
        let value = region.get("value").cloned();
        match value {
            Some(Value::Object(value)) if value.contains_key("labels") => {
                mentions.push(mention(index, Value::Object(value), line)?);
            }
            Some(Value::Object(value))
                if OTHER_LABELS.iter().any(|kind| value.contains_key(*kind)) =>
            {
                let kind = OTHER_LABELS
                    .into_iter()
                    .find(|kind| value.contains_key(*kind));
                return Err(Fault::OtherLabels {
                    place: format!("region {}", index + 1),
                    kind: kind.unwrap_or_default().to_owned(),
                });
            }
            Some(_) | None => reading.ignored("results other than labels (Label Studio)"),
        }
    }
    Ok(Some((text, mentions)))
}

/// Labels of parts of something other than a plain text.
const OTHER_LABELS: [&str; 3] = ["hypertextlabels", "paragraphlabels", "timeserieslabels"];

/// The text of a task whose project calls it otherwise.
fn only_string(data: Map<String, Value>) -> Result<Value, Fault> {
    let keys: Vec<String> = data.keys().cloned().collect();
    let mut strings = data.into_iter().filter(|(_, value)| value.is_string());
    match (strings.next(), strings.next()) {
        (Some((_, text)), None) => Ok(text),
        _ => Err(Fault::KeyMissing {
            expected: "data.text",
            found: keys,
        }),
    }
}

/// spaCy's pair of a text and what is known of it.
pub(super) fn spacy_pair(list: Vec<Value>) -> Result<JsonRecord, Fault> {
    match <[Value; 2]>::try_from(list) {
        Ok([text @ Value::String(_), Value::Object(mut known)]) => {
            let entities = known.remove("entities").unwrap_or(Value::Null);
            Ok(JsonRecord::of(vec![("text", text), ("entities", entities)]))
        }
        Ok(_) | Err(_) => Err(Fault::JsonObject {
            found: "a list that is no pair of a text and its entities",
        }),
    }
}

/// A document of spaCy's training format: paragraphs of sentences of tokens with `orth` and `ner`.
pub(super) fn spacy_document(
    paragraphs: Value,
    line: usize,
    reading: &mut Reading,
) -> Result<(), Fault> {
    let document = Some(reading.documents.unnamed());
    for paragraph in array(paragraphs, "`paragraphs`")? {
        let sentences = member(&paragraph, "sentences")?;
        for sentence in array(sentences, "`sentences`")? {
            let tokens = array(member(&sentence, "tokens")?, "`tokens`")?;
            let (mut words, mut tags) = (Vec::new(), Vec::new());
            for token in tokens {
                let word = string(member(&token, "orth")?, "`orth`")?;
                if word.trim().is_empty() {
                    continue;
                }
                let tag = string(member(&token, "ner")?, "`ner`")?;
                reading.check_tag(&tag)?;
                words.push(word);
                tags.push(tag);
            }
            if words.is_empty() {
                continue;
            }
            let sentence = Sentence {
                offsets: joined(&words),
                words,
                tags,
                document,
                line,
                ..Sentence::default()
            };
            reading.written(sentence, |_| line);
        }
    }
    Ok(())
}

fn member(value: &Value, key: &'static str) -> Result<Value, Fault> {
    value.get(key).cloned().ok_or(Fault::KeyMissing {
        expected: key,
        found: value
            .as_object()
            .map(|object| object.keys().cloned().collect())
            .unwrap_or_default(),
    })
}
