//! Which version a report of an audit is about.

use fedner_host::machine::blocking;
use fedner_shared::audit::AuditReport;
use fedner_shared::bert::BertConfig;
use fedner_shared::checkpoint::{self, Checkpoint};
use fedner_shared::digest::Digest;
use fedner_shared::id::VersionName;
use fedner_shared::version::Version;
use fedner_shared::view::VersionView;

use super::{Registry, invalid};
use crate::engine::audits::audited;
use crate::engine::statements::Vouched;
use crate::engine::{Failure, Fault};

impl Registry {
    /// Keeps a report with the version that it is about: the one that is named, or all that are known to be
    /// exported with the weights that the report names.
    pub async fn keep_audit(
        &self,
        report: Vouched<AuditReport>,
        named: Option<VersionName>,
    ) -> Result<(), Failure> {
        // Nothing is put together for what would be refused anyway.
        audited(&report.said)?;
        let named = match named {
            Some(name) => Some(self.export_of(name).await?),
            None => None,
        };
        self.engine
            .call(move |engine| engine.accept_audit(&report, named))
            .await
    }

    /// The version of that name; afterwards it is known what it is exported as.
    async fn export_of(&self, name: VersionName) -> Result<Digest, Failure> {
        let view = self
            .engine
            .call(move |engine| {
                let digest = engine.resolve(&name.to_string())?;
                engine.model_view(digest)
            })
            .await?;
        self.learn_export(&view).await?;
        Ok(view.digest)
    }

    /// A model is put together once for all reports, and one at a time, so that an institution cannot
    /// keep the coordinator busy with it.
    async fn learn_export(&self, view: &VersionView) -> Result<(), Failure> {
        let _alone = self.exporting.lock().await;
        let version = view.digest;
        let known = self
            .engine
            .call(move |engine| engine.export(version))
            .await?;
        if known.is_some() {
            return Ok(());
        }
        self.engine
            .call(move |engine| engine.require_files(version))
            .await?;
        let weights = self.exported_weights(&view.version).await?;
        self.engine
            .call(move |engine| engine.note_export(version, weights))
            .await
    }

    /// The digest of the `model.safetensors` that `model export` writes.
    async fn exported_weights(&self, version: &Version) -> Result<Digest, Failure> {
        let config_json = self.read_text("config.json", version.config).await?;
        let config = BertConfig::parse(&config_json).map_err(|error| invalid(&error.into()))?;
        if config.adapters.is_none() && version.frozen.is_none() {
            return Ok(version.weights);
        }
        let weights = self.read(version.weights).await?;
        let frozen = match version.frozen {
            Some(frozen) => Some(self.read(frozen).await?),
            None => None,
        };
        let digest = blocking(move || {
            let whole = Checkpoint::read_parts(&config_json, &weights, frozen.as_deref())?;
            let file = whole.merged().to_safetensors()?;
            Ok::<_, checkpoint::Error>(Digest::of(&file))
        })
        .await?
        .map_err(Fault::from)?;
        Ok(digest)
    }
}
