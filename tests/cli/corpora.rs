//! Annotated text as people have it: each test is a public report of somebody who could not read a
//! file.

use anyhow::Result;
use fedner_tests::dictionary::Dictionary;

use crate::desk::{Desk, spans};

#[test]
fn bilou_is_iobes_with_other_letters() -> Result<()> {
    let desk = Desk::new()?;
    let text = "Anna\tB-PER\nMaria\tI-PER\nRoe\tL-PER\nvisits\tO\nParis\tU-LOC\nand\tO\nNew\tB-LOC\n\
        York\tL-LOC\n\nRoe\tU-PER\nrests\tO\n";
    desk.write("a.conll", text)?;
    assert_eq!(
        desk.found(&["a.conll"])?,
        "2 sentences, 10 words, LOC:2 PER:2"
    );
    assert!(
        desk.stdout(&["data", "inspect", "a.conll"])?
            .contains("bilou")
    );
    Ok(())
}

/// The original CoNLL-2003 training file: IOB1 with two stray `B-` among thousands of entities.
#[test]
fn a_handful_of_odd_tags_is_repaired_and_said() -> Result<()> {
    let desk = Desk::new()?;
    let sound = "the\tO\nUN\tI-ORG\nin\tO\nNew\tI-LOC\nYork\tI-LOC\nAnn\tI-PER\n\n".repeat(800);
    desk.write(
        "a.conll",
        &format!("{sound}a\tO\nb\tB-ORG\n\nc\tO\nd\tB-LOC\n"),
    )?;
    let shown = desk.stdout(&["data", "inspect", "a.conll"])?;
    assert!(
        shown.contains("iob1") && shown.contains("repaired: 2"),
        "{shown}"
    );
    assert!(
        shown.contains("`B-ORG` after `O` is no IOB1 sequence"),
        "{shown}"
    );
    let refused = desk.refused(&["data", "inspect", "a.conll", "--invalid-tags", "refuse"])?;
    assert!(refused.contains("2 problems in all"), "{refused}");
    desk.write(
        "many.conll",
        &format!("{sound}{}", "b\tB-ORG\nc\tO\n\n".repeat(11)),
    )?;
    let refused = desk.refused(&["data", "inspect", "many.conll"])?;
    assert!(refused.contains("11 problems in all"), "{refused}");
    Ok(())
}

#[test]
fn plain_tags_are_entities_a_run() -> Result<()> {
    let desk = Desk::new()?;
    desk.write(
        "a.conll",
        "Anna PER\nRoe PER\nlives O\nin O\nGhent LOC\n\nHome O\n",
    )?;
    assert_eq!(
        desk.found(&["a.conll"])?,
        "2 sentences, 6 words, LOC:1 PER:1"
    );
    desk.write("mixed.conll", "Anna B-PER\nRoe PER\n")?;
    let refused = desk.refused(&["data", "inspect", "mixed.conll"])?;
    assert!(refused.contains("line 2: `PER` is not a tag"), "{refused}");
    Ok(())
}

#[test]
fn words_with_tabs_and_line_ends_keep_columns_whole() -> Result<()> {
    let desk = Desk::new()?;
    let dictionary = Dictionary::new(
        "O B-PER I-PER",
        &[("anna", "B-PER"), ("roe", "I-PER"), ("seen", "O")],
    );
    desk.model("model", &dictionary)?;
    desk.write(
        "a.jsonl",
        r#"{"tokens": ["Anna\tRoe", "seen", "by\nnight", "-DOCSTART-"], "ner_tags": ["B-PER", "O", "O", "O"]}"#,
    )?;
    desk.stdout(&[
        "evaluate",
        "--model",
        "model",
        "--data",
        "a.jsonl",
        "--predictions",
        "p.tsv",
    ])?;
    let columns = std::fs::read_to_string(desk.path("p.tsv"))?;
    let lines: Vec<&str> = columns.trim_end().split('\n').collect();
    assert_eq!(lines.len(), 4, "{columns}");
    assert!(
        lines.iter().all(|line| line.split('\t').count() == 3),
        "{columns}"
    );
    assert!(lines[0].starts_with("Anna␉Roe\t"), "{columns}");
    assert_eq!(
        desk.found(&["p.tsv", "--columns", "tag=2"])?,
        "1 sentences, 4 words, PER:1"
    );
    Ok(())
}

#[test]
fn line_ends_of_two_characters_may_count_as_one() -> Result<()> {
    let desk = Desk::new()?;
    desk.write(
        "n/a.txt",
        "Anna Roe was seen.\r\nNo fever.\r\nAspirin was given.\r\n",
    )?;
    let annotations = "T1\tPER 0 8\tAnna Roe\nT2\tSymptom 22 27\tfever\nT3\tDrug 29 36\tAspirin\n";
    desk.write("n/a.ann", annotations)?;
    assert!(desk.found(&["n"])?.ends_with("Drug:1 PER:1 Symptom:1"));
    let shown = desk.stdout(&["data", "inspect", "n"])?;
    assert!(shown.contains("line ends of CRLF as one"), "{shown}");
    Ok(())
}

#[test]
fn offsets_that_fit_in_another_way_are_named() -> Result<()> {
    let desk = Desk::new()?;
    let line = r#"{"text": "😀😀 lung cancer and flu", "entities": [{"start": 5, "end": 16, "label": "D"}, {"start": 21, "end": 24, "label": "D"}]}"#;
    desk.write("a.jsonl", line)?;
    let shown = desk.stdout(&["data", "inspect", "a.jsonl", "--offsets", "utf-16"])?;
    assert!(!shown.contains("widened"), "{shown}");
    let taken = desk.refused(&["data", "inspect", "a.jsonl", "--offsets", "bytes"])?;
    assert!(taken.contains("inside a character"), "{taken}");
    let said = line.replace(r#""label": "D"}]"#, r#""label": "D", "text": "flu"}]"#);
    desk.write("b.jsonl", &said)?;
    let shown = desk.stdout(&["data", "inspect", "b.jsonl"])?;
    assert!(shown.contains("counted in UTF-16 units"), "{shown}");
    Ok(())
}

#[test]
fn an_entity_over_a_line_end_is_one_entity_in_both_ways() -> Result<()> {
    let desk = Desk::new()?;
    let text = "Seen for chronic obstructive\npulmonary disease today.\nAspirin given.\n";
    desk.write("n/a.txt", text)?;
    let annotations =
        "T1\tDisease 9 28;29 46\tchronic obstructive pulmonary disease\nT2\tDrug 54 61\tAspirin\n";
    desk.write("n/a.ann", annotations)?;
    assert!(desk.found(&["n"])?.ends_with("Disease:1 Drug:1"));
    let dictionary = Dictionary::new(
        "O B-Disease I-Disease",
        &[
            ("chronic", "B-Disease"),
            ("obstructive", "I-Disease"),
            ("pulmonary", "I-Disease"),
            ("disease", "I-Disease"),
        ],
    );
    desk.model(
        "model",
        &dictionary.with_pieces("seen for today aspirin given"),
    )?;
    let written = desk.stdout(&[
        "predict", "--model", "model", "--file", "n/a.txt", "--as", "brat",
    ])?;
    let first = written.lines().next().unwrap_or_default();
    assert_eq!(
        first,
        "T1\tDisease 9 28;29 46\tchronic obstructive pulmonary disease"
    );
    desk.write("again/a.txt", text)?;
    desk.write("again/a.ann", &written)?;
    assert!(desk.found(&["again"])?.ends_with("Disease:1"));
    Ok(())
}

#[test]
fn overlaps_are_settled_and_stray_files_passed_over() -> Result<()> {
    let desk = Desk::new()?;
    desk.write(
        "n/a.txt",
        "Acute and chronic bronchitis after a breast cancer screening.\n",
    )?;
    let annotations = "T1\tDisease 0 5;18 28\tAcute bronchitis\nT2\tDisease 10 28\tchronic bronchitis\n\
        T3\tDisease 37 50\tbreast cancer\nT4\tProcedure 37 60\tbreast cancer screening\nT5\tSite 37 43\tbreast\n";
    desk.write("n/a.ann", annotations)?;
    desk.write("n/README.txt", "Made by the project.\n")?;
    desk.write("n/._a.ann", "\0\0\0\0Mac OS X")?;
    let refused = desk.refused(&["data", "inspect", "n"])?;
    assert!(
        refused.contains("several parts") && !refused.contains("README"),
        "{refused}"
    );
    for (choice, expected) in [
        ("outermost", "Disease:1 Procedure:1"),
        ("longest", "Disease:1 Procedure:1"),
        ("first", "Disease:2"),
    ] {
        let found = desk.found(&["n", "--overlaps", choice])?;
        assert!(found.ends_with(expected), "{choice}: {found}");
    }
    let joined = desk.found(&["n", "--overlaps", "longest", "--discontinuous", "join"])?;
    assert!(joined.ends_with("Disease:1 Procedure:1"), "{joined}");
    let shown = desk.stdout(&["data", "inspect", "n", "--overlaps", "outermost"])?;
    for notice in [
        "hidden files",
        "texts without annotations",
        "several parts passed over: 1",
    ] {
        assert!(shown.contains(notice), "{notice}: {shown}");
    }
    Ok(())
}

#[test]
fn comments_and_other_columns_are_read() -> Result<()> {
    let desk = Desk::new()?;
    let multiconer = "# id 41f0a2 domain=en\nanna _ _ B-PER\nroe _ _ I-PER\nwas _ _ O\nseen _ _ O\n\n\
        # id 77c3b9 domain=en\nin _ _ O\nghent _ _ B-LOC\n";
    desk.write("a", multiconer)?;
    assert_eq!(desk.found(&["a"])?, "2 sentences, 6 words, LOC:1 PER:1");
    let uner = "# newdoc id = d1\n# sent_id = d1-1\n# text = Anna Roe was seen\n1\tAnna\tB-PER\t-\tann1\n\
        2\tRoe\tI-PER\t-\tann1\n3\twas\tO\t-\tann1\n4\tseen\tO\t-\tann1\n\n# sent_id = d1-2\n\
        1\tin\tO\t-\tann1\n2\tGhent\tB-LOC\t-\tann1\n";
    desk.write("b", uner)?;
    for arguments in [&["b"][..], &["b", "--columns", "word=2,tag=3"]] {
        let found = desk.found(arguments)?;
        assert_eq!(found, "2 sentences, 6 words, LOC:1 PER:1", "{arguments:?}");
    }
    let shown = desk.stdout(&["data", "inspect", "b"])?;
    assert!(
        shown.contains("documents   1") && shown.contains("word=2,tag=3"),
        "{shown}"
    );
    // A `#` is a word where it has the form of one.
    desk.write("c", "# O\n12 B-Nr\nwas O\n\nBed O\n# B-Nr\n7 I-Nr\n")?;
    assert_eq!(desk.found(&["c"])?, "2 sentences, 6 words, Nr:2");
    // Word counts before words and a tag at the end.
    desk.write("d", "1 Anna NNP B-PER\n2 Roe NNP I-PER\n\n1 Home NN O\n")?;
    assert!(
        desk.stdout(&["data", "inspect", "d"])?
            .contains("word=2,tag=4")
    );
    let refused = desk.refused(&["data", "inspect", "d", "--columns", "word=9"])?;
    assert!(refused.contains("no column 9"), "{refused}");
    Ok(())
}

#[test]
fn types_of_several_words_get_other_names() -> Result<()> {
    let desk = Desk::new()?;
    let line = r#"{"text": "Anna Roe, bill 4471", "entities": [{"start": 0, "end": 8, "label": "Patient Name"}, {"start": 15, "end": 19, "label": "Invoice Number"}]}"#;
    desk.write("a.jsonl", line)?;
    let refused = desk.refused(&["data", "inspect", "a.jsonl"])?;
    assert!(refused.contains("Patient_Name"), "{refused}");
    let renamed = [
        "a.jsonl",
        "--rename",
        "Patient Name=PER",
        "--rename",
        "Invoice Number=",
    ];
    assert_eq!(desk.found(&renamed)?, "1 sentences, 5 words, PER:1");
    desk.write("b.conll", "Anna\tB-Patient Name\nRoe\tI-Patient Name\n")?;
    assert_eq!(
        desk.found(&["b.conll", "--rename", "Patient Name=PER"])?,
        "1 sentences, 2 words, PER:1"
    );
    Ok(())
}

#[test]
fn exports_of_annotation_tools_are_read() -> Result<()> {
    let desk = Desk::new()?;
    let text = r#""text": "Anna Roe was seen in Ghent.""#;
    let lists = r#"[[0, 8, "PER"], [21, 26, "LOC"]]"#;
    let objects =
        r#"[{"start": 0, "end": 8, "label": "PER"}, {"start": 21, "end": 26, "label": "LOC"}]"#;
    let regions = objects
        .replace(
            r#""label": "PER""#,
            r#""text": "Anna Roe", "labels": ["PER"]"#,
        )
        .replace(r#""label": "LOC""#, r#""text": "Ghent", "labels": ["LOC"]"#)
        .replace("{\"start\"", "{\"type\": \"labels\", \"value\": {\"start\"")
        .replace("]}", "]}}");
    let rejected = r#"{"text": "Wrong.", "tokens": [], "spans": [{"start": 0, "end": 5, "label": "PER"}], "answer": "reject"}"#;
    let token = |word: &str, tag: &str| format!(r#"{{"orth": "{word}", "ner": "{tag}"}}"#);
    let tokens = [
        token("Anna", "B-PER"),
        token("Roe", "L-PER"),
        token("was", "O"),
        token("in", "O"),
        token("Ghent", "U-LOC"),
    ];
    let files = [
        ("doccano", format!(r#"{{"id": 11, {text}, "label": {lists}, "Comments": []}}"#)),
        ("doccano-relations", format!(
            r#"{{{text}, "entities": {}, "relations": []}}"#,
            objects.replace("\"start\"", "\"start_offset\"").replace("\"end\"", "\"end_offset\"")
        )),
        ("prodigy", format!(
            "{{{text}, \"tokens\": [{{\"text\": \"Anna\"}}], \"spans\": {objects}, \"answer\": \"accept\"}}\n{rejected}"
        )),
        ("label-studio", format!(
            "[{{\"id\": 6, \"data\": {{{text}}}, \"annotations\": [{{\"was_cancelled\": true, \"result\": []}}, {{\"result\": {regions}}}]}}]"
        )),
        ("spacy-pair", format!(
            "[[\"Anna Roe was seen in Ghent.\", {{\"entities\": {lists}}}]]"
        )),
        ("spacy-pair-a-line", format!(
            "[\"Anna Roe was seen in Ghent.\", {{\"entities\": {lists}}}]\n"
        )),
        ("spacy-doc", format!(r#"{{{text}, "ents": {objects}, "tokens": []}}"#)),
        ("spacy-training", format!(
            r#"[{{"id": 0, "paragraphs": [{{"sentences": [{{"tokens": [{}]}}]}}]}}]"#,
            tokens.join(", ")
        )),
        ("pretty", format!("{{\n  {text},\n  \"entities\": {objects}\n}}\n")),
        ("array", format!("[\n{{{text}, \"entities\": {objects}}}\n]")),
        ("kaggle.csv", "Sentence #,Word,POS,Tag\nSentence: 1,Anna,NNP,B-PER\n,Roe,NNP,I-PER\n,was,VBD,O\n\
            ,in,IN,O\n,Ghent,NNP,B-LOC\n,\",\",.,O\n".to_owned()),
        ("pubtator", "12|t|Anna Roe was seen\n12|a|in Ghent.\n12\t0\t8\tAnna Roe\tPER\n12\t21\t26\tGhent\tLOC\tQ1\n\n".to_owned()),
        ("bioc", "<?xml version=\"1.0\"?>\n<!DOCTYPE collection SYSTEM \"BioC.dtd\">\n<collection><document><id>7</id><passage>\
            <offset>100</offset><text>Anna Roe was seen in Ghent.</text>\
            <annotation id=\"1\"><infon key=\"type\">PER</infon><location offset=\"100\" length=\"8\"/><text>Anna Roe</text></annotation>\
            <annotation id=\"2\"><infon key=\"type\">LOC</infon><location offset=\"121\" length=\"5\"/><text>Ghent</text></annotation>\
            </passage></document></collection>".to_owned()),
        ("i2b2", "<?xml version=\"1.0\"?>\n<deIdi2b2><TEXT><![CDATA[Anna Roe was seen in Ghent.]]></TEXT><TAGS>\n\
            <NAME id=\"P0\" start=\"0\" end=\"8\" text=\"Anna Roe\" TYPE=\"PER\"/>\n\
            <LOC id=\"P1\" start=\"21\" end=\"26\" text=\"Ghent\"/>\n</TAGS></deIdi2b2>".to_owned()),
    ];
    for (name, contents) in files {
        desk.write(name, &contents)?;
        let found = desk.found(&[name])?;
        assert!(found.ends_with("LOC:1 PER:1"), "{name}: {found}");
        assert!(
            found.starts_with("1 ") || name == "pubtator",
            "{name}: {found}"
        );
    }
    let shown = desk.stdout(&["data", "inspect", "prodigy"])?;
    assert!(shown.contains("rejected or ignored"), "{shown}");
    Ok(())
}

#[test]
fn text_without_blanks_is_tagged_a_word_at_a_time() -> Result<()> {
    let desk = Desk::new()?;
    let words = [
        ("王", "B-PER"),
        ("小", "I-PER"),
        ("明", "I-PER"),
        ("北", "B-LOC"),
        ("京", "I-LOC"),
        ("田", "B-PER"),
        ("中", "I-PER"),
        ("東", "B-LOC"),
    ];
    let dictionary = Dictionary::new("O B-PER I-PER B-LOC I-LOC", &words).cased();
    desk.model("model", &dictionary.with_pieces("。 去 看 病 は に い る"))?;
    let records = [
        r#"{"text": "王小明去北京看病。", "entities": [{"start": 0, "end": 3, "label": "PER"}, {"start": 4, "end": 6, "label": "LOC"}]}"#,
        r#"{"text": "田中は東京にいる。", "entities": [{"start": 0, "end": 2, "label": "PER"}, {"start": 3, "end": 5, "label": "LOC"}]}"#,
    ];
    desk.write("a.jsonl", &records.join("\n"))?;
    desk.write("a.txt", "王小明去北京看病。\n田中は東京にいる。\n")?;
    let report = desk.json(&["evaluate", "--model", "model", "--data", "a.jsonl"])?;
    assert_eq!(report["entities_offsets"]["micro"]["f1"], 1.0);
    let predicted = desk.predicted(&["--model", "model", "--file", "a.txt", "--lines"])?;
    let gold = records.map(spans).into_iter().collect::<Result<Vec<_>>>()?;
    assert_eq!(predicted, gold.join("\n"));
    Ok(())
}

#[test]
fn words_that_the_tokeniser_deletes_keep_the_others_in_place() -> Result<()> {
    let desk = Desk::new()?;
    let words = [("aspirin", "B-Drug"), ("plus", "I-Drug"), ("given", "O")];
    desk.model("model", &Dictionary::new("O B-Drug I-Drug", &words))?;
    let text = "Aspirin\tB-Drug\n\u{200b}\tO\n\u{fe0f}\tO\ngiven\tO\n\u{ad}\tO\n\u{200f}\tO\nplus\tB-Drug\n";
    desk.write("a.conll", text)?;
    desk.stdout(&[
        "evaluate",
        "--model",
        "model",
        "--data",
        "a.conll",
        "--predictions",
        "p.tsv",
    ])?;
    let columns = std::fs::read_to_string(desk.path("p.tsv"))?;
    let given: Vec<_> = columns
        .lines()
        .filter_map(|line| line.split('\t').nth(2))
        .collect();
    assert_eq!(given.join(" "), "B-Drug O O O O O I-Drug");
    desk.write("a.txt", "Aspirin \u{200f}given \u{fe0f} plus")?;
    let predicted = desk.predicted(&["--model", "model", "--file", "a.txt"])?;
    assert_eq!(predicted, "Drug:0-7 Drug:17-21");
    Ok(())
}
