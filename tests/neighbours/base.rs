//! The model that a run begins with, made ready as a coordinator makes it.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use fedner_coordinator::blobs::Blobs;
use fedner_coordinator::engine;
use fedner_coordinator::registry::{Registry, Uploaded};
use fedner_coordinator::store::Store;
use fedner_host::machine::ThisMachine;
use fedner_shared::digest::Digest;
use fedner_shared::plan::{Inputs, Plan};
use fedner_shared::sign::SecretKey;
use fedner_shared::time::Time;
use fedner_shared::version::{Origin, Version};
use fedner_tests::tiny;
use object_store::memory::InMemory;
use tempfile::TempDir;

use crate::text;

const SIZE: tiny::Size = tiny::Size {
    hidden: 16,
    layers: 1,
    heads: 2,
    inner: 16,
    words: 60,
};

pub(crate) fn operator_key() -> SecretKey {
    SecretKey::from_seed([7; 32])
}

/// A plan with its inputs, and the files that it names.
#[derive(Debug, Clone)]
pub(crate) struct Base {
    pub(crate) plan: Plan,
    pub(crate) version: Version,
    pub(crate) files: HashMap<Digest, Vec<u8>>,
}

impl Base {
    /// Of a tiny model, after `change` was made to its directory.
    pub(crate) fn new(plan: &str, change: impl FnOnce(&Path) -> Result<()>) -> Result<Self> {
        let plan = Plan::parse(plan)?;
        let folder = tempfile::tempdir()?;
        let model = folder.path().join("model");
        let known = format!("{} O\n", text::MARKER);
        let words = [text::corpus(b""), known.into_bytes()].concat();
        tiny::write(&model, SIZE, &String::from_utf8(words)?, 1)?;
        change(&model)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (inputs, files) = runtime.block_on(prepare(&plan, &model, &folder))?;
        let plan = Plan {
            inputs: Some(inputs.clone()),
            ..plan
        };
        let version = Version {
            name: "base@1".parse()?,
            parent: None,
            origin: Origin::Import,
            labels: plan.labels.clone(),
            weights: inputs.weights.digest,
            frozen: inputs.frozen.map(|frozen| frozen.digest),
            config: inputs.config.digest,
            tokenizer: inputs.tokenizer.digest,
            created: Time::from_millis(1),
        };
        Ok(Self {
            plan,
            version,
            files,
        })
    }

    /// With a tokenizer that runs a pattern on text, which the plan itself names.
    pub(crate) fn with_pattern(mut self) -> Result<Self> {
        let pattern = r#"{"type":"Replace","pattern":{"Regex":"(a|a)+$"},"content":"b"}"#;
        let before = self.files[&self.version.tokenizer].clone();
        let mut json: serde_json::Value = serde_json::from_slice(&before)?;
        json["normalizer"] = serde_json::from_str(pattern)?;
        let after = serde_json::to_vec(&json)?;
        let digest = Digest::of(&after);
        let bytes = after.len() as u64;
        self.version.tokenizer = digest;
        self.files.insert(digest, after);
        if let Some(inputs) = &mut self.plan.inputs {
            inputs.tokenizer = fedner_shared::plan::Pinned { digest, bytes };
        }
        Ok(self)
    }

    /// The version with another file in the place of one of its own, which the plan does not name.
    pub(crate) fn with_other(
        mut self,
        place: impl FnOnce(&mut Version) -> &mut Digest,
        change: impl FnOnce(&str) -> String,
    ) -> Result<Self> {
        let place = place(&mut self.version);
        let before = self.files.get(place).context("a file")?;
        let after = change(std::str::from_utf8(before)?).into_bytes();
        *place = Digest::of(&after);
        self.files.insert(*place, after);
        Ok(self)
    }
}

async fn prepare(
    plan: &Plan,
    model: &Path,
    folder: &TempDir,
) -> Result<(Inputs, HashMap<Digest, Vec<u8>>)> {
    let store = Store::open(&folder.path().join("state.sqlite"))?;
    let loaded = engine::load(store, operator_key().public(), Arc::new(ThisMachine))?;
    let (handle, _effects, engine) = loaded.serve();
    let serving = tokio::spawn(engine);
    let blobs = Blobs::new(Arc::new(InMemory::new()), &folder.path().join("staging"))?;
    let put = async |file: &str| anyhow::Ok(blobs.put(fs::read(model.join(file))?).await?);
    let files = Uploaded {
        config: put("config.json").await?,
        tokenizer: put("tokenizer.json").await?,
        weights: put("model.safetensors").await?,
    };
    let registry = Registry::new(handle.clone(), blobs.clone());
    registry.import("base".parse()?, files).await?;
    let inputs = registry.inputs(plan.clone()).await?;
    let mut files = HashMap::new();
    let pinned = [
        Some(inputs.config),
        Some(inputs.tokenizer),
        Some(inputs.weights),
    ];
    for pinned in pinned.into_iter().chain([inputs.frozen]).flatten() {
        files.insert(pinned.digest, blobs.read(pinned.digest).await?);
    }
    drop((registry, handle));
    serving.await?;
    Ok((inputs, files))
}
