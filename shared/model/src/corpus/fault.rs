//! What can be wrong with annotated text, each fault with a code that stays the same.

use std::fmt;

use serde::Serialize;

/// The code of [`Fault::TagSequence`].
pub const TAG_SEQUENCE: &str = "tag-sequence";
/// The code of [`Fault::NotAnnotated`].
pub const NOT_ANNOTATED: &str = "type-not-annotated";

/// What is wrong with a line of a corpus.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("the line is not UTF-8: is it Latin-1 (`iconv -f latin1 -t utf-8` converts it)?")]
    NotUtf8,
    #[error("the file is {what}: unpack it, or save it as text in UTF-8")]
    Compressed { what: &'static str },
    #[error(
        "the file is {name}: expected UTF-8 (`iconv -f {} -t utf-8` converts it)",
        iconv(name)
    )]
    Wide { name: &'static str },
    #[error("the line is longer than {most} bytes")]
    LineTooLong { most: usize },
    #[error(
        "the line has a carriage return inside: expected lines that end in LF or CRLF \
         (`tr '\\r' '\\n'` converts those of old Macs)"
    )]
    CarriageReturn,

    #[error("the line has one column: expected a word and its tag")]
    OneColumn,
    #[error(
        "the line has commas and no tab or blank: expected columns of a word and its tag with tabs \
         between them, or a first line that names the columns of a CSV file (`Word,Tag`)"
    )]
    Commas,
    #[error("the first line names no column of words (`Word`) and of tags (`Tag`) of a CSV file")]
    NoHeading,
    #[error("a field's quotes are not closed where the field ends")]
    Quote,
    #[error("the line has {found} columns: there is no column {} for {}; see `--columns`",
        if word > found { word } else { tag }, if word > found { "the word" } else { "the tag" })]
    NoColumn {
        found: usize,
        word: usize,
        tag: usize,
    },
    #[error(
        "several of {found} columns hold tags, and the last holds none: which column has the tag says \
         `--columns word=1,tag=N`"
    )]
    WhichColumn { found: usize },
    #[error("a column is empty")]
    EmptyColumn,
    #[error("the line has {found} columns: expected {expected}, as line {first} has")]
    Columns {
        found: usize,
        expected: usize,
        first: usize,
    },
    #[error("`# {key} =` names no {key}")]
    UnnamedMark { key: String },

    #[error(
        "`{tag}` is not a tag: expected O, or B- and I- (IOB), E- and S- (IOBES) or L- and U- (BILOU) \
         with an entity type; of columns the first and the last are read, or those of `--columns \
         word=N,tag=N`"
    )]
    Tag { tag: String },
    #[error(
        "the tag `{tag}` is a number, whose name stands elsewhere: expected O (the letter), or B- and I- with \
         an entity type"
    )]
    TagNumber { tag: String },
    #[error(
        "`{tag}` holds several tags: a word can have one only; write the outer entity's, or put each level \
         into a column of its own and choose one with `--columns`"
    )]
    SeveralTags { tag: String },
    #[error("`{first}` and `{second}` are no tags: expected `B-{label}` and `I-{label}`")]
    TagPlace {
        first: String,
        second: String,
        label: String,
    },
    #[error("{tag} after {before} is no {scheme} sequence")]
    /// `tag` and `before` are quoted already where they are tags.
    TagSequence {
        tag: String,
        before: String,
        scheme: &'static str,
    },

    #[error(
        "the sentence has an entity of the type {label}: `annotated_types` says that its file annotates {}",
        or_none(annotated)
    )]
    NotAnnotated {
        label: String,
        annotated: Vec<String>,
    },

    #[error("the line is not JSON (column {column}): {reason}")]
    Json {
        column: usize,
        reason: String,
        /// The text ends before the value does.
        at_end: bool,
    },
    #[error("the line is {found}: expected a JSON object")]
    JsonObject { found: &'static str },
    #[error("the key `{key}` stands twice")]
    KeyTwice { key: String },
    #[error(
        "{place} is of HTML, audio or a dialogue (`{kind}` of Label Studio): expected `labels` of plain text"
    )]
    OtherLabels { place: String, kind: String },
    #[error("the record has no `{expected}`: found {}", or_none(found))]
    KeyMissing {
        expected: &'static str,
        found: Vec<String>,
    },
    #[error("{place} is {found}: expected {expected}")]
    JsonType {
        place: String,
        found: &'static str,
        expected: &'static str,
    },
    #[error(
        "`ner_tags` has numbers, whose names stand elsewhere: write the tags themselves (with \
         Python's datasets, `features[\"ner_tags\"].feature.int2str`)"
    )]
    TagNumbers,
    #[error("there are {tags} tags for {words} words")]
    Lengths { words: usize, tags: usize },
    #[error("`{key}` is empty")]
    NameEmpty { key: &'static str },
    #[error("word {position} is empty")]
    EmptyWord { position: usize },

    #[error("the entity type is empty")]
    TypeEmpty,
    #[error(
        "the entity type `{label}` has white space in it: give it another name, such as \
         `--rename \"{label}={}\"`", label.split_whitespace().collect::<Vec<_>>().join("_")
    )]
    TypeBlank { label: String },
    #[error("the entity type `{label}` is a tag: expected the type alone")]
    TypeIsTag { label: String },
    #[error("the entity {start}..{end} ends before it begins")]
    SpanOrder { start: usize, end: usize },
    #[error("the entity {start}..{end} is empty")]
    SpanEmpty { start: usize, end: usize },
    #[error("the entity {start}..{end} passes the end of the text, which has {length} characters")]
    SpanOutside {
        start: usize,
        end: usize,
        length: usize,
    },
    #[error("the entity {start}..{end} covers white space only")]
    SpanBlank { start: usize, end: usize },
    #[error(
        "the entity {start}..{end} is said to be `{said}`, but there stands `{found}`; counted in \
         UTF-16 units or bytes (`--offsets`), or line ends of CRLF as one, not all fit either"
    )]
    SpanText {
        start: usize,
        end: usize,
        said: String,
        found: String,
    },
    #[error("the entity {start}..{end} stands twice (also {other})")]
    SpanTwice {
        start: usize,
        end: usize,
        other: String,
    },
    #[error(
        "the entity {start}..{end} is nested with {other}: a word can have one tag only; `--overlaps` says which stays"
    )]
    SpanNested {
        start: usize,
        end: usize,
        other: String,
    },
    #[error(
        "the entity {start}..{end} overlaps {other}: a word can have one tag only; `--overlaps` says which stays"
    )]
    SpanOverlaps {
        start: usize,
        end: usize,
        other: String,
    },

    #[error(
        "`{line}` is not an annotation: expected T, R, E, A, M, N, * or # and, for T, \
         `ID<tab>TYPE START END<tab>TEXT`"
    )]
    Annotation { line: String },
    #[error("`{found}` is not a character offset")]
    Offset { found: String },
    #[error("the offset {found}, counted in {unit}, is inside a character")]
    OffsetInside { found: usize, unit: String },
    #[error(
        "the line is none of a PubTator file: expected `ID|t|TITLE`, `ID|a|ABSTRACT`, or ID, start, \
         end, text and type with tabs between them"
    )]
    PubTator,
    #[error("the file is no sound XML: {reason}")]
    Xml { line: usize, reason: String },
    #[error(
        "the XML has the root `{found}`: expected a BioC `collection`, or `TEXT` and `TAGS` as i2b2 and \
         n2c2 have them"
    )]
    XmlKind { found: String },
    #[error("the annotation has no part that says {expected}")]
    XmlPart { expected: &'static str },
    #[error("the annotation {id} stands twice (also in line {first})")]
    IdTwice { id: String, first: usize },
    #[error(
        "the annotation {id} has several parts with words between them: `--discontinuous` says \
         whether they are joined or dropped"
    )]
    Discontinuous { id: String },
    #[error("the file is missing: the annotations beside it have no text")]
    TextMissing,
    #[error(
        "the file is missing: the text beside it has no annotations (an empty file would say that it has none)"
    )]
    AnnotationsMissing,
    #[error(
        "the folder has neither .ann nor .xml files: expected pairs of .txt and .ann, or XML of i2b2, n2c2 \
         or BioC; files of other formats are given one by one"
    )]
    FolderEmpty,
    #[error("the file cannot be read: {reason}")]
    Unreadable { reason: String },
}

/// What `iconv` calls it; without a mark, nearly all are of Windows.
fn iconv(name: &str) -> String {
    match name.split_once(' ') {
        Some((name, _)) => format!("{}le", name.to_lowercase()),
        None => name.to_lowercase(),
    }
}

fn or_none(found: &[String]) -> String {
    if found.is_empty() {
        return "no key at all".to_owned();
    }
    let quoted: Vec<String> = found.iter().map(|key| format!("`{key}`")).collect();
    quoted.join(", ")
}

impl Fault {
    /// What is wrong with what stands in the place of a tag.
    pub(super) fn of_tag(tag: &str) -> Self {
        let tag = tag.to_owned();
        if tag.parse::<u32>().is_ok() {
            Self::TagNumber { tag }
        } else {
            Self::Tag { tag }
        }
    }

    /// A stable name.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotUtf8 => "not-utf8",
            Self::Wide { .. } => "utf16",
            Self::Compressed { .. } => "compressed",
            Self::LineTooLong { .. } => "line-too-long",
            Self::CarriageReturn => "carriage-return",
            Self::OneColumn => "one-column",
            Self::Commas => "commas",
            Self::NoHeading => "csv-heading",
            Self::Quote => "csv-quote",
            Self::NoColumn { .. } => "column-missing",
            Self::WhichColumn { .. } => "column-unclear",
            Self::EmptyColumn => "empty-column",
            Self::Columns { .. } => "columns-differ",
            Self::UnnamedMark { .. } => "mark-unnamed",
            Self::Tag { .. } => "tag-unknown",
            Self::TagNumber { .. } => "tag-number",
            Self::SeveralTags { .. } => "tags-several",
            Self::TagPlace { .. } => "tag-misplaced",
            Self::TagSequence { .. } => TAG_SEQUENCE,
            Self::NotAnnotated { .. } => NOT_ANNOTATED,
            Self::Json { .. } => "json-syntax",
            Self::JsonObject { .. } => "json-no-object",
            Self::KeyTwice { .. } => "json-key-twice",
            Self::OtherLabels { .. } => "labels-other",
            Self::KeyMissing { .. } => "json-key-missing",
            Self::JsonType { .. } => "json-type",
            Self::TagNumbers => "tag-numbers",
            Self::Lengths { .. } => "lengths-differ",
            Self::NameEmpty { .. } => "name-empty",
            Self::EmptyWord { .. } => "word-empty",
            Self::TypeEmpty => "type-empty",
            Self::TypeBlank { .. } => "type-blank",
            Self::TypeIsTag { .. } => "type-is-tag",
            Self::SpanOrder { .. } => "span-order",
            Self::SpanEmpty { .. } => "span-empty",
            Self::SpanOutside { .. } => "span-outside",
            Self::SpanBlank { .. } => "span-blank",
            Self::SpanText { .. } => "span-text",
            Self::SpanTwice { .. } => "span-twice",
            Self::SpanNested { .. } => "span-nested",
            Self::SpanOverlaps { .. } => "span-overlaps",
            Self::Annotation { .. } => "annotation-malformed",
            Self::Offset { .. } => "offset-malformed",
            Self::OffsetInside { .. } => "offset-inside",
            Self::PubTator => "pubtator-line",
            Self::Xml { .. } => "xml-syntax",
            Self::XmlKind { .. } => "xml-kind",
            Self::XmlPart { .. } => "xml-part",
            Self::IdTwice { .. } => "annotation-twice",
            Self::Discontinuous { .. } => "span-discontinuous",
            Self::TextMissing => "text-missing",
            Self::AnnotationsMissing => "annotations-missing",
            Self::FolderEmpty => "folder-empty",
            Self::Unreadable { .. } => "unreadable",
        }
    }
}

/// A fault and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub file: String,
    /// Counted from 1; 0 where the file as a whole is meant.
    pub line: usize,
    /// [`Fault::code`].
    pub code: &'static str,
    pub reason: String,
}

impl Problem {
    pub(super) fn new(file: &str, line: usize, fault: &Fault) -> Self {
        Self {
            file: file.to_owned(),
            line,
            code: fault.code(),
            reason: fault.to_string(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {} [{}]", self.file, self.reason, self.code),
            line => {
                let (file, reason, code) = (&self.file, &self.reason, self.code);
                write!(f, "{file}, line {line}: {reason} [{code}]")
            }
        }
    }
}
