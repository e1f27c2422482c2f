//! Corpora that are broken in every way that comes to mind: each gives file, line, code and
//! reason, and nothing of it is returned.

use std::fs;
use std::path::{Path, PathBuf};

use fedner_model::corpus::{Corpus, Error, Format, Problem, ReadOptions, Reader, Scheme};
use tempfile::TempDir;

/// A damage: what was done, the contents, the line and the code of the problem, and words that
/// its reason has.
type Damage = (
    &'static str,
    &'static [u8],
    usize,
    &'static str,
    &'static str,
);

#[rustfmt::skip]
const CONLL: &[Damage] = &[
    ("the tag is missing", b"a\tO\nb\n", 2, "one-column", "a word and its tag"),
    ("the tag is missing after a tab", b"a\tO\nb\t\n", 2, "empty-column", "empty"),
    ("the word is missing", b"a\tO\n\tO\n", 2, "empty-column", "empty"),
    ("a middle column is empty", b"a\tNN\tO\nb\t\tO\n", 2, "empty-column", "empty"),
    ("a column too many", b"a\tO\nb\tNN\tO\n", 2, "columns-differ", "3 columns: expected 2, as line 1"),
    ("a column too few", b"a NN O\n\nb O\n", 3, "columns-differ", "2 columns: expected 3, as line 1"),
    ("tag without type", b"a\tO\nb\tB-\n", 2, "tag-unknown", "`B-` is not a tag"),
    ("prefix alone", b"a\tB\n", 1, "tag-unknown", "`B` is not a tag"),
    ("type without prefix among others", b"a\tB-Disease\n\nb\tDisease\n", 3, "tag-unknown", "`Disease` is not a tag"),
    ("type without prefix before others", b"a\tO\nb\tDisease\n\nc\tB-Disease\n", 2, "tag-unknown", "`Disease` is not a tag"),
    ("words for tags", b"a\tDT\nb\tNN\n", 1, "tag-unknown", "--columns"),
    ("several columns of tags", b"1\ta\tO\tB-X\tann\n", 1, "column-unclear", "--columns"),
    ("underscore for dash", b"a\tB_X\n", 1, "tag-unknown", "`B_X`"),
    ("tag in lower case", b"a\to\n", 1, "tag-unknown", "`o`"),
    ("prefix of no scheme", b"a\tQ-X\tann\nb\tO\tann\n", 1, "tag-unknown", "`ann`"),
    ("BILOU without an end", b"a\tU-X\n\nb\tB-X\nc\tO\n", 4, "tag-sequence", "`O` after `B-X` is no BILOU"),
    ("number for tag", b"a\t0\n", 1, "tag-number", "`0` is a number"),
    ("two tags of a word", b"a\tO\nb\tB-X|I-Y\n", 2, "tags-several", "`B-X|I-Y` holds several tags"),
    ("prefixes behind the types", b"a\tO\nb\tX-B\nc\tX-I\n", 2, "tag-misplaced", "expected `B-X` and `I-X`"),
    ("prefixes in lower case", b"a\tO\nb\tb-X\nc\ti-X\n", 2, "tag-misplaced", "`b-X`"),
    ("white space in the type", b"a\tB-lung cancer\n", 1, "tag-unknown", "`B-lung cancer`"),
    ("word and tag exchanged", b"O\ta\n", 1, "tag-unknown", "`a`"),
    ("inner tag at the beginning of IOB2", b"a\tB-X\n\nb\tI-X\n", 3, "tag-sequence", "`I-X` after the beginning"),
    ("inner tag after O in IOB2", b"a\tO\nb\tI-X\n\nc\tB-X\n", 2, "tag-sequence", "`I-X` after `O` is no IOB2"),
    ("inner tag of another type in IOB2", b"a\tB-X\nb\tI-Y\n", 2, "tag-sequence", "`I-Y` after `B-X`"),
    ("entity without an end in IOBES", b"a\tS-X\n\nb\tB-X\nc\tO\n", 4, "tag-sequence", "`O` after `B-X` is no IOBES"),
    ("last entity without an end in IOBES", b"a\tS-X\n\nb\tB-X\n", 3, "tag-sequence", "the end of the sentence after `B-X`"),
    ("entity that only ends in IOBES", b"a\tS-X\nb\tO\nc\tE-X\n", 3, "tag-sequence", "`E-X` after `O`"),
    ("entity without an end in IOE2", b"a\tI-X\nb\tE-X\n\nc\tE-Y\n\nd\tI-X\n", 6, "tag-sequence", "the end of the sentence after `I-X` is no IOE2"),
    ("entity inside another in IOBES", b"a\tB-X\nb\tS-Y\nc\tE-X\n", 2, "tag-sequence", "`S-Y` after `B-X`"),
    ("Latin-1", b"a\tO\nZ\xf6liakie\tO\n", 2, "not-utf8", "not UTF-8"),
    ("a truncated character", b"a\tO\n\xe2\x82\tO\n", 2, "not-utf8", "not UTF-8"),
    ("UTF-16, little-endian", b"\xff\xfea\0\t\0O\0\n\0", 1, "utf16", "UTF-16"),
    ("UTF-16 without a mark", b"a\0\t\0O\0\n\0", 1, "utf16", "utf-16le"),
    ("UTF-32", b"\xff\xfe\0\0a\0\0\0", 1, "utf16", "UTF-32"),
    ("a PDF", b"%PDF-1.7\n", 1, "compressed", "a PDF"),
    ("a Parquet table", b"PAR1\x15\0", 1, "compressed", "to_json"),
    ("a DocBin of spaCy", b"x\x9c\xed\x9d", 1, "compressed", "DocBin"),
    ("UTF-16, big-endian", b"\xfe\xff\0a\0\t\0O\0\n", 1, "utf16", "UTF-16"),
    ("line ends of old Macs", b"a\tO\rb\tO\r\n", 1, "carriage-return", "carriage return"),
    ("a document without a name", b"a O\n# document =\nb O\n", 2, "mark-unnamed", "names no document"),
    ("a person without a name", b"# person = \nb O\n", 1, "mark-unnamed", "names no person"),
    ("a comment", b"a O\n# text = hello\n", 2, "columns-differ", "4 columns"),
    ("a heading that names no columns", b"surface\tsense\na\tB-X\n", 1, "tag-unknown", "`sense`"),
    ("commas for tabs", b"a,O\nb,O\n", 1, "commas", "names the columns"),
    ("a spreadsheet", b"PK\x03\x04\x14\0\x08\x08\xff\xff\n", 1, "compressed", "spreadsheet"),
    ("a compressed file", b"\x1f\x8b\x08\0\n", 1, "compressed", "gzip"),
    ("an office document", b"\xd0\xcf\x11\xe0\n", 1, "compressed", "office"),
];

#[rustfmt::skip]
const JSON_TOKENS: &[Damage] = &[
    ("a line cut off", b"{\"tokens\": [\"a\"], \"ner_tags\": [\"O\"]}\n{\"tokens\": [\"a\"], \"ner", 2, "json-syntax", "EOF while parsing a string"),
    ("a comma too many", b"{\"tokens\": [\"a\",], \"ner_tags\": [\"O\"]}", 1, "json-syntax", "trailing comma"),
    ("single quotes", b"{\"tokens\": ['a'], \"ner_tags\": ['O']}", 1, "json-syntax", "column 13"),
    ("two records in a line", b"{\"tokens\": [], \"ner_tags\": []}{\"tokens\": [], \"ner_tags\": []}", 1, "json-syntax", "trailing characters"),
    ("a broken record over several lines", b"{\n\"tokens\": [\"a\"],\n\"ner_tags\": [\"O\"\n", 4, "json-syntax", "EOF"),
    ("a bad record in an array", b"[\n{\"tokens\": [\"a\"], \"ner_tags\": [\"O\"]},\n{\"tokens\": [\"a\"]}\n]\n", 3, "json-key-missing", "ner_tags"),
    ("a broken first record", b"{\"tokens\": [\"a\"], \"ner\n{\"tokens\": [\"a\"], \"ner_tags\": [\"O\"]}\n", 1, "json-syntax", "EOF|control"),
    ("a string for a record", b"{\"tokens\": [], \"ner_tags\": []}\n\"a\"\n", 2, "json-no-object", "a string"),
    ("a number for a record", b"{\"tokens\": [], \"ner_tags\": []}\n3\n", 2, "json-no-object", "a number"),
    ("something else for a record", b"{\"tokens\": [], \"ner_tags\": []}\na\tO\n", 2, "json-syntax", "expected"),
    ("no tokens", b"{\"ner_tags\": [\"O\"]}", 1, "json-key-missing", "no `tokens`: found `ner_tags`"),
    ("no tags", b"{\"tokens\": [\"a\"], \"tags\": [\"O\"]}", 1, "json-key-missing", "no `ner_tags`: found `tokens`, `tags`"),
    ("no key at all", b"{}", 1, "json-key-missing", "no key at all"),
    ("text among tokens", b"{\"tokens\": [], \"ner_tags\": []}\n{\"text\": \"a\", \"entities\": []}", 2, "json-key-missing", "no `tokens`"),
    ("a key twice", b"{\"tokens\": [\"a\"], \"ner_tags\": [\"O\"], \"tokens\": [\"b\"]}", 1, "json-key-twice", "`tokens` stands twice"),
    ("a tag too few", b"{\"tokens\": [\"a\", \"b\"], \"ner_tags\": [\"O\"]}", 1, "lengths-differ", "1 tags for 2 words"),
    ("a tag too many", b"{\"tokens\": [\"a\"], \"ner_tags\": [\"O\", \"O\"]}", 1, "lengths-differ", "2 tags for 1 words"),
    ("numbers for tags", b"{\"tokens\": [\"a\"], \"ner_tags\": [0]}", 1, "tag-numbers", "int2str"),
    ("numbers and names for tags", b"{\"tokens\": [\"a\", \"b\"], \"ner_tags\": [\"O\", 1]}", 1, "tag-numbers", "int2str"),
    ("null for a tag", b"{\"tokens\": [\"a\"], \"ner_tags\": [null]}", 1, "json-type", "item 1 of `ner_tags` is null"),
    ("a number for a word", b"{\"tokens\": [\"a\", 5], \"ner_tags\": [\"O\", \"O\"]}", 1, "json-type", "item 2 of `tokens` is a number"),
    ("a string for the words", b"{\"tokens\": \"a b\", \"ner_tags\": [\"O\", \"O\"]}", 1, "json-type", "`tokens` is a string: expected a list"),
    ("an object for the tags", b"{\"tokens\": [\"a\"], \"ner_tags\": {}}", 1, "json-type", "`ner_tags` is an object"),
    ("an empty word", b"{\"tokens\": [\"a\", \"\"], \"ner_tags\": [\"O\", \"O\"]}", 1, "word-empty", "word 2"),
    ("a blank word", b"{\"tokens\": [\" \"], \"ner_tags\": [\"O\"]}", 1, "word-empty", "word 1"),
    ("no tag", b"{\"tokens\": [\"a\", \"b\"], \"ner_tags\": [\"B-X\", \"Disease\"]}", 1, "tag-unknown", "`Disease`"),
    ("an empty tag", b"{\"tokens\": [\"a\"], \"ner_tags\": [\"\"]}", 1, "tag-unknown", "``"),
    ("inner tag after O", b"{\"tokens\": [\"a\", \"b\"], \"ner_tags\": [\"B-X\", \"O\"]}\n{\"tokens\": [\"a\", \"b\"], \"ner_tags\": [\"O\", \"I-X\"]}", 2, "tag-sequence", "`I-X` after `O`"),
    ("a document without a name", b"{\"tokens\": [], \"ner_tags\": [], \"document_id\": \"\"}", 1, "name-empty", "`document_id` is empty"),
    ("a list for a person", b"{\"tokens\": [], \"ner_tags\": [], \"person_id\": [1]}", 1, "json-type", "`person_id` is a list"),
    ("half a surrogate", b"{\"tokens\": [\"\\ud800\"], \"ner_tags\": [\"O\"]}", 1, "json-syntax", "surrogate|escape"),
    ("not UTF-8", b"{\"tokens\": [], \"ner_tags\": []}\n{\"tokens\": [\"\xff\"]}", 2, "not-utf8", "UTF-8"),
    ("UTF-16", b"\xff\xfe{\0\"\0", 1, "utf16", "UTF-16"),
];

#[rustfmt::skip]
const JSON_TEXT: &[Damage] = &[
    ("a line cut off", b"{\"text\": \"flu\", \"entities\": [{\"start\": 0", 1, "json-syntax", "EOF"),
    ("no entities", b"{\"text\": \"flu\"}", 1, "json-key-missing", "no `entities`: found nothing|no `entities`"),
    ("no text", b"{\"text\": \"\", \"entities\": []}\n{\"entities\": []}", 2, "json-key-missing", "no `text`"),
    ("a key twice", b"{\"text\": \"a\", \"text\": \"b\", \"entities\": []}", 1, "json-key-twice", "`text`"),
    ("null for the text", b"{\"text\": null, \"entities\": []}", 1, "json-type", "`text` is null: expected a string"),
    ("an object for the entities", b"{\"text\": \"\", \"entities\": {}}", 1, "json-type", "`entities` is an object: expected a list"),
    ("a list of two for an entity", b"{\"text\": \"flu\", \"entities\": [[0, 3]]}", 1, "json-type", "entity 1 is a list of other length"),
    ("a string for an entity", b"{\"text\": \"flu\", \"entities\": [\"X\"]}", 1, "json-type", "entity 1 is a string: expected an object"),
    ("no start", b"{\"text\": \"flu\", \"entities\": [{\"end\": 3, \"label\": \"X\"}]}", 1, "json-type", "`start` of entity 1 is missing"),
    ("no end", b"{\"text\": \"flu\", \"entities\": [{\"start\": 0, \"label\": \"X\"}]}", 1, "json-type", "`end` of entity 1 is missing"),
    ("no label", b"{\"text\": \"flu\", \"entities\": [{\"start\": 0, \"end\": 3}]}", 1, "json-type", "`label` of entity 1 is missing"),
    ("a string for an offset", b"{\"text\": \"flu\", \"entities\": [{\"start\": \"0\", \"end\": 3, \"label\": \"X\"}]}", 1, "json-type", "`start` of entity 1 is a string"),
    ("a negative offset", b"{\"text\": \"flu\", \"entities\": [{\"start\": -1, \"end\": 3, \"label\": \"X\"}]}", 1, "offset-malformed", "`-1`"),
    ("half an offset", b"{\"text\": \"flu\", \"entities\": [{\"start\": 0.5, \"end\": 3, \"label\": \"X\"}]}", 1, "offset-malformed", "`0.5`"),
    ("an endless offset", b"{\"text\": \"flu\", \"entities\": [{\"start\": 0, \"end\": 99999999999999999999, \"label\": \"X\"}]}", 1, "offset-malformed", "character offset"),
    ("a number for a label", b"{\"text\": \"flu\", \"entities\": [{\"start\": 0, \"end\": 3, \"label\": 1}]}", 1, "json-type", "`label` of entity 1 is a number"),
    ("an empty label", b"{\"text\": \"flu\", \"entities\": [{\"start\": 0, \"end\": 3, \"label\": \"\"}]}", 1, "type-empty", "empty"),
    ("white space in a label", b"{\"text\": \"flu\", \"entities\": [{\"start\": 0, \"end\": 3, \"label\": \"a b\"}]}", 1, "type-blank", "--rename \"a b=a_b\""),
    ("a tag for a label", b"{\"text\": \"flu\", \"entities\": [{\"start\": 0, \"end\": 3, \"label\": \"B-X\"}]}", 1, "type-is-tag", "`B-X`"),
    ("the label O", b"{\"text\": \"flu\", \"entities\": [{\"start\": 0, \"end\": 3, \"label\": \"O\"}]}", 1, "type-is-tag", "`O`"),
    ("an end before its start", b"{\"text\": \"flu\", \"entities\": [{\"start\": 3, \"end\": 0, \"label\": \"X\"}]}", 1, "span-order", "3..0"),
    ("an empty entity", b"{\"text\": \"flu\", \"entities\": [{\"start\": 1, \"end\": 1, \"label\": \"X\"}]}", 1, "span-empty", "1..1"),
    ("an entity past the end", b"{\"text\": \"flu\", \"entities\": [{\"start\": 0, \"end\": 4, \"label\": \"X\"}]}", 1, "span-outside", "3 characters"),
    ("offsets counted in bytes", "{\"text\": \"für flu\", \"entities\": [{\"start\": 5, \"end\": 8, \"label\": \"X\"}]}".as_bytes(), 1, "span-outside", "7 characters"),
    ("an entity of white space", b"{\"text\": \"a  b\", \"entities\": [{\"start\": 1, \"end\": 3, \"label\": \"X\"}]}", 1, "span-blank", "white space"),
    ("another text than said", b"{\"text\": \"the flu\", \"entities\": [{\"start\": 3, \"end\": 6, \"label\": \"X\", \"text\": \"flu\"}]}", 1, "span-text", "`flu`, but there stands ` fl`"),
    ("an entity twice", b"{\"text\": \"flu\", \"entities\": [{\"start\": 0, \"end\": 3, \"label\": \"X\"}, {\"start\": 0, \"end\": 3, \"label\": \"X\"}]}", 1, "span-twice", "entity 1 of the record"),
    ("two types for one entity", b"{\"text\": \"flu\", \"entities\": [{\"start\": 0, \"end\": 3, \"label\": \"X\"}, {\"start\": 0, \"end\": 3, \"label\": \"Y\"}]}", 1, "span-twice", "stands twice"),
    ("a nested entity", b"{\"text\": \"bird flu\", \"entities\": [{\"start\": 0, \"end\": 8, \"label\": \"X\"}, {\"start\": 0, \"end\": 4, \"label\": \"Y\"}]}", 1, "span-nested", "one tag only"),
    ("overlapping entities", b"{\"text\": \"a b c\", \"entities\": [{\"start\": 0, \"end\": 3, \"label\": \"X\"}, {\"start\": 2, \"end\": 5, \"label\": \"Y\"}]}", 1, "span-overlaps", "2..5"),
    ("tokens among text", b"{\"text\": \"a\", \"entities\": []}\n{\"tokens\": [], \"ner_tags\": []}", 2, "json-key-missing", "no `text`"),
    ("true for a document", b"{\"text\": \"a\", \"entities\": [], \"document_id\": true}", 1, "json-type", "`document_id` is true or false"),
    ("not UTF-8", b"{\"text\": \"\xe4\", \"entities\": []}", 1, "not-utf8", "UTF-8"),
];

#[rustfmt::skip]
const TOOLS: &[Damage] = &[
    ("doccano: labels that are no list", br#"{"text": "flu", "label": "X"}"#, 1, "json-type", "`label` is a string"),
    ("doccano: a label of two parts", br#"{"text": "flu", "label": [[0, 3]]}"#, 1, "json-type", "entity 1 is a list of other length"),
    ("doccano: an empty label", br#"{"text": "flu", "label": [[]]}"#, 1, "json-type", "an empty list"),
    ("doccano: words for offsets", br#"{"text": "flu", "label": [["0", "3", "X"]]}"#, 1, "json-type", "`start` of entity 1 is a string"),
    ("doccano: a number for the type", br#"{"text": "flu", "label": [[0, 3, 7]]}"#, 1, "json-type", "`label` of entity 1 is a number"),
    ("doccano: past the end", br#"{"text": "flu", "label": [[0, 4, "X"]]}"#, 1, "span-outside", "3 characters"),
    ("doccano: no text", br#"{"label": [[0, 3, "X"]], "text2": ""}"#, 1, "json-key-missing", "no `text`|no `tokens`"),
    ("doccano: start_offset without end_offset", br#"{"text": "flu", "entities": [{"start_offset": 0, "label": "X"}]}"#, 1, "json-type", "`end` of entity 1 is missing"),
    ("Label Studio: labels of HTML", br#"[{"data": {"text": "flu"}, "annotations": [{"result": [{"value": {"start": "/p", "end": "/p", "hypertextlabels": ["X"]}}]}]}]"#, 1, "labels-other", "hypertextlabels"),
    ("NER Annotator: annotations that are no list", br#"{"classes": ["X"], "annotations": {}}"#, 1, "json-type", "`annotations` is an object"),
    ("NER Annotator: no annotations", br#"{"classes": ["X"]}"#, 1, "json-key-missing", "`annotations`"),
    ("NER Annotator: a number for a text", br#"{"classes": ["X"], "annotations": [7]}"#, 1, "json-type", "an annotation is a number"),
    ("NER Annotator: a text alone", br#"{"classes": ["X"], "annotations": [["flu"]]}"#, 1, "json-no-object", "no pair"),
    ("Prodigy: spans that are no list", br#"{"text": "flu", "tokens": [], "spans": {}}"#, 1, "json-type", "`spans` is an object"),
    ("Prodigy: a span without a label", br#"{"text": "flu", "spans": [{"start": 0, "end": 3}], "answer": "accept"}"#, 1, "json-type", "`label` of entity 1 is missing"),
    ("Prodigy: overlapping spans", br#"{"text": "a b c", "spans": [{"start": 0, "end": 3, "label": "X"}, {"start": 2, "end": 5, "label": "X"}]}"#, 1, "span-overlaps", "--overlaps"),
    ("spaCy: a pair whose second is no object", br#"["flu", [[0, 3, "X"]]]"#, 1, "json-no-object", "pair"),
    ("spaCy: a pair without entities", br#"["flu", {"cats": {}}]"#, 1, "json-type", "`entities` is null"),
    ("spaCy: a pair with an entity too short", br#"["flu", {"entities": [[0]]}]"#, 1, "json-type", "other length"),
    ("spaCy: ents without an end", br#"{"text": "flu", "ents": [{"start": 0, "label": "X"}]}"#, 1, "json-type", "`end` of entity 1"),
    ("spaCy: paragraphs without sentences", br#"[{"id": 1, "paragraphs": [{"raw": "flu"}]}]"#, 1, "json-key-missing", "no `sentences`"),
    ("spaCy: tokens without ner", br#"[{"id": 1, "paragraphs": [{"sentences": [{"tokens": [{"orth": "flu"}]}]}]}]"#, 1, "json-key-missing", "no `ner`"),
    ("spaCy: a tag that is none", br#"[{"id": 1, "paragraphs": [{"sentences": [{"tokens": [{"orth": "flu", "ner": "-"}]}]}]}]"#, 1, "tag-unknown", "`-`"),
    ("Label Studio: data that is no object", br#"[{"data": "flu", "annotations": []}]"#, 1, "json-type", "Label Studio"),
    ("Label Studio: no text", br#"[{"data": {"a": "x", "b": "y"}, "annotations": [{"result": []}]}]"#, 1, "json-key-missing", "data.text"),
    ("Label Studio: a result that is no list", br#"[{"data": {"text": "flu"}, "annotations": [{"result": {}}]}]"#, 1, "json-type", "`result` is an object"),
    ("Label Studio: another text than said", br#"[{"data": {"text": "the flu"}, "annotations": [{"result": [{"value": {"start": 0, "end": 3, "text": "flu", "labels": ["X"]}}]}]}]"#, 1, "span-text", "`flu`"),
    ("Label Studio: two labels", br#"[{"data": {"text": "flu"}, "annotations": [{"result": [{"value": {"start": 0, "end": 3, "labels": ["X", "Y"]}}]}]}]"#, 1, "json-type", "one label"),
    ("an array that is not closed", b"[{\"text\": \"flu\", \"entities\": []},\n{\"text\"", 2, "json-syntax", "EOF"),
    ("a second record that is broken", b"{\n\"text\": \"a\", \"entities\": []\n}\n{\n\"text\": \"b\",,\n}\n", 5, "json-syntax", "key must|expected"),
];

#[rustfmt::skip]
const CSV: &[Damage] = &[
    ("a field too few", b"Word,Tag\na,O\nb\n", 3, "columns-differ", "1 columns: expected 2"),
    ("a field too many", b"Word,Tag\na,O,x\n", 2, "columns-differ", "3 columns: expected 2"),
    ("an empty word", b"Word,Tag\n,O\n", 2, "empty-column", "empty"),
    ("a blank word", b"Word,Tag\n\" \",O\n", 2, "empty-column", "empty"),
    ("an empty tag", b"Word,Tag\na,\n", 2, "empty-column", "empty"),
    ("quotes that are not closed", b"Word,Tag\n\"a,O\n", 2, "csv-quote", "quotes"),
    ("quotes that end too early", b"Word,Tag\n\"a\"b,O\n", 2, "csv-quote", "quotes"),
    ("a number for the tag", b"Word,Tag\na,3\n", 2, "tag-number", "`3`"),
    ("no type", b"Word,Tag\na,B-\n", 2, "tag-unknown", "`B-`"),
    ("a prefix alone", b"Word,Tag\na,I\n", 2, "tag-unknown", "`I`"),
    ("a tag in lower case", b"Word,Tag\na,o\n", 2, "tag-unknown", "`o`"),
    ("a type alone among others", b"Word,Tag\na,B-X\nb,Y\n", 3, "tag-unknown", "`Y`"),
    ("types alone and no O", b"Word,Tag\na,DT\nb,NN\n", 2, "tag-unknown", "`DT`"),
    ("an inner tag that goes on with nothing", b"Word,Tag\na,B-X\n\nb,I-X\nc,B-X\n", 4, "tag-sequence", "`I-X`"),
    ("an entity without an end", b"sentence;word;tag\n1;a;S-X\n2;b;B-X\n", 3, "tag-sequence", "IOBES"),
    ("tabs behind a heading of commas", b"Word,Tag\na\tO\n", 2, "columns-differ", "1 columns"),
    ("Latin-1", b"Word,Tag\nZ\xf6liakie,O\n", 2, "not-utf8", "iconv"),
    ("UTF-16", b"\xff\xfeW\0o\0", 1, "utf16", "UTF-16"),
    ("no heading", b"a,O\nb,O\n", 1, "commas", "names the columns"),
    ("a heading that names no tags", b"Word,POS\na,DT\n", 1, "commas", "names the columns"),
    ("the heading again", b"Word,Tag\na,B-X\nWord,Tag\n", 3, "tag-unknown", "`Tag`"),
];

#[rustfmt::skip]
const PUBTATOR: &[Damage] = &[
    ("no abstract's name", b"7|t|The flu\n8|a|It went.\n", 2, "pubtator-line", "ID|a|"),
    ("a second abstract", b"7|t|The flu\n7|a|It went.\n7|a|Again.\n", 3, "pubtator-line", "ID|t|"),
    ("an annotation of another article", b"7|t|The flu\n8\t4\t7\tflu\tX\n", 2, "pubtator-line", "tabs"),
    ("an annotation without a text", b"7|t|The flu\n7\t4\t7\n", 2, "pubtator-line", "tabs"),
    ("blanks for tabs", b"7|t|The flu\n7 4 7 flu X\n", 2, "pubtator-line", "tabs"),
    ("an annotation after the end", b"7|t|The flu\n\n7\t4\t7\tflu\tX\n", 3, "pubtator-line", "PubTator"),
    ("a line of text", b"7|t|The flu\nIt went.\n", 2, "pubtator-line", "PubTator"),
    ("an offset that is no number", b"7|t|The flu\n7\tfour\t7\tflu\tX\n", 2, "offset-malformed", "`four`"),
    ("a negative offset", b"7|t|The flu\n7\t-4\t7\tflu\tX\n", 2, "offset-malformed", "`-4`"),
    ("an end before its start", b"7|t|The flu\n7\t7\t4\tflu\tX\n", 2, "span-order", "7..4"),
    ("an empty entity", b"7|t|The flu\n7\t4\t4\t\tX\n", 2, "span-empty", "4..4"),
    ("an entity past the end", b"7|t|The flu\n7\t4\t9\tflu\tX\n", 2, "span-outside", "7 characters"),
    ("another text than said", b"7|t|The flu\n7\t3\t6\tflu\tX\n", 2, "span-text", "`flu`"),
    ("no type", b"7|t|The flu\n7\t4\t7\tflu\t\n", 2, "type-empty", "empty"),
    ("a type of two words", b"7|t|The flu\n7\t4\t7\tflu\ta b\n", 2, "type-blank", "--rename"),
    ("a tag for a type", b"7|t|The flu\n7\t4\t7\tflu\tB-X\n", 2, "type-is-tag", "`B-X`"),
    ("an entity twice", b"7|t|The flu\n7\t4\t7\tflu\tX\n7\t4\t7\tflu\tY\n", 3, "span-twice", "in line 2"),
    ("a nested entity", b"7|t|The flu\n7\t0\t7\tThe flu\tX\n7\t4\t7\tflu\tX\n", 3, "span-nested", "--overlaps"),
    ("overlapping entities", b"7|t|a b c\n7\t0\t3\ta b\tX\n7\t2\t5\tb c\tX\n", 3, "span-overlaps", "--overlaps"),
    ("Latin-1", b"7|t|The fl\xfc\n", 1, "not-utf8", "iconv"),
    ("an entity of white space", b"7|t|a  b\n7\t1\t3\t  \tX\n", 2, "span-blank", "white space"),
];

#[rustfmt::skip]
const XML: &[Damage] = &[
    ("BioC: not closed", b"<collection><document>", 1, "xml-syntax", "XML"),
    ("BioC: wrongly closed", b"<collection>\n<document></collection>", 2, "xml-syntax", "XML"),
    ("an unknown root", b"<?xml version=\"1.0\"?><html></html>", 1, "xml-kind", "`html`"),
    ("an entity that is not defined", b"<collection>\n&lung;</collection>", 2, "xml-syntax", "XML"),
    ("BioC: no offset of a passage", b"<collection><document><passage>\n<text>flu</text></passage></document></collection>", 1, "offset-malformed", "character offset"),
    ("BioC: a word for an offset", b"<collection><document><id>7</id><passage><offset>0</offset><text>The flu</text>\n<annotation id=\"1\"><infon key=\"type\">X</infon><location offset=\"four\" length=\"3\"/><text>flu</text></annotation></passage></document></collection>", 2, "offset-malformed", "`four`"),
    ("BioC: a negative offset", b"<collection><document><id>7</id><passage><offset>0</offset><text>The flu</text>\n<annotation id=\"1\"><infon key=\"type\">X</infon><location offset=\"-4\" length=\"3\"/><text>flu</text></annotation></passage></document></collection>", 2, "offset-malformed", "`-4`"),
    ("BioC: no length", b"<collection><document><id>7</id><passage><offset>0</offset><text>The flu</text>\n<annotation id=\"1\"><infon key=\"type\">X</infon><location offset=\"4\"/><text>flu</text></annotation></passage></document></collection>", 2, "offset-malformed", "character offset"),
    ("BioC: no location", b"<collection><document><id>7</id><passage><offset>0</offset><text>The flu</text>\n<annotation id=\"1\"><infon key=\"type\">X</infon><text>flu</text></annotation></passage></document></collection>", 2, "xml-part", "a location"),
    ("BioC: before its passage", b"<collection><document><id>7</id><passage><offset>9</offset><text>The flu</text>\n<annotation id=\"1\"><infon key=\"type\">X</infon><location offset=\"4\" length=\"3\"/><text>flu</text></annotation></passage></document></collection>", 2, "offset-malformed", "before its passage"),
    ("BioC: past the end", b"<collection><document><id>7</id><passage><offset>0</offset><text>The flu</text>\n<annotation id=\"1\"><infon key=\"type\">X</infon><location offset=\"4\" length=\"9\"/><text>flu</text></annotation></passage></document></collection>", 2, "span-outside", "7 characters"),
    ("BioC: an endless entity", b"<collection><document><passage><offset>0</offset><text>flu</text>\n<annotation><infon key=\"type\">X</infon><location offset=\"9\" length=\"18446744073709551615\"/></annotation></passage></document></collection>", 2, "span-outside", "3 characters"),
    ("BioC: empty", b"<collection><document><id>7</id><passage><offset>0</offset><text>The flu</text>\n<annotation id=\"1\"><infon key=\"type\">X</infon><location offset=\"4\" length=\"0\"/><text></text></annotation></passage></document></collection>", 2, "span-empty", "4..4"),
    ("BioC: another text than said", b"<collection><document><id>7</id><passage><offset>0</offset><text>The flu</text>\n<annotation id=\"1\"><infon key=\"type\">X</infon><location offset=\"3\" length=\"3\"/><text>flu</text></annotation></passage></document></collection>", 2, "span-text", "`flu`"),
    ("BioC: no type", b"<collection><document><id>7</id><passage><offset>0</offset><text>The flu</text>\n<annotation id=\"1\"><infon key=\"type\"></infon><location offset=\"4\" length=\"3\"/><text>flu</text></annotation></passage></document></collection>", 2, "type-empty", "empty"),
    ("BioC: a type of two words", b"<collection><document><id>7</id><passage><offset>0</offset><text>The flu</text>\n<annotation id=\"1\"><infon key=\"type\">a b</infon><location offset=\"4\" length=\"3\"/><text>flu</text></annotation></passage></document></collection>", 2, "type-blank", "--rename"),
    ("BioC: a tag for a type", b"<collection><document><id>7</id><passage><offset>0</offset><text>The flu</text>\n<annotation id=\"1\"><infon key=\"type\">B-X</infon><location offset=\"4\" length=\"3\"/><text>flu</text></annotation></passage></document></collection>", 2, "type-is-tag", "`B-X`"),
    ("BioC: an entity twice", b"<collection><document><id>7</id><passage><offset>0</offset><text>The flu</text>\n<annotation id=\"1\"><infon key=\"type\">X</infon><location offset=\"4\" length=\"3\"/><text>flu</text></annotation>\n<annotation id=\"2\"><infon key=\"type\">X</infon><location offset=\"4\" length=\"3\"/><text>flu</text></annotation></passage></document></collection>", 3, "span-twice", "in line 2"),
    ("BioC: words between two parts", b"<collection><document><id>7</id><passage><offset>0</offset><text>a b c</text>\n<annotation id=\"1\"><infon key=\"type\">X</infon><location offset=\"0\" length=\"1\"/><location offset=\"4\" length=\"1\"/><text>a c</text></annotation></passage></document></collection>", 2, "span-discontinuous", "--discontinuous"),
    ("i2b2: no end", b"<?xml version=\"1.0\"?><root><TEXT><![CDATA[The flu]]></TEXT><TAGS>\n<DATE id=\"P0\" start=\"4\" text=\"flu\"/>\n</TAGS></root>", 2, "offset-malformed", "character offset"),
    ("i2b2: another text than said", b"<?xml version=\"1.0\"?><root><TEXT><![CDATA[The flu]]></TEXT><TAGS>\n<DATE id=\"P0\" start=\"3\" end=\"6\" text=\"flu\"/>\n</TAGS></root>", 2, "span-text", "`flu`"),
    ("i2b2: overlapping", b"<?xml version=\"1.0\"?><root><TEXT><![CDATA[The flu]]></TEXT><TAGS>\n<A id=\"P0\" start=\"0\" end=\"5\"/>\n<B id=\"P1\" start=\"4\" end=\"7\"/>\n</TAGS></root>", 3, "span-overlaps", "--overlaps"),
    ("Latin-1", b"<collection>\xfc</collection>", 1, "not-utf8", "iconv"),
];

/// A damage to a pair of files: what was done, the text, the annotations, the file and the line
/// of the problem, its code, and words that its reason has.
type BratDamage = (
    &'static str,
    &'static [u8],
    &'static [u8],
    &'static str,
    usize,
    &'static str,
    &'static str,
);

#[rustfmt::skip]
const BRAT: &[BratDamage] = &[
    ("no tabs", b"the flu\n", b"T1 X 4 7 flu\n", "n.ann", 1, "annotation-malformed", "`T1 X 4 7 flu`"),
    ("no text column", b"the flu\n", b"T1\tX 4 7\n", "n.ann", 1, "annotation-malformed", "not an annotation"),
    ("no offsets", b"the flu\n", b"T1\tX\tflu\n", "n.ann", 1, "annotation-malformed", "not an annotation"),
    ("one offset", b"the flu\n", b"T1\tX 4\tflu\n", "n.ann", 1, "annotation-malformed", "not an annotation"),
    ("three offsets", b"the flu\n", b"T1\tX 4 5 7\tflu\n", "n.ann", 1, "offset-malformed", "`5 7`"),
    ("an offset that is no number", b"the flu\n", b"T1\tX four 7\tflu\n", "n.ann", 1, "offset-malformed", "`four`"),
    ("a negative offset", b"the flu\n", b"T1\tX -4 7\tflu\n", "n.ann", 1, "offset-malformed", "`-4`"),
    ("commas between offsets", b"the flu\n", b"T1\tX 4,7\tflu\n", "n.ann", 1, "annotation-malformed", "not an annotation"),
    ("a kind that is not known", b"the flu\n", b"T1\tX 4 7\tflu\nQ1\tX 4 7\n", "n.ann", 2, "annotation-malformed", "`Q1"),
    ("a line of the text among the annotations", b"the flu\n", b"the flu\n", "n.ann", 1, "annotation-malformed", "`the flu`"),
    ("a relation without tabs", b"the flu\n", b"T1\tX 4 7\tflu\n\nR1 Causes\n", "n.ann", 3, "annotation-malformed", "`R1 Causes`"),
    ("an entity of two parts", b"lung and breast cancer\n", b"T1\tX 0 4;16 22\tlung cancer\n", "n.ann", 1, "span-discontinuous", "T1 has several parts"),
    ("a name twice", b"the flu\n", b"T1\tX 4 7\tflu\nT1\tY 0 3\tthe\n", "n.ann", 2, "annotation-twice", "T1 stands twice (also in line 1)"),
    ("a line twice", b"the flu\n", b"T1\tX 4 7\tflu\nT1\tX 4 7\tflu\n", "n.ann", 2, "annotation-twice", "T1"),
    ("an entity twice", b"the flu\n", b"T1\tX 4 7\tflu\nT2\tX 4 7\tflu\n", "n.ann", 2, "span-twice", "T1 in line 1"),
    ("two types for one entity", b"the flu\n", b"T1\tX 4 7\tflu\nT2\tY 4 7\tflu\n", "n.ann", 2, "span-twice", "T1"),
    ("a nested entity", b"lung cancer\n", b"T1\tX 0 11\tlung cancer\nT2\tY 0 4\tlung\n", "n.ann", 1, "span-nested", "T2 in line 2"),
    ("an entity inside another", b"lung cancer\n", b"T1\tX 0 11\tlung cancer\nT2\tY 5 11\tcancer\n", "n.ann", 2, "span-nested", "T1 in line 1"),
    ("overlapping entities", b"a b c\n", b"T1\tX 0 3\ta b\n\nT2\tY 2 5\tb c\n", "n.ann", 3, "span-overlaps", "T1 in line 1"),
    ("an end before its start", b"the flu\n", b"T1\tX 7 4\tflu\n", "n.ann", 1, "span-order", "7..4"),
    ("an empty entity", b"the flu\n", b"T1\tX 4 4\t\n", "n.ann", 1, "span-empty", "4..4"),
    ("an entity past the end", b"the flu", b"T1\tX 4 8\tflu\n", "n.ann", 1, "span-outside", "7 characters"),
    ("offsets one too low", b"the flu\n", b"T1\tX 3 6\tflu\n", "n.ann", 1, "span-text", "` fl`"),
    ("offsets that fit counted in no way", "für flu und\n".as_bytes(), b"T1\tX 5 8\tflu\nT2\tX 8 11\tund\n", "n.ann", 1, "span-text", "--offsets"),
    ("the annotations of another text", b"the flu\n", b"T1\tX 0 4\tcold\n", "n.ann", 1, "span-text", "`cold`"),
    ("an entity of white space", b"a  b\n", b"T1\tX 1 3\t  \n", "n.ann", 1, "span-blank", "white space"),
    ("no type", b"the flu\n", b"T1\t 4 7\tflu\n", "n.ann", 1, "type-empty", "empty"),
    ("a tag for a type", b"the flu\n", b"T1\tB-X 4 7\tflu\n", "n.ann", 1, "type-is-tag", "`B-X`"),
    ("text that is not UTF-8", b"the\nfl\xfc\n", b"", "n.txt", 2, "not-utf8", "UTF-8"),
    ("annotations that are not UTF-8", b"the flu\n", b"T1\tX 4 7\tfl\xfc\n", "n.ann", 1, "not-utf8", "UTF-8"),
    ("text in UTF-16", b"\xff\xfef\0", b"", "n.txt", 1, "utf16", "UTF-16"),
    ("annotations in UTF-16", b"the flu\n", b"\xff\xfeT\0", "n.ann", 1, "utf16", "UTF-16"),
];

#[test]
fn every_damage_is_told_with_file_line_code_and_reason() {
    for (ending, damages) in [
        ("conll", CONLL),
        ("jsonl", JSON_TOKENS),
        ("jsonl", JSON_TEXT),
        ("json", TOOLS),
        ("csv", CSV),
        ("pubtator", PUBTATOR),
        ("xml", XML),
    ] {
        assert!(damages.len() >= 20, "{ending} has {}", damages.len());
        for (what, contents, line, code, reason) in damages {
            let folder = TempDir::new().expect("folder");
            let file = folder.path().join(format!("notes.{ending}"));
            fs::write(&file, contents).expect("written");
            check(what, &file, &file, *line, code, reason);
        }
    }
    assert!(BRAT.len() >= 30, "BRAT has {}", BRAT.len());
    for (what, text, annotations, file, line, code, reason) in BRAT {
        let folder = TempDir::new().expect("folder");
        fs::write(folder.path().join("n.txt"), text).expect("written");
        fs::write(folder.path().join("n.ann"), annotations).expect("written");
        let file = folder.path().join(file);
        for given in ["n.txt", "n.ann", ""] {
            let given = folder.path().join(given);
            check(what, &given, &file, *line, code, reason);
        }
    }
}

/// Reads `given` and expects the problem in `file`.
fn check(what: &str, given: &Path, file: &Path, line: usize, code: &str, reason: &str) {
    let error = Corpus::read(given).expect_err(what);
    let Error::Line { problem, .. } = &error else {
        panic!("{what}: {error}");
    };
    let found = (problem.line, problem.code);
    assert_eq!(found, (line, code), "{what}: {error}");
    // A path may be written with a slash too many.
    assert_eq!(Path::new(&problem.file), file, "{what}");
    let said = |reason: &str| problem.reason.contains(reason);
    assert!(reason.split('|').any(said), "{what}: {error}");
    let place = format!("{}, line {line}: ", problem.file);
    assert!(error.to_string().starts_with(&place), "{what}: {error}");
}

/// Damage that no single file shows.
#[test]
fn missing_files_and_wrong_formats_are_told() {
    let folder = TempDir::new().expect("folder");
    let write = |name: &str, contents: &str| -> PathBuf {
        let file = folder.path().join(name);
        fs::create_dir_all(file.parent().expect("parent")).expect("folder");
        fs::write(&file, contents).expect("written");
        file
    };
    let problem = |options: ReadOptions, given: &Path| -> Problem {
        match Reader::new(options).corpus(given) {
            Err(Error::Line { problem, .. }) => problem,
            other => panic!("{}: {other:?}", given.display()),
        }
    };
    let auto = ReadOptions::default;

    write("texts/a.txt", "the flu\n");
    write("texts/a.ann", "");
    let lonely = write("texts/b.txt", "the flu\n");
    // Among annotated texts one without annotations is passed over, and that is said.
    let corpus = Corpus::read(&folder.path().join("texts")).expect("one pair");
    let notices = corpus.summary.notices().join("\n");
    assert!(notices.contains("texts without annotations"), "{notices}");
    let forced_brat = ReadOptions {
        format: Some(Format::Brat),
        ..ReadOptions::default()
    };
    let found = problem(forced_brat, &lonely);
    assert_eq!((found.code, found.line), ("annotations-missing", 0));
    assert_eq!(Path::new(&found.file), lonely.with_extension("ann"));

    let annotations = write("annotations/a.ann", "T1\tX 4 7\tflu\n");
    let found = problem(auto(), &annotations);
    assert_eq!((found.code, found.line), ("text-missing", 0));
    assert_eq!(Path::new(&found.file), annotations.with_extension("txt"));

    write("neither/readme.md", "");
    let found = problem(auto(), &folder.path().join("neither"));
    assert_eq!(found.code, "folder-empty");

    let columns = write("columns.tsv", "a\tO\n");
    let forced = |format| ReadOptions {
        format: Some(format),
        ..ReadOptions::default()
    };
    assert_eq!(
        problem(forced(Format::JsonText), &columns).code,
        "json-syntax"
    );
    assert_eq!(problem(forced(Format::Brat), &columns).code, "text-missing");
    let iob1 = write("iob1.tsv", "a\tI-X\n");
    let scheme = ReadOptions {
        scheme: Some(Scheme::Iob2),
        ..ReadOptions::default()
    };
    assert!(Corpus::read(&iob1).is_ok());
    assert_eq!(problem(scheme, &iob1).code, "tag-sequence");

    let absent = folder.path().join("absent.tsv");
    for options in [auto(), forced(Format::Brat)] {
        let error = Reader::new(options).corpus(&absent);
        assert!(matches!(error, Err(Error::Read { .. })), "{error:?}");
    }
    // A line that never ends.
    let endless = write("endless.tsv", &"x".repeat(17 << 20));
    assert_eq!(problem(auto(), &endless).code, "line-too-long");
}
