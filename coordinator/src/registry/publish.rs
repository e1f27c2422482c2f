//! Closed rounds: their updates measured, made one, and published.

use std::fs::File;
use std::io::Read;

use fedner_host::machine::blocking;
use fedner_round::Contribution;
use fedner_secagg::{Opening, Width};
use fedner_shared::adamw::Rates;

use fedner_shared::digest::{Digest, canonical_text};
use fedner_shared::figures::{Figures, UpdateFigures};
use fedner_shared::id::{InstitutionId, RunId};
use fedner_shared::manifest::Manifest;
use fedner_shared::plan::{Plan, Rule};
use fedner_shared::secure::Transcript;
use fedner_shared::version::{Origin, Version};
use futures::{StreamExt, TryStreamExt};
use tokio::sync::mpsc::UnboundedReceiver;

use super::files::{configuration, layout_of};
use super::{Coordinates, Registry};
use crate::aggregate::{
    self, Aggregated, CommonStep, Inputs, LastStep, Optimizing, StepMoments, VerifiedFile, Weighted,
};
use crate::blobs::{Blobs, Verified};
use crate::engine::{Failure, Fault, runs::Closing, secure};
use crate::observe;
use crate::store::Pending;

/// Updates that are opened at the same time: those in a bucket may have to be fetched.
const OPENED: usize = 16;

impl Registry {
    /// Carries out effects until the engine has stopped. A fault of ours is tried again: the
    /// effect stays in the outbox until it is done.
    pub async fn carry_out(self, mut effects: UnboundedReceiver<Pending>) {
        while let Some(pending) = effects.recv().await {
            let mut wait = std::time::Duration::from_millis(500);
            while let Err(failure) = self.publish(&pending).await {
                if matches!(failure, Failure::Fault(Fault::Stopped)) {
                    return;
                }
                // That the store is away was said already.
                if !matches!(failure, Failure::Fault(Fault::Away)) {
                    tracing::error!(run = %pending.run, round = pending.effect.round, %failure, "cannot publish a version; will try again");
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(std::time::Duration::from_secs(30));
            }
        }
    }

    /// Measures the updates of a closed round, and publishes what those come to that are not set
    /// aside. Done again after a crash it goes on where it was.
    async fn publish(&self, pending: &Pending) -> Result<(), Failure> {
        let Pending { run, effect } = pending.clone();
        let (id, base) = (run.clone(), effect.base);
        let (plan, parent) = self
            .engine
            .call(move |engine| Ok((engine.plan_of(&id)?, engine.model_view(base)?.version)))
            .await?;
        let contributions = loop {
            let (id, of) = (run.clone(), effect.clone());
            let next = self.engine.call(move |engine| engine.closing(&id, &of));
            match next.await? {
                Closing::Sum(contributions) => break contributions,
                Closing::Dropped => return Ok(()),
                Closing::Measure => {
                    let updates = self
                        .measure(&run, &plan, &parent, &effect.contributions)
                        .await?;
                    let (id, of) = (run.clone(), effect.clone());
                    self.engine
                        .call(move |engine| engine.measured(&id, &of, updates))
                        .await?;
                }
            }
        };
        let began = std::time::Instant::now();
        let (id, of) = (run.clone(), effect.clone());
        let transcript = self.engine.call(move |engine| engine.transcript(&id, &of));
        let unmasking = match transcript.await? {
            Some(transcript) => {
                let bytes = canonical_text(&transcript).into_bytes();
                Some(self.blobs.put(bytes).await?)
            }
            None => None,
        };
        let sum = Summation {
            unmasking,
            plan: &plan,
            parent: &parent,
            rule: plan.rule(),
            run: &run,
            contributions: &contributions,
            coordinates: &self.coordinates,
        };
        let sum = sum.compute(&self.blobs, true).await?;
        let weights = sum.weights;
        observe::record_aggregation(began.elapsed().as_secs_f64());
        let name = self
            .engine
            .call(move |engine| engine.publish(&run, &effect, contributions, unmasking, sum))
            .await?;
        tracing::info!(version = %name, weights = %weights.short(), "published");
        Ok(())
    }

    /// The figures of each update beside the others, and beside the step that led to their base.
    async fn measure(
        &self,
        run: &RunId,
        plan: &Plan,
        base: &Version,
        contributions: &[Contribution],
    ) -> Result<Vec<UpdateFigures>, Failure> {
        let manifest = manifest(plan, base, &self.blobs).await?;
        let updates = open(contributions, &self.blobs).await?;
        let last = match (&base.origin, base.parent) {
            (Origin::Round(of), Some(parent)) if of.run == *run => {
                let before = self
                    .engine
                    .call(move |engine| Ok(engine.model_view(parent)?.version.weights))
                    .await?;
                let (after, before) = (base.weights, before);
                let files = (
                    self.blobs.open_file(after).await?,
                    self.blobs.open_file(before).await?,
                );
                Some((files, after, before))
            }
            _ => None,
        };
        let (grid, bound) = (plan.privacy.grid(), plan.privacy.value_bound());
        let figures: Vec<Figures> = blocking(move || {
            let last = match last {
                Some(((after, before), of_after, of_before)) => {
                    let segments = |file: &File| {
                        let layout = layout_of(file)?;
                        Ok::<_, aggregate::Error>(layout.segments(&manifest)?)
                    };
                    let (here, there) = (segments(&after)?, segments(&before)?);
                    Some(LastStep::new(
                        (Verified::new(after, of_after), here),
                        (Verified::new(before, of_before), there),
                    ))
                }
                None => None,
            };
            aggregate::measure(&updates, manifest.dimension(), bound, grid, last)
        })
        .await??;
        let named = contributions.iter().zip(figures);
        let named = named.map(|(contribution, figures)| UpdateFigures {
            institution: contribution.institution.clone(),
            figures,
        });
        Ok(named.collect())
    }
}

/// What the updates of a plan's round change, on this base.
async fn manifest(plan: &Plan, base: &Version, blobs: &Blobs) -> Result<Manifest, Failure> {
    let config = configuration(base, blobs).await?;
    Ok(config.manifest(&plan.trainable(), plan.tags().len()))
}

async fn open(contributions: &[Contribution], blobs: &Blobs) -> Result<Vec<VerifiedFile>, Failure> {
    let digests: Vec<Digest> = contributions.iter().map(|own| own.update).collect();
    let opened = digests.into_iter().map(|digest| async move {
        let file = blobs.open_file(digest).await?;
        Ok(VerifiedFile { file, digest })
    });
    futures::stream::iter(opened)
        .buffered(OPENED)
        .try_collect()
        .await
}

/// What determines the weights of a published version.
#[derive(Debug)]
pub struct Summation<'a> {
    pub plan: &'a Plan,
    pub parent: &'a Version,
    /// The plan's, or what the version records.
    pub rule: Rule,
    /// The run whose round it is: its own moments go on.
    pub run: &'a RunId,
    pub contributions: &'a [Contribution],
    /// What takes the masks off the sum; `None` where there are none.
    pub unmasking: Option<Digest>,
    /// Of models that a cohort took steps on before.
    pub coordinates: &'a Coordinates,
}

impl Summation<'_> {
    /// The digests of the weights and moments; these themselves are stored if `keep`.
    pub async fn compute(&self, blobs: &Blobs, keep: bool) -> Result<Aggregated, Failure> {
        let manifest = manifest(self.plan, self.parent, blobs).await?;
        let base = blobs.open_file(self.parent.weights).await?;
        let weights = self.parent.weights;
        let files = open(self.contributions, blobs).await?;
        let updates = self.contributions.iter().zip(files);
        let updates = updates.map(|(contribution, update)| Weighted {
            weight: contribution.weight,
            update,
        });
        let updates: Vec<Weighted<VerifiedFile>> = updates.collect();
        let (grid, bound) = (self.plan.privacy.grid(), self.plan.privacy.value_bound());
        let rule = self.rule;
        let left_out = self.contributions.iter();
        let left_out = left_out
            .map(|own| {
                self.plan
                    .left_out_of_update(own.annotation.as_ref(), &manifest)
            })
            .collect();
        let optimizer = self.plan.server_optimizer;
        let common = match self.common_rates() {
            Some(rates) => {
                let coordinates = self.coordinates.of(self.parent, blobs).await?;
                let (method, training) = (self.plan.method, &self.plan.training);
                let head_rate = training.private_head_rate(method, coordinates.width());
                Some((rates, head_rate, coordinates))
            }
            None => None,
        };
        let has_moments = optimizer.is_some() || common.is_some();
        let moments = match self.parent.moments_for(self.run).filter(|_| has_moments) {
            Some(digest) => Some((blobs.open_file(digest).await?, digest)),
            None => None,
        };
        let masks = self.masks(blobs).await?;
        let training = &self.plan.training;
        let (largest_norm, batch) = (training.max_grad_norm, training.batch_size as f64);
        let (out, out_moments) = (blobs.scratch()?, blobs.scratch()?);
        let (out, out_moments, sum) = blocking(move || {
            let layout = layout_of(&base)?;
            let inputs = Inputs {
                layout: &layout,
                base: Verified::new(base, weights),
                updates,
                manifest: &manifest,
                grid,
                bound,
                rule,
                left_out,
            };
            let before = moments.map(|(file, digest)| -> Box<dyn Read + Send> {
                Box::new(Verified::new(file, digest))
            });
            let sum = match (common, masks) {
                (Some((rates, head_rate, coordinates)), Some(masks)) => {
                    let step = CommonStep {
                        rates,
                        head_rate,
                        largest_norm,
                        batch,
                        coordinates: &coordinates,
                    };
                    let moments = StepMoments {
                        before,
                        after: Box::new(out_moments.as_file()),
                    };
                    aggregate::take_step(inputs, masks, &step, moments, out.as_file())?
                }
                (_, masks) => {
                    let optimizing = optimizer.map(|optimizer| Optimizing {
                        optimizer,
                        before,
                        after: Box::new(out_moments.as_file()),
                    });
                    aggregate::aggregate_masked(inputs, masks, optimizing, out.as_file())?
                }
            };
            Ok::<_, aggregate::Error>((out, out_moments, sum))
        })
        .await??;
        if keep {
            if let Some(moments) = sum.moments {
                blobs.put_file(moments, out_moments.path()).await?;
            }
            blobs.put_file(sum.weights, out.path()).await?;
        }
        Ok(sum)
    }

    /// The rates of the step that all take together; nothing where a round is no such step. Rounds follow each other, so
    /// the parent's says which step it is.
    fn common_rates(&self) -> Option<Rates> {
        let before = self.parent.round().filter(|round| round.run == *self.run);
        let round = before.map_or(1, |before| before.round + 1);
        let part = self.plan.part_of_schedule(round);
        let synchronous = self.plan.privacy.is_synchronous();
        synchronous.then(|| Rates {
            learning_rate: self
                .plan
                .training
                .learning_rate_at(part.start.midpoint(part.end)),
            weight_decay: 0.0,
            step: round as usize,
        })
    }

    /// What takes the masks off, after everything that it rests on was verified.
    async fn masks(&self, blobs: &Blobs) -> Result<Option<(Opening, Width)>, Failure> {
        let Some(width) = secure::width(self.plan)? else {
            return Ok(None);
        };
        let missing = || Fault::Inconsistent("nothing is kept to unmask the sum with".to_owned());
        let bytes = blobs.read(self.unmasking.ok_or_else(missing)?).await?;
        let transcript: Transcript = serde_json::from_slice(&bytes)
            .map_err(|error| Fault::Inconsistent(format!("what unmasks the sum: {error}")))?;
        let updates = self.contributions.iter();
        let updates: Vec<InstitutionId> = updates.map(|one| one.institution.clone()).collect();
        let dealt = secure::verify_transcript(&transcript, &updates)?;
        let opening = dealt.opening(&updates, &transcript.unmaskings);
        Ok(Some((opening.map_err(aggregate::Error::from)?, width)))
    }
}
