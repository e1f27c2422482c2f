//! Where texts come from, a group at a time.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use fedner_model::corpus::{Fault, decode};
use fedner_shared::refusal::{Code, Refusal};

use super::SourceArguments;

/// Texts are tagged together up to so many bytes: enough for whole batches, little to wait for.
pub(in crate::cli) const TOGETHER: usize = 1 << 16;

/// A text and what it is called.
#[derive(Debug)]
pub(in crate::cli) struct Text {
    /// The file, from the folder on and without its ending; `None` for others.
    pub(in crate::cli) name: Option<String>,
    pub(in crate::cli) contents: String,
}

/// Texts still to be read.
pub(in crate::cli) struct Source {
    kind: Kind,
    /// Files in all, where they are known beforehand.
    files: Option<usize>,
    /// Files that could not be read, and the first of them.
    unread: usize,
    first_unread: Option<String>,
}

enum Kind {
    Text(Option<String>),
    /// A text of all of stdin.
    Stdin(bool),
    Files {
        queue: VecDeque<PathBuf>,
        /// Names are relative to it.
        root: Option<PathBuf>,
    },
    Lines {
        input: BufReader<Box<dyn Read>>,
        /// What the input is called, and how many of its lines are read.
        name: String,
        read: usize,
    },
}

impl Source {
    pub(in crate::cli) fn open(arguments: &SourceArguments) -> anyhow::Result<Self> {
        let of = |kind, files| Self {
            kind,
            files,
            unread: 0,
            first_unread: None,
        };
        if arguments.lines {
            let (input, name): (Box<dyn Read>, String) = match arguments.file.as_slice() {
                [] => match &arguments.text {
                    Some(text) => (Box::new(io::Cursor::new(text.clone())), "--text".into()),
                    None => (Box::new(io::stdin()), "stdin".into()),
                },
                [file] => {
                    let opened = fs::File::open(file).map_err(|error| unreadable(file, &error))?;
                    (Box::new(opened), file.display().to_string())
                }
                _ => {
                    let message = "`--lines` reads one file: expected one after `--file`";
                    return Err(Refusal::new(Code::RequestInvalid, message).into());
                }
            };
            let input = BufReader::new(input);
            return Ok(of(
                Kind::Lines {
                    input,
                    name,
                    read: 0,
                },
                None,
            ));
        }
        if let Some(folder) = &arguments.folder {
            let mut queue = Vec::new();
            collect(folder, &mut queue).map_err(|error| unreadable(folder, &error))?;
            queue.sort();
            let files = queue.len();
            if files == 0 {
                let message = format!("{} has no .txt file", folder.display());
                return Err(Refusal::new(Code::TextInvalid, message).into());
            }
            let root = Some(folder.clone());
            let queue = queue.into();
            return Ok(of(Kind::Files { queue, root }, Some(files)));
        }
        if !arguments.file.is_empty() {
            let queue: VecDeque<PathBuf> = arguments.file.iter().cloned().collect();
            let files = queue.len();
            return Ok(of(Kind::Files { queue, root: None }, Some(files)));
        }
        Ok(match &arguments.text {
            Some(text) => of(Kind::Text(Some(text.clone())), None),
            None => of(Kind::Stdin(false), None),
        })
    }

    /// Whether there may be more texts than one.
    pub(in crate::cli) fn is_several(&self) -> bool {
        match &self.kind {
            Kind::Text(_) | Kind::Stdin(_) => false,
            Kind::Files { queue, root } => root.is_some() || queue.len() > 1,
            Kind::Lines { .. } => true,
        }
    }

    pub(in crate::cli) fn known_length(&self) -> Option<usize> {
        self.files
    }

    /// The names of all files to come.
    pub(in crate::cli) fn names(&self) -> Vec<String> {
        match &self.kind {
            Kind::Files { queue, root } => queue.iter().map(|f| name(f, root.as_deref())).collect(),
            Kind::Text(_) | Kind::Stdin(_) | Kind::Lines { .. } => Vec::new(),
        }
    }

    /// The next texts; `None` after the last.
    pub(in crate::cli) fn next_group(&mut self) -> anyhow::Result<Option<Vec<Text>>> {
        match &mut self.kind {
            Kind::Text(text) => Ok(text.take().map(|text| vec![nameless(text)])),
            Kind::Stdin(read) => {
                if std::mem::replace(read, true) {
                    return Ok(None);
                }
                let mut bytes = Vec::new();
                io::stdin()
                    .read_to_end(&mut bytes)
                    .context("read text from stdin")?;
                let text = decode(bytes).map_err(|fault| no_text("stdin", fault))?;
                Ok(Some(vec![nameless(text)]))
            }
            Kind::Files { .. } => self.next_files(),
            Kind::Lines { input, name, read } => next_lines(input, name, read),
        }
    }

    fn next_files(&mut self) -> anyhow::Result<Option<Vec<Text>>> {
        let Kind::Files { queue, root } = &mut self.kind else {
            return Ok(None);
        };
        if queue.is_empty() {
            return Ok(None);
        }
        let (mut texts, mut bytes) = (Vec::new(), 0);
        while bytes < TOGETHER {
            let Some(file) = queue.pop_front() else { break };
            match read_text(&file) {
                Ok(contents) => {
                    bytes += contents.len();
                    texts.push(Text {
                        name: Some(name(&file, root.as_deref())),
                        contents,
                    });
                }
                // The others of a folder are read all the same; one file asked for is not passed
                // over.
                Err(refusal) if self.files == Some(1) => return Err(refusal.into()),
                Err(refusal) => {
                    tracing::warn!("{refusal}");
                    self.unread += 1;
                    self.first_unread.get_or_insert(refusal.message);
                }
            }
        }
        Ok(Some(texts))
    }

    /// What to say where files could not be read.
    pub(in crate::cli) fn unread(&self) -> Option<Refusal> {
        let first = self.first_unread.as_ref()?;
        let (unread, all) = (self.unread, self.files.unwrap_or_default());
        let message = format!("{unread} of {all} files were passed over: {first}");
        Some(Refusal::new(Code::TextInvalid, message))
    }
}

fn nameless(contents: String) -> Text {
    Text {
        name: None,
        contents,
    }
}

/// Lines that are there already, at least one; a slow writer does not keep its lines waiting for
/// others.
fn next_lines(
    input: &mut BufReader<Box<dyn Read>>,
    name: &str,
    read: &mut usize,
) -> anyhow::Result<Option<Vec<Text>>> {
    let (mut texts, mut bytes) = (Vec::new(), 0);
    loop {
        let mut line = Vec::new();
        let length = input
            .read_until(b'\n', &mut line)
            .context("read lines of text")?;
        if length == 0 {
            return Ok((!texts.is_empty()).then_some(texts));
        }
        *read += 1;
        let line = match *read {
            // The first may begin with a byte-order mark, or tell that the file is no text.
            1 => decode(line),
            _ => String::from_utf8(line).map_err(|_| (1, Fault::NotUtf8)),
        };
        let line = line.map_err(|(_, fault)| no_text(name, (*read, fault)))?;
        texts.push(nameless(line.trim_end_matches(['\n', '\r']).to_owned()));
        bytes += length;
        if bytes >= TOGETHER || !input.buffer().contains(&b'\n') {
            return Ok(Some(texts));
        }
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        // What systems and editors leave.
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|ending| ending == "txt") {
            files.push(path);
        }
    }
    Ok(())
}

/// A file's name for output: from the folder on, or its last part, without the ending.
fn name(file: &Path, root: Option<&Path>) -> String {
    let inside = root.and_then(|root| file.strip_prefix(root).ok());
    let last = file.file_name().map_or(file, Path::new);
    inside
        .unwrap_or(last)
        .with_extension("")
        .display()
        .to_string()
}

fn read_text(file: &Path) -> Result<String, Refusal> {
    let bytes = fs::read(file).map_err(|error| unreadable(file, &error))?;
    decode(bytes).map_err(|fault| no_text(&file.display().to_string(), fault))
}

fn unreadable(file: &Path, error: &io::Error) -> Refusal {
    let message = format!("{} cannot be read: {error}", file.display());
    Refusal::new(Code::TextInvalid, message)
}

fn no_text(name: &str, (line, fault): (usize, Fault)) -> Refusal {
    Refusal::new(Code::TextInvalid, format!("{name}, line {line}: {fault}"))
}
