//! Reading a corpus from beginning to end, one sentence after another.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use super::annotated::{Annotated, declare};
use super::conll::layout::Layout;
use super::formats::{self, Parser};
use super::lines::Lines;
use super::options::ReadOptions;
use super::reading::{Documents, Item, Reading, Summary};
use super::shape::Shapes;
use super::{Corpus, Error, Format, brat, xml};

/// Reads files. Documents are numbered through all files that one reader reads, and those of one
/// name are one document.
#[derive(Debug, Clone, Default)]
pub struct Reader {
    options: ReadOptions,
    shapes: Shapes,
    annotated: Annotated,
    documents: Documents,
}

impl Reader {
    pub fn new(options: ReadOptions) -> Self {
        Self {
            options,
            ..Self::default()
        }
    }

    /// The same, with what is known of files already.
    #[must_use]
    pub fn with_shapes(self, shapes: Shapes) -> Self {
        Self { shapes, ..self }
    }

    /// The same, with what files are declared to annotate.
    #[must_use]
    pub fn with_annotated(self, annotated: Annotated) -> Self {
        Self { annotated, ..self }
    }

    pub fn annotated(&self) -> &Annotated {
        &self.annotated
    }

    /// Reads a file, or a folder of BRAT files, and hands on each sentence and each problem as it
    /// comes. A malformed line is left out of its sentence, a malformed record as a whole.
    ///
    /// Fails where the file cannot be read at all.
    pub fn stream(&mut self, path: &Path, sink: &mut dyn FnMut(Item)) -> Result<Summary, Error> {
        let name = path.display().to_string();
        let failed = |source| Error::Read {
            name: name.clone(),
            source,
        };
        let declared = self.annotated.of(path).cloned();
        let sink: &mut dyn FnMut(Item) = match &declared {
            None => sink,
            Some(annotated) => &mut |item| sink(declare(item, &name, annotated)),
        };
        let shape = self.shapes.get(path).cloned();
        let known = self.options.format.or(shape.as_ref().map(|s| s.format));
        let brat = match known {
            // A folder may hold XML files.
            Some(format) => format == Format::Brat || (format == Format::Xml && path.is_dir()),
            None => formats::is_brat(path),
        };
        if brat {
            return self.stream_with(&name, sink, |reading| brat::read(path, reading));
        }
        let file = File::open(path).map_err(failed)?;
        let input = BufReader::with_capacity(1 << 16, file);
        self.stream_with(&name, sink, |reading| {
            lines(input, known, shape.and_then(|shape| shape.layout), reading).map_err(failed)
        })
    }

    /// Reads lines that are in memory or come from elsewhere; `name` is what problems call them.
    pub fn stream_lines(
        &mut self,
        name: &str,
        input: impl BufRead,
        sink: &mut dyn FnMut(Item),
    ) -> Result<Summary, Error> {
        let forced = self.options.format;
        self.stream_with(name, sink, |reading| {
            lines(input, forced, None, reading).map_err(|source| Error::Read {
                name: name.to_owned(),
                source,
            })
        })
    }

    /// What documents are called, by number, where something names them.
    pub fn document_names(&self) -> BTreeMap<u32, &str> {
        self.documents.names()
    }

    /// The whole of a file. One problem, and nothing is returned.
    pub fn corpus(&mut self, path: &Path) -> Result<Corpus, Error> {
        let name = path.display().to_string();
        Corpus::collect(&name, |sink| self.stream(path, sink))
    }

    fn stream_with(
        &mut self,
        name: &str,
        sink: &mut dyn FnMut(Item),
        read: impl FnOnce(&mut Reading) -> Result<Format, Error>,
    ) -> Result<Summary, Error> {
        let mut reading = Reading::new(name, &mut self.documents, &self.options, sink);
        reading.summary.format = read(&mut reading)?;
        Ok(reading.finish())
    }
}

fn lines(
    input: impl BufRead,
    forced: Option<Format>,
    layout: Option<Layout>,
    reading: &mut Reading,
) -> Result<Format, std::io::Error> {
    let mut lines = Lines::new(input);
    let of = |format| Parser::new(format, layout);
    let mut parser = forced.filter(|format| *format != Format::Xml).map(of);
    while let Some((number, line)) = lines.next()? {
        let line = match line {
            Err(fault) => {
                reading.problem(number, &fault);
                continue;
            }
            Ok(line) if parser.is_none() && line.trim().is_empty() => continue,
            Ok(line) => line,
        };
        let format = forced.unwrap_or_else(|| formats::of_line(line));
        if parser.is_none() && format == Format::Xml {
            let text = lines.rest()?;
            return Ok(xml::read(number, text, reading));
        }
        let parser = parser.get_or_insert_with(|| of(format));
        if let Parser::Json(json) = parser
            && json.begins_document(line)
        {
            // One value over several lines, or one list: it is read as a whole.
            let text = lines.rest()?;
            json.document(number, text, reading);
            break;
        }
        if let Err(fault) = parser.line(number, line, reading) {
            reading.problem(number, &fault);
        }
    }
    let parser = parser.unwrap_or_else(|| of(Format::Conll));
    Ok(parser.finish(reading))
}
