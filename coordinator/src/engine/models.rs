//! Model versions and aliases, and the reading of events.

use std::collections::BTreeSet;

use fedner_shared::digest::Digest;
use fedner_shared::event::{Entry, Event};
use fedner_shared::id::{Alias, PlanName, RunId, VersionName};
use fedner_shared::refusal::Code;
use fedner_shared::version::{Origin, Pruned, Version};
use fedner_shared::view::{VersionRef, VersionView};

use super::{Engine, Failure, Fault};

/// The files of an imported model, all in the blob store.
#[derive(Debug, Clone)]
pub struct Imported {
    pub name: PlanName,
    pub labels: Vec<String>,
    pub weights: Digest,
    pub config: Digest,
    pub tokenizer: Digest,
}

impl Engine {
    pub fn import_model(&mut self, imported: Imported) -> Result<VersionView, Failure> {
        let Imported {
            name: model,
            labels,
            weights,
            config,
            tokenizer,
        } = imported;
        for known in self.model_views()? {
            let version = &known.version;
            // One whose files are gone comes back under a new number.
            if known.pruned != Some(Pruned::Files)
                && version.name.model == model
                && (version.weights, version.config, version.tokenizer)
                    == (weights, config, tokenizer)
            {
                return Err(Failure::refuse(
                    Code::ModelExists,
                    format!("{} is this very model", version.name),
                ));
            }
        }
        let name = self.next_name(&model)?;
        let version = Version {
            name: name.clone(),
            parent: None,
            origin: Origin::Import,
            labels,
            weights,
            frozen: None,
            config,
            tokenizer,
            created: self.now(),
        };
        let digest = version.digest();
        self.record(
            "import model",
            Event::ModelImported {
                version: name,
                digest,
            },
            |tx| {
                tx.put_version(&version)?;
                Ok(())
            },
        )?;
        self.model_view(digest)
    }

    /// The name of that model's next version: good for as long as the engine is not left.
    pub(super) fn next_name(&mut self, model: &PlanName) -> Result<VersionName, Failure> {
        let number = self.store.read(|tx| tx.next_number(model))?;
        Ok(VersionName {
            model: model.clone(),
            number,
        })
    }

    pub fn resolve(&mut self, text: &str) -> Result<Digest, Failure> {
        let reference: VersionRef =
            text.parse()
                .map_err(|error: fedner_shared::id::NotAVersion| {
                    Failure::refuse(Code::RequestInvalid, error.to_string())
                })?;
        let found = self.store.read(|tx| tx.resolve(&reference))?;
        found.ok_or_else(|| {
            Failure::refuse(
                Code::ModelUnknown,
                format!("there is no model version `{text}`"),
            )
        })
    }

    pub fn model_view(&mut self, digest: Digest) -> Result<VersionView, Failure> {
        let found = self.store.read(|tx| tx.version_view(digest))?;
        found.ok_or_else(|| {
            Fault::Inconsistent(format!("version {} is missing", digest.short())).into()
        })
    }

    pub fn model_views(&mut self) -> Result<Vec<VersionView>, Failure> {
        let digests = self.store.read(|tx| tx.versions())?;
        digests
            .into_iter()
            .map(|digest| self.model_view(digest))
            .collect()
    }

    /// The version and its ancestors, newest first.
    pub fn lineage(&mut self, digest: Digest) -> Result<Vec<VersionView>, Failure> {
        let mut line = Vec::new();
        let mut next = Some(digest);
        while let Some(digest) = next {
            let view = self.model_view(digest)?;
            next = view.version.parent;
            line.push(view);
        }
        Ok(line)
    }

    pub fn move_alias(
        &mut self,
        alias: Alias,
        digest: Digest,
        rollback: bool,
    ) -> Result<VersionView, Failure> {
        self.require_files(digest)?;
        let version = self.version_record(digest)?.version.name.clone();
        let event = if rollback {
            Event::RolledBack {
                alias: alias.clone(),
                version,
                digest,
            }
        } else {
            Event::AliasMoved {
                alias: alias.clone(),
                version,
                digest,
            }
        };
        self.record("move alias", event, |tx| tx.put_alias(&alias, digest))?;
        self.model_view(digest)
    }

    /// Every large object that the state rests on.
    pub fn needed_objects(&mut self) -> Result<BTreeSet<Digest>, Failure> {
        Ok(self.store.read(|tx| tx.needed_objects())?)
    }

    /// Up to `limit` events from sequence number `from` on.
    pub fn events(
        &mut self,
        run: Option<&RunId>,
        from: u64,
        limit: usize,
    ) -> Result<Vec<Entry>, Failure> {
        Ok(self.store.read(|tx| tx.events(run, from, limit))?)
    }
}
