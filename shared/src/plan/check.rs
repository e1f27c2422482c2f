//! The values a plan may have.

use std::collections::BTreeSet;

use super::error::{Error, between, range, value, within};
use super::privacy::UNPROTECTED_CLIP;
use super::{Clipping, KnownTypes, Method, Plan, Precision, Unit, Weighting, ranges};
use crate::bert::MOST_CONTEXT;

impl Plan {
    /// Checks every value; parsing does it too, and so does whoever receives a plan.
    pub fn check(&self) -> Result<(), Error> {
        self.check_labels()?;
        self.check_types()?;
        self.check_training()?;
        self.check_method()?;
        self.check_cohort()?;
        self.check_update_norm()?;
        self.check_privacy()?;
        self.check_per_person()?;
        self.check_release()?;
        self.check_inputs()?;
        self.check_weights()?;
        if let Some(gate) = &self.gate {
            gate.check(self.name.as_str(), self.cohort.institutions.len())?;
        }
        if let Some(guard) = &self.guard {
            guard.check(&self.cohort)?;
        }
        self.check_aggregation()?;
        self.check_secure_aggregation()?;
        self.check_noise_shares()?;
        self.check_synchronous()?;
        if let Some(optimizer) = &self.server_optimizer {
            optimizer.check()?;
        }
        between("rounds", self.rounds, 0, 10_000)?;
        between("priority", self.priority, 0, 100)?;
        if let Some(requires) = &self.requires {
            requires.check()?;
        }
        self.check_evaluation_alone()?;
        self.check_schedule()
    }

    /// Options of training beside `rounds = 0` are a misunderstanding.
    fn check_evaluation_alone(&self) -> Result<(), Error> {
        if !self.only_evaluates() {
            return Ok(());
        }
        let t = &self.training;
        let own_head = !t.head_layers.is_empty() || t.head_context > 0 || t.head_crf;
        let given = [
            ("gate", self.gate.is_some()),
            ("guard", self.guard.is_some()),
            ("server_optimizer", self.server_optimizer.is_some()),
            ("lora", self.lora.is_some()),
            ("known_types", self.known_types != KnownTypes::default()),
            ("rename", !self.rename.is_empty()),
            ("drop", !self.drop.is_empty()),
            ("training.head_layers, head_context or head_crf", own_head),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            Some((key, _)) => Err(value(
                key,
                "given with rounds = 0",
                "a plan without it: nothing is trained, and the base is scored as it is",
            )),
            None => Ok(()),
        }
    }

    fn check_labels(&self) -> Result<(), Error> {
        between("labels", self.labels.len(), 1, 256)?;
        let distinct: BTreeSet<_> = self.labels.iter().collect();
        if distinct.len() != self.labels.len() {
            return Err(value(
                "labels",
                format!("{:?}", self.labels),
                "each type once",
            ));
        }
        for label in &self.labels {
            let prefixed = ["B-", "I-", "E-", "S-"]
                .iter()
                .any(|p| label.starts_with(p));
            let odd =
                label.is_empty() || label.chars().any(|c| c.is_whitespace() || c.is_control());
            if prefixed || odd || label == "O" || label.len() > 128 {
                let expected =
                    "entity types without spaces and without B- or I-, such as \"Disease\"";
                return Err(value("labels", format!("{label:?}"), expected));
            }
        }
        Ok(())
    }

    fn check_training(&self) -> Result<(), Error> {
        let t = &self.training;
        between("training.local_epochs", t.local_epochs, 1, 1000)?;
        between("training.batch_size", t.batch_size, 1, 65_536)?;
        between(
            "training.gradient_accumulation",
            t.gradient_accumulation,
            1,
            65_536,
        )?;
        between("training.max_tokens", t.max_tokens, 8, 8192)?;
        range("training.proximal_mu", t.proximal_mu, 0.0, 1e6, true)?;
        range("training.focal_gamma", t.focal_gamma, 0.0, 100.0, true)?;
        self.check_class_weights()?;
        range("training.learning_rate", t.learning_rate, 0.0, 10.0, false)?;
        if let Some(rate) = t.head_learning_rate {
            range("training.head_learning_rate", rate, 0.0, 10.0, false)?;
            if self.method == Method::Head {
                return Err(value(
                    "training.head_learning_rate",
                    rate,
                    "no such key where the head alone is trained: write learning_rate",
                ));
            }
        }
        range("training.warmup", t.warmup, 0.0, 1.0, true)?;
        range("training.weight_decay", t.weight_decay, 0.0, 1.0, true)?;
        range("training.max_grad_norm", t.max_grad_norm, 0.0, 1e9, false)?;
        range(
            "training.dropout",
            t.dropout.unwrap_or_default(),
            0.0,
            0.95,
            true,
        )
    }

    fn check_class_weights(&self) -> Result<(), Error> {
        let key = "training.class_weights";
        for (label, weight) in &self.training.class_weights {
            if label != "O" && !self.labels.contains(label) {
                let expected = format!("O or one of the labels {:?}", self.labels);
                return Err(value(key, format!("{label:?}"), expected));
            }
            range(key, *weight, 0.0, 1e6, false)?;
        }
        Ok(())
    }

    /// Options of one method beside another are a misunderstanding, not a default.
    fn check_method(&self) -> Result<(), Error> {
        let (method, t) = (self.method, &self.training);
        match &self.lora {
            Some(_) if !method.adapts() => {
                let found = format!("given with the method {method}");
                let expected = "the method lora or ffa-lora, or no table [lora]";
                return Err(value("lora", found, expected));
            }
            Some(lora) => lora.check()?,
            None => {}
        }
        between("training.freeze_layers", t.freeze_layers, 0, 1024)?;
        if !t.head_layers.is_sorted_by(|a, b| a < b) || t.head_layers.iter().any(|l| *l > 1024) {
            let found = format!("{:?}", t.head_layers);
            let expected = "layers from 0 to 1024, each once and in order, such as [2, 4, 6]";
            return Err(value("training.head_layers", found, expected));
        }
        between("training.head_context", t.head_context, 0, MOST_CONTEXT)?;
        if t.head_crf && (t.focal_gamma > 0.0 || !t.class_weights.is_empty()) {
            let found = "true beside class_weights or focal_gamma";
            let expected = "one of them: the loss of a CRF is of whole sentences, not of words";
            return Err(value("training.head_crf", found, expected));
        }
        if t.freeze_embeddings && !matches!(method, Method::Full | Method::Bitfit) {
            let found = format!("true with the method {method}");
            let expected =
                "the method full or bitfit: others train nothing of the embeddings anyway";
            return Err(value("training.freeze_embeddings", found, expected));
        }
        if t.precision == Precision::Mixed && method == Method::Head {
            let found = "mixed with the method head".to_owned();
            let expected = "another method: head trains no layer of the encoder";
            return Err(value("training.precision", found, expected));
        }
        if t.freeze_layers > 0 && method == Method::Head {
            let found = format!("{} with the method head", t.freeze_layers);
            let expected = "another method: head trains no layer anyway";
            return Err(value("training.freeze_layers", found, expected));
        }
        Ok(())
    }

    fn check_cohort(&self) -> Result<(), Error> {
        let c = &self.cohort;
        between("cohort.institutions", c.institutions.len(), 1, 100_000)?;
        let distinct: BTreeSet<_> = c.institutions.iter().collect();
        if distinct.len() != c.institutions.len() {
            let found = format!("{:?}", c.institutions);
            return Err(value("cohort.institutions", found, "each institution once"));
        }
        between("cohort.quorum", c.quorum, 1, c.institutions.len())?;
        let enough = c.enough.unwrap_or(c.quorum);
        between("cohort.enough", enough, c.quorum, c.institutions.len())?;
        between(
            "cohort.recruit_timeout_s",
            c.recruit_timeout_s,
            1,
            31_536_000,
        )?;
        between("cohort.train_timeout_s", c.train_timeout_s, 1, 31_536_000)?;
        between(
            "cohort.evaluate_timeout_s",
            c.evaluate_timeout_s,
            1,
            31_536_000,
        )?;
        between("cohort.away_after_s", c.away_after_s, 1, 31_536_000)?;
        between("cohort.evaluate_every", c.evaluate_every, 1, 10_000)?;
        if c.evaluate_every > 1 && self.gate.is_some() {
            let expected = "1, or no table [gate]: a gate judges each version by its counts";
            return Err(value("cohort.evaluate_every", c.evaluate_every, expected));
        }
        between("cohort.max_attempts", c.max_attempts, 1, 1000)?;
        between("cohort.max_examples", c.max_examples, 1, 1 << 30)
    }

    fn check_weights(&self) -> Result<(), Error> {
        let c = &self.cohort;
        if let Some(share) = c.max_share {
            range("cohort.max_share", share, 0.0, 1.0, false)?;
            if c.weighting != Weighting::Examples {
                let expected = "weighting = \"examples\": other weights nobody declares";
                return Err(value("cohort.max_share", share, expected));
            }
        }
        let (named, all): (BTreeSet<_>, BTreeSet<_>) =
            (c.weights.keys().collect(), c.institutions.iter().collect());
        if c.weighting == Weighting::Plan && named != all {
            let found = format!("of {named:?}");
            return Err(value(
                "cohort.weights",
                found,
                "one weight for each institution of the plan",
            ));
        }
        if c.weighting != Weighting::Plan && !named.is_empty() {
            let expected = "weighting = \"plan\", or no table";
            return Err(value("cohort.weights", "given", expected));
        }
        for weight in c.weights.values() {
            between("cohort.weights", *weight, 1, 1 << 30)?;
        }
        // The weighted sum must fit a machine word whatever the institutions declare.
        let weights = c.institutions.len() as i128 * i128::from(self.largest_weight());
        let largest = weights * i128::from(self.privacy.value_bound());
        // The weights are below 2^48, the bound is below 2^32 and the shift at most 16.
        if largest << self.rule().extra_bits() >= 1 << 62 {
            let expected = "a product of institutions, weights and noise below 2^62";
            let key = if c.weighting == Weighting::Plan {
                "cohort.weights"
            } else {
                "cohort.max_examples"
            };
            return Err(value(key, self.largest_weight(), expected));
        }
        Ok(())
    }

    fn check_per_person(&self) -> Result<(), Error> {
        let Some(most) = self.privacy.max_per_person else {
            return Ok(());
        };
        let (key, unit) = ("privacy.max_per_person", self.privacy.unit);
        if !matches!(unit, Unit::Document | Unit::Sentence) {
            let found = format!("{most} with the unit {unit}");
            return Err(value(key, found, "the unit document or sentence"));
        }
        between(key, most, 1, 10_000)
    }

    fn check_update_norm(&self) -> Result<(), Error> {
        let Some(norm) = self.privacy.max_update_norm else {
            return Ok(());
        };
        let key = "privacy.max_update_norm";
        if self.privacy.unit == Unit::Institution {
            let expected = "no such key: with the unit institution it follows from clip and noise";
            return Err(value(key, norm, expected));
        }
        range(key, norm, 1e-4, UNPROTECTED_CLIP, true)
    }

    fn check_privacy(&self) -> Result<(), Error> {
        let p = &self.privacy;
        if p.unit == Unit::None {
            // They do nothing, but the plan is signed as JSON, which has no infinity.
            let idle = [
                ("privacy.clip", p.clip),
                ("privacy.noise_multiplier", p.noise_multiplier),
                ("privacy.delta", p.delta),
                ("privacy.max_epsilon", p.max_epsilon),
                ("privacy.evaluation_noise", p.evaluation_noise),
            ];
            let endless = idle.iter().find(|(_, found)| !found.is_finite());
            return endless.map_or(Ok(()), |(key, found)| {
                Err(value(key, found, "a finite number"))
            });
        }
        range("privacy.clip", p.clip, 1e-6, 1e6, true)?;
        within(
            "privacy.noise_multiplier",
            p.noise_multiplier,
            &ranges::NOISE_MULTIPLIER,
        )?;
        within("privacy.delta", p.delta, &ranges::DELTA)?;
        range("privacy.max_epsilon", p.max_epsilon, 0.0, 1e9, false)?;
        let (noise, range) = (p.evaluation_noise, &ranges::EVALUATION_NOISE);
        let none = noise.abs() <= 0.0;
        if !none && !range.contains(&noise) {
            let expected = format!("0, or a number from {} to {}", range.start(), range.end());
            return Err(value("privacy.evaluation_noise", noise, expected));
        }
        between("privacy.evaluation_clip", p.evaluation_clip, 1, 1 << 20)?;
        self.check_sampled()
    }

    /// What the training of sampled units does not do.
    fn check_sampled(&self) -> Result<(), Error> {
        let unit = self.privacy.unit;
        if !unit.is_sampled() {
            if self.privacy.clipping == Clipping::Automatic {
                let found = format!("automatic with the unit {unit}");
                let expected = "threshold: only gradients of sampled units are scaled otherwise";
                return Err(value("privacy.clipping", found, expected));
            }
            return Ok(());
        }
        // Sums of more are rounded by more than a client allows for.
        between("training.batch_size", self.training.batch_size, 1, 32_768)?;
        if self.training.gradient_accumulation > 1 {
            let found = format!(
                "{} with the unit {unit}",
                self.training.gradient_accumulation
            );
            let expected = "1: a step's units are taken together whatever their number";
            return Err(value("training.gradient_accumulation", found, expected));
        }
        if self.training.head_crf {
            let found = format!("true with the unit {unit}");
            let expected = "false, or the unit institution or none: the gradient of a CRF is not clipped by unit";
            return Err(value("training.head_crf", found, expected));
        }
        Ok(())
    }
}
