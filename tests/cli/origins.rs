//! Files as tools and systems leave them: what can be read is read, and what cannot be is named.

use anyhow::Result;
use fedner_tests::dictionary::Dictionary;

use crate::desk::Desk;

#[test]
fn what_is_no_text_is_named() -> Result<()> {
    let desk = Desk::new()?;
    let wide: Vec<u8> = "a\tO\nb\tB-X\n"
        .bytes()
        .flat_map(|byte| [byte, 0])
        .collect();
    let files: [(&str, &[u8], &str); 11] = [
        ("a", b"\x1f\x8b\x08rest", "gzip"),
        ("b", b"BZh91AY&SY", "bzip2"),
        ("c", b"\xfd7zXZ\0\0\x04", "xz"),
        ("d", b"\x28\xb5\x2f\xfd\x04", "Zstandard"),
        ("e", b"PK\x03\x04\x14", "ZIP"),
        ("f", b"%PDF-1.7\n", "PDF"),
        ("g", b"{\\rtf1 a}", "rich text"),
        ("h", b"PAR1\x15\0", "Parquet"),
        ("i", b"x\x9c\xed\x9d", "DocBin"),
        ("j", &wide, "iconv -f utf-16le"),
        ("k", b"\xff\xfe\0\0a\0\0\0", "iconv -f utf-32"),
    ];
    for (name, contents, expected) in files {
        std::fs::write(desk.path(name), contents)?;
        let said = desk.refused(&["data", "inspect", name])?;
        assert!(
            said.contains(expected) && said.contains("line 1"),
            "{expected}: {said}"
        );
    }
    Ok(())
}

#[test]
fn ends_and_middles_of_entities_have_other_letters_too() -> Result<()> {
    let desk = Desk::new()?;
    desk.write(
        "bmes",
        "王\tB-PER\n小\tM-PER\n明\tE-PER\n在\tO\n京\tS-LOC\n",
    )?;
    assert_eq!(desk.found(&["bmes"])?, "1 sentences, 5 words, LOC:1 PER:1");
    desk.write(
        "ioe2",
        "Ann I-PER\nRoe E-PER\nBob E-PER\nin O\nGhent E-LOC\n",
    )?;
    assert_eq!(desk.found(&["ioe2"])?, "1 sentences, 5 words, LOC:1 PER:2");
    desk.write(
        "ioe1",
        "Ann I-PER\nRoe E-PER\nBob I-PER\nin O\nGhent I-LOC\n",
    )?;
    assert_eq!(desk.found(&["ioe1"])?, "1 sentences, 5 words, LOC:1 PER:2");
    for (name, scheme) in [("bmes", "iobes"), ("ioe2", "ioe2"), ("ioe1", "ioe1")] {
        let shown = desk.stdout(&["data", "inspect", name])?;
        assert!(shown.contains(&format!("conll, {scheme}")), "{shown}");
    }
    Ok(())
}

#[test]
fn what_looks_like_tags_and_is_none_is_refused() -> Result<()> {
    let desk = Desk::new()?;
    let files = [
        ("numbers", "a 0\nb 3\n", "is a number"),
        ("several", "a B-ORG|B-LOC\nb O\n", "several tags"),
        ("levels", "a B-ORG,I-LOC\nb O\n", "several tags"),
        ("behind", "a ORG-B\nb ORG-I\nc O\n", "expected `B-ORG`"),
        ("small", "a b-ORG\nb i-ORG\nc O\n", "`b-ORG`"),
    ];
    for (name, text, expected) in files {
        desk.write(name, text)?;
        let said = desk.refused(&["data", "inspect", name])?;
        assert!(said.contains(expected) && said.contains("line 1"), "{said}");
    }
    Ok(())
}

/// `GermEval` 2014 numbers words, tags entities in entities in a column of their own, and names where a
/// sentence is from in a line with a tab.
#[test]
fn comments_may_have_tabs_and_tags_several_columns() -> Result<()> {
    let desk = Desk::new()?;
    let text = "#\thttp://de.example.org/a [2009-10-17]\n1\tAnna\tB-PER\tO\n2\tsagte\tO\tO\n\
        3\tTagesspiegel\tB-ORG\tB-LOC\n\n#\thttp://de.example.org/b [2009-10-18]\n1\tab\tO\tO\n";
    desk.write("germeval", text)?;
    let found = desk.found(&["germeval", "--columns", "word=2,tag=3"])?;
    assert_eq!(found, "2 sentences, 4 words, ORG:1 PER:1");
    let shown = desk.stdout(&["data", "inspect", "germeval"])?;
    assert!(shown.contains("word=2,tag=4"), "{shown}");
    // A word that is `#` keeps its tag.
    desk.write("words", "#\tO\n7\tB-Nr\n\n#\tB-Nr\n8\tI-Nr\n")?;
    assert_eq!(desk.found(&["words"])?, "2 sentences, 4 words, Nr:2");
    desk.write("conll", "EU NNP B-NP B-ORG\nsaid VBD B-VP O\n")?;
    let shown = desk.stdout(&["data", "inspect", "conll"])?;
    assert!(shown.contains("the last is read, tag=4"), "{shown}");
    Ok(())
}

#[test]
fn tables_with_tabs_may_name_sentences() -> Result<()> {
    let desk = Desk::new()?;
    let text = "Sentence #\tWord\tPOS\tTag\nSentence: 1\tAnna\tNNP\tB-PER\n\tsaid\tVBD\tO\nSentence: 2\tHome\tNN\tO\n";
    desk.write("a.tsv", text)?;
    assert_eq!(desk.found(&["a.tsv"])?, "2 sentences, 3 words, PER:1");
    desk.write(
        "b.csv",
        "sentence_id,words,labels\n0,Anna,B-PER\n0,said,O\n1,Home,O\n",
    )?;
    assert_eq!(desk.found(&["b.csv"])?, "2 sentences, 3 words, PER:1");
    Ok(())
}

#[test]
fn a_folder_may_hold_xml_files() -> Result<()> {
    let desk = Desk::new()?;
    for (name, word) in [("a", "flu"), ("b", "gout")] {
        let end = 4 + word.len();
        let text = format!(
            "<?xml version=\"1.0\"?>\n<deIdi2b2><TEXT><![CDATA[The {word}.]]></TEXT><TAGS>\n\
             <D id=\"P0\" start=\"4\" end=\"{end}\" text=\"{word}\" TYPE=\"DISEASE\"/>\n</TAGS></deIdi2b2>"
        );
        desk.write(&format!("notes/{name}.xml"), &text)?;
    }
    desk.write("notes/.hidden.xml", "<a>")?;
    assert_eq!(desk.found(&["notes"])?, "2 sentences, 6 words, DISEASE:2");
    let shown = desk.stdout(&["data", "inspect", "notes"])?;
    assert!(shown.contains("documents   2"), "{shown}");
    desk.write("notes/c.xml", "<other/>")?;
    let said = desk.refused(&["data", "inspect", "notes"])?;
    assert!(said.contains("c.xml, line 1"), "{said}");
    desk.write("page.html", "<html><body>The flu.</body></html>\n")?;
    let said = desk.refused(&["data", "inspect", "page.html"])?;
    assert!(said.contains("the root `html`"), "{said}");
    Ok(())
}

#[test]
fn more_exports_of_annotation_tools_are_read() -> Result<()> {
    let desk = Desk::new()?;
    let pair = r#"["Anna Roe was seen.", {"entities": [[0, 8, "PER"]]}]"#;
    let files = [
        ("ner-annotator", format!(r#"{{"classes": ["PER"], "annotations": [{pair}, null]}}"#), "PER:1"),
        ("doccano-1.5", r#"{"id": 1, "data": "Anna Roe was seen.", "label": [[0, 8, "PER"]]}"#.to_owned(), "PER:1"),
        ("prodigy", r#"{"text": "Nothing here.", "answer": "accept"}"#.to_owned(), "3 words, "),
        ("rasa", r#"{"text": "Anna", "entities": [{"start": 0, "end": 4, "value": "Anna", "entity": "PER"}]}"#.to_owned(), "PER:1"),
        ("stanza", r#"{"text": "Anna", "entities": [{"start_char": 0, "end_char": 4, "type": "PER"}]}"#.to_owned(), "PER:1"),
        ("pandas", r#"{"text": "Anna", "entities": [{"start": 0.0, "end": 4.0, "label": "PER"}]}"#.to_owned(), "PER:1"),
    ];
    for (name, contents, expected) in files {
        desk.write(name, &contents)?;
        let found = desk.found(&[name])?;
        assert!(found.ends_with(expected), "{name}: {found}");
    }
    let html = r#"[{"data": {"text": "<p>Anna</p>"}, "annotations": [{"result": [{"value": {"start": "/p[1]", "end": "/p[1]", "hypertextlabels": ["PER"]}}]}]}]"#;
    desk.write("html", html)?;
    let said = desk.refused(&["data", "inspect", "html"])?;
    assert!(said.contains("hypertextlabels"), "{said}");
    desk.write("keys", r#"{"text": "Anna", "meta": {}}"#)?;
    let said = desk.refused(&["data", "inspect", "keys"])?;
    assert!(said.contains("found `text`, `meta`"), "{said}");
    Ok(())
}

#[test]
fn a_byte_order_mark_may_count_in_offsets() -> Result<()> {
    let desk = Desk::new()?;
    desk.write("n/a.txt", "\u{feff}Anna Roe was seen.\r\nNo flu.\r\n")?;
    desk.write("n/a.ann", "T1\tPER 1 9\tAnna Roe\nT2\tD 24 27\tflu\n")?;
    assert!(desk.found(&["n"])?.ends_with("D:1 PER:1"));
    let shown = desk.stdout(&["data", "inspect", "n"])?;
    assert!(shown.contains("byte-order mark"), "{shown}");
    Ok(())
}

/// Every format that is read, written in every format: read back, it is the same.
#[test]
fn what_is_read_is_converted_and_read_back() -> Result<()> {
    let desk = Desk::new()?;
    let text = r#""text": "Anna Roe was seen in Ghent.\nNo flu.""#;
    let objects =
        r#"[{"start": 0, "end": 8, "label": "PER"}, {"start": 21, "end": 26, "label": "LOC"}]"#;
    let labels = r#"[[0, 8, "PER"], [21, 26, "LOC"]]"#;
    let regions = r#"[{"value": {"start": 0, "end": 8, "labels": ["PER"]}}, {"value": {"start": 21, "end": 26, "labels": ["LOC"]}}]"#;
    let plain = "Anna Roe was seen in Ghent.";
    let files = [
        (
            "conll",
            "Anna\tB-PER\nRoe\tI-PER\nin\tO\nGhent\tB-LOC\n\nHome\tO\n".to_owned(),
        ),
        (
            "bilou",
            "Anna B-PER\nRoe L-PER\nin O\nGhent U-LOC\n".to_owned(),
        ),
        (
            "tabs",
            r#"{"tokens": ["Anna\tRoe", "in", "Ghent"], "ner_tags": ["B-PER", "O", "B-LOC"]}"#
                .to_owned(),
        ),
        (
            "json",
            format!(
                "{{{text}, \"entities\": {objects}, \"document_id\": \"a b/c\", \"person_id\": \"P\"}}"
            ),
        ),
        ("doccano", format!("{{{text}, \"label\": {labels}}}")),
        (
            "prodigy",
            format!("{{{text}, \"spans\": {objects}, \"answer\": \"accept\"}}"),
        ),
        (
            "label-studio",
            format!("[{{\"data\": {{{text}}}, \"annotations\": [{{\"result\": {regions}}}]}}]"),
        ),
        (
            "spacy",
            format!("[[\"{plain}\", {{\"entities\": {labels}}}]]"),
        ),
        (
            "csv",
            "Sentence #,Word,Tag\n1,Anna,B-PER\n1,\"Roe, J\",I-PER\n1,in,O\n1,Ghent,B-LOC\n"
                .to_owned(),
        ),
        (
            "pubtator",
            "1|t|Anna Roe was seen\n1|a|in Ghent.\n1\t0\t8\tAnna Roe\tPER\n1\t21\t26\tGhent\tLOC\n"
                .to_owned(),
        ),
        (
            "bioc",
            format!(
                "<collection><document><id>7</id><passage><offset>9</offset><text>{plain}</text>\
                 <annotation id=\"1\"><infon key=\"type\">PER</infon><location offset=\"9\" length=\"8\"/></annotation>\
                 <annotation id=\"2\"><infon key=\"type\">LOC</infon><location offset=\"30\" length=\"5\"/></annotation>\
                 </passage></document></collection>"
            ),
        ),
        (
            "i2b2",
            format!(
                "<deIdi2b2><TEXT><![CDATA[{plain}]]></TEXT><TAGS><PER start=\"0\" end=\"8\"/>\
                 <LOC start=\"21\" end=\"26\"/></TAGS></deIdi2b2>"
            ),
        ),
    ];
    let convert = |from: &str, format: &str| -> Result<String> {
        let to = format!("{from}-{format}");
        let said = desk.stdout(&["data", "convert", from, "--as", format, "--to", &to])?;
        assert!(
            said.contains("it is the same"),
            "{from} as {format}: {said}"
        );
        let found = desk.found(&[&to])?;
        assert!(
            found.ends_with("LOC:1 PER:1"),
            "{from} as {format}: {found}"
        );
        Ok(to)
    };
    for (name, contents) in files {
        desk.write(name, &contents)?;
        for format in ["conll", "json-tokens", "json-text", "brat"] {
            let written = convert(name, format)?;
            // And what was written is read as any file is.
            convert(&written, "conll")?;
        }
    }
    desk.write("pairs/a.txt", "Anna Roe was seen in\nGhent.")?;
    desk.write(
        "pairs/a.ann",
        "T1\tPER 0 8\tAnna Roe\nT2\tLOC 21 26\tGhent\n",
    )?;
    for format in ["conll", "json-tokens", "json-text", "brat"] {
        convert("pairs", format)?;
    }
    Ok(())
}

#[test]
fn texts_to_predict_on_are_read_as_corpora_are() -> Result<()> {
    let desk = Desk::new()?;
    desk.model("model", &Dictionary::new("O B-D I-D", &[("flu", "B-D")]))?;
    std::fs::write(desk.path("latin.txt"), b"The flu.\nZ\xf6liakie.\n")?;
    let refused = |rest: &[&str]| desk.refused(&[&["predict", "--model", "model"], rest].concat());
    for arguments in [
        &["--file", "latin.txt"][..],
        &["--file", "latin.txt", "--lines"],
    ] {
        let said = refused(arguments)?;
        assert!(said.contains("latin.txt, line 2: "), "{said}");
    }
    std::fs::write(desk.path("zipped.txt"), b"\x1f\x8b\x08")?;
    assert!(refused(&["--file", "zipped.txt"])?.contains("gzip"));
    desk.write("notes/a.txt", "\u{feff}No flu.")?;
    desk.write("notes/._a.txt", "Mac OS X")?;
    desk.write("notes/.trash/b.txt", "Old flu.")?;
    let found = desk.predicted(&["--model", "model", "--folder", "notes"])?;
    assert_eq!(found, "D:3-6");
    Ok(())
}
