//! CoNLL columns: a word and its tag a line, a blank line after a sentence.

use std::collections::BTreeMap;

use super::scheme::{self, Detector};
use super::{Corpus, Problem, Sentence};

/// Reads as much as can be read, and lists what cannot.
pub(super) fn parse(name: &str, bytes: &[u8]) -> (Corpus, Vec<Problem>) {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut reader = Reader::default();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let number = index + 1;
        if let Err(reason) = reader.line(number, line) {
            reader.problems.push(Problem {
                line: number,
                reason,
            });
        }
    }
    reader.end_sentence();
    let corpus = Corpus {
        name: name.to_owned(),
        sentences: reader.sentences,
        scheme: reader.detector.scheme(),
        columns: reader.columns.map_or(0, |(_, count)| count),
    };
    (corpus, reader.problems)
}

#[derive(Default)]
struct Reader {
    sentences: Vec<Sentence>,
    problems: Vec<Problem>,
    detector: Detector,
    /// The first line with a word, and how many columns it has.
    columns: Option<(usize, usize)>,
    open: Option<Sentence>,
    documents: u32,
    document: Option<u32>,
    named_documents: BTreeMap<String, u32>,
    person: Option<String>,
}

impl Reader {
    fn line(&mut self, number: usize, line: &[u8]) -> Result<(), String> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Ok(line) = std::str::from_utf8(line) else {
            return Err("the line is not UTF-8".to_owned());
        };
        let blank = |c: char| c.is_ascii_whitespace();
        if line.chars().all(blank) {
            self.end_sentence();
            return Ok(());
        }
        if let Some((key, value)) = mark(line) {
            return self.mark(key, value);
        }
        let columns: Vec<&str> = if line.contains('\t') {
            line.split('\t').map(|c| c.trim_matches(blank)).collect()
        } else {
            line.split(blank).filter(|c| !c.is_empty()).collect()
        };
        if columns[0] == "-DOCSTART-" {
            self.end_sentence();
            self.start_document();
            return Ok(());
        }
        self.word(number, &columns)
    }

    fn mark(&mut self, key: &str, value: &str) -> Result<(), String> {
        self.end_sentence();
        if value.is_empty() {
            return Err(format!("`# {key} =` names no {key}"));
        }
        if key == "person" {
            self.person = Some(value.to_owned());
            return Ok(());
        }
        if let Some(index) = self.named_documents.get(value) {
            self.document = Some(*index);
        } else {
            self.named_documents
                .insert(value.to_owned(), self.documents);
            self.start_document();
        }
        Ok(())
    }

    fn start_document(&mut self) {
        self.document = Some(self.documents);
        self.documents += 1;
    }

    fn word(&mut self, number: usize, columns: &[&str]) -> Result<(), String> {
        let [word, .., tag] = columns else {
            return Err("the line has one column: expected a word and its tag".to_owned());
        };
        if columns.iter().any(|column| column.is_empty()) {
            return Err("a column is empty".to_owned());
        }
        let (first, count) = *self.columns.get_or_insert((number, columns.len()));
        if columns.len() != count {
            let found = columns.len();
            return Err(format!(
                "the line has {found} columns: expected {count}, as line {first} has"
            ));
        }
        if let Some(fault) = scheme::fault(tag) {
            return Err(fault);
        }
        let open = self.open.get_or_insert_with(|| Sentence {
            words: Vec::new(),
            tags: Vec::new(),
            document: self.document,
            person: self.person.clone(),
            line: number,
        });
        open.words.push((*word).to_owned());
        open.tags.push((*tag).to_owned());
        Ok(())
    }

    fn end_sentence(&mut self) {
        let Some(mut sentence) = self.open.take() else {
            return;
        };
        self.detector.observe(&sentence.tags);
        scheme::to_iob2(&mut sentence.tags);
        self.sentences.push(sentence);
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
    use super::super::Scheme;
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
        assert_eq!((tabs.sentences[1].line, tabs.columns), (4, 2));
        assert_eq!(corpus("").sentences, []);
        assert_eq!(corpus("EU NNP I-NP B-ORG\n").columns, 4);
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
            assert_eq!(corpus(text).scheme, scheme, "{text}");
        }
        assert_eq!(
            sentence(&corpus("a I-X\nb B-X\n").sentences[0]),
            "a/B-X b/B-X"
        );
    }

    #[test]
    fn malformed_lines_are_named() {
        let cases: [(&[u8], usize, &str); 10] = [
            (b"a\tO\nb\n", 2, "one column"),
            (b"a\tO\nb\tB-\n", 2, "`B-` is not a tag"),
            (b"a\tO\n\nb\tDisease\n", 3, "`Disease` is not a tag"),
            (b"a\tO\nb\tNN\tO\n", 2, "3 columns: expected 2, as line 1"),
            (b"a\tO\nb\xff\tO\n", 2, "not UTF-8"),
            (b"a\tO\n\tO\n", 2, "a column is empty"),
            (b"a\tO\nb\t\n", 2, "a column is empty"),
            (b"a O\n# document =\nb O\n", 2, "names no document"),
            (b"a O\n# text = hello\n", 2, "4 columns"),
            (b"{\"tokens\": [\"a\"]}\n", 1, "is not a tag"),
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
