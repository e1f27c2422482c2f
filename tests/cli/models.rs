//! Checkpoints as people publish them, and exports as others read them: each test is a public report.

use anyhow::Result;
use fedner_tests::dictionary::{Dictionary, TokenizerFiles};
use serde_json::{Value, json};

use crate::desk::Desk;

fn drugs() -> Dictionary {
    Dictionary::new("O B-Drug I-Drug", &[("aspirin", "B-Drug"), ("given", "O")])
}

/// A plan that trains next to nothing: what comes out tags as what went in.
fn plan(labels: &[&str]) -> String {
    format!(
        "name = \"a\"\nbase = \"a@1\"\nlabels = {labels:?}\nmethod = \"head\"\nrounds = 1\nseed = 1\n\
         [training]\nlearning_rate = 1e-9\n[cohort]\ninstitutions = [\"alone\"]\nquorum = 1\n\
         [privacy]\nunit = \"none\"\n"
    )
}

#[test]
fn checkpoints_are_read_as_they_are_published() -> Result<()> {
    let desk = Desk::new()?;
    let models = [
        (
            "vocabulary",
            drugs().with_tokenizer(TokenizerFiles::Vocabulary),
        ),
        ("files", drugs().in_files(3)),
        ("bfloat16", drugs().in_bfloat16()),
        ("data-parallel", drugs().with_prefix("module.")),
        ("compiled", drugs().with_prefix("_orig_mod.")),
        ("both", drugs().with_prefix("_orig_mod.module.")),
        ("no-type", drugs().with_config("model_type", Value::Null)),
    ];
    for (name, dictionary) in models {
        desk.model(name, &dictionary)?;
        let found = desk.predicted(&["--model", name, "--text", "aspirin given"])?;
        assert_eq!(found, "Drug:0-7", "{name}");
    }
    Ok(())
}

#[test]
fn what_cannot_be_read_is_said_with_what_to_do() -> Result<()> {
    let desk = Desk::new()?;
    let refused =
        |model: &str| desk.refused(&["predict", "--model", model, "--text", "a", "--as", "jsonl"]);
    desk.model("pickle", &drugs())?;
    std::fs::remove_file(desk.path("pickle/model.safetensors"))?;
    desk.write("pickle/pytorch_model.bin", "PK\u{3}\u{4}")?;
    let said = refused("pickle")?;
    assert!(
        said.contains("pytorch_model.bin") && said.contains("save_pretrained"),
        "{said}"
    );

    desk.model("lacking", &drugs().in_files(3))?;
    std::fs::remove_file(desk.path("lacking/model-00002-of-00003.safetensors"))?;
    assert!(refused("lacking")?.contains("model-00002-of-00003.safetensors"));

    desk.model("outside", &drugs().in_files(2))?;
    let index = std::fs::read_to_string(desk.path("outside/model.safetensors.index.json"))?;
    let index = index.replace("model-00001", "../model-00001");
    desk.write("outside/model.safetensors.index.json", &index)?;
    assert!(refused("outside")?.contains("no file of the directory"));

    desk.model("wordless", &drugs())?;
    std::fs::remove_file(desk.path("wordless/tokenizer.json"))?;
    assert!(refused("wordless")?.contains("vocab.txt"));

    desk.model("small", &drugs().with_config("vocab_size", json!(40)))?;
    assert!(refused("small")?.contains("vocab"));
    Ok(())
}

#[test]
fn plain_tags_of_a_head_are_entities_a_run() -> Result<()> {
    let desk = Desk::new()?;
    let words = [
        ("anna", "PER"),
        ("roe", "PER"),
        ("new", "LOC"),
        ("york", "LOC"),
    ];
    let dictionary = Dictionary::new("O PER LOC", &words).with_pieces("lives in");
    desk.model("plain", &dictionary)?;
    let found = desk.predicted(&["--model", "plain", "--text", "Anna Roe lives in New York"])?;
    assert_eq!(found, "PER:0-8 LOC:18-26");
    desk.write(
        "a.conll",
        "Anna B-PER\nRoe I-PER\nlives O\nin O\nYork B-City\n",
    )?;
    let report = desk.json(&["evaluate", "--model", "plain", "--data", "a.conll"])?;
    assert_eq!(report["entities"]["by_type"]["PER"]["f1"], 1.0);
    assert_eq!(report["head"]["scheme"], "plain");
    assert_eq!(report["head"]["only_in_model"], json!(["LOC"]));
    assert_eq!(report["head"]["only_in_text"], json!(["City"]));

    let words = [
        ("seven", "B-tax-percent"),
        ("percent", "I-tax-percent"),
        ("duty", "B-tax"),
    ];
    let tags = "O B-tax-percent I-tax-percent B-tax I-tax";
    desk.model("hyphens", &Dictionary::new(tags, &words))?;
    let found = desk.predicted(&["--model", "hyphens", "--text", "seven percent duty"])?;
    assert_eq!(found, "tax-percent:0-13 tax:14-18");
    Ok(())
}

#[test]
fn ends_of_entities_count_in_heads_that_have_them() -> Result<()> {
    let desk = Desk::new()?;
    let words = [("anna", "B-PER"), ("roe", "E-PER"), ("bob", "S-PER")];
    desk.model(
        "iobes",
        &Dictionary::new("O B-PER I-PER E-PER S-PER", &words),
    )?;
    let found = desk.predicted(&["--model", "iobes", "--text", "Anna Roe Bob"])?;
    assert_eq!(found, "PER:0-8 PER:9-12");
    let bilou = [("anna", "B-PER"), ("roe", "L-PER"), ("bob", "U-PER")];
    desk.model(
        "bilou",
        &Dictionary::new("O B-PER I-PER L-PER U-PER", &bilou),
    )?;
    let found = desk.predicted(&["--model", "bilou", "--text", "Anna Roe Bob"])?;
    assert_eq!(found, "PER:0-8 PER:9-12");
    Ok(())
}

#[test]
fn a_head_that_tags_nothing_is_refused() -> Result<()> {
    let desk = Desk::new()?;
    let classifier = Dictionary::new("NEGATIVE POSITIVE", &[("aspirin", "POSITIVE")])
        .with_other("NEGATIVE")
        .with_config("architectures", json!(["BertForSequenceClassification"]));
    let unnamed = Dictionary::new("LABEL_0 LABEL_1 LABEL_2", &[("aspirin", "LABEL_1")]);
    let other_task = drugs().with_config("architectures", json!(["BertForSequenceClassification"]));
    for (name, dictionary, expected) in [
        ("classifier", classifier, "BertForSequenceClassification"),
        ("unnamed", unnamed.with_other("LABEL_0"), "LABEL_0"),
        ("other", other_task, "BertForSequenceClassification"),
    ] {
        desk.model(name, &dictionary)?;
        let said = desk.refused(&["predict", "--model", name, "--text", "a", "--as", "jsonl"])?;
        assert!(said.contains(expected), "{name}: {said}");
    }
    Ok(())
}

#[test]
fn rows_of_a_head_go_where_their_names_are() -> Result<()> {
    let desk = Desk::new()?;
    let words = [
        ("anna", "B-PER"),
        ("roe", "I-PER"),
        ("ghent", "B-LOC"),
        ("dutch", "B-MISC"),
    ];
    let tags = "O B-MISC I-MISC B-PER I-PER B-LOC I-LOC";
    desk.model(
        "model",
        &Dictionary::new(tags, &words).with_pieces("lives in"),
    )?;
    desk.write(
        "a.conll",
        "Anna B-PER\nRoe I-PER\nlives O\nin O\nGhent B-LOC\n\nDutch B-MISC\n",
    )?;
    for (name, labels) in [
        ("order", &["PER", "LOC", "MISC"][..]),
        ("more", &["MISC", "PER", "LOC", "Drug"]),
    ] {
        let file = format!("{name}.toml");
        desk.write(&file, &plan(labels))?;
        let train = [
            "train", "--model", "model", "--data", "a.conll", "--plan", &file, "--to", name,
        ];
        let output = desk.run(&train)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        assert_eq!(
            said.contains("begin anew: B-Drug, I-Drug"),
            name == "more",
            "{said}"
        );
        let found = desk.predicted(&["--model", name, "--text", "Anna Roe lives in Ghent"])?;
        assert_eq!(found, "PER:0-8 LOC:18-23", "{name}");
    }
    desk.write("other.toml", &plan(&["Drug"]))?;
    desk.write("drug.conll", "Aspirin B-Drug\n")?;
    let train = [
        "train",
        "--model",
        "model",
        "--data",
        "drug.conll",
        "--plan",
        "other.toml",
        "--to",
        "other",
    ];
    let said = String::from_utf8_lossy(&desk.run(&train)?.stderr).into_owned();
    assert!(said.contains("the head begins anew"), "{said}");
    Ok(())
}

#[test]
fn an_export_says_how_words_are_cut() -> Result<()> {
    let desk = Desk::new()?;
    let words = [
        ("Rose", "B-PER"),
        ("May", "B-PER"),
        ("rose", "O"),
        ("may", "O"),
    ];
    let cased = Dictionary::new("O B-PER I-PER", &words)
        .cased()
        .in_bfloat16()
        .with_config("dtype", json!("bfloat16"));
    desk.model("model", &cased)?;
    desk.write("a.conll", "Rose\tB-PER\nmay\tO\nrose\tO\n")?;
    desk.write("plan.toml", &plan(&["PER"]))?;
    desk.stdout(&[
        "train",
        "--model",
        "model",
        "--data",
        "a.conll",
        "--plan",
        "plan.toml",
        "--to",
        "out",
    ])?;
    let json = |file: &str| -> Result<Value> {
        Ok(serde_json::from_str(&std::fs::read_to_string(
            desk.path(file),
        )?)?)
    };
    let tokenizer = json("out/tokenizer_config.json")?;
    assert_eq!(tokenizer["do_lower_case"], false);
    assert_eq!(tokenizer["tokenize_chinese_chars"], true);
    assert_eq!(json("out/special_tokens_map.json")?["unk_token"], "[UNK]");
    let config = json("out/config.json")?;
    assert_eq!(
        (&config["torch_dtype"], &config["dtype"]),
        (&json!("float32"), &Value::Null)
    );
    let vocabulary = std::fs::read_to_string(desk.path("out/vocab.txt"))?;
    assert!(vocabulary.starts_with("[PAD]\n[UNK]\n") && vocabulary.contains("\nRose\n"));
    let card = std::fs::read_to_string(desk.path("out/README.md"))?;
    assert!(
        card.contains("pipeline_tag: token-classification"),
        "{card}"
    );
    // What was written is enough without tokenizer.json.
    std::fs::remove_file(desk.path("out/tokenizer.json"))?;
    let found = desk.predicted(&["--model", "out", "--text", "Rose may rose"])?;
    assert_eq!(found, "PER:0-4");
    Ok(())
}

#[test]
fn an_adapter_is_read_onto_its_model() -> Result<()> {
    let desk = Desk::new()?;
    let words = [("anna", "B-PER"), ("roe", "I-PER"), ("ghent", "B-LOC")];
    let tags = "O B-PER I-PER B-LOC I-LOC";
    desk.model(
        "model",
        &Dictionary::new(tags, &words).with_pieces("lives in"),
    )?;
    desk.write(
        "a.conll",
        "Anna B-PER\nRoe I-PER\nlives O\nin O\nGhent B-LOC\n",
    )?;
    desk.write(
        "plan.toml",
        &plan(&["PER", "LOC"]).replace("\"head\"", "\"lora\""),
    )?;
    desk.stdout(&[
        "train",
        "--model",
        "model",
        "--data",
        "a.conll",
        "--plan",
        "plan.toml",
        "--adapter",
        "--to",
        "adapter",
    ])?;
    let text = ["--text", "Anna Roe lives in Ghent"];
    let found = desk.predicted(&[&["--model", "adapter"], &text[..]].concat())?;
    assert_eq!(found, "PER:0-8 LOC:18-23");
    // Its model may stand beside it, and has to be somewhere.
    std::fs::rename(desk.path("model"), desk.path("adapter/base"))?;
    let found = desk.predicted(&[&["--model", "adapter"], &text[..]].concat())?;
    assert_eq!(found, "PER:0-8 LOC:18-23");
    std::fs::rename(desk.path("adapter/base"), desk.path("elsewhere"))?;
    let said = desk.refused(&[&["predict", "--model", "adapter"], &text[..]].concat())?;
    assert!(said.contains("an adapter for the model `model`"), "{said}");
    Ok(())
}

#[test]
fn files_that_are_not_the_model_itself_are_named() -> Result<()> {
    let desk = Desk::new()?;
    let refused =
        |model: &str| desk.refused(&["predict", "--model", model, "--text", "a", "--as", "jsonl"]);
    for file in ["model.safetensors", "tokenizer.json", "config.json"] {
        let name = format!("pointer-{file}");
        desk.model(&name, &drugs())?;
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n";
        desk.write(&format!("{name}/{file}"), pointer)?;
        let said = refused(&name)?;
        assert!(
            said.contains("git lfs pull") && said.contains(file),
            "{said}"
        );
    }
    for file in ["tf_model.h5", "flax_model.msgpack", "model.onnx"] {
        desk.model(file, &drugs())?;
        std::fs::remove_file(desk.path(&format!("{file}/model.safetensors")))?;
        desk.write(&format!("{file}/{file}"), "")?;
        let said = refused(file)?;
        assert!(said.contains(&format!("weights in {file}")), "{said}");
    }
    assert!(refused("nowhere")?.contains("nowhere is no directory"));
    assert!(refused("model.onnx/config.json")?.contains("is no directory"));
    desk.model("deberta", &drugs())?;
    desk.model("decoder", &drugs())?;
    for (name, key, value, expected) in [
        ("deberta", "model_type", json!("deberta-v2"), "DeBERTa"),
        ("decoder", "is_decoder", json!(true), "is_decoder"),
    ] {
        let file = format!("{name}/config.json");
        let mut config: Value = serde_json::from_str(&std::fs::read_to_string(desk.path(&file))?)?;
        config[key] = value;
        desk.write(&file, &config.to_string())?;
        let said = refused(name)?;
        assert!(said.contains(expected), "{said}");
    }
    Ok(())
}
