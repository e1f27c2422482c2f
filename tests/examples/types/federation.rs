//! Institutions and a coordinator without anything between them.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, Result};
use fedner_client::training::{LoadedModel, Stop, seed, train_round};
use fedner_coordinator::aggregate::{Inputs, Weighted, aggregate};
use fedner_model::device::Device;
use fedner_model::{KeptFiles, Model, Sentence, Tokenizer, TrainOptions, evaluate};
use fedner_privacy::release::release;
use fedner_shared::bert::tags;
use fedner_shared::checkpoint::{Checkpoint, Layout};
use fedner_shared::digest::Digest;
use fedner_shared::manifest::Manifest;
use fedner_shared::plan::{Pinned, Plan};
use fedner_shared::score::Scores;
use fedner_shared::statement::Annotation;
use fedner_shared::update::encode;
use tempfile::TempDir;

/// A model and the types of its head.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    checkpoint: Checkpoint,
    /// Empty for a bare encoder.
    labels: Vec<String>,
}

/// What runs have in common.
#[derive(Debug)]
pub(crate) struct Machine {
    tokenizer_json: Vec<u8>,
    kept: TempDir,
}

/// What each institution has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Text<'a> {
    /// Tells features of one text from those of another.
    pub(crate) name: &'a str,
    pub(crate) of_members: &'a [Vec<Sentence>],
}

impl Machine {
    pub(crate) fn read(model: &Path) -> Result<(Self, Version)> {
        let config = fs::read_to_string(model.join("config.json")).context("read config.json")?;
        let weights = fs::read(model.join("model.safetensors")).context("read the weights")?;
        let tokenizer = model.join("tokenizer.json");
        let machine = Self {
            tokenizer_json: fs::read(tokenizer).context("read tokenizer.json")?,
            kept: tempfile::tempdir()?,
        };
        let encoder = Version {
            checkpoint: Checkpoint::read(&config, &weights)?.without_head(),
            labels: Vec::new(),
        };
        Ok((machine, encoder))
    }

    /// What a run of the plan makes of a version.
    pub(crate) fn run(&self, plan: &Plan, base: &Version, text: Text<'_>) -> Result<Version> {
        let (checkpoint, _) = base.checkpoint.clone().begun_for(plan, &tags(&base.labels));
        let (trainable, count) = (plan.trainable(), plan.tags().len());
        let manifest = checkpoint.config.manifest(&trainable, count);
        let mut plan = plan.clone();
        plan.inputs = Some(inputs(plan.known_of(&base.labels)?, &manifest));
        let mut run = Run {
            machine: self,
            weights: checkpoint.flatten(&manifest)?,
            plan,
            checkpoint,
            manifest,
            text,
        };
        for round in 1..=run.plan.rounds {
            let updates = run.updates(round)?;
            run.aggregate(&updates)?;
        }
        Ok(Version {
            checkpoint: run.checkpoint.with_weights(&run.manifest, &run.weights)?,
            labels: run.plan.labels,
        })
    }

    /// Entities of text annotated in full.
    pub(crate) fn score(&self, version: &Version, text: &[Sentence]) -> Result<Scores> {
        let model = Model::load(&version.checkpoint, Device::Cpu)?;
        let tokenizer = Tokenizer::parse(&self.tokenizer_json)?;
        let mut nothing = |_, _| ControlFlow::Continue(());
        let tags = tags(&version.labels);
        let found = evaluate(&model, &tokenizer, &tags, text, 256, 16, &mut nothing)?;
        Ok(found.scores)
    }
}

/// Types are looked at here, files are not.
fn inputs(known: Vec<String>, manifest: &Manifest) -> fedner_shared::plan::Inputs {
    let file = Pinned {
        digest: Digest::of(b"file"),
        bytes: 1,
    };
    fedner_shared::plan::Inputs {
        config: file,
        tokenizer: file,
        weights: file,
        frozen: None,
        known,
        manifest: manifest.digest(),
    }
}

#[derive(Debug)]
struct Run<'a> {
    machine: &'a Machine,
    plan: Plan,
    /// As the run began.
    checkpoint: Checkpoint,
    manifest: Manifest,
    weights: Vec<f32>,
    text: Text<'a>,
}

impl Run<'_> {
    /// The encoded updates of all members, which are trained two at a time.
    fn updates(&self, round: u32) -> Result<Vec<Vec<u8>>> {
        let half = |parity: usize| {
            let members = (0..self.text.of_members.len()).filter(|m| m % 2 == parity);
            let train = |member| Ok((member, self.train(round, member)?));
            members.map(train).collect::<Result<Vec<_>>>()
        };
        let (even, odd) = std::thread::scope(|scope| {
            let other = scope.spawn(|| half(1));
            (half(0), other.join())
        });
        let odd = odd.map_err(|_| anyhow::anyhow!("a training panicked"))??;
        let mut all: Vec<_> = even?.into_iter().chain(odd).collect();
        all.sort_by_key(|(member, _)| *member);
        Ok(all.into_iter().map(|(_, update)| update).collect())
    }

    fn train(&self, round: u32, member: usize) -> Result<Vec<u8>> {
        let (plan, text) = (&self.plan, &self.text.of_members[member]);
        let whole = self.checkpoint.clone();
        let material = LoadedModel {
            checkpoint: whole.with_weights(&self.manifest, &self.weights)?,
            tokenizer: Tokenizer::parse(&self.machine.tokenizer_json)?,
            manifest: self.manifest.clone(),
            parent: plan.weights_of_parent().map(|_| self.checkpoint.clone()),
        };
        let rounds = f64::from(plan.rounds);
        let options = TrainOptions {
            method: plan.method,
            training: plan.training.clone(),
            seed: seed(plan, &format!("i{member}").parse()?, round, 1),
            schedule: f64::from(round - 1) / rounds..f64::from(round) / rounds,
        };
        // One corpus a directory; private training reads each sentence by itself.
        let folder = format!("{}-{member}-{}", self.text.name, plan.privacy.unit);
        let keep = KeptFiles {
            features: Some(self.machine.kept.path().join(folder)),
            ..KeptFiles::default()
        };
        let of = (plan, text.len() as u32);
        let update = train_round(&material, text, of, &options, &keep, &Stop::default())?;
        self.encoded(
            update.weights().context("a change of weights")?.to_vec(),
            member,
        )
    }

    /// As the client's gate does.
    fn encoded(&self, mut update: Vec<f32>, member: usize) -> Result<Vec<u8>> {
        for rows in self.left_out(member) {
            update[rows].fill(0.0);
        }
        let units = self.text.of_members[member].len() as u32;
        let longest = self.plan.largest_norm(self.manifest.dimension(), units);
        let mut bytes = Vec::new();
        let values = release(&update, &self.plan.privacy, longest)?.values;
        encode(&values, &mut bytes)?;
        Ok(bytes)
    }

    fn left_out(&self, member: usize) -> Vec<std::ops::Range<usize>> {
        let declared = self.text.of_members[member].first();
        let declared = declared.and_then(|sentence| sentence.annotated.as_ref());
        let annotation = declared.map(|types| Annotation {
            types: types.to_vec(),
            in_part: Vec::new(),
        });
        let plan = &self.plan;
        plan.left_out_of_update(annotation.as_ref(), &self.manifest)
    }

    /// The coordinator's aggregation.
    fn aggregate(&mut self, updates: &[Vec<u8>]) -> Result<()> {
        let whole = self.checkpoint.clone();
        let whole = whole.with_weights(&self.manifest, &self.weights)?;
        let (part, _) = whole.split(&self.manifest)?;
        let base = part.to_safetensors()?;
        let layout = Layout::read(&base[..])?;
        let weighted = updates.iter().map(|update| Weighted {
            weight: 1,
            update: &update[..],
        });
        let inputs = Inputs {
            layout: &layout,
            base: &base[..],
            updates: weighted.collect(),
            manifest: &self.manifest,
            grid: self.plan.privacy.grid(),
            bound: self.plan.privacy.value_bound(),
            rule: self.plan.rule(),
            left_out: (0..updates.len()).map(|m| self.left_out(m)).collect(),
        };
        let mut out = Vec::new();
        aggregate(inputs, &mut out)?;
        let mut weights = Vec::with_capacity(self.weights.len());
        for (offset, length) in layout.segments(&self.manifest)? {
            let bytes = &out[offset as usize..][..4 * length];
            let values = bytes.as_chunks::<4>().0.iter();
            weights.extend(values.map(|bytes| f32::from_le_bytes(*bytes)));
        }
        self.weights = weights;
        Ok(())
    }
}
