//! BRAT standoff: a text and, beside it, the character offsets of its entities
//! (<https://brat.nlplab.org/standoff.html>).

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use super::lines::Lines;
use super::read::Reading;
use super::text::{Mention, annotate};
use super::{Error, Fault, Sentence};

/// Reads a pair of files, or all pairs of a folder and of the folders in it. Each pair is a
/// document.
pub(super) fn read(path: &Path, reading: &mut Reading) -> Result<(), Error> {
    let given = reading.file.clone();
    let failed = |source| Error::Read {
        name: given.clone(),
        source,
    };
    if !path.is_dir() {
        fs::metadata(path).map_err(failed)?;
        pair(&path.with_extension(""), reading);
        return Ok(());
    }
    let mut stems = BTreeSet::new();
    let annotated = collect(path, &mut stems).map_err(failed)?;
    if annotated == 0 {
        reading.problem(0, &Fault::FolderEmpty);
        return Ok(());
    }
    for stem in &stems {
        pair(stem, reading);
    }
    Ok(())
}

/// Gathers the files' names without their endings; how many have annotations.
fn collect(folder: &Path, stems: &mut BTreeSet<PathBuf>) -> io::Result<usize> {
    let mut annotated = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            annotated += collect(&path, stems)?;
            continue;
        }
        let ending = path.extension().and_then(|ending| ending.to_str());
        if matches!(ending, Some("txt" | "ann")) {
            annotated += usize::from(ending == Some("ann"));
            stems.insert(path.with_extension(""));
        }
    }
    Ok(annotated)
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
    let given = std::mem::replace(&mut reading.file, text_name.clone());
    let text = text(&text_file, reading);
    reading.file = annotation_name;
    let mentions = mentions(&annotation_file, reading);
    if let (Some(text), Some(mentions)) = (text, mentions) {
        match annotate(&text, mentions) {
            Err(faults) => {
                for (line, fault) in &faults {
                    reading.problem(*line, fault);
                }
            }
            Ok(annotated) => {
                let document = reading.documents.named(&stem.display().to_string());
                reading.summary.split_words += annotated.split_words;
                let starts = annotated.starts.iter().zip(annotated.lines);
                let mut line = LineOf::new(&text);
                for (sentence, (start, lines)) in annotated.sentences.into_iter().zip(starts) {
                    let sentence = Sentence {
                        document: Some(document),
                        line: line.at(*start),
                        ..sentence
                    };
                    reading.converted(sentence, |word| lines[word]);
                }
            }
        }
    }
    reading.file = given;
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
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        reading.problem(1, &Fault::Utf16);
        return None;
    }
    match String::from_utf8(bytes) {
        Ok(text) => Some(match text.strip_prefix('\u{feff}') {
            Some(text) => text.to_owned(),
            None => text,
        }),
        Err(error) => {
            let sound = error.utf8_error().valid_up_to();
            let before = &error.as_bytes()[..sound];
            let line = 1 + line_ends(before);
            reading.problem(line, &Fault::NotUtf8);
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
fn mentions(file: &Path, reading: &mut Reading) -> Option<Vec<Mention>> {
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
                let kind = format!("annotations of the kind {kind}");
                *reading.summary.ignored.entry(kind).or_default() += 1;
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
    Entity(Mention),
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
    let (label, offsets) = place.split_once(' ').ok_or_else(malformed)?;
    if offsets.contains(';') {
        let id = (*id).to_owned();
        return Err(Fault::Discontinuous { id });
    }
    let (start, end) = offsets.split_once(' ').ok_or_else(malformed)?;
    let offset = |text: &str| {
        text.parse::<usize>().map_err(|_| Fault::Offset {
            found: text.to_owned(),
        })
    };
    Ok(Annotation::Entity(Mention {
        start: offset(start)?,
        end: offset(end)?,
        label: label.to_owned(),
        text: Some((*text).to_owned()),
        name: (*id).to_owned(),
        line: number,
    }))
}

fn line_ends(bytes: &[u8]) -> usize {
    let ends = bytes.split(|byte| *byte == b'\n').count();
    ends - 1
}

/// The lines of ascending places in a text.
struct LineOf<'a> {
    text: &'a str,
    /// The byte up to which lines are counted.
    counted: usize,
    line: usize,
}

impl<'a> LineOf<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            counted: 0,
            line: 1,
        }
    }

    fn at(&mut self, byte: usize) -> usize {
        self.line += line_ends(&self.text.as_bytes()[self.counted..byte]);
        self.counted = byte;
        self.line
    }
}
