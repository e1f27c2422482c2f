//! Institutions that annotate different types.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use fedner_shared::bert;
use fedner_shared::checkpoint::{self, Checkpoint};
use fedner_shared::plan::Plan;
use serde_json::{Value, json};

use crate::setting::{MINUTES, NO_NOISE, Setting, plan, refused};

/// Leaves the tags of one type in a file of columns.
pub(crate) fn keep_only(label: &str, file: &Path) -> Result<()> {
    let kept = format!("-{label}");
    let text = fs::read_to_string(file)?;
    let lines = text
        .lines()
        .map(|line| match line.rsplit_once(char::is_whitespace) {
            Some((word, tag)) if tag.contains('-') && !tag.ends_with(&kept) => format!("{word} O"),
            Some(_) | None => line.to_owned(),
        });
    let lines: Vec<String> = lines.collect();
    Ok(fs::write(file, lines.join("\n") + "\n")?)
}

pub(crate) fn declare(setting: &Setting, name: &str, line: &str) -> Result<()> {
    let file = setting.cluster.client_directory(name).join("client.toml");
    let text = fs::read_to_string(&file)?;
    Ok(fs::write(file, format!("{line}\n{text}"))?)
}

#[test]
fn an_institution_says_which_types_its_text_annotates() -> Result<()> {
    let mut setting = Setting::with_model()?;
    for number in 0..2 {
        setting.enrol(&format!("i{number}"), number, 24)?;
    }
    for file in ["1-train.conll", "1-devel.conll"] {
        keep_only("Date", &setting.path(file))?;
    }
    declare(&setting, "i1", "annotated_types = [\"Date\"]")?;
    setting.cluster.start_client("i0")?;
    setting.cluster.start_client("i1")?;
    // What i1 does not annotate it has no say in.
    let by_rows = plan(2, 2, 2, "head", "", NO_NOISE) + "[aggregation]\nrows = \"annotated\"\n";
    let run = setting.start_run(&by_rows)?;
    let view = setting.wait_for_state(&run, "completed", MINUTES)?;

    let of = |value: &Value, name: &str| -> Result<Value> {
        let all = value.as_array().context("a list")?;
        let found = all.iter().find(|one| one["institution"] == name);
        found.cloned().context("the institution")
    };
    let declared = json!({ "types": ["Date"] });
    assert_eq!(of(&view["members"], "i1")?["annotation"], declared);
    assert!(of(&view["members"], "i0")?["annotation"].is_null());
    let plans = setting.cluster.consult("i1", &["consent", "list"])?;
    assert_eq!(plans[0]["annotation"], declared);
    // What i1 has not annotated it does not count.
    let model = setting.cluster.coordinate(&["model", "show", "notes@3"])?;
    let types = |name: &str| -> Result<Vec<String>> {
        let own = of(&model["scores"], name)?;
        let by_type = own["scores"].as_object().context("types")?;
        Ok(by_type.keys().cloned().collect())
    };
    assert_eq!(types("i1")?, ["Date"]);
    assert!(types("i0")?.len() > 1);
    // Two versions side by side say whose text each type's F1 rests on.
    let compare = ["model", "compare", "notes@2", "notes@3"];
    let compared = setting.cluster.coordinate(&compare)?;
    let rests_on = |label: &str| -> Result<Value> {
        let types = compared["types"].as_array().context("types")?;
        let found = types.iter().find(|of| of["label"] == label);
        Ok(found.context("the type")?["rests_on"].clone())
    };
    assert_eq!(rests_on("Date")?, json!(["i0", "i1"]));
    assert_eq!(rests_on("Person")?, json!(["i0"]));
    setting.assert_replays()?;
    setting.assert_no_errors_logged();

    // Without the declaration a person who looks is told: no consent by policy reads text.
    let file = setting.cluster.client_directory("i1").join("client.toml");
    let declared = fs::read_to_string(&file)?;
    let check = || -> Result<(Option<i32>, String)> {
        let output = setting.cluster.client_command("i1", &["check"])?.output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok((output.status.code(), said))
    };
    let (code, said) = check()?;
    assert_eq!(code, Some(0), "{said}");
    fs::write(&file, declared.replace("annotated_types = [\"Date\"]", ""))?;
    let (code, said) = check()?;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("annotation-undeclared"), "{said}");
    fs::write(&file, declared)?;

    // An entity of another type contradicts the declaration, and is named with its line.
    let text = setting.path("0-train.conll");
    let text = text.to_str().context("path")?;
    let inspect = ["data", "inspect", "--annotated-types", "Date", text];
    let said = refused(setting.cluster.client_command("i0", &inspect)?)?;
    assert!(
        said.contains("type-not-annotated") || said.contains("labels-mismatch"),
        "{said}"
    );
    Ok(())
}

/// A base that knows five of six types and one that nobody wants any more.
pub(crate) fn grown_base(setting: &Setting, labels: &[String]) -> Result<Checkpoint> {
    let base = setting.base_model()?;
    let config_json = fs::read_to_string(base.join("config.json"))?;
    let encoder = Checkpoint::read(&config_json, &fs::read(base.join("model.safetensors"))?)?;
    let whole = encoder.with_new_head(bert::tags(labels).len(), 1);
    let directory = setting.path("known");
    fs::create_dir_all(&directory)?;
    let tokenizer = "tokenizer.json";
    fs::copy(base.join(tokenizer), directory.join(tokenizer))?;
    let config_json = checkpoint::config_with_labels(&config_json, labels)?;
    fs::write(directory.join("config.json"), config_json)?;
    fs::write(directory.join("model.safetensors"), whole.to_safetensors()?)?;
    let from = directory.to_str().context("path")?;
    let import = ["model", "import", "--from", from, "--name", "known"];
    setting.cluster.coordinate(&import)?;
    Ok(whole)
}

#[test]
fn a_head_grows_by_a_type_and_the_known_ones_stay_as_they_are() -> Result<()> {
    let mut setting = Setting::with_model()?;
    let text = plan(2, 2, 2, "head", "", NO_NOISE).replace("base@1", "known@1");
    let labels = Plan::parse(&text)?.labels;
    let mut known: Vec<String> = labels[..5].to_vec();
    known[4] = "Employer".to_owned();
    known.push("Animal".to_owned());
    let base = grown_base(&setting, &known)?;

    // What becomes of the types that the plan lacks must be said.
    let path = setting.path("plan.toml");
    fs::write(&path, &text)?;
    let create = ["run", "create", path.to_str().context("path")?, "--force"];
    let said = refused(setting.cluster.coordinator_command(&create)?)?;
    assert!(
        said.contains("labels-mismatch") && said.contains("Employer") && said.contains("`drop`"),
        "{said}"
    );

    setting.start_institutions(2, 24)?;
    let new_name = &labels[4];
    let types = format!(
        "known_types = \"freeze\"\nrename = {{ Employer = \"{new_name}\" }}\ndrop = [\"Animal\"]\nlabels = "
    );
    let run = setting.start_run(&text.replace("labels = ", &types))?;
    setting.wait_for_state(&run, "completed", MINUTES)?;
    let to = setting.path("exported");
    let export = [
        "model",
        "export",
        "notes@3",
        "--to",
        to.to_str().context("path")?,
    ];
    setting.cluster.coordinate(&export)?;
    let config_json = fs::read_to_string(to.join("config.json"))?;
    let grown = Checkpoint::read(&config_json, &fs::read(to.join("model.safetensors"))?)?;
    let rows = |model: &Checkpoint| -> Result<Vec<Vec<u32>>> {
        let (weight, bias) = (
            model.tensor("classifier.weight")?,
            model.tensor("classifier.bias")?,
        );
        let width = weight.len() / bias.len();
        let rows = weight.chunks_exact(width).zip(bias);
        let bits = rows.map(|(row, bias)| row.iter().chain([bias]).map(|w| w.to_bits()).collect());
        Ok(bits.collect())
    };
    let (before, after) = (rows(&base)?, rows(&grown)?);
    // `O` and five types; the sixth began as `O`, and has learnt.
    assert_eq!(before[..11], after[..11]);
    assert_eq!(after.len(), 13);
    assert!(after[11] != after[0] && after[11] != after[12]);

    // A year later one of them annotates dates alone, and what the model says of the rest is kept in mind. The
    // second round asks the weights that the first began with.
    for file in ["1-train.conll", "1-devel.conll"] {
        keep_only("Date", &setting.path(file))?;
    }
    declare(&setting, "i1", "annotated_types = [\"Date\"]")?;
    let later = text
        .replace("known@1", "notes@3")
        .replace("\"notes\"", "\"later\"");
    let later = later.replace("labels = ", "known_types = \"distil\"\nlabels = ");
    let run = setting.start_run(&later)?;
    setting.wait_for_state(&run, "completed", MINUTES)?;
    setting.assert_replays()?;
    setting.assert_no_errors_logged();
    Ok(())
}
