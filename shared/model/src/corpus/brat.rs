//! BRAT standoff: a text and, beside it, the character offsets of its entities
//! (<https://brat.nlplab.org/standoff.html>). Folders of such pairs, or of XML files.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use super::bytes::MARK;
use super::lines::Lines;
use super::mention::RawMention;
use super::reading::Reading;
use super::text::{self, Source};
use super::{Error, Fault, Format, decode, xml};

/// Reads a pair of files, or all pairs of a folder and of the folders in it. Each pair is a
/// document, and so is an XML file where there are no pairs.
pub(super) fn read(path: &Path, reading: &mut Reading) -> Result<Format, Error> {
    let given = reading.file.clone();
    let failed = |source| Error::Read {
        name: given.clone(),
        source,
    };
    if !path.is_dir() {
        fs::metadata(path).map_err(failed)?;
        pair(&path.with_extension(""), reading);
        return Ok(Format::Brat);
    }
    let mut folder = Folder::default();
    folder.collect(path).map_err(failed)?;
    for _ in 0..folder.hidden {
        reading.ignored("hidden files");
    }
    if folder.annotated.is_empty() && !folder.markup.is_empty() {
        for file in &folder.markup {
            markup(file, reading);
        }
        reading.file = given;
        return Ok(Format::Xml);
    }
    if folder.annotated.is_empty() {
        reading.problem(0, &Fault::FolderEmpty);
        return Ok(Format::Brat);
    }
    for _ in folder.texts.difference(&folder.annotated) {
        reading.ignored("texts without annotations beside them");
    }
    for stem in &folder.annotated {
        pair(stem, reading);
    }
    Ok(Format::Brat)
}

fn markup(file: &Path, reading: &mut Reading) {
    reading.file = file.display().to_string();
    match fs::read(file) {
        Ok(bytes) => {
            xml::read(1, decode(bytes), reading);
        }
        Err(error) => {
            let reason = error.to_string();
            reading.problem(0, &Fault::Unreadable { reason });
        }
    }
}

/// The files of a folder, without their endings.
#[derive(Default)]
struct Folder {
    annotated: BTreeSet<PathBuf>,
    texts: BTreeSet<PathBuf>,
    /// XML files, with their endings.
    markup: BTreeSet<PathBuf>,
    /// Files that systems and editors leave.
    hidden: usize,
}

impl Folder {
    fn collect(&mut self, folder: &Path) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let path = entry.path();
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            if path.is_dir() {
                if !hidden {
                    self.collect(&path)?;
                }
                continue;
            }
            let files = match path.extension().and_then(|ending| ending.to_str()) {
                Some("ann") => &mut self.annotated,
                Some("txt") => &mut self.texts,
                Some("xml") if !hidden => {
                    self.markup.insert(path);
                    continue;
                }
                Some(_) | None => continue,
            };
            if hidden {
                self.hidden += 1;
            } else {
                files.insert(path.with_extension(""));
            }
        }
        Ok(())
    }
}

fn pair(stem: &Path, reading: &mut Reading) {
    let named = |ending: &str| {
        let mut name = stem.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    };
    let (text_file, annotation_file) = (named(".txt"), named(".ann"));
    let (text_name, annotation_name) = (
        text_file.display().to_string(),
        annotation_file.display().to_string(),
    );
    let given = std::mem::replace(&mut reading.file, text_name);
    let text = text(&text_file, reading);
    reading.file = annotation_name;
    let mentions = mentions(&annotation_file, reading);
    if let (Some(text), Some(mentions)) = (text, mentions) {
        let lines = LineStarts::of(&text);
        text::read(&text, mentions, reading, |reading| Source {
            document: Some(reading.documents.named(&stem.display().to_string())),
            person: None,
            line: Box::new(|byte| lines.line(byte)),
        });
    }
    reading.file = given;
    reading.marked = false;
}

/// The text, or `None` and a problem.
fn text(file: &Path, reading: &mut Reading) -> Option<String> {
    let bytes = match fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) => {
            reading.problem(0, &unreadable(&error, Fault::TextMissing));
            return None;
        }
    };
    reading.marked = bytes.starts_with(MARK.encode_utf8(&mut [0; 4]).as_bytes());
    match decode(bytes) {
        Ok(text) => Some(text),
        Err((line, fault)) => {
            reading.problem(line, &fault);
            None
        }
    }
}

fn unreadable(error: &io::Error, missing: Fault) -> Fault {
    if error.kind() == io::ErrorKind::NotFound {
        return missing;
    }
    Fault::Unreadable {
        reason: error.to_string(),
    }
}

/// The entities, or `None` and the problems.
fn mentions(file: &Path, reading: &mut Reading) -> Option<Vec<RawMention>> {
    let opened = match File::open(file) {
        Ok(opened) => opened,
        Err(error) => {
            reading.problem(0, &unreadable(&error, Fault::AnnotationsMissing));
            return None;
        }
    };
    let mut lines = Lines::new(BufReader::new(opened));
    let (mut mentions, mut ids, mut sound) = (Vec::new(), HashMap::new(), true);
    loop {
        let (number, outcome) = match lines.next() {
            Ok(None) => return sound.then_some(mentions),
            Ok(Some((number, line))) => (number, line.and_then(|line| annotation(number, line))),
            Err(error) => {
                let reason = error.to_string();
                reading.problem(0, &Fault::Unreadable { reason });
                return None;
            }
        };
        let outcome = outcome.and_then(|annotation| match annotation {
            Annotation::Blank => Ok(()),
            Annotation::Other(kind) => {
                reading.ignored(format!("annotations of the kind {kind}"));
                Ok(())
            }
            Annotation::Entity(mention) => {
                if let Some(first) = ids.insert(mention.name.clone(), number) {
                    let id = mention.name;
                    return Err(Fault::IdTwice { id, first });
                }
                mentions.push(mention);
                Ok(())
            }
        });
        if let Err(fault) = outcome {
            reading.problem(number, &fault);
            sound = false;
        }
    }
}

/// A line of an `.ann` file.
enum Annotation {
    Entity(RawMention),
    /// Relations, events, attributes, normalisations, notes and equivalences.
    Other(char),
    Blank,
}

fn annotation(number: usize, line: &str) -> Result<Annotation, Fault> {
    let malformed = || Fault::Annotation {
        line: line.chars().take(80).collect(),
    };
    match line.chars().next() {
        None => return Ok(Annotation::Blank),
        Some('T') => {}
        Some(kind @ ('R' | 'E' | 'A' | 'M' | 'N' | '*' | '#')) if line.contains('\t') => {
            return Ok(Annotation::Other(kind));
        }
        Some(_) if line.trim().is_empty() => return Ok(Annotation::Blank),
        Some(_) => return Err(malformed()),
    }
    let columns: Vec<&str> = line.splitn(3, '\t').collect();
    let [id, place, text] = columns.as_slice() else {
        return Err(malformed());
    };
    let (label, offsets) = split_place(place).ok_or_else(malformed)?;
    let offset = |text: &str| {
        text.parse::<usize>().map_err(|_| Fault::Offset {
            found: text.to_owned(),
        })
    };
    let parts = offsets.split(';').map(|part| {
        let (start, end) = part.split_once(' ').ok_or_else(malformed)?;
        Ok((offset(start)?, offset(end)?))
    });
    Ok(Annotation::Entity(RawMention {
        parts: parts.collect::<Result<_, Fault>>()?,
        label: label.to_owned(),
        text: Some((*text).to_owned()),
        name: (*id).to_owned(),
        line: number,
    }))
}

/// A type and its offsets. The type may be of several words: the offsets begin with the first
/// number.
fn split_place(place: &str) -> Option<(&str, &str)> {
    let number = |at: &usize| {
        let rest = &place[at + 1..];
        rest.starts_with(|c: char| c.is_ascii_digit()) && rest.contains(' ')
    };
    let blanks = place.match_indices(' ').map(|(at, _)| at);
    let at = blanks
        .clone()
        .find(number)
        .or_else(|| blanks.clone().next())?;
    Some((&place[..at], &place[at + 1..]))
}

/// Where the lines of a text begin, in bytes.
struct LineStarts(Vec<usize>);

impl LineStarts {
    fn of(text: &str) -> Self {
        let ends = text.match_indices('\n').map(|(byte, _)| byte + 1);
        Self(std::iter::once(0).chain(ends).collect())
    }

    fn line(&self, byte: usize) -> usize {
        self.0.partition_point(|start| *start <= byte)
    }
}
