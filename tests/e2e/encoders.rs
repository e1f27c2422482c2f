//! An encoder that is not BERT by name: imported, trained by institutions together, exported.

use std::path::Path;

use anyhow::{Context, Result};
use fedner_tests::process;

use crate::setting::{MINUTES, NO_NOISE, Setting, plan};

#[test]
fn a_roberta_is_trained_together_and_exported() -> Result<()> {
    let mut setting = Setting::new()?;
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/encoders/roberta");
    let from = fixtures.to_str().context("path")?;
    let import = [
        "model",
        "import",
        "--from",
        from,
        "--name",
        "base",
        "--encoder-only",
    ];
    setting.cluster.coordinate(&import)?;
    setting.start_institutions(2, 4)?;
    let run = setting.start_run(&plan(2, 2, 1, "full", "", NO_NOISE))?;
    setting.wait_for_state(&run, "completed", MINUTES)?;
    setting.assert_replays()?;

    let exported = setting.path("exported");
    let to = exported.to_str().context("path")?;
    let version = setting.published()?.pop().context("a version")?;
    let version = version["version"]["name"]
        .as_str()
        .context("name")?
        .to_owned();
    setting
        .cluster
        .coordinate(&["model", "export", &version, "--to", to])?;
    // As ONNX beside it: what the client writes of the exported model, to the byte.
    let [graph, again] = ["graph", "again"].map(|name| setting.path(name));
    let as_onnx = graph.to_str().context("path")?;
    let export = [
        "model", "export", &version, "--format", "onnx", "--to", as_onnx,
    ];
    setting.cluster.coordinate(&export)?;
    let mut client = std::process::Command::new(&fedner_tests::binaries::binaries()?.client);
    client
        .args(["model", "export", "--model", to, "--to"])
        .arg(&again);
    process::run(client)?;
    let bytes = |directory: &Path| std::fs::read(directory.join("model.onnx"));
    assert_eq!(bytes(&graph)?, bytes(&again)?);
    let card = std::fs::read_to_string(graph.join("README.md"))?;
    assert!(
        card.contains(&version) && card.contains("## ONNX"),
        "{card}"
    );
    let read = |file: &str| std::fs::read_to_string(exported.join(file)).context(file.to_owned());
    assert!(read("tokenizer_config.json")?.contains("RobertaTokenizer"));
    assert!(read("config.json")?.contains("\"model_type\": \"bert\""));
    let card = read("README.md")?;
    assert!(
        card.contains(&version) && card.contains("no ε covers"),
        "{card}"
    );
    let text = [
        "predict",
        "--model",
        to,
        "--text",
        "Seen in Ghent.",
        "--as",
        "jsonl",
    ];
    let mut client = std::process::Command::new(&fedner_tests::binaries::binaries()?.client);
    client.args(text);
    process::run(client)?;
    setting.assert_no_errors_logged();
    Ok(())
}
