//! Reports of audits: verified, and kept with the versions that they are about.

use fedner_shared::audit::{AuditReport, AuditedModel};
use fedner_shared::digest::Digest;
use fedner_shared::event::Event;
use fedner_shared::refusal::Code;
use fedner_shared::view::VersionView;

use super::statements::Vouched;
use super::{Engine, Failure};
use crate::store::StatementKind;

/// Reports of one institution that are kept with one version: each is shown to whoever looks at it.
const MOST_REPORTS: u32 = 16;

/// The model that a sound report is about.
pub fn audited(report: &AuditReport) -> Result<&AuditedModel, Failure> {
    report
        .check()
        .map_err(|error| Failure::refuse(Code::AuditInvalid, error.to_string()))
}

impl Engine {
    /// Keeps a report with the version that was named, or with all whose weights it is about. One that
    /// is kept already changes nothing.
    pub fn accept_audit(
        &mut self,
        report: &Vouched<AuditReport>,
        named: Option<Digest>,
    ) -> Result<(), Failure> {
        let caller = report.author();
        let model = audited(&report.said)?;
        let statement = self.statement(StatementKind::Audit, caller, report)?;
        let versions = self.audited_versions(model, named)?;
        let new = self.without_report(versions, statement.digest)?;
        if new.is_empty() {
            return Ok(());
        }
        let mut names = Vec::with_capacity(new.len());
        for version in &new {
            let name = self.version_record(*version)?.version.name.clone();
            let kept = self.store.read(|tx| tx.count_reports(*version, caller))?;
            if kept >= MOST_REPORTS {
                return Err(Failure::refuse(
                    Code::AuditLimit,
                    format!(
                        "{kept} reports of {caller} are kept with {name}: expected fewer than {MOST_REPORTS}"
                    ),
                ));
            }
            names.push(name);
        }
        let event = Event::AuditReported {
            institution: caller.clone(),
            report: statement.digest,
            versions: names,
            verdict: report.said.verdict,
        };
        self.record("accept audit", event, |tx| {
            tx.put_statement(&statement)?;
            for version in &new {
                tx.put_report(*version, statement.digest)?;
            }
            Ok(())
        })
    }

    fn audited_versions(
        &mut self,
        model: &AuditedModel,
        named: Option<Digest>,
    ) -> Result<Vec<Digest>, Failure> {
        let weights = model.weights;
        let mut versions = self.store.read(|tx| tx.versions_of_weights(weights))?;
        versions.retain(|version| named.is_none_or(|named| named == *version));
        if !versions.is_empty() {
            return Ok(versions);
        }
        let message = match named {
            Some(named) => {
                let name = &self.version_record(named)?.version.name;
                format!("the report is about the weights {weights}: {name} is exported with others")
            }
            None => format!(
                "the report is about the weights {weights}: no version is known to be exported with them"
            ),
        };
        Err(Failure::refuse(Code::AuditModel, message))
    }

    fn without_report(
        &mut self,
        versions: Vec<Digest>,
        report: Digest,
    ) -> Result<Vec<Digest>, Failure> {
        let mut without = Vec::new();
        for version in versions {
            if !self.store.read(|tx| tx.has_report(version, report))? {
                without.push(version);
            }
        }
        Ok(without)
    }

    /// The version with all that is known of it, its audits included.
    pub fn audited_view(&mut self, digest: Digest) -> Result<VersionView, Failure> {
        let mut view = self.model_view(digest)?;
        view.audits = self.store.read(|tx| tx.reports(digest))?;
        Ok(view)
    }

    /// Of the weights of a version as they are exported, where it is known.
    pub fn export(&mut self, version: Digest) -> Result<Option<Digest>, Failure> {
        Ok(self.store.read(|tx| tx.export(version))?)
    }

    pub fn note_export(&mut self, version: Digest, weights: Digest) -> Result<(), Failure> {
        Ok(self
            .store
            .transact("note export", |tx| tx.put_export(version, weights))?)
    }
}

#[cfg(test)]
mod tests;
