//! The plan: the person's own, or a default, made to fit the data.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use fedner_shared::plan::{Plan, Unit};
use toml::{Table, Value};

use crate::data::Data;

/// Few trainable weights, and every person's text protected within the institution: every step takes
/// nearly all of the persons, for a step costs little beside the features and the noise is then least
/// for what is learnt; that of all steps together costs ε below 8. Rounds are short, as institutions
/// that write differently part soon.
///
/// `full` is of all notes. Else there is half of them in half of the rounds, at the same ε.
pub(crate) fn notes(full: bool) -> String {
    let (rounds, batch_size, noise_multiplier) = if full { (16, 1500, 6.2) } else { (8, 750, 4.4) };
    format!(
        r#"
name = "notes"
method = "head"
rounds = {rounds}
seed = 7
[training]
local_epochs = 3
batch_size = {batch_size}
learning_rate = 0.8
warmup = 0.0
weight_decay = 0.0
max_tokens = 128
head_layers = [2, 4, 6]
head_context = 1
head_iob2 = true
[cohort]
recruit_timeout_s = 60
train_timeout_s = 300
[privacy]
unit = "person"
clip = 0.01
noise_multiplier = {noise_multiplier}
delta = 1e-5
max_epsilon = 8.0
"#
    )
}

pub(crate) const REAL_CORPUS: &str = r#"
name = "federated-ner"
method = "full"
rounds = 5
seed = 7
[training]
local_epochs = 1
batch_size = 16
learning_rate = 1e-4
max_tokens = 256
[cohort]
recruit_timeout_s = 120
train_timeout_s = 3600
[privacy]
unit = "none"
"#;

/// A random encoder must be trained as a whole, and noise on all its weights would drown them.
pub(crate) const FROM_SCRATCH: &str = r#"
name = "from-scratch"
method = "full"
rounds = 4
seed = 7
[training]
local_epochs = 2
batch_size = 16
learning_rate = 1e-3
max_tokens = 128
[privacy]
unit = "none"
"#;

/// The plan in `file`, or `defaults`, with base, labels and cohort of the demo.
pub(crate) fn prepare(file: Option<&Path>, defaults: &str, data: &Data) -> Result<Plan> {
    let text = match file {
        Some(path) => {
            fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?
        }
        None => defaults.to_owned(),
    };
    let mut table: Table = toml::from_str(&text).context("read the plan")?;
    table.entry("name").or_insert_with(|| Value::from("demo"));
    table.insert("base".into(), Value::from("base@1"));
    table.insert("labels".into(), Value::from(data.labels.clone()));
    let names: Vec<String> = data
        .institutions
        .iter()
        .map(|institution| institution.name.clone())
        .collect();
    let count = names.len() as i64;
    let cohort = table
        .entry("cohort")
        .or_insert_with(|| Value::from(Table::new()));
    if let Some(cohort) = cohort.as_table_mut() {
        cohort.insert("institutions".into(), Value::from(names));
        // A majority, unless the plan says otherwise.
        let quorum = cohort
            .get("quorum")
            .and_then(Value::as_integer)
            .unwrap_or(count / 2 + 1);
        cohort.insert("quorum".into(), Value::from(quorum.clamp(1, count)));
    }
    Plan::parse(&toml::to_string(&table).context("write the plan")?).context("check the plan")
}

/// The same training without a federation: whole schedule on one corpus. `train` makes the steps of
/// sampled units without clip and noise.
pub(crate) fn baseline(plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    if !plan.privacy.unit.is_sampled() {
        plan.privacy.unit = Unit::None;
    }
    plan
}
