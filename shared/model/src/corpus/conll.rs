//! CoNLL columns: a word and its tag a line, a blank line after a sentence.

pub(super) mod layout;

use self::layout::Layout;
use super::escape::unescaped;
use super::reading::Reading;
use super::{Fault, Format, Sentence, detector, joined};

/// Reads line after line.
#[derive(Default)]
pub(super) struct Parser {
    layout: Option<Layout>,
    open: Option<Sentence>,
    /// The line of each word of the open sentence.
    lines: Vec<usize>,
    /// What the column after the first holds, while the first may be a count of words.
    second: Vec<String>,
    document: Option<u32>,
    person: Option<String>,
}

impl Parser {
    /// Of a file whose columns are known.
    pub(super) fn new(layout: Option<Layout>) -> Self {
        Self {
            layout,
            ..Self::default()
        }
    }

    pub(super) fn line(
        &mut self,
        number: usize,
        line: &str,
        reading: &mut Reading,
    ) -> Result<(), Fault> {
        let blank = |c: char| c.is_ascii_whitespace();
        if line.chars().all(blank) {
            self.end_sentence(reading);
            return Ok(());
        }
        if line.contains('\r') {
            return Err(Fault::CarriageReturn);
        }
        if let Some((key, value)) = mark(line) {
            return self.mark(key, value, reading);
        }
        let columns: Vec<&str> = if line.contains('\t') {
            line.split('\t').map(|c| c.trim_matches(blank)).collect()
        } else {
            line.split(blank).filter(|c| !c.is_empty()).collect()
        };
        if columns[0] == "-DOCSTART-" {
            self.end_sentence(reading);
            self.document = Some(reading.documents.unnamed());
            return Ok(());
        }
        if self.is_comment(line, &columns) {
            self.comment(line, reading);
            return Ok(());
        }
        self.word(number, &columns, reading)
    }

    pub(super) fn finish(mut self, reading: &mut Reading) -> Format {
        self.end_sentence(reading);
        if let Some(layout) = &self.layout {
            reading.summary.columns = layout.count;
            reading.summary.layout = Some(*layout);
            if let Some(notice) = layout.notice() {
                reading.changed(notice, 1);
            }
        }
        Format::Conll
    }

    fn mark(&mut self, key: &str, value: &str, reading: &mut Reading) -> Result<(), Fault> {
        self.end_sentence(reading);
        if value.is_empty() {
            // What follows is not of whoever was named before.
            match key {
                "person" => self.person = None,
                _ => self.document = None,
            }
            let key = key.to_owned();
            return Err(Fault::UnnamedMark { key });
        }
        if key == "person" {
            self.person = Some(value.to_owned());
        } else {
            self.document = Some(reading.documents.named(value));
        }
        Ok(())
    }

    /// Whether a line stands before a sentence, begins with `#` and has not the form of a word's.
    fn is_comment(&self, line: &str, columns: &[&str]) -> bool {
        if self.open.is_some() || !line.starts_with('#') {
            return false;
        }
        if line.contains('\t') {
            // `#<tab>http://…`, as GermEval names where a sentence is from.
            let tagged = match &self.layout {
                Some(layout) => layout.count == columns.len(),
                None => columns.last().is_none_or(|last| {
                    last.is_empty() || (detector::check(last).is_ok() && !last.contains("://"))
                }),
            };
            return columns[0] == "#" && !tagged;
        }
        let tagged = match &self.layout {
            Some(layout) => layout.count == columns.len() && layout.has_tag(columns),
            None => columns.len() > 1 && columns.last().is_some_and(|tag| layout::is_tag(tag)),
        };
        // `# sent_id = 7`, whose value may look like a tag.
        let assigns = line
            .strip_prefix("# ")
            .and_then(|rest| rest.split_once(" = "));
        let named = assigns.is_some_and(|(key, _)| !key.contains(char::is_whitespace));
        !tagged || (named && self.layout.is_none())
    }

    /// Of comments only those are read that begin a document in CoNLL-U.
    fn comment(&mut self, line: &str, reading: &mut Reading) {
        let Some(rest) = line.strip_prefix("# newdoc") else {
            reading.ignored("comment lines");
            return;
        };
        self.document = Some(match rest.trim().strip_prefix("id =").map(str::trim) {
            Some(name) if !name.is_empty() => reading.documents.named(name),
            Some(_) | None => reading.documents.unnamed(),
        });
    }

    fn word(
        &mut self,
        number: usize,
        columns: &[&str],
        reading: &mut Reading,
    ) -> Result<(), Fault> {
        if columns.len() < 2 {
            return Err(match columns {
                [line] if line.contains(',') => Fault::Commas,
                _ => Fault::OneColumn,
            });
        }
        if columns.iter().any(|column| column.is_empty()) {
            return Err(Fault::EmptyColumn);
        }
        let layout = match &mut self.layout {
            Some(layout) => layout,
            layout @ None => {
                layout.insert(Layout::detect(number, columns, reading.options.columns)?)
            }
        };
        if self.open.is_none() && layout.is_heading(columns) {
            return Ok(());
        }
        if columns.len() != layout.count {
            return Err(Fault::Columns {
                found: columns.len(),
                expected: layout.count,
                first: layout.first,
            });
        }
        let (word, tag) = (columns[layout.word], columns[layout.tag]);
        reading.check_tag(tag)?;
        if layout.may_count {
            self.second.push(unescaped(columns[1]).into_owned());
        }
        let open = self.open.get_or_insert_with(|| Sentence {
            document: self.document,
            person: self.person.clone(),
            line: number,
            ..Sentence::default()
        });
        open.words.push(unescaped(word).into_owned());
        open.tags.push(tag.to_owned());
        self.lines.push(number);
        Ok(())
    }

    fn end_sentence(&mut self, reading: &mut Reading) {
        let lines = std::mem::take(&mut self.lines);
        let second = std::mem::take(&mut self.second);
        let Some(mut sentence) = self.open.take() else {
            return;
        };
        if let Some(layout) = &mut self.layout
            && layout.may_count
        {
            layout.decide(&sentence.words);
            if layout.word == 1 {
                sentence.words = second;
            }
        }
        sentence.offsets = joined(&sentence.words);
        reading.written(sentence, |word| lines[word]);
    }
}

/// `# document = ID` or `# person = ID`. A line with a tab holds a word, were it `#` itself.
fn mark(line: &str) -> Option<(&str, &str)> {
    if line.contains('\t') {
        return None;
    }
    let (key, value) = line.strip_prefix('#')?.split_once('=')?;
    let key = key.trim();
    matches!(key, "document" | "person").then(|| (key, value.trim()))
}

#[cfg(test)]
mod tests {
    use super::super::{Corpus, Scheme};
    use super::*;

    fn corpus(text: &str) -> Corpus {
        Corpus::parse("test.tsv", text.as_bytes()).expect("well-formed")
    }

    fn sentence(sentence: &Sentence) -> String {
        let pairs = sentence.words.iter().zip(&sentence.tags);
        pairs
            .map(|(w, t)| format!("{w}/{t}"))
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn separators_line_ends_and_byte_order_mark_make_no_difference() {
        let tabs = corpus("a\tO\nb\tB-X\n\nc\tO\n");
        for text in [
            "a O\nb B-X\n\nc O",
            "a  O \nb   B-X\n\n\n\nc O\n\n",
            "\u{feff}a\tO\r\nb\tB-X\r\n\r\nc\tO\r\n",
            " a O\nb\tB-X\n \nc O\n",
        ] {
            assert_eq!(
                corpus(text)
                    .sentences
                    .iter()
                    .map(sentence)
                    .collect::<Vec<_>>(),
                ["a/O b/B-X", "c/O"],
                "{text:?}"
            );
        }
        assert_eq!((tabs.sentences[1].line, tabs.summary.columns), (4, 2));
        assert_eq!(corpus("").sentences, []);
        assert_eq!(corpus("EU NNP I-NP B-ORG\n").summary.columns, 4);
    }

    #[test]
    fn documents_and_persons_are_kept() {
        let text = "x O\n\n-DOCSTART- -X- O O\n\na O\n\n# document = d7\n# person = P. Roe\nb O\n\
            \n# document = d8\nc O\n# document = d7\nd O\n# person = Q\ne O\n";
        let corpus = corpus(text);
        let found: Vec<_> = corpus
            .sentences
            .iter()
            .map(|s| (s.words[0].as_str(), s.document, s.person.as_deref()))
            .collect();
        let roe = Some("P. Roe");
        assert_eq!(
            found,
            [
                ("x", None, None),
                ("a", Some(0), None),
                ("b", Some(1), roe),
                ("c", Some(2), roe),
                ("d", Some(1), roe),
                ("e", Some(1), Some("Q"))
            ]
        );
        assert_eq!((corpus.documents(), corpus.persons()), (3, 2));
    }

    #[test]
    fn a_hash_is_a_word_too() {
        for text in ["#\tO\n1\tB-X\n", "# O\n1 B-X\n", "#1 O\n"] {
            assert!(
                corpus(text).sentences[0].words[0].starts_with('#'),
                "{text:?}"
            );
        }
        assert_eq!(
            corpus("# document = 3\tO\n").sentences[0].words[0],
            "# document = 3"
        );
    }

    #[test]
    fn the_scheme_is_found() {
        for (text, scheme) in [
            ("a B-X\nb I-X\n", Scheme::Iob2),
            ("a O\n", Scheme::Iob2),
            ("a I-X\nb B-X\n", Scheme::Iob1),
            ("a S-X\n", Scheme::Iobes),
        ] {
            assert_eq!(corpus(text).summary.scheme, scheme, "{text}");
        }
        assert_eq!(
            sentence(&corpus("a I-X\nb B-X\n").sentences[0]),
            "a/B-X b/B-X"
        );
    }

    #[test]
    fn malformed_lines_are_named() {
        let cases: [(&[u8], usize, &str); 9] = [
            (b"a\tO\nb\n", 2, "one column"),
            (b"a\tO\nb\tB-\n", 2, "`B-` is not a tag"),
            (
                b"a\tO\n\nb\tDisease\n\nc\tB-X\n",
                3,
                "`Disease` is not a tag",
            ),
            (b"a\tO\nb\tNN\tO\n", 2, "3 columns: expected 2, as line 1"),
            (b"a\tO\nb\xff\tO\n", 2, "not UTF-8"),
            (b"a\tO\n\tO\n", 2, "a column is empty"),
            (b"a\tO\nb\t\n", 2, "a column is empty"),
            (b"a O\n# document =\nb O\n", 2, "names no document"),
            (b"a O\n# text = hello\n", 2, "4 columns"),
        ];
        for (bytes, line, reason) in cases {
            let error = Corpus::parse("notes.tsv", bytes).expect_err("malformed");
            let message = error.to_string();
            assert!(
                message.starts_with(&format!("notes.tsv, line {line}: ")),
                "{message}"
            );
            assert!(message.contains(reason), "{message}");
        }
    }

    #[test]
    fn labels_are_compared_with_those_of_the_plan() {
        let corpus = corpus("a O\nb B-Drug\n\nc B-Gene\n");
        let plan = |labels: &[&str]| labels.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>();
        let absent = corpus
            .check_labels(&plan(&["Gene", "Drug", "Virus"]))
            .expect("known");
        assert_eq!(absent, ["Virus"]);
        let message = corpus
            .check_labels(&plan(&["Drug"]))
            .expect_err("Gene")
            .to_string();
        assert!(
            message.contains("line 4") && message.contains("Gene"),
            "{message}"
        );
    }
}
