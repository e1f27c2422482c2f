//! Text and a model in which every unit does the most that a unit can.
//!
//! A claim of differential privacy holds for every text and every model, so that an auditor may
//! choose them. Here the encoder has no layers, and gives each unit's word a direction of its own:
//! the gradients of different units are nearly at right angles, but for the bias that they share. The
//! head is sure of the tag `O` and each canary has another, so that its gradient has the largest norm
//! there is, 1.48; and hardly anything is learnt, so that it stays as it is in all steps.

use fedner_model::{Sentence, Tokenizer};
use fedner_shared::bert::{self, BertConfig, HeadShape};
use fedner_shared::checkpoint::Checkpoint;
use fedner_shared::plan::{Method, Plan, Training, Unit};
use serde_json::json;

use super::Error;
use crate::training::LoadedModel;

const LABEL: &str = "Canary";
/// The bias of `O`: softmax leaves nothing to the others.
const SURE: f32 = 40.0;
/// Too little to change a gradient in a million steps.
const LEARNING_RATE: f64 = 1e-9;
/// Features of the small encoder.
const ENCODED: usize = 16;
/// `[CLS]` and `[SEP]` in the vocabulary.
const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// The model, and the words that units are made of.
#[derive(Debug)]
pub(super) struct WorstCase {
    pub(super) material: LoadedModel,
    pub(super) tags: Vec<String>,
    unit: Unit,
}

impl WorstCase {
    /// With `width` features, and so room for as many units.
    pub(super) fn new(unit: Unit, width: usize) -> Result<Self, Error> {
        let tags = bert::tags(&[LABEL.to_owned()]);
        let config = BertConfig {
            model_type: "bert".to_owned(),
            vocab_size: SPECIAL.len() + width,
            hidden_size: width,
            num_hidden_layers: 0,
            num_attention_heads: 1,
            intermediate_size: 1,
            hidden_act: "gelu".to_owned(),
            max_position_embeddings: 8,
            type_vocab_size: 1,
            layer_norm_eps: 1e-12,
            hidden_dropout_prob: 0.0,
            attention_probs_dropout_prob: 0.0,
            initializer_range: 0.0,
            pad_token_id: 0,
            position_embedding_type: "absolute".to_owned(),
            adapters: None,
            head: HeadShape::default(),
        };
        let manifest = config.manifest(&Method::Head.into(), tags.len());
        let specs = config.encoder_tensors().into_iter();
        let specs = specs.chain(config.head_tensors(tags.len()));
        let tensors = specs.map(|spec| {
            let values = match spec.name.as_str() {
                "bert.embeddings.word_embeddings.weight" => words(width),
                "bert.embeddings.LayerNorm.weight" => vec![1.0; width],
                "classifier.bias" => {
                    let mut bias = vec![0.0; tags.len()];
                    bias[0] = SURE;
                    bias
                }
                _ => vec![0.0; spec.len()],
            };
            (spec, values)
        });
        let checkpoint = Checkpoint::from_tensors(config.clone(), tensors.collect::<Vec<_>>());
        let tokenizer = Tokenizer::parse(&tokenizer(width))?;
        Ok(Self {
            material: LoadedModel {
                checkpoint,
                tokenizer,
                manifest,
                parent: None,
            },
            tags,
            unit,
        })
    }

    /// The same words before a small encoder, of which the plan's method trains its part.
    pub(super) fn with_encoder(plan: &Plan) -> Result<Self, Error> {
        let mut case = Self::new(plan.privacy.unit, ENCODED)?;
        let config = BertConfig {
            num_hidden_layers: 2,
            num_attention_heads: 2,
            intermediate_size: 2 * ENCODED,
            initializer_range: 0.5,
            ..case.material.checkpoint.config.clone()
        };
        let trainable = plan.trainable();
        let checkpoint = Checkpoint::random(config, 1)
            .prepared_for(&trainable, 1)
            .with_new_head(case.tags.len(), 1);
        case.material.manifest = checkpoint.config.manifest(&trainable, case.tags.len());
        case.material.checkpoint = checkpoint;
        Ok(case)
    }

    /// Trainable weights.
    pub(super) fn dimension(&self) -> usize {
        self.material.manifest.dimension()
    }

    /// The unit number `number` with a gradient of the largest norm. A person and a document have
    /// several sentences: whoever takes these for units of their own gives it several clips.
    pub(super) fn canary(&self, number: usize) -> Vec<Sentence> {
        self.unit_of(number, &format!("B-{LABEL}"))
    }

    /// A unit with a gradient of zero: it only takes its place in a sample.
    pub(super) fn bystander(&self, number: usize) -> Vec<Sentence> {
        self.unit_of(number, "O")
    }

    fn unit_of(&self, number: usize, tag: &str) -> Vec<Sentence> {
        let sentences = match self.unit {
            Unit::Person | Unit::Document => 4,
            Unit::Sentence | Unit::Institution | Unit::None => 1,
        };
        let sentence = Sentence {
            words: vec![word(number)],
            tags: vec![tag.to_owned()],
            document: Some(number as u32),
            person: Some(word(number)),
            line: number + 1,
            ..Sentence::default()
        };
        vec![sentence; sentences]
    }
}

/// The plan of a training that is attacked: all that decides privacy is `plan`'s, over `epochs`
/// epochs.
pub(super) fn attacked(plan: &Plan, epochs: u32) -> Plan {
    let mut attacked = plan.clone();
    attacked.labels = vec![LABEL.to_owned()];
    attacked.method = Method::Head;
    attacked.lora = None;
    attacked.training = Training {
        local_epochs: epochs,
        batch_size: plan.training.batch_size,
        learning_rate: LEARNING_RATE,
        weight_decay: 0.0,
        device: "cpu".to_owned(),
        ..Training::default()
    };
    attacked
}

/// The same by the plan's own method, for [`WorstCase::with_encoder`].
pub(super) fn attacked_method(plan: &Plan) -> Plan {
    let mut own = attacked(plan, 1);
    own.method = plan.method;
    own.lora.clone_from(&plan.lora);
    own
}

fn word(number: usize) -> String {
    format!("w{number}")
}

/// One axis a word, and nothing for the special tokens.
fn words(width: usize) -> Vec<f32> {
    let mut table = vec![0.0; (SPECIAL.len() + width) * width];
    let own = &mut table[SPECIAL.len() * width..];
    for (number, row) in own.chunks_exact_mut(width).enumerate() {
        row[number] = 1.0;
    }
    table
}

/// Whole words only.
fn tokenizer(width: usize) -> Vec<u8> {
    let words = SPECIAL.map(str::to_owned).into_iter();
    let words = words.chain((0..width).map(word));
    let vocabulary: serde_json::Map<String, serde_json::Value> = words
        .enumerate()
        .map(|(id, word)| (word, json!(id)))
        .collect();
    let special = |token: &str| json!({ "SpecialToken": { "id": token, "type_id": 0 } });
    let sequence = json!({ "Sequence": { "id": "A", "type_id": 0 } });
    let single = json!([special("[CLS]"), sequence, special("[SEP]")]);
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [],
        "normalizer": null,
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": single,
            "pair": single,
            "special_tokens": {
                "[CLS]": { "id": "[CLS]", "ids": [2], "tokens": ["[CLS]"] },
                "[SEP]": { "id": "[SEP]", "ids": [3], "tokens": ["[SEP]"] },
            },
        },
        "decoder": null,
        "model": { "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                   "max_input_chars_per_word": 100, "vocab": vocabulary },
    });
    tokenizer.to_string().into_bytes()
}
