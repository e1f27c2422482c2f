//! Reports of audits: their figures are exact, so that they leave only where the policy says so.

use fedner_shared::audit::{AuditReport, LARGEST_BYTES};
use fedner_shared::digest::Digest;
use fedner_shared::id::VersionName;
use fedner_shared::keys::verify_by_any;
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::sign::Signed;
use fedner_shared::time::Time;
use serde_json::json;

use super::{Error, Gate};
use crate::config::Policy;
use crate::state::{Receipt, ReceiptKind};

/// A report that may leave: allowed, the institution's own, and kept as a receipt.
#[derive(Debug)]
pub struct ReleasedAudit {
    report: Signed,
    version: Option<VersionName>,
}

impl ReleasedAudit {
    pub fn report(&self) -> &Signed {
        &self.report
    }

    /// The version that its model was exported from, where somebody said so.
    pub fn version(&self) -> Option<&VersionName> {
        self.version.as_ref()
    }
}

impl Gate {
    /// Lets a signed report out, and beside it no more than the name of a model version. No ε covers
    /// its figures. The receipt is the report itself; one that is submitted again is released once.
    pub fn release_audit(
        &self,
        signed: &Signed,
        version: Option<VersionName>,
        policy: &Policy,
        now: Time,
    ) -> Result<ReleasedAudit, Error> {
        policy.allows_audit()?;
        let report = self.check_report(signed)?;
        let present = self.identity.signing.public();
        let signed = if signed.verify::<AuditReport>(&present).is_ok() {
            signed.clone()
        } else {
            // An earlier key of this institution signed it; the coordinator knows the present one.
            Signed::new(&report, &self.identity.signing)
        };
        let digest = signed.digest();
        if self.store.receipt(&digest)?.is_none() {
            self.store.add_receipt(&Receipt {
                digest,
                kind: ReceiptKind::Audit,
                asked: None,
                blob: None,
                signed: signed.clone(),
                time: now,
                note: json!({}),
                taken: None,
            })?;
        }
        Ok(ReleasedAudit {
            report: signed,
            version,
        })
    }

    /// Nothing leaves in the name of an audit but what an audit here has signed.
    fn check_report(&self, signed: &Signed) -> Result<AuditReport, Error> {
        let invalid = |message: String| Refusal::new(Code::AuditInvalid, message);
        let found = signed.body.len();
        if found > LARGEST_BYTES {
            let message = format!("the report has {found} bytes: expected at most {LARGEST_BYTES}");
            return Err(invalid(message).into());
        }
        let mut keys = self.store.earlier_keys()?;
        keys.push(self.identity.signing.public());
        let report: AuditReport = verify_by_any(signed, &keys)
            .map_err(|error| Refusal::new(Code::SignatureInvalid, error.to_string()))?;
        if Digest::of_json(&report) != signed.digest() {
            return Err(invalid("the report is not in canonical form".to_owned()).into());
        }
        let own = &self.identity.institution;
        if report.institution != *own {
            let message = format!(
                "the report is of {}: expected one of {own}",
                report.institution
            );
            return Err(invalid(message).into());
        }
        report.check().map_err(|error| invalid(error.to_string()))?;
        Ok(report)
    }
}
