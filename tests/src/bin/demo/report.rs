//! The table at the end, and what the figures are worth.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table, presets};
use fedner_shared::plan::{Plan, Unit};
use fedner_shared::score::Counts;
use fedner_tests::binaries::binaries;
use fedner_tests::cluster::json;
use fedner_tests::process;

use crate::data::Data;
use crate::federation::Outcome;
use crate::plan::baseline;

/// One model, measured on every test text.
#[derive(Debug)]
pub(crate) struct Row {
    who: String,
    /// On the common test text.
    f1: f64,
    /// On each institution's own test text, where it has one.
    own: Vec<(String, f64)>,
    epsilon: String,
    sent: String,
    seconds: String,
}

pub(crate) fn rows(
    directory: &Path,
    model: &Path,
    plan: &Plan,
    data: &Data,
    federations: &[(&str, Option<&Outcome>)],
    baselines: bool,
) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    if baselines {
        let path = directory.join("baseline.toml");
        fs::write(&path, toml::to_string(&baseline(plan))?).context("write the baselines' plan")?;
        for institution in &data.institutions {
            let who = format!("{} alone", institution.name);
            let features = directory.join(&institution.name).join("features");
            rows.push(baseline_row(
                directory,
                model,
                &path,
                data,
                who,
                (&institution.train, Some(&features)),
                "0",
            )?);
        }
        let pooled_bytes = fs::metadata(&data.pooled)?.len();
        let sent = format!("all text ({})", megabytes(pooled_bytes));
        rows.push(baseline_row(
            directory,
            model,
            &path,
            data,
            "pooled".to_owned(),
            (&data.pooled, None),
            &sent,
        )?);
    }
    eprintln!("measuring what the federation has trained");
    let place = rows.len().saturating_sub(1);
    let outcomes = federations.iter().rev();
    for (who, outcome) in outcomes.filter_map(|(who, outcome)| Some((who, (*outcome)?))) {
        rows.insert(place, federation_row(who, outcome, data)?);
    }
    Ok(rows)
}

fn federation_row(who: &str, outcome: &Outcome, data: &Data) -> Result<Row> {
    let seconds = outcome.seconds.iter().sum::<f64>() / outcome.seconds.len().max(1) as f64;
    let Measured { f1, own } = measure(&outcome.exported, data)?;
    Ok(Row {
        who: who.to_owned(),
        f1,
        own,
        epsilon: outcome.epsilon.map_or_else(|| "∞".to_owned(), round_up),
        sent: megabytes(outcome.bytes),
        seconds: format!("{seconds:.1}"),
    })
}

fn baseline_row(
    directory: &Path,
    model: &Path,
    plan: &Path,
    data: &Data,
    who: String,
    (train, features): (&Path, Option<&Path>),
    sent: &str,
) -> Result<Row> {
    eprintln!("training: {who}");
    let to = directory.join("baselines").join(who.replace(' ', "-"));
    let began = Instant::now();
    let mut command = client()?;
    command
        .args(["train", "--quiet", "--model"])
        .arg(model)
        .arg("--data")
        .arg(train);
    command.arg("--plan").arg(plan).arg("--to").arg(&to);
    if let Some(features) = features.filter(|features| features.exists()) {
        // What the institution's client made of the same text.
        command.arg("--features").arg(features);
    }
    process::run(command)?;
    let seconds = began.elapsed().as_secs_f64();
    let Measured { f1, own } = measure(&to, data)?;
    Ok(Row {
        who,
        f1,
        own,
        epsilon: "∞".to_owned(),
        sent: sent.to_owned(),
        seconds: format!("{seconds:.1} in all"),
    })
}

fn client() -> Result<Command> {
    Ok(Command::new(&binaries()?.client))
}

/// Entity-level F1 of a model.
struct Measured {
    f1: f64,
    own: Vec<(String, f64)>,
}

/// Where institutions have test text of their own, the common text is all of it together, and its
/// counts are the sums of theirs.
fn measure(model: &Path, data: &Data) -> Result<Measured> {
    let (mut total, mut own) = (Counts::default(), Vec::new());
    for institution in &data.institutions {
        if let Some(test) = &institution.test {
            let counts = count(model, test)?;
            own.push((institution.name.clone(), counts.f1()));
            total.add(counts);
        }
    }
    if own.is_empty() {
        total = count(model, &data.test)?;
    }
    Ok(Measured {
        f1: total.f1(),
        own,
    })
}

/// Counts the model's entities in `test`, by the client's own `evaluate`.
fn count(model: &Path, test: &Path) -> Result<Counts> {
    let mut command = client()?;
    command
        .arg("evaluate")
        .arg("--model")
        .arg(model)
        .arg("--data")
        .arg(test);
    let mut report = json(command)?;
    serde_json::from_value(report["entities"]["micro"].take()).context("the counts of `evaluate`")
}

pub(crate) fn print(rows: &[Row], plan: &Plan, outcome: &Outcome) {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    let own = rows.first().map_or(&[][..], |row| &row.own);
    let mut header = vec!["trained on".to_owned(), "test F1".to_owned()];
    header.extend(own.iter().map(|(name, _)| format!("… of {name}")));
    header.extend([
        "ε".to_owned(),
        "left the institutions".to_owned(),
        "seconds a round".to_owned(),
    ]);
    let columns = header.len();
    table.set_header(header);
    for row in rows {
        let mut cells = vec![row.who.clone(), format!("{:.3}", row.f1)];
        cells.extend(row.own.iter().map(|(_, f1)| format!("{f1:.3}")));
        cells.extend([row.epsilon.clone(), row.sent.clone(), row.seconds.clone()]);
        table.add_row(cells);
    }
    for column in table.column_iter_mut().skip(1).take(columns) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
    println!("{}", worth(plan, outcome.epsilon));
    println!(
        "{} rounds in {:.0} s; largest memory of a client {}, of the coordinator {}",
        outcome.seconds.len(),
        outcome.total.as_secs_f64(),
        megabytes(outcome.client_peak),
        megabytes(outcome.coordinator_peak),
    );
}

/// One sentence on what the ε above means.
fn worth(plan: &Plan, epsilon: Option<f64>) -> String {
    let (true, Some(epsilon)) = (plan.privacy.unit != Unit::None, epsilon) else {
        return "This plan adds no noise: ε is infinite, and the updates may reveal training text."
            .to_owned();
    };
    let shown = round_up(epsilon);
    let whose = match plan.privacy.unit {
        Unit::Person => "all text of one person in one institution",
        Unit::Document => "one document",
        Unit::Sentence => "one sentence",
        Unit::Institution | Unit::None => "everything one institution holds",
    };
    let guarantee = format!("ε = {shown} (δ = {:e}, unit: {whose})", plan.privacy.delta);
    if epsilon <= 1.0 {
        format!("{guarantee} is a strong guarantee.")
    } else if epsilon <= 10.0 {
        format!("{guarantee} is a guarantee of the usual strength in practice.")
    } else {
        format!(
            "{guarantee} promises next to nothing: it lets the odds that an observer gives to the unit's \
             part in the training grow by e^{shown}; what protects the text here is that nothing but {} \
             clipped and noised updates leaves.",
            plan.cohort.institutions.len() * plan.rounds as usize
        )
    }
}

/// Two decimals, never rounded down.
fn round_up(epsilon: f64) -> String {
    format!("{:.2}", (epsilon * 100.0).ceil() / 100.0)
}

fn megabytes(bytes: u64) -> String {
    format!("{:.2} MB", bytes as f64 / 1e6)
}

pub(crate) fn print_what_next(directory: &Path, outcome: &Outcome) -> Result<()> {
    let programs = binaries()?;
    let first = fs::read_dir(directory)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join("client.toml").is_file())
        .min()
        .context("an institution's directory")?;
    let (coordinator, client) = (programs.coordinator.display(), programs.client.display());
    println!(
        "\nEverything is in {}. To look around:",
        directory.display()
    );
    println!("  {client} --dir {} receipts list", first.display());
    println!(
        "  {coordinator} --dir {} replay {}",
        directory.join("coordinator").display(),
        outcome.version
    );
    println!(
        "  {client} predict --model {} --text \"Seen on 3 May at Mercy Hospital, Boston.\"",
        outcome.exported.display()
    );
    Ok(())
}
