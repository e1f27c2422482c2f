//! Attacks × rules of aggregation, on a real corpus dealt to ten members: what each costs in F1 of
//! clean text, and how often a backdoor works. `tests/compare/attacks.sh` runs it beside other
//! frameworks.
//!
//! Members train with the client's trainer, their updates pass the client's clip and rounding and the
//! wire's encoding, and the coordinator's own aggregation makes the next version. Processes and
//! networks have no part in it.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for people to watch"
)]

mod attack;
mod federation;
mod peers;
mod probe;
mod text;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use fedner_shared::plan::{Plan, Rule};

use attack::Attack;
use federation::{Federation, Round};
use peers::Peers;

#[derive(Debug, Parser)]
struct Arguments {
    /// A Hugging Face directory of a BERT encoder
    #[arg(long)]
    model: PathBuf,
    /// A folder with train.tsv and test.tsv
    #[arg(long)]
    data: PathBuf,
    /// A folder with the Python environments `flower` and `flare`
    #[arg(long)]
    peers: Option<PathBuf>,
    /// How many of the ten attack; 1 and 2 unless given
    #[arg(long)]
    attackers: Vec<usize>,
    /// Every sentence protected, ε below 8 a member
    #[arg(long)]
    private: bool,
    /// Keys of the table `[training]`, in place of the usual ones
    #[arg(long)]
    training: Option<String>,
    /// Of the deal of sentences
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only columns whose name contains this
    #[arg(long)]
    only: Option<String>,
}

pub(crate) const MEMBERS: usize = 10;

/// One column of the table.
#[derive(Debug, Clone)]
struct Column {
    name: &'static str,
    by: By,
    /// Whether updates are held to the norm of honest ones, as `max_update_norm` has it.
    bounded: bool,
}

#[derive(Debug, Clone)]
enum By {
    Rule(Rule),
    Peer(&'static str, &'static str),
}

fn columns(peers: bool, by_default: Rule) -> Vec<Column> {
    let ours = |name, rule, bounded| Column {
        name,
        by: By::Rule(rule),
        bounded,
    };
    let theirs = |name, side, rule| Column {
        name,
        by: By::Peer(side, rule),
        bounded: false,
    };
    let clipped = Rule::NormClippedMean { factor: 1.0 };
    let mut columns = vec![
        ours("the default", by_default, false),
        ours("trimmed-mean", Rule::TrimmedMean { trim: 0.2 }, false),
        ours("median", Rule::Median, false),
        ours("norm-clipped-mean", clipped, false),
        ours("fedavg, norm bound", Rule::FedAvg, true),
        ours("fedavg", Rule::FedAvg, false),
    ];
    if peers {
        columns.extend([
            theirs("Flower FedTrimmedAvg", "flower", "fedtrimmedavg"),
            theirs("Flower FedMedian", "flower", "fedmedian"),
            theirs("Flower Krum", "flower", "krum"),
            theirs("Flower MultiKrum", "flower", "multikrum"),
            theirs("Flower Bulyan", "flower", "bulyan"),
            theirs("FLARE", "flare", "weighted-mean"),
        ]);
    }
    columns
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let plan = Plan::parse(&plan(&arguments)).context("read the plan")?;
    let mut federation = Federation::new(&arguments.model, &arguments.data, plan, arguments.seed)?;
    let mut peers = arguments.peers.as_deref().map(Peers::start).transpose()?;
    let attackers = match arguments.attackers.as_slice() {
        [] => vec![1, 2],
        given => given.to_vec(),
    };
    let shortest = federation.norm_of_honest()?;
    println!(
        "{} members, {} rounds, {} weights; the norm bound is {shortest:.2}, the longest honest update's; \
         the default is {}\n",
        MEMBERS,
        federation.plan.rounds,
        federation.manifest.dimension(),
        federation.plan.rule()
    );
    println!("Each cell: F1 of clean text, and the share of trigger words that are tagged.\n");
    let by_default = federation.plan.rule();
    let mut columns = columns(peers.is_some(), by_default);
    columns.retain(|column| {
        arguments
            .only
            .as_ref()
            .is_none_or(|only| column.name.contains(only))
    });
    let head: Vec<&str> = columns.iter().map(|column| column.name).collect();
    println!("| attackers | attack | {} |", head.join(" | "));
    println!("|---|---|{}", "---|".repeat(columns.len()));
    let rows = attackers
        .iter()
        .flat_map(|count| Attack::ALL.map(|attack| (*count, Some(attack))));
    for (count, attack) in std::iter::once((0, None)).chain(rows) {
        let mut cells = Vec::new();
        for column in &columns {
            let bound = column.bounded.then_some(shortest);
            cells.push(cell(
                &mut federation,
                peers.as_mut(),
                column,
                bound,
                (count, attack),
            )?);
            eprintln!(
                "{count} {attack:?} {}: {}",
                column.name,
                cells[cells.len() - 1]
            );
        }
        let name = attack.map_or("none", Attack::name);
        println!("| {count} | {name} | {} |", cells.join(" | "));
    }
    Ok(())
}

fn cell(
    federation: &mut Federation,
    mut peers: Option<&mut Peers>,
    column: &Column,
    bound: Option<f64>,
    (count, attack): (usize, Option<Attack>),
) -> Result<String> {
    federation.begin();
    for round in 1..=federation.plan.rounds {
        let updates = federation.updates(&Round {
            number: round,
            count,
            attack,
            bound,
        })?;
        match (&column.by, peers.as_deref_mut()) {
            (By::Rule(rule), _) => federation.aggregate(*rule, &updates)?,
            (By::Peer(side, rule), Some(peers)) => {
                let updates = federation.decoded(&updates);
                match peers.aggregate(side, rule, count, &updates)? {
                    Some(change) => federation.change_by(&change)?,
                    None => return Ok("refuses".to_owned()),
                }
            }
            (By::Peer(..), None) => return Ok("–".to_owned()),
        }
    }
    let (f1, backdoor) = federation.score()?;
    Ok(format!("{f1:.3}, {:.0} %", 100.0 * backdoor))
}

/// The head on three layers of a frozen encoder, as in the README's table of utility.
fn plan(arguments: &Arguments) -> String {
    let names: Vec<String> = (0..MEMBERS)
        .map(|member| format!("\"m{member}\""))
        .collect();
    let (usual, privacy) = if arguments.private {
        (
            "local_epochs = 12\nbatch_size = 542\nlearning_rate = 0.5",
            "unit = \"sentence\"\nclip = 0.03\nnoise_multiplier = 6.0\nmax_epsilon = 8.0",
        )
    } else {
        (
            "local_epochs = 3\nbatch_size = 128\nlearning_rate = 3e-2\nhead_iob2 = true",
            "unit = \"none\"",
        )
    };
    let training = arguments.training.as_deref().unwrap_or(usual);
    format!(
        "name = \"attacks\"\nbase = \"base@1\"\nlabels = [\"Disease\"]\nmethod = \"head\"\nrounds = 4\n\
         seed = 7\n[training]\n{training}\nhead_layers = [2, 4, 6]\n\
         [cohort]\ninstitutions = [{}]\nquorum = 2\n[privacy]\n{privacy}\n",
        names.join(", ")
    )
}
