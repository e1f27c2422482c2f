//! Adapters of low rank beside the weights (Hu et al. 2022): begun, merged, written for PEFT.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use rand_distr::{Distribution, Uniform};
use serde_json::json;

use super::{Checkpoint, Error, serialize};
use crate::plan::Trainable;

/// Keeps the draws of adapters apart from those of a head with the same seed.
const STREAM: u64 = 1;

/// A directory that Python PEFT loads onto the model which the adapters were trained on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeftFiles {
    /// `adapter_config.json`
    pub config: String,
    /// `adapter_model.safetensors`: the factors and the head.
    pub weights: Vec<u8>,
}

impl Checkpoint {
    /// The model as a run that trains `trainable` begins with it: adapters of an earlier run
    /// merged, and new ones beside the weights where the method trains such.
    ///
    /// A is uniform within ±1/√inputs, drawn from `seed`, and B is zero, as PEFT begins: the model
    /// says what it said before.
    #[must_use]
    pub fn prepared_for(self, trainable: &Trainable, seed: u64) -> Self {
        let mut prepared = self.merged();
        prepared.config = prepared.config.prepared_for(trainable);
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        rng.set_stream(STREAM);
        for spec in prepared.config.adapter_tensors() {
            let bound = 1.0 / (spec.shape[1] as f32).sqrt();
            let values = match Uniform::new_inclusive(-bound, bound) {
                Ok(uniform) if spec.name.contains(".lora_A.") => {
                    (0..spec.len()).map(|_| uniform.sample(&mut rng)).collect()
                }
                Ok(_) | Err(_) => vec![0.0; spec.len()],
            };
            prepared.tensors.insert(spec.name, (spec.shape, values));
        }
        prepared
    }

    /// The same model without adapters: W + (α/r)·B·A in place of each adapted W.
    #[must_use]
    pub fn merged(mut self) -> Self {
        let Some(adapters) = self.config.adapters.clone() else {
            return self;
        };
        let adapted: Vec<_> = self.config.adapted().collect();
        for (module, _, input) in adapted {
            let mut take = |factor| {
                self.tensors
                    .remove(&format!("{module}.lora_{factor}.weight"))
            };
            let (Some((_, a)), Some((_, b))) = (take("A"), take("B")) else {
                continue;
            };
            if let Some((_, weight)) = self.tensors.get_mut(&format!("{module}.weight")) {
                add_product(weight, &a, &b, input, adapters.lora.scale());
            }
        }
        self.config.adapters = None;
        self
    }

    /// The adapters and the head as PEFT keeps them; `None` for a model without adapters. `base`
    /// is what PEFT shall find the rest of the model under.
    pub fn to_peft(&self, base: Option<&str>) -> Result<Option<PeftFiles>, Error> {
        let Some(adapters) = &self.config.adapters else {
            return Ok(None);
        };
        // PEFT takes a target as the end of a module's name, and `output.dense` is the end of two.
        let modules: Vec<String> = self.config.adapted().map(|(module, ..)| module).collect();
        let config = json!({
            "peft_type": "LORA",
            "task_type": "TOKEN_CLS",
            "base_model_name_or_path": base,
            "inference_mode": true,
            "r": adapters.lora.rank,
            "lora_alpha": adapters.lora.alpha,
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": false,
            "target_modules": modules,
            "modules_to_save": ["classifier"],
        });
        let is_kept = |name: &str| name.contains(".lora_") || name.starts_with("classifier.");
        let kept: BTreeMap<String, _> = self
            .tensors
            .iter()
            .filter(|(name, _)| is_kept(name))
            .map(|(name, tensor)| (format!("base_model.model.{name}"), tensor))
            .collect();
        Ok(Some(PeftFiles {
            config: serde_json::to_string_pretty(&config)?,
            weights: serialize(kept.iter().map(|(name, tensor)| (name.as_str(), *tensor)))?,
        }))
    }
}

/// weight += scale · b · a, with `weight` of shape [outputs, input], `a` [rank, input] and `b`
/// [outputs, rank]; summed in f64, so that every machine merges to the same bits.
pub(super) fn add_product(weight: &mut [f32], a: &[f32], b: &[f32], input: usize, scale: f64) {
    let rank = a.len() / input;
    let mut sums = vec![0.0f64; input];
    for (weights, factors) in weight.chunks_exact_mut(input).zip(b.chunks_exact(rank)) {
        sums.fill(0.0);
        for (factor, row) in factors.iter().zip(a.chunks_exact(input)) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += f64::from(*factor) * f64::from(*value);
            }
        }
        for (weight, sum) in weights.iter_mut().zip(&sums) {
            *weight = (f64::from(*weight) + scale * sum) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::tiny;
    use super::*;
    use crate::plan::{Lora, Method, Target};

    fn adapted() -> Checkpoint {
        let trainable = Trainable {
            lora: Lora {
                rank: 2,
                alpha: 3.0,
                targets: vec![Target::Query, Target::Output],
            },
            ..Method::Lora.into()
        };
        tiny().with_new_head(3, 9).prepared_for(&trainable, 5)
    }

    #[test]
    fn new_adapters_change_nothing_and_come_from_the_seed() {
        let plain = tiny().with_new_head(3, 9);
        assert_eq!(adapted().merged(), plain);
        assert_eq!(adapted(), adapted());
        let ffa = Trainable::from(Method::FfaLora);
        let name = "bert.encoder.layer.0.attention.self.query.lora_A.weight";
        let of = |seed| {
            let checkpoint = tiny().prepared_for(&ffa, seed);
            checkpoint.tensor(name).expect("A").to_vec()
        };
        assert_ne!(of(1), of(2));
        assert!(of(1).iter().all(|a| a.abs() <= 0.5) && of(1).iter().any(|a| a.abs() > 0.3));
    }

    #[test]
    fn merging_adds_the_scaled_product() {
        let mut checkpoint = adapted();
        let module = "bert.encoder.layer.0.output.dense";
        for (name, (_, values)) in &mut checkpoint.tensors {
            if name.contains("lora_") {
                for (index, value) in values.iter_mut().enumerate() {
                    *value = (index as f32 * 0.37).sin();
                }
            }
        }
        let tensor = |c: &Checkpoint, part: &str| {
            c.tensor(&format!("{module}.{part}"))
                .expect("tensor")
                .to_vec()
        };
        let (w, a, b) = (
            tensor(&checkpoint, "weight"),
            tensor(&checkpoint, "lora_A.weight"),
            tensor(&checkpoint, "lora_B.weight"),
        );
        let merged = tensor(&checkpoint.clone().merged(), "weight");
        // [4, 8] = [4, 2] · [2, 8]
        for output in 0..4 {
            for input in 0..8 {
                let product = b[2 * output] * a[input] + b[2 * output + 1] * a[8 + input];
                let expected = w[8 * output + input] + 1.5 * product;
                let found = merged[8 * output + input];
                assert!((found - expected).abs() < 1e-6, "{found} for {expected}");
            }
        }
        // A new run begins from the merged weights.
        let again = checkpoint.clone().prepared_for(&Method::Full.into(), 0);
        assert_eq!(again, checkpoint.merged());
    }

    #[test]
    fn adapters_survive_their_file_and_are_named_for_peft() {
        let checkpoint = adapted();
        let with_additions = super::super::config_with_additions;
        let json = with_additions(super::super::tests::TINY, &checkpoint.config).expect("json");
        let bytes = checkpoint.to_safetensors().expect("file");
        assert_eq!(Checkpoint::read(&json, &bytes).expect("read"), checkpoint);
        let plain = checkpoint.clone().merged().config;
        let plain = with_additions(&json, &plain).expect("json");
        assert!(!plain.contains("fedner"));

        let files = checkpoint
            .to_peft(Some("base"))
            .expect("files")
            .expect("adapters");
        let file = safetensors::SafeTensors::deserialize(&files.weights).expect("safetensors");
        let mut names: Vec<&str> = file.names().into_iter().collect();
        names.sort_unstable();
        let module = "base_model.model.bert.encoder.layer.0";
        let expected = [
            format!("{module}.attention.self.query.lora_A.weight"),
            format!("{module}.attention.self.query.lora_B.weight"),
            format!("{module}.output.dense.lora_A.weight"),
            format!("{module}.output.dense.lora_B.weight"),
            "base_model.model.classifier.bias".to_owned(),
            "base_model.model.classifier.weight".to_owned(),
        ];
        assert_eq!(names, expected);
        let config: serde_json::Value = serde_json::from_str(&files.config).expect("json");
        assert_eq!(
            config["target_modules"][1],
            "bert.encoder.layer.0.output.dense"
        );
        assert_eq!(tiny().to_peft(None).expect("files"), None);
    }
}
