//! The plan: the person's own, or a default, made to fit the data.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use fedner_shared::plan::{Plan, Unit};
use toml::{Table, Value};

use crate::data::Data;

/// Steps that all take together, under masks: each takes nearly all persons of all institutions, and has the noise of one.
/// There are as many as the open plan's institutions take each, of the same rate and noise. So ε is the same.
pub(crate) fn together(full: bool) -> String {
    let (rounds, batch_size, noise_multiplier) = if full {
        (96, 4500, 6.2)
    } else {
        (48, 2250, 4.4)
    };
    format!(
        r#"
name = "notes"
method = "head"
rounds = {rounds}
seed = 7
[training]
batch_size = {batch_size}
learning_rate = 0.8
max_tokens = 128
head_layers = [2, 4, 6]
head_context = 1
[cohort]
recruit_timeout_s = 60
train_timeout_s = 300
release_after_s = 1
evaluate_every = 12
[secure_aggregation]
[privacy]
unit = "person"
noise_multiplier = {noise_multiplier}
delta = 1e-5
max_epsilon = 8.0
cohort_units = 1
"#
    )
}

/// Few trainable weights, and every person's text protected within the institution: every step takes
/// nearly all of the persons, for a step costs little beside the features and the noise is then least
/// for what is learnt; that of all steps together costs ε below 8. Rounds are short, as institutions
/// that write differently part soon.
///
/// `full` is of all notes. Else there is half of them in half of the rounds, at the same ε.
pub(crate) fn open(full: bool) -> String {
    let (rounds, batch_size, noise_multiplier) = if full { (16, 1500, 6.2) } else { (8, 750, 4.4) };
    format!(
        r#"
name = "notes-open"
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
    let masked = table.contains_key("secure_aggregation");
    fill_in_units(&mut table, data)?;
    let cohort = table
        .entry("cohort")
        .or_insert_with(|| Value::from(Table::new()));
    if let Some(cohort) = cohort.as_table_mut() {
        cohort.insert("institutions".into(), Value::from(names));
        // A majority, unless the plan says otherwise; of masked updates all.
        let usual = if masked { count } else { count / 2 + 1 };
        let quorum = cohort.get("quorum").and_then(Value::as_integer);
        let quorum = quorum.unwrap_or(usual);
        cohort.insert("quorum".into(), Value::from(quorum.clamp(1, count)));
    }
    Plan::parse(&toml::to_string(&table).context("write the plan")?).context("check the plan")
}

/// Where all take a step together, the plan says how many units they have: what they declare.
fn fill_in_units(table: &mut Table, data: &Data) -> Result<()> {
    let Some(privacy) = table.get_mut("privacy").and_then(Value::as_table_mut) else {
        return Ok(());
    };
    if privacy.contains_key("cohort_units") {
        let unit = privacy.get("unit").and_then(Value::as_str);
        let unit: Unit = unit
            .context("the plan's unit")?
            .parse()
            .map_err(anyhow::Error::msg)?;
        let declared = data.institutions.iter().map(|one| one.declares(unit));
        let declared = declared.collect::<Result<Vec<u32>>>()?;
        let all = i64::from(declared.iter().sum::<u32>());
        privacy.insert("cohort_units".into(), Value::from(all));
    }
    Ok(())
}

/// The same training without a federation: whole schedule on one corpus. `train` makes the steps of
/// sampled units without clip and noise.
pub(crate) fn baseline(plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    if !plan.privacy.unit.is_sampled() {
        plan.privacy.unit = Unit::None;
    }
    if let Some(units) = plan.privacy.cohort_units {
        // As many steps, in epochs of all text.
        let epoch = (units as usize).div_ceil(plan.training.batch_size).max(1) as u32;
        plan.rounds = plan.rounds.div_ceil(epoch);
    }
    (plan.privacy.cohort_units, plan.privacy.noise_shares) = (None, 1);
    plan.secure_aggregation = None;
    plan
}
