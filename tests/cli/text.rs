//! The commands on text: `data inspect`, `evaluate`, `predict`, with the committed tiny model.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::desk::Desk;

const NOTES: &str = "The\tO\npatient\tO\nhas\tO\nchronic\tB-Disease\nasthma\tI-Disease\n.\tO\n\n\
    Aspirin\tB-Drug\nwas\tO\ngiven\tO\n.\tO\n";

fn model() -> String {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tiny-bert");
    fixtures.display().to_string()
}

#[test]
fn inspect_says_what_files_hold_and_what_is_wrong() -> Result<()> {
    let desk = Desk::new()?;
    desk.write("train.conll", NOTES)?;
    desk.write(
        "test.jsonl",
        r#"{"text": "Aspirin was given.", "entities": [{"start": 0, "end": 7, "label": "Drug"}]}"#,
    )?;
    let files = ["data", "inspect", "train.conll", "test.jsonl"];
    let found = desk.json(&[&files[..], &["--model", &model(), "--max-tokens", "5"]].concat())?;
    let [train, test] = found["files"].as_array().context("files")?.as_slice() else {
        anyhow::bail!("{found}");
    };
    assert_eq!(
        (&train["format"], &test["format"]),
        (&"conll".into(), &"json-text".into())
    );
    assert_eq!(train["entities"]["Disease"], 1);
    assert_eq!(train["sub_tokens"]["longer_sentences"], 2);
    assert_eq!(found["shared"][0]["sentences"], 1, "{found}");
    let text = desk.stdout(&files)?;
    assert!(
        text.contains("1 sentences of test.jsonl stand in train.conll too"),
        "{text}"
    );

    desk.write(
        "bad.jsonl",
        "{\"tokens\": [\"a\"], \"ner_tags\": [\"O\"]}\n{\"tokens\": [\"a\"], \"ner_tags\": [3]}\n",
    )?;
    let said = desk.refused(&["data", "inspect", "train.conll", "bad.jsonl"])?;
    assert!(
        said.contains("error[corpus-invalid]: bad.jsonl, line 2: `ner_tags` has numbers"),
        "{said}"
    );
    desk.write("iob.conll", "a\tO\nb\tI-X\n\nc\tB-X\n")?;
    let said = desk.refused(&["data", "inspect", "iob.conll"])?;
    assert!(
        said.contains("error[corpus-tags-invalid]: iob.conll, line 2"),
        "{said}"
    );
    let text = desk.stdout(&["data", "inspect", "iob.conll", "--invalid-tags", "repair"])?;
    assert!(text.contains("invalid tag sequences repaired: 1"), "{text}");
    desk.write("empty.conll", "\n\n")?;
    assert!(
        desk.refused(&["data", "inspect", "empty.conll"])?
            .contains("corpus-empty")
    );
    let wrong = desk.run(&["data", "inspect", "train.conll", "--format", "html"])?;
    assert_eq!(wrong.status.code(), Some(2));
    Ok(())
}

#[test]
fn evaluate_counts_in_every_way_and_shows_mistakes_only_when_asked() -> Result<()> {
    let desk = Desk::new()?;
    desk.write("test.conll", NOTES)?;
    let model = model();
    let evaluate = ["evaluate", "--model", &model, "--data", "test.conll"];
    let found =
        desk.json(&[&evaluate[..], &["--errors", "5", "--predictions", "p.tsv"]].concat())?;
    for entities in ["entities", "entities_strict"] {
        for average in ["micro", "macro", "weighted"] {
            assert_eq!(found[entities][average]["support"], 2, "{found}");
        }
    }
    assert_eq!(found["tokens"]["by_tag"]["O"]["support"], 7);
    assert_eq!(found["tokens"]["weighted"]["support"], 10);
    let golds = found["confusion"].as_array().context("confusion")?.iter();
    let golds = golds.filter(|cell| !cell["gold"].is_null());
    assert_eq!(
        golds.filter_map(|cell| cell["count"].as_u64()).sum::<u64>(),
        2
    );
    // The tiny model knows nothing: it makes mistakes.
    let example = &found["errors"][0]["examples"][0];
    assert_eq!(example["file"], "test.conll");
    let predictions = fs::read_to_string(desk.path("p.tsv"))?;
    assert!(predictions.starts_with("The\tO\t"), "{predictions}");
    assert_eq!(predictions.lines().count(), 12);
    assert_eq!(desk.json(&evaluate)?["errors"], Value::Array(vec![]));
    let again = desk.refused(&[&evaluate[..], &["--predictions", "p.tsv"]].concat())?;
    assert!(again.contains("already-exists"), "{again}");
    let text = desk.stdout(&evaluate)?;
    for head in ["ENTITY ", "ENTITY, STRICT IOB2", "TAG "] {
        assert!(
            text.lines().any(|line| line.trim_start().starts_with(head)),
            "{text}"
        );
    }
    Ok(())
}

#[test]
fn predict_reads_texts_files_lines_and_folders() -> Result<()> {
    let desk = Desk::new()?;
    let model = model();
    let predict = |rest: &[&str]| -> Vec<String> {
        let all = [&["predict", "--model", &model], rest].concat();
        all.iter().map(|a| (*a).to_owned()).collect()
    };
    let stdout = |rest: &[&str]| {
        let arguments = predict(rest);
        desk.stdout(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let refused = |rest: &[&str]| {
        let arguments = predict(rest);
        desk.refused(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let text = "Früh: the patient has chronic asthma.\r\nAspirin was given.\n";
    desk.write("notes/a.txt", text)?;
    desk.write("notes/ward/b.txt", "\u{feff}No flu.")?;
    let list: Value = serde_json::from_str(&stdout(&["--text", text, "--output", "json"])?)?;
    let characters: Vec<char> = text.chars().collect();
    for entity in list.as_array().context("list")? {
        let at = |key: &str| entity[key].as_u64().context("offset").map(|n| n as usize);
        let found: String = characters[at("start")?..at("end")?].iter().collect();
        assert_eq!(entity["text"], found);
    }
    let from_file: Value =
        serde_json::from_str(&stdout(&["--file", "notes/a.txt", "--output", "json"])?)?;
    assert_eq!(from_file, list);

    let lines = stdout(&["--folder", "notes", "--as", "jsonl"])?;
    let records: Vec<Value> = lines
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    assert_eq!(records.len(), 2);
    assert_eq!(
        (&records[0]["document_id"], &records[1]["document_id"]),
        (&"a".into(), &"ward/b".into())
    );
    assert_eq!(records[0]["text"], text);
    let texts = |records: &Value| -> Vec<String> {
        let all = records.as_array().into_iter().flatten();
        all.map(|entity| entity["text"].to_string()).collect()
    };
    assert_eq!(texts(&records[0]["entities"]), texts(&list));

    // What is written is read again, and never over a file that is there.
    for (format, files) in [
        ("brat", &["out/a.ann", "out/a.txt", "out/ward/b.ann"][..]),
        ("conll", &["out/a.conll", "out/ward/b.conll"]),
        ("jsonl", &["out/a.jsonl", "out/ward/b.jsonl"]),
    ] {
        let to = ["--folder", "notes", "--as", format, "--to", "out"];
        stdout(&to)?;
        for file in files {
            assert!(desk.path(file).is_file(), "{file}");
        }
        let inspected = if format == "brat" { "out" } else { files[0] };
        let found = desk.json(&["data", "inspect", inspected])?;
        assert_eq!(found["files"][0]["problem_count"], 0, "{found}");
        assert!(refused(&to)?.contains("already-exists"));
    }
    assert!(refused(&["--folder", "notes", "--as", "brat"])?.contains("request-invalid"));
    assert!(refused(&["--folder", "out/nothing"])?.contains("text-invalid"));
    desk.write("latin/a.txt", "fine")?;
    fs::write(desk.path("latin/b.txt"), b"Z\xf6liakie")?;
    let said = refused(&["--folder", "latin"])?;
    assert!(said.contains("1 of 2 files were passed over"), "{said}");
    Ok(())
}

/// Lines are answered while the stream is still open.
#[test]
fn predict_answers_each_line_of_a_stream() -> Result<()> {
    use std::io::{BufRead, BufReader};

    let desk = Desk::new()?;
    let mut child = desk
        .command(&["predict", "--model", &model(), "--lines", "--as", "jsonl"])?
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = child.stdin.take().context("stdin")?;
    let mut output = BufReader::new(child.stdout.take().context("stdout")?);
    for text in ["Aspirin was given.", "", "No flu."] {
        writeln!(input, "{text}")?;
        input.flush()?;
        let mut line = String::new();
        output.read_line(&mut line)?;
        let record: Value = serde_json::from_str(&line)?;
        assert_eq!(record["text"], text);
    }
    drop(input);
    assert!(child.wait()?.success());
    Ok(())
}
