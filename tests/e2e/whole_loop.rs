//! From `init` to a published model that another program loads.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fedner_shared::bert::BertConfig;
use fedner_shared::checkpoint::{Checkpoint, config_with_layers};
use fedner_tests::binaries::binaries;
use fedner_tests::cluster::json;
use fedner_tests::notes::Split;
use serde_json::Value;

use crate::setting::{MINUTES, NO_NOISE, Setting, plan, refused, run};

#[test]
fn institutions_train_and_publish_without_noise() -> Result<()> {
    let mut setting = Setting::with_model()?;
    setting.start_institutions(3, 12)?;
    let run = setting.start_run(&plan(3, 2, 2, "full", "", NO_NOISE))?;
    let view = setting.wait_for_state(&run, "completed", MINUTES)?;
    assert_eq!(view["round"], 2);

    let published = setting.published()?;
    assert_eq!(published.len(), 2);
    for model in &published {
        let participants = model["version"]["origin"]["participants"]
            .as_array()
            .context("participants")?;
        assert_eq!(participants.len(), 3);
        assert_eq!(participants[1]["weight"], 101);
        assert!(participants[0]["epsilon"].is_null());
        assert_eq!(model["scores"].as_array().context("scores")?.len(), 3);
        assert!(model["f1"].is_number());
    }
    assert_eq!(published[1]["version"]["parent"], published[0]["digest"]);
    setting.assert_replays()?;
    continues_from_the_last_version(&setting)?;
    exports_what_the_client_loads(&setting, &published[1])?;
    keeps_receipts(&setting)?;
    setting.assert_no_errors_logged();
    Ok(())
}

/// Learning goes on: a new run starts from a published version, and the lineage shows it.
fn continues_from_the_last_version(setting: &Setting) -> Result<()> {
    let more = plan(3, 2, 1, "head", "", NO_NOISE)
        .replace("base@1", "notes@3")
        .replace("seed = 7", "seed = 8");
    let run = setting.start_run(&more)?;
    setting.wait_for_state(&run, "completed", MINUTES)?;
    let lineage = setting
        .cluster
        .coordinate(&["model", "lineage", "notes@5"])?;
    let lineage = lineage.as_array().context("lineage")?;
    let names: Vec<&Value> = lineage.iter().map(|m| &m["version"]["name"]).collect();
    assert_eq!(
        names,
        [
            "notes@5", "notes@4", "notes@3", "notes@2", "notes@1", "base@1"
        ]
    );
    // What the head stands on is the file of its base, and is kept and sent once.
    let (round, ready, base) = (&lineage[0], &lineage[1], &lineage[2]);
    assert_eq!(ready["version"]["origin"]["kind"], "prepared");
    assert_eq!(ready["version"]["frozen"], base["version"]["weights"]);
    assert_eq!(round["version"]["frozen"], base["version"]["weights"]);
    exports_what_the_client_loads(setting, round)?;

    setting
        .cluster
        .coordinate(&["model", "tag", "notes@5", "champion"])?;
    let back = setting
        .cluster
        .coordinate(&["model", "rollback", "--to", "notes@2"])?;
    assert_eq!(back["aliases"], serde_json::json!(["champion"]));
    let shown = setting.cluster.coordinate(&["model", "show", "champion"])?;
    assert_eq!(shown["version"]["name"], "notes@2");
    Ok(())
}

#[test]
fn adapters_are_federated_replayed_and_exported() -> Result<()> {
    let mut setting = Setting::with_model()?;
    setting.start_institutions(2, 6)?;
    let optimizers = ["", "[server_optimizer]\nname = \"fedyogi\"\n"];
    for ((method, first), optimizer) in [("ffa-lora", 1), ("lora", 4)].into_iter().zip(optimizers) {
        let seeded = plan(2, 2, 2, method, "", NO_NOISE)
            .replace("seed = 7", &format!("seed = {first}"))
            .replace("base@1", if first == 1 { "base@1" } else { "notes@3" })
            + optimizer;
        let run = setting.start_run(&seeded)?;
        setting.wait_for_state(&run, "completed", MINUTES)?;
        let last = format!("notes@{}", first + 2);
        let export = |to: &str, more: &[&str]| -> Result<std::path::PathBuf> {
            let to = setting.path(&format!("{to}-{method}"));
            let mut arguments = vec!["model", "export", &last, "--to"];
            arguments.push(to.to_str().context("path")?);
            arguments.extend(more);
            setting.cluster.coordinate(&arguments)?;
            Ok(to)
        };
        let whole = export("whole", &[])?;
        let config = std::fs::read_to_string(whole.join("config.json"))?;
        assert!(!config.contains("fedner"), "{config}");
        let adapter = export("adapter", &["--adapter"])?;
        let config = std::fs::read_to_string(adapter.join("adapter_config.json"))?;
        let config: Value = serde_json::from_str(&config)?;
        assert_eq!(
            (&config["r"], &config["peft_type"]),
            (&8.into(), &"LORA".into())
        );
        assert!(adapter.join("adapter_model.safetensors").exists());
        let base = setting
            .cluster
            .coordinate(&["model", "show", &format!("notes@{first}")])?;
        assert_eq!(base["version"]["origin"]["kind"], "prepared");
    }
    // Each round of the second run goes on from its own moments, the first one had none.
    let published = setting.published()?;
    let moments = published
        .iter()
        .map(|model| &model["version"]["origin"]["moments"]);
    let moments: Vec<&Value> = moments.collect();
    let kept = moments.iter().map(|moments| moments.is_string());
    assert_eq!(kept.collect::<Vec<_>>(), [false, false, true, true]);
    assert_ne!(moments[2], moments[3]);
    setting.assert_replays()?;
    setting.assert_no_errors_logged();
    Ok(())
}

fn exports_what_the_client_loads(setting: &Setting, model: &Value) -> Result<()> {
    let name = model["version"]["name"].as_str().context("name")?;
    let to = setting.path(&format!("exported-{name}"));
    run(setting.cluster.coordinator_command(&[
        "model",
        "export",
        name,
        "--to",
        to.to_str().context("path")?,
    ])?)?;
    let config: Value = serde_json::from_str(&std::fs::read_to_string(to.join("config.json"))?)?;
    assert_eq!(config["id2label"]["1"], "B-Person");
    assert_eq!(config["architectures"][0], "BertForTokenClassification");
    let mut command = std::process::Command::new(&binaries()?.client);
    command
        .arg("evaluate")
        .arg("--model")
        .arg(&to)
        .arg("--data")
        .arg(setting.path("0-devel.conll"));
    let report = json(command)?;
    // The very counts that the institution shared about this version.
    let scores = model["scores"].as_array().context("scores")?;
    let shared = &scores
        .iter()
        .find(|s| s["institution"] == "i0")
        .context("i0")?["scores"];
    let sum = |key: &str| {
        shared
            .as_object()
            .map(|types| types.values().filter_map(|t| t[key].as_u64()).sum::<u64>())
    };
    let support = sum("true_positives")
        .zip(sum("false_negatives"))
        .map(|(a, b)| a + b);
    assert_eq!(
        report
            .pointer("/entities/micro/support")
            .and_then(Value::as_u64),
        support
    );
    Ok(())
}

fn keeps_receipts(setting: &Setting) -> Result<()> {
    let receipts = setting.cluster.consult("i0", &["receipts", "list"])?;
    // Three updates and three evaluations, and the consents to two plans.
    let receipts = receipts.as_array().context("receipts")?;
    let of = |kind: &str| {
        receipts
            .iter()
            .filter(|receipt| receipt["kind"] == kind)
            .count()
    };
    assert_eq!((of("update"), of("evaluation")), (3, 3), "{receipts:?}");
    setting.cluster.consult("i0", &["receipts", "verify"])?;
    setting.cluster.consult("i0", &["privacy", "verify"])?;
    Ok(())
}

#[test]
fn noise_is_paid_for_and_the_budget_ends_the_run() -> Result<()> {
    let mut setting = Setting::with_model()?;
    setting.start_institutions(2, 6)?;
    // Two rounds fit the largest ε, a third does not.
    let privacy = "unit = \"institution\"\nclip = 1.0\nnoise_multiplier = 1.0\ndelta = 1e-5\nmax_epsilon = 8.0";
    let run = setting.start_run(&plan(2, 1, 3, "head", "", privacy))?;
    let view = setting.wait_until(&run, MINUTES, |view| {
        view["round"] == 3 && view["members"][0]["state"] == "left"
    });
    // With nobody left the run fails; either way the third version is never published.
    if let Ok(view) = view {
        assert_eq!(
            view["members"][1]["epsilon"]
                .as_f64()
                .map(|epsilon| epsilon < 8.0),
            Some(true)
        );
    }
    let published = setting.published()?;
    assert_eq!(published.len(), 2);
    let epsilon = |model: &Value| {
        model["version"]["origin"]["participants"][0]["epsilon"]
            .as_f64()
            .unwrap_or_default()
    };
    // ρ = 1/2 a round, a little more for rounding: ε of zCDP at δ = 1e-5 (Canonne, Kamath, Steinke 2020).
    assert!(
        (4.72..4.80).contains(&epsilon(&published[0])),
        "{}",
        epsilon(&published[0])
    );
    assert!(
        (7.0..7.2).contains(&epsilon(&published[1])),
        "{}",
        epsilon(&published[1])
    );
    setting.assert_replays()?;
    let ledger = setting.cluster.consult("i0", &["privacy", "show"])?;
    assert!(ledger.to_string().contains("institution"), "{ledger}");
    setting.cluster.consult("i0", &["privacy", "verify"])?;
    Ok(())
}

#[test]
fn persons_are_protected_in_every_step_of_a_head() -> Result<()> {
    persons_are_protected("head")
}

#[test]
fn persons_are_protected_in_every_step_of_adapters() -> Result<()> {
    persons_are_protected("lora")
}

#[test]
fn persons_are_protected_in_every_step_of_a_whole_model() -> Result<()> {
    persons_are_protected("full")
}

fn persons_are_protected(method: &str) -> Result<()> {
    let mut setting = Setting::with_model()?;
    setting.start_institutions(2, 24)?;
    let privacy = "unit = \"person\"\nclip = 1.0\nnoise_multiplier = 2.0\ndelta = 1e-5\nmax_epsilon = 50.0\n\
                   evaluation_noise = 10.0";
    let run = setting.start_run(&plan(2, 2, 2, method, "", privacy))?;
    setting.wait_for_state(&run, "completed", MINUTES)?;
    let published = setting.published()?;
    assert_eq!(published.len(), 2);
    // A batch of 8 of the 100 and 101 declared: 13 steps an epoch, 26 a round.
    let epsilon = |round: usize| {
        let participants = &published[round]["version"]["origin"]["participants"];
        participants[0]["epsilon"].as_f64().unwrap_or_default()
    };
    let (first, second) = (epsilon(0), epsilon(1));
    assert!(
        0.5 < first && first < second && second < 3.0,
        "{first} {second}"
    );
    setting.assert_replays()?;
    let ledger = setting.cluster.consult("i0", &["privacy", "show"])?;
    for input in ["person", "sampled_gaussian", "0.08", "26"] {
        assert!(ledger.to_string().contains(input), "{input}: {ledger}");
    }
    setting.cluster.consult("i0", &["privacy", "verify"])?;
    setting.cluster.consult("i0", &["receipts", "verify"])?;
    setting.assert_no_errors_logged();
    counts_are_noised_and_paid_for(&setting)?;
    a_ledger_with_a_smaller_price_is_found(&mut setting)
}

/// Somebody with the directory makes the last debit cheaper.
fn a_ledger_with_a_smaller_price_is_found(setting: &mut Setting) -> Result<()> {
    setting.cluster.kill_client("i0")?;
    let database = setting.cluster.client_directory("i0").join("state.sqlite");
    let connection = rusqlite::Connection::open(database)?;
    let debits = "SELECT max(sequence) FROM ledger WHERE body LIKE '%\"stage\":\"debited\"%'";
    let last = format!("sequence = ({debits})");
    let sql = format!("SELECT body FROM ledger WHERE {last}");
    let body: String = connection.query_row(&sql, [], |row| row.get(0))?;
    let cheaper = body.replace("\"scale\":100.0", "\"scale\":900.0");
    anyhow::ensure!(cheaper != body, "{body}");
    let sql = format!("UPDATE ledger SET body = ?1 WHERE {last}");
    connection.execute(&sql, [&cheaper])?;
    drop(connection);
    let verify = setting
        .cluster
        .client_command("i0", &["privacy", "verify"])?;
    let said = refused(verify)?;
    assert!(said.contains("ledger-invalid"), "{said}");
    Ok(())
}

/// What the forecast said of the last round, its counts among it.
fn counts_are_noised_and_paid_for(setting: &Setting) -> Result<()> {
    let (plan, model) = (setting.path("plan.toml"), setting.base_model()?);
    let (plan, model) = (
        plan.to_str().context("path")?,
        model.to_str().context("path")?,
    );
    let ask = [
        "privacy", "forecast", "--plan", plan, "--units", "100", "--model", model,
    ];
    let forecast = setting.cluster.consult("i0", &ask)?;
    let expected = forecast["epsilon_by_round"][1].as_f64().context("ε")?;
    let receipts = setting.cluster.consult("i0", &["receipts", "list"])?;
    let receipts = receipts.as_array().context("receipts")?;
    let counts: Vec<f64> = receipts
        .iter()
        .filter(|receipt| receipt["kind"] == "evaluation")
        .filter_map(|receipt| receipt["epsilon_after"].as_f64())
        .collect();
    assert_eq!(counts.len(), 2, "{receipts:?}");
    assert!((counts[1] - expected).abs() < 1e-9, "{counts:?} {expected}");
    assert!(counts[0] < counts[1]);
    Ok(())
}

/// The command of one institution alone costs and protects what the forecast said.
#[test]
fn every_method_trains_privately_by_hand() -> Result<()> {
    let setting = Setting::new()?;
    let (model, data) = (setting.base_model()?, setting.text(0, Split::Train, 12)?);
    let (model, data) = (
        model.to_str().context("path")?,
        data.to_str().context("path")?,
    );
    let privacy =
        "unit = \"document\"\nclip = 1.0\nnoise_multiplier = 2.0\ndelta = 1e-5\nmax_epsilon = 50.0";
    let mut dimensions = Vec::new();
    for method in ["head", "bitfit", "ffa-lora", "lora", "full"] {
        let file = setting.path(&format!("{method}.toml"));
        std::fs::write(&file, plan(1, 1, 1, method, "", privacy))?;
        let (file, to) = (file.to_str().context("path")?, setting.path(method));
        let to = to.to_str().context("path")?;
        let train = [
            "train",
            "--model",
            model,
            "--data",
            data,
            "--plan",
            file,
            "--to",
            to,
            "--private",
        ];
        let report = setting.cluster.consult("alone", &train)?;
        // A batch of 8 of 12: two steps an epoch, of which there are two.
        assert_eq!(report["privacy"]["units"], 12, "{report}");
        assert_eq!(report["steps"], 4, "{report}");
        let forecast = [
            "privacy", "forecast", "--plan", file, "--units", "12", "--model", model,
        ];
        let forecast = setting.cluster.consult("alone", &forecast)?;
        assert_eq!(
            forecast["dimension"], report["trainable_weights"],
            "{forecast}"
        );
        assert_eq!(
            forecast["epsilon_rdp"], report["privacy"]["epsilon"],
            "{forecast}"
        );
        let rests_on = forecast["device_guarantee"]
            .as_str()
            .context("a guarantee")?;
        assert!(rests_on.contains("to the last bit"), "{forecast}");
        let dimension = report["trainable_weights"].as_f64().context("weights")?;
        let noise = forecast["noise_to_signal"].as_f64().context("noise")?;
        assert!(
            (noise - 2.0 * dimension.sqrt() / 8.0).abs() < 1e-9,
            "{forecast}"
        );
        assert_eq!(forecast["too_noisy"], noise > 20.0, "{forecast}");
        dimensions.push(dimension);
    }
    assert!(dimensions.is_sorted_by(|a, b| a < b), "{dimensions:?}");
    Ok(())
}

#[test]
fn a_training_by_hand_ends_where_held_out_text_no_longer_gains() -> Result<()> {
    let setting = Setting::new()?;
    let (model, data) = (setting.base_model()?, setting.text(0, Split::Train, 12)?);
    let held_out = setting.text(0, Split::Test, 8)?;
    let (file, to) = (setting.path("plan.toml"), setting.path("trained"));
    // A learning rate at which nothing is learnt: no epoch is better than the first.
    let plan = plan(1, 1, 6, "head", "", NO_NOISE);
    std::fs::write(&file, plan.replace("= 1e-3", "= 1e-12"))?;
    let train = |more: &[&str]| -> Result<Value> {
        let paths = [&model, &data, &file, &to, &held_out];
        let [model, data, file, to, held_out] = paths.map(|path| path.to_str().unwrap_or_default());
        let begin = ["train", "--model", model, "--data", data, "--plan", file];
        let all = [&begin[..], &["--to", to, "--held-out", held_out], more].concat();
        setting.cluster.consult("alone", &all)
    };
    let error = train(&["--early-stopping", "2", "--private"]).expect_err("both");
    assert!(format!("{error:#}").contains("--private"), "{error:#}");
    let report = train(&["--early-stopping", "2"])?;
    let stopped = &report["early_stopping"];
    assert_eq!(stopped["best_epoch"], 1, "{report}");
    assert_eq!(stopped["f1"].as_array().map(Vec::len), Some(3), "{report}");
    assert_eq!(report["epochs"], 3, "{report}");
    assert_eq!(
        stopped["f1"][0], report["held_out"]["micro"]["f1"],
        "{report}"
    );
    Ok(())
}

/// An encoder of random weights with the tokenizer of the tests' model.
fn of_two_layers(setting: &Setting) -> Result<PathBuf> {
    let (from, to) = (setting.base_model()?, setting.path("two-layers"));
    std::fs::create_dir_all(&to)?;
    let config = std::fs::read_to_string(from.join("config.json"))?;
    let config = config_with_layers(&config, 2)?;
    let weights = Checkpoint::random(BertConfig::parse(&config)?, 1).to_safetensors()?;
    std::fs::write(to.join("config.json"), config)?;
    std::fs::write(to.join("model.safetensors"), weights)?;
    std::fs::copy(from.join("tokenizer.json"), to.join("tokenizer.json"))?;
    Ok(to)
}

/// What the text annotates is not read, and what the new model does not know is learnt.
#[test]
fn a_model_of_fewer_layers_is_taught_without_annotations() -> Result<()> {
    let setting = Setting::new()?;
    let (model, data) = (of_two_layers(&setting)?, setting.text(0, Split::Train, 12)?);
    let (file, teacher) = (setting.path("plan.toml"), setting.path("teacher"));
    std::fs::write(&file, plan(1, 1, 6, "full", "", NO_NOISE))?;
    let consult = |command: &str, from: &Path, text: &Path, to: &Path, more: &[&str]| {
        let [from, text, to, file] =
            [from, text, to, &file].map(|path| path.to_str().unwrap_or_default());
        let all = ["--model", from, "--data", text, "--plan", file, "--to", to];
        let all = [&[command], &all[..], more].concat();
        setting.cluster.consult("alone", &all)
    };
    consult("train", &model, &data, &teacher, &[])?;
    let bare = setting.path("bare.tsv");
    let lines = std::fs::read_to_string(&data)?;
    let lines = lines.lines().map(|line| match line.split_once('\t') {
        Some((word, _)) => format!("{word}\tO\n"),
        None => format!("{line}\n"),
    });
    std::fs::write(&bare, lines.collect::<String>())?;
    let mut weights = Vec::new();
    for (name, text) in [("tagged", &data), ("bare", &bare)] {
        let to = setting.path(name);
        let report = consult("distil", &teacher, text, &to, &["--layers", "1"])?;
        let loss = |key: &str| report[key].as_f64().unwrap_or_default();
        assert!(loss("loss") < loss("first_loss"), "{report}");
        weights.push(std::fs::read(to.join("model.safetensors"))?);
        let config = std::fs::read_to_string(to.join("config.json"))?;
        let config: Value = serde_json::from_str(&config)?;
        assert_eq!(config["num_hidden_layers"], 1, "{config}");
        let evaluate = ["--model", to.to_str().unwrap_or_default(), "--data"];
        let data = data.to_str().unwrap_or_default();
        let evaluate = [&["evaluate"], &evaluate[..], &[data]].concat();
        setting.cluster.consult("alone", &evaluate)?;
    }
    assert_eq!(weights[0], weights[1], "annotations were read");
    let refused = |from: &Path, layers: &str| {
        let to = setting.path("refused");
        let error = consult("distil", from, &data, &to, &["--layers", layers]);
        format!("{:#}", error.expect_err("refused"))
    };
    for layers in ["7", "1,0", "0,0"] {
        assert!(refused(&teacher, layers).contains("each once and in order"));
    }
    // A bare encoder has nothing to teach.
    assert!(refused(&model, "1").contains("types that the model knows"));
    Ok(())
}

#[test]
fn nothing_is_trained_without_consent() -> Result<()> {
    let mut setting = Setting::with_model()?;
    setting.enrol("i0", 0, 4)?;
    let policy = setting.cluster.client_directory("i0").join("policy.toml");
    let text = std::fs::read_to_string(&policy)?.replace("\"auto\"", "\"ask\"");
    std::fs::write(&policy, text)?;
    setting.cluster.start_client("i0")?;
    let run = setting.start_run(&plan(1, 1, 1, "head", "", NO_NOISE))?;
    // The plan arrives and is shown; the run waits.
    let mut shown = Value::Null;
    for _ in 0..200 {
        shown = setting.cluster.consult("i0", &["consent", "list"])?;
        if shown.as_array().is_some_and(|plans| !plans.is_empty()) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(shown.to_string().contains("notes"), "{shown}");
    let explained = setting.cluster.coordinate(&["run", "explain", &run])?;
    assert_eq!(
        (&explained["state"], &explained["from"]),
        (&"recruiting".into(), &serde_json::json!(["i0"]))
    );
    assert!(setting.published()?.is_empty());
    let dry = ["consent", "grant", "notes", "--dry-run"];
    let draft = setting.cluster.consult("i0", &dry)?;
    assert_eq!(
        (&draft["examples"], &draft["institution"]),
        (&100.into(), &"i0".into())
    );
    let pending = setting.cluster.consult("i0", &["consent", "list"])?;
    assert_eq!(pending[0]["consent"], "pending");
    setting
        .cluster
        .consult("i0", &["consent", "grant", "notes"])?;
    setting.wait_for_state(&run, "completed", MINUTES)?;
    Ok(())
}
