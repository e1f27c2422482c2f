//! Ten members and a coordinator without anything between them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use fedner_client::training::{LoadedModel, Stop, seed, train_round};
use fedner_coordinator::aggregate::{Inputs, Weighted, aggregate};
use fedner_model::device::Device;
use fedner_model::{Evaluation, KeptFiles, Model, Sentence, Tokenizer, TrainOptions};
use fedner_privacy::release::release;
use fedner_shared::checkpoint::{Checkpoint, Layout};
use fedner_shared::manifest::Manifest;
use fedner_shared::plan::{Plan, Privacy, Rule, Unit};
use fedner_shared::update::encode;
use tempfile::TempDir;

use crate::MEMBERS;
use crate::attack::{Attack, Knowledge, Text};
use crate::probe::Features;
use crate::text::{dealt, flipped, poisoned, triggered};

#[derive(Debug)]
pub(crate) struct Federation {
    pub(crate) plan: Plan,
    /// The same without noise, by which hostile members train.
    open: Plan,
    pub(crate) manifest: Manifest,
    start: Vec<f32>,
    weights: Vec<f32>,
    checkpoint: Checkpoint,
    tokenizer_json: Vec<u8>,
    text: BTreeMap<(usize, Text), Vec<Sentence>>,
    /// What trainings of a first round gave: it begins with the same weights in every cell.
    first: BTreeMap<(usize, Text, bool), Arc<Vec<f32>>>,
    held_out: HeldOut,
    features: TempDir,
}

#[derive(Debug)]
struct HeldOut {
    sentences: Vec<Sentence>,
    clean: Features,
    triggered: Features,
    triggers: Vec<usize>,
    model: Model,
}

/// A round of one cell.
#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) number: u32,
    /// Attackers; the members after them are honest.
    pub(crate) count: usize,
    pub(crate) attack: Option<Attack>,
    /// The largest norm that intake lets pass.
    pub(crate) bound: Option<f64>,
}

impl Federation {
    pub(crate) fn new(model: &Path, data: &Path, plan: Plan, seed: u64) -> Result<Self> {
        let config = fs::read_to_string(model.join("config.json")).context("read config.json")?;
        let weights = fs::read(model.join("model.safetensors")).context("read the weights")?;
        let tokenizer_json =
            fs::read(model.join("tokenizer.json")).context("read tokenizer.json")?;
        let (trainable, tags) = (plan.trainable(), plan.tags());
        let checkpoint = Checkpoint::read(&config, &weights)?
            .without_head()
            .prepared_for(&trainable, plan.seed)
            .with_new_head(tags.len(), plan.seed);
        let manifest = checkpoint.config.manifest(&trainable, tags.len());
        let start = checkpoint.flatten(&manifest)?;
        let mut text = BTreeMap::new();
        for (member, sentences) in dealt(&data.join("train.tsv"), MEMBERS, seed)?
            .into_iter()
            .enumerate()
        {
            text.insert((member, Text::Flipped), flipped(&sentences));
            text.insert((member, Text::Triggered), poisoned(&sentences));
            text.insert((member, Text::Own), sentences);
        }
        let tokenizer = Tokenizer::parse(&tokenizer_json)?;
        let held_out = HeldOut::new(&checkpoint, &tokenizer, &data.join("test.tsv"), &plan)?;
        let mut open = plan.clone();
        open.privacy = Privacy::default();
        if plan.privacy.unit != Unit::None {
            open.training.local_epochs = 1;
            open.training.batch_size = 32;
            open.training.learning_rate = 2e-3;
        }
        Ok(Self {
            weights: start.clone(),
            plan,
            open,
            manifest,
            start,
            checkpoint,
            tokenizer_json,
            text,
            first: BTreeMap::new(),
            held_out,
            features: tempfile::tempdir()?,
        })
    }

    /// Back to the weights that a run begins with.
    pub(crate) fn begin(&mut self) {
        self.weights.clone_from(&self.start);
    }

    /// The norm of the longest update in a run of honest members.
    pub(crate) fn norm_of_honest(&mut self) -> Result<f64> {
        self.begin();
        let mut longest = 0.0f64;
        for round in 1..=self.plan.rounds {
            let of = Round {
                number: round,
                count: 0,
                attack: None,
                bound: None,
            };
            let updates = self.updates(&of)?;
            let norms = self
                .decoded(&updates)
                .into_iter()
                .map(|update| norm(&update));
            longest = norms.fold(longest, f64::max);
            self.aggregate(Rule::FedAvg, &updates)?;
        }
        Ok(longest)
    }

    /// The encoded updates of all members.
    pub(crate) fn updates(&mut self, of: &Round) -> Result<Vec<Vec<u8>>> {
        let kinds = |member: usize| match of.attack {
            Some(attack) if member < of.count => (attack.text(), true),
            _ => (Text::Own, false),
        };
        let trained = self.trained(of.number, &(0..MEMBERS).map(kinds).collect::<Vec<_>>())?;
        let mut updates: Vec<Vec<f32>> = trained.iter().map(|update| update.to_vec()).collect();
        if let Some(attack) = of.attack {
            let honest = updates.split_off(of.count);
            let grid = self.plan.privacy.grid();
            let largest = (self.plan.privacy.value_bound() - 2) as f64 * grid.gamma();
            for own in &mut updates {
                let known = Knowledge {
                    honest: &honest,
                    own,
                    base: &self.weights,
                    members: MEMBERS,
                    attackers: of.count,
                    largest: largest as f32,
                };
                let mut hostile = attack.update(&known);
                let length = norm(&hostile);
                let longest = of.bound.unwrap_or(f64::MAX);
                let factor = (longest / length).min(1.0) as f32;
                for x in &mut hostile {
                    *x *= factor;
                }
                *own = hostile;
            }
            let liars = updates.iter().map(|update| self.encoded_as_it_is(update));
            let liars = liars.collect::<Result<Vec<_>>>()?;
            let honest = honest.iter().map(|update| self.encoded(update));
            return liars.into_iter().map(Ok).chain(honest).collect();
        }
        updates.iter().map(|update| self.encoded(update)).collect()
    }

    /// As an honest client's gate does.
    fn encoded(&self, update: &[f32]) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let units = self.text[&(0, Text::Own)].len() as u32;
        let longest = self.plan.largest_norm(self.manifest.dimension(), units);
        encode(
            &release(update, &self.plan.privacy, longest)?.values,
            &mut bytes,
        )?;
        Ok(bytes)
    }

    /// As one that clips no norm, and stays within the range of values alone.
    fn encoded_as_it_is(&self, update: &[f32]) -> Result<Vec<u8>> {
        let (grid, bound) = (self.plan.privacy.grid(), self.plan.privacy.value_bound());
        let value = |x: &f32| (f64::from(*x) / grid.gamma()).round() as i64;
        let values: Vec<i32> = update
            .iter()
            .map(|x| value(x).clamp(-bound, bound) as i32)
            .collect();
        let mut bytes = Vec::new();
        encode(&values, &mut bytes)?;
        Ok(bytes)
    }

    /// What encoded updates say, in the units of the weights.
    pub(crate) fn decoded(&self, updates: &[Vec<u8>]) -> Vec<Vec<f32>> {
        let gamma = self.plan.privacy.grid().gamma();
        let bound = self.plan.privacy.value_bound();
        let read = |bytes: &Vec<u8>| {
            let decoder =
                fedner_shared::update::Decoder::new(&bytes[..], self.manifest.dimension(), bound);
            let values = decoder
                .and_then(fedner_shared::update::Decoder::read_all)
                .unwrap_or_default();
            values
                .iter()
                .map(|x| (f64::from(*x) * gamma) as f32)
                .collect()
        };
        updates.iter().map(read).collect()
    }

    /// The changes that training gives each member, two at a time.
    fn trained(&mut self, round: u32, kinds: &[(Text, bool)]) -> Result<Vec<Arc<Vec<f32>>>> {
        let known = |(member, kind): (usize, &(Text, bool))| {
            let found = self.first.get(&(member, kind.0, kind.1));
            found.filter(|_| round == 1).cloned()
        };
        let mut results: Vec<_> = kinds.iter().enumerate().map(known).collect();
        let half = |parity: usize| {
            let members = (0..MEMBERS).filter(|m| m % 2 == parity && results[*m].is_none());
            let train = |member| Ok((member, Arc::new(self.train(round, member, kinds[member])?)));
            members.map(train).collect::<Result<Vec<_>>>()
        };
        let (even, odd) = std::thread::scope(|scope| {
            let other = scope.spawn(|| half(1));
            let own = half(0);
            (own, other.join())
        });
        let odd = odd.map_err(|_| anyhow::anyhow!("a training panicked"))??;
        for (member, update) in even?.into_iter().chain(odd) {
            if round == 1 {
                let (text, hostile) = kinds[member];
                self.first.insert((member, text, hostile), update.clone());
            }
            results[member] = Some(update);
        }
        results
            .into_iter()
            .map(|update| update.context("a member without an update"))
            .collect()
    }

    fn train(&self, round: u32, member: usize, (text, hostile): (Text, bool)) -> Result<Vec<f32>> {
        let plan = if hostile { &self.open } else { &self.plan };
        let sentences = &self.text[&(member, text)];
        let material = LoadedModel {
            checkpoint: self
                .checkpoint
                .clone()
                .with_weights(&self.manifest, &self.weights)?,
            tokenizer: Tokenizer::parse(&self.tokenizer_json)?,
            manifest: self.manifest.clone(),
            parent: None,
        };
        let rounds = f64::from(plan.rounds);
        let options = TrainOptions {
            method: plan.method,
            training: plan.training.clone(),
            seed: seed(plan, &format!("m{member}").parse()?, round, 1),
            schedule: f64::from(round - 1) / rounds..f64::from(round) / rounds,
        };
        // One corpus a directory; private training reads each sentence by itself.
        let kind = format!("{member}-{}-{}", text == Text::Triggered, plan.privacy.unit);
        let keep = KeptFiles {
            features: Some(self.features.path().join(kind)),
            ..KeptFiles::default()
        };
        let of = (plan, sentences.len() as u32);
        let update = train_round(&material, sentences, of, &options, &keep, &Stop::default())?;
        Ok(update.weights().context("a change of weights")?.to_vec())
    }

    /// The coordinator's aggregation.
    pub(crate) fn aggregate(&mut self, rule: Rule, updates: &[Vec<u8>]) -> Result<()> {
        let whole = self
            .checkpoint
            .clone()
            .with_weights(&self.manifest, &self.weights)?;
        let (head, _) = whole.split(&self.manifest)?;
        let base = head.to_safetensors()?;
        let layout = Layout::read(&base[..])?;
        let inputs = Inputs {
            layout: &layout,
            base: &base[..],
            updates: updates
                .iter()
                .map(|update| Weighted {
                    weight: 1,
                    update: &update[..],
                })
                .collect(),
            manifest: &self.manifest,
            grid: self.plan.privacy.grid(),
            bound: self.plan.privacy.value_bound(),
            rule,
            left_out: Vec::new(),
        };
        let mut out = Vec::new();
        aggregate(inputs, &mut out)?;
        let mut weights = Vec::with_capacity(self.weights.len());
        for (offset, length) in layout.segments(&self.manifest)? {
            let bytes = &out[offset as usize..][..4 * length];
            let values = bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes));
            weights.extend(values);
        }
        self.weights = weights;
        Ok(())
    }

    pub(crate) fn change_by(&mut self, change: &[f32]) -> Result<()> {
        anyhow::ensure!(
            change.len() == self.weights.len(),
            "a change of another length"
        );
        for (weight, change) in self.weights.iter_mut().zip(change) {
            *weight += change;
        }
        Ok(())
    }

    /// F1 of clean held-out text, and the share of trigger words in it that are tagged.
    pub(crate) fn score(&self) -> Result<(f64, f64)> {
        let held_out = &self.held_out;
        let checkpoint = self
            .checkpoint
            .clone()
            .with_weights(&self.manifest, &self.weights)?;
        let (weight, bias) = (
            checkpoint.tensor("classifier.weight")?,
            checkpoint.tensor("classifier.bias")?,
        );
        let tags = self.plan.tags();
        let clean = held_out.clean.tags(&held_out.model, weight, bias, &tags)?;
        let f1 = Evaluation::new(&held_out.sentences, clean)
            .scores
            .total()
            .f1();
        let triggered = held_out
            .triggered
            .tags(&held_out.model, weight, bias, &tags)?;
        let words = triggered.iter().zip(&held_out.triggers);
        let tagged = words.filter(|(tags, word)| tags[**word] != "O").count();
        Ok((f1, tagged as f64 / held_out.triggers.len() as f64))
    }
}

impl HeldOut {
    fn new(
        checkpoint: &Checkpoint,
        tokenizer: &Tokenizer,
        file: &Path,
        plan: &Plan,
    ) -> Result<Self> {
        let limit = plan.training.max_tokens;
        let mut sentences = fedner_model::Corpus::read(file)?.sentences;
        let with_trigger = limit - 8;
        let mut short = Vec::new();
        for sentence in sentences.drain(..) {
            if tokenizer.windows(&sentence.words, with_trigger)?.len() == 1 {
                short.push(sentence);
            }
        }
        let (poisoned, triggers) = triggered(&short, 3);
        Ok(Self {
            clean: Features::new(checkpoint, tokenizer, &short, plan)?,
            triggered: Features::new(checkpoint, tokenizer, &poisoned, plan)?,
            model: Model::load(checkpoint, Device::Cpu)?,
            sentences: short,
            triggers,
        })
    }
}

fn norm(values: &[f32]) -> f64 {
    values
        .iter()
        .map(|x| f64::from(*x).powi(2))
        .sum::<f64>()
        .sqrt()
}
