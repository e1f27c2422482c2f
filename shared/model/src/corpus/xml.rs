//! XML of two kinds: `BioC` collections (Comeau et al. 2013), and texts with stand-off tags as i2b2 and
//! n2c2 publish them.

use roxmltree::{Document, Node, ParsingOptions};

use super::lines::Whole;
use super::mention::RawMention;
use super::reading::Reading;
use super::text::{self, Source};
use super::{Fault, Format};

/// Whether a first line begins an XML file.
pub(super) fn is_beginning(line: &str) -> bool {
    let line = line.trim();
    let begins = ["<?xml", "<!", "<collection", "<deIdi2b2"];
    // A word in columns has a tag behind it.
    let element = line.strip_prefix('<').is_some_and(|rest| {
        rest.starts_with(|c: char| c.is_ascii_alphabetic())
            && line.ends_with('>')
            && !line.contains('\t')
    });
    element || begins.iter().any(|begin| line.starts_with(begin))
}

/// Elements and texts of a file, at most.
const MOST_NODES: u32 = 50_000_000;

/// Reads a whole file.
pub(super) fn read(first: usize, text: Whole, reading: &mut Reading) -> Format {
    let text = match text {
        Ok(text) => text,
        Err((line, fault)) => {
            reading.problem(line, &fault);
            return Format::Xml;
        }
    };
    let outcome = {
        let options = ParsingOptions {
            allow_dtd: true,
            nodes_limit: MOST_NODES,
        };
        let parsed = Document::parse_with_options(&text, options).map_err(|error| {
            let line = error.pos().row as usize;
            let reason = error.to_string();
            Fault::Xml { line, reason }
        });
        parsed.and_then(|document| root(&document, reading))
    };
    match outcome {
        Ok(()) => {}
        Err(Fault::Xml { line, reason }) => {
            let fault = Fault::Xml { line, reason };
            reading.problem(first + line.saturating_sub(1), &fault);
        }
        Err(fault) => reading.problem(first, &fault),
    }
    Format::Xml
}

fn root(document: &Document<'_>, reading: &mut Reading) -> Result<(), Fault> {
    let root = document.root_element();
    if root.has_tag_name("collection") {
        for article in elements(root, "document") {
            bioc(document, article, reading);
        }
        return Ok(());
    }
    let texts = elements(root, "TEXT")
        .next()
        .zip(elements(root, "TAGS").next());
    let Some((text, tags)) = texts else {
        let found = root.tag_name().name().to_owned();
        return Err(Fault::XmlKind { found });
    };
    i2b2(document, (text, tags), reading);
    Ok(())
}

fn elements<'a, 'd: 'a>(
    parent: Node<'a, 'd>,
    name: &'static str,
) -> impl Iterator<Item = Node<'a, 'd>> {
    parent
        .children()
        .filter(move |child| child.has_tag_name(name))
}

fn content(node: Node<'_, '_>) -> String {
    let texts = node.descendants().filter(Node::is_text);
    texts.filter_map(|text| text.text()).collect()
}

fn line(document: &Document<'_>, node: Node<'_, '_>) -> usize {
    document.text_pos_at(node.range().start).row as usize
}

/// A number that an attribute or an element holds.
fn number(text: Option<&str>) -> Result<usize, Fault> {
    let text = text.unwrap_or_default();
    text.trim().parse().map_err(|_| Fault::Offset {
        found: text.to_owned(),
    })
}

/// A document of passages, or of passages of sentences, each a text with entities.
fn bioc(document: &Document<'_>, article: Node<'_, '_>, reading: &mut Reading) {
    let name = elements(article, "id").next().map(content);
    let number = match name.filter(|name| !name.trim().is_empty()) {
        Some(name) => reading.documents.named(name.trim()),
        None => reading.documents.unnamed(),
    };
    for passage in elements(article, "passage") {
        let sentences: Vec<_> = elements(passage, "sentence").collect();
        let parts = if sentences.is_empty() {
            vec![passage]
        } else {
            sentences
        };
        for part in parts {
            let line = line(document, part);
            match annotated(document, part) {
                Err((line, fault)) => reading.problem(line, &fault),
                Ok((text, mentions)) => text::read(&text, mentions, reading, |_| Source {
                    document: Some(number),
                    person: None,
                    line: Box::new(move |_| line),
                }),
            }
        }
    }
}

type Annotated = (String, Vec<RawMention>);

fn annotated(document: &Document<'_>, part: Node<'_, '_>) -> Result<Annotated, (usize, Fault)> {
    let here = |node: Node<'_, '_>| line(document, node);
    let text = elements(part, "text")
        .next()
        .map(content)
        .unwrap_or_default();
    let begin = elements(part, "offset").next().map(content);
    let begin = number(begin.as_deref()).map_err(|fault| (here(part), fault))?;
    let mut mentions = Vec::new();
    for annotation in elements(part, "annotation") {
        let line = here(annotation);
        let at = |fault| (line, fault);
        let kind =
            elements(annotation, "infon").find(|infon| infon.attribute("key") == Some("type"));
        let mut parts = Vec::new();
        for location in elements(annotation, "location") {
            let offset = number(location.attribute("offset")).map_err(at)?;
            let length = number(location.attribute("length")).map_err(at)?;
            let start = offset.checked_sub(begin).ok_or_else(|| {
                let found = format!("{offset}, before its passage at {begin},");
                at(Fault::Offset { found })
            })?;
            parts.push((start, start.saturating_add(length)));
        }
        if parts.is_empty() {
            return Err(at(Fault::XmlPart {
                expected: "a location",
            }));
        }
        mentions.push(RawMention {
            parts,
            label: kind.map(content).unwrap_or_default().trim().to_owned(),
            text: elements(annotation, "text").next().map(content),
            name: annotation
                .attribute("id")
                .unwrap_or("an annotation")
                .to_owned(),
            line,
        });
    }
    Ok((text, mentions))
}

/// One text and its tags, whose type is that of the attribute `TYPE`, or the tag's name.
fn i2b2(
    document: &Document<'_>,
    (text, tags): (Node<'_, '_>, Node<'_, '_>),
    reading: &mut Reading,
) {
    let begins = line(document, text);
    let text = content(text);
    let (mut mentions, mut sound) = (Vec::new(), true);
    for tag in tags.children().filter(Node::is_element) {
        let line = line(document, tag);
        let places = number(tag.attribute("start"))
            .and_then(|start| Ok((start, number(tag.attribute("end"))?)));
        match places {
            Ok(place) => mentions.push(RawMention {
                parts: vec![place],
                label: tag
                    .attribute("TYPE")
                    .unwrap_or(tag.tag_name().name())
                    .to_owned(),
                text: tag.attribute("text").map(str::to_owned),
                name: tag.attribute("id").unwrap_or("a tag").to_owned(),
                line,
            }),
            Err(fault) => {
                reading.problem(line, &fault);
                sound = false;
            }
        }
    }
    if sound {
        let file = reading.file.clone();
        text::read(&text, mentions, reading, |reading| Source {
            document: Some(reading.documents.named(&file)),
            person: None,
            line: Box::new(move |_| begins),
        });
    }
}
