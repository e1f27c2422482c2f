//! Entity types that differ between institutions, and that grow: what is learnt, and what is forgotten.
//! `tests/compare/types.sh` runs it.
//!
//! Members train with the client's trainer, their updates pass the client's clip, rounding and rows, and the wire's
//! encoding, and the coordinator's own aggregation makes the next version. Processes and networks have no part in it.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for people to watch"
)]

mod federation;
mod text;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use fedner_model::Sentence;
use fedner_privacy::accountant::{Phase, Steps};
use fedner_shared::plan::Plan;
use fedner_shared::score::{Counts, Scores};

use federation::{Machine, Text, Version};
use text::{Corpora, annotated};

#[derive(Debug, Parser)]
struct Arguments {
    /// A Hugging Face directory of a BERT encoder
    #[arg(long)]
    model: PathBuf,
    /// A folder with train.tsv and test.tsv, annotated in full
    #[arg(long)]
    data: PathBuf,
    /// Of the deal of sentences and of training
    #[arg(long, value_delimiter = ',', default_value = "1,2,3")]
    seeds: Vec<u64>,
    /// What to measure; all unless given
    #[arg(long, value_delimiter = ',')]
    rows: Vec<Row>,
    /// Keys of the table `[training]` in place of the usual ones, with `,` between them
    #[arg(long)]
    training: Option<String>,
    #[arg(long)]
    rounds: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Row {
    /// Three institutions that annotate a third of the types each; the head alone is trained
    Head,
    /// The same, and all weights are trained
    Full,
    /// The same with the head, every sentence protected
    Private,
    /// Four institutions to whose text types are added in four phases
    Phases,
    /// The same, every sentence protected
    PrivatePhases,
}

impl Row {
    const ALL: [Self; 5] = [
        Self::Head,
        Self::Private,
        Self::Phases,
        Self::PrivatePhases,
        Self::Full,
    ];
}

/// How many types each phase adds.
const PHASES: [usize; 4] = [5, 2, 2, 2];

/// What one run of the federation is asked for.
#[derive(Debug, Clone, Copy)]
struct Wish<'a> {
    row: Row,
    labels: &'a [String],
    members: usize,
    /// Keys at the top of the plan, and the rows of its aggregation.
    top: &'a str,
    rows: &'a str,
}

struct Bench {
    arguments: Arguments,
    machine: Machine,
    encoder: Version,
    corpora: Corpora,
    seed: u64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let rows = match arguments.rows.as_slice() {
        [] => Row::ALL.to_vec(),
        given => given.to_vec(),
    };
    let seeds = arguments.seeds.clone();
    let (machine, encoder) = Machine::read(&arguments.model)?;
    let corpora = Corpora::read(&arguments.data, 0)?;
    let mut bench = Bench {
        arguments,
        machine,
        encoder,
        corpora,
        seed: 0,
    };
    for row in rows {
        for seed in &seeds {
            bench.seed = *seed;
            bench.corpora = Corpora::read(&bench.arguments.data, *seed)?;
            match row {
                Row::Head | Row::Full | Row::Private => bench.disjoint(row)?,
                Row::Phases | Row::PrivatePhases => bench.phases(row)?,
            }
        }
    }
    Ok(())
}

impl Bench {
    fn plan(&self, wish: Wish<'_>) -> Result<Plan> {
        let Wish {
            row,
            labels,
            members,
            top,
            rows,
        } = wish;
        let names: Vec<String> = (0..members).map(|member| format!("i{member}")).collect();
        let (method, head) = match row {
            Row::Full => ("full", ""),
            Row::Head | Row::Private | Row::Phases | Row::PrivatePhases => {
                ("head", "head_layers = [2, 4, 6]")
            }
        };
        let (rounds, usual, privacy) = match row {
            Row::Full => (
                5,
                "local_epochs = 1\nlearning_rate = 2e-4",
                "unit = \"none\"",
            ),
            Row::Head => (
                5,
                "local_epochs = 4\nlearning_rate = 1e-3",
                "unit = \"none\"",
            ),
            Row::Phases => (
                5,
                "local_epochs = 12\nlearning_rate = 1e-3",
                "unit = \"none\"",
            ),
            Row::Private | Row::PrivatePhases => (
                4,
                "local_epochs = 12\nbatch_size = 1100\nlearning_rate = 0.5",
                "unit = \"sentence\"\nclip = 0.03\nnoise_multiplier = 6.0\nmax_epsilon = 8.0",
            ),
        };
        let training = match &self.arguments.training {
            Some(given) => given.replace(',', "\n"),
            None => usual.to_owned(),
        };
        let plan = format!(
            "name = \"types\"\nbase = \"base@1\"\nlabels = {labels:?}\nmethod = \"{method}\"\n{top}\nrounds = {}\n\
             seed = {}\n[training]\n{training}\n{head}\n[cohort]\ninstitutions = {names:?}\nquorum = 2\n\
             [aggregation]\nrows = \"{rows}\"\n[privacy]\n{privacy}\n",
            self.arguments.rounds.unwrap_or(rounds),
            self.seed,
        );
        Plan::parse(&plan).context("read the plan")
    }

    fn run(
        &self,
        wish: Wish<'_>,
        base: &Version,
        text: (&str, &[Vec<Sentence>]),
    ) -> Result<Version> {
        let (name, of_members) = text;
        let began = Instant::now();
        let plan = self.plan(wish)?;
        if let Some(epsilon) = epsilon(&plan, of_members)? {
            eprintln!("ε = {epsilon:.2} of a sentence, at most");
        }
        let text = Text { name, of_members };
        let version = self.machine.run(&plan, base, text)?;
        eprintln!(
            "{:?} {name}, rows {}: {:.0} s",
            wish.row,
            wish.rows,
            began.elapsed().as_secs_f64()
        );
        Ok(version)
    }

    /// Types dealt to three institutions as cards are.
    fn disjoint(&self, row: Row) -> Result<()> {
        const MEMBERS: usize = 3;
        let corpora = &self.corpora;
        let part = |member| corpora.part((0, 1), (member, MEMBERS));
        let own = |member| -> Vec<String> {
            let own = corpora.types.iter().skip(member).step_by(MEMBERS);
            own.cloned().collect()
        };
        let all: Vec<_> = (0..MEMBERS)
            .map(|m| annotated(&part(m), &corpora.types))
            .collect();
        let parts: Vec<_> = (0..MEMBERS).map(|m| annotated(&part(m), &own(m))).collect();
        let undeclared = parts.iter().map(|text| {
            let without = |sentence: &Sentence| Sentence {
                annotated: None,
                ..sentence.clone()
            };
            text.iter().map(without).collect()
        });
        let undeclared: Vec<Vec<Sentence>> = undeclared.collect();
        let mut found = Vec::new();
        for (what, text, rows) in [
            ("everything annotated", &all, "all"),
            ("a third each, rows = \"annotated\"", &parts, "annotated"),
            ("a third each, rows = \"all\"", &parts, "all"),
            ("a third each, undeclared", &undeclared, "all"),
        ] {
            // The two that the table compares are enough where training takes long, or another seed had the rest.
            let rest = row == Row::Head && self.arguments.seeds.first() == Some(&self.seed);
            if found.len() == 2 && !rest {
                break;
            }
            let wish = Wish {
                row,
                labels: &corpora.types,
                members: MEMBERS,
                top: "",
                rows,
            };
            let name = format!("{}", self.seed);
            let version = self.run(wish, &self.encoder, (&name, text))?;
            let scores = self.machine.score(&version, &corpora.test)?;
            let (micro, macro_f1) = f1(&scores, &corpora.types);
            found.push(micro);
            let of = micro / found[0];
            println!(
                "{row:?} | seed {} | {what} | micro F1 {micro:.3}, macro F1 {macro_f1:.3} | {of:.2} of everything",
                self.seed
            );
        }
        Ok(())
    }

    /// Each phase has text of its own, on which it annotates its types alone.
    fn phases(&self, row: Row) -> Result<()> {
        const MEMBERS: usize = 4;
        let corpora = &self.corpora;
        let asked = Wish {
            row,
            labels: &corpora.types,
            members: MEMBERS,
            top: "",
            rows: "annotated",
        };
        let types = corpora.types.as_slice();
        let all: Vec<_> = (0..MEMBERS)
            .map(|member| annotated(&corpora.part((0, 1), (member, MEMBERS)), types))
            .collect();
        let name = format!("joint-{}", self.seed);
        let joint = self.run(asked, &self.encoder, (&name, &all))?;
        let joint = f1(&self.machine.score(&joint, &corpora.test)?, types).0;
        println!(
            "{row:?} | seed {} | all labels on all text | all types {joint:.3}",
            self.seed
        );
        let first = self.phase(asked, &self.encoder, 0)?;
        let before = f1(
            &self.machine.score(&first, &corpora.test)?,
            &types[..PHASES[0]],
        )
        .0;
        for known in ["freeze", "distil", "train"] {
            let top = format!("known_types = \"{known}\"");
            let mut version = first.clone();
            for phase in 1..PHASES.len() {
                version = self.phase(Wish { top: &top, ..asked }, &version, phase)?;
            }
            let scores = self.machine.score(&version, &corpora.test)?;
            let (after, end) = (f1(&scores, &types[..PHASES[0]]).0, f1(&scores, types).0);
            println!(
                "{row:?} | seed {} | known_types = \"{known}\" | first five {before:.3}, then {after:.3}: lost {:.3} | \
                 all types {end:.3}, {:.2} of all labels on all text",
                self.seed,
                before - after,
                end / joint,
            );
        }
        Ok(())
    }

    /// A phase of the wish, from its number on.
    fn phase(&self, wish: Wish<'_>, base: &Version, phase: usize) -> Result<Version> {
        let from: usize = PHASES[..phase].iter().sum();
        let to = from + PHASES[phase];
        let part = |member| {
            let part = (member, wish.members);
            self.corpora.part((phase, PHASES.len()), part)
        };
        let own = &wish.labels[from..to];
        let text: Vec<_> = (0..wish.members)
            .map(|m| annotated(&part(m), own))
            .collect();
        let wish = Wish {
            labels: &wish.labels[..to],
            ..wish
        };
        let name = format!("{phase}-{}", self.seed);
        self.run(wish, base, (&name, &text))
    }
}

/// What the whole run costs a sentence at the member with the fewest.
fn epsilon(plan: &Plan, text: &[Vec<Sentence>]) -> Result<Option<f64>> {
    let fewest = text.iter().map(Vec::len).min().unwrap_or_default();
    let Some(mut phase) = Phase::of_round(plan, u32::try_from(fewest)?) else {
        return Ok(None);
    };
    phase.steps *= u64::from(plan.rounds);
    Ok(Some(Steps::own(phase, 1).epsilon(plan.privacy.delta)?))
}

/// Micro and macro F1 of some types. A false entity of another type is none of theirs.
fn f1(scores: &Scores, types: &[String]) -> (f64, f64) {
    let none = Counts::default();
    let of = |label| scores.by_type.get(label).copied().unwrap_or(none);
    let mut sum = none;
    for counts in types.iter().map(of) {
        sum.true_positives += counts.true_positives;
        sum.false_positives += counts.false_positives;
        sum.false_negatives += counts.false_negatives;
    }
    let each: f64 = types.iter().map(|label| of(label).f1()).sum();
    (sum.f1(), each / types.len() as f64)
}
