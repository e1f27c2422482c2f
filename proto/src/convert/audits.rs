//! Reports of audits on the wire: as they come, and what is shown of them.

use fedner_shared::audit::{LARGEST_BYTES, Part, Verdict};
use fedner_shared::id::VersionName;
use fedner_shared::sign::Signed;
use fedner_shared::view::AuditView;

use super::{Result, digest, invalid, parsed, shown, signed, time};
use crate::v1;

/// A report, its signature not yet verified, and the version that it is said to be about.
pub fn submitted_audit(message: v1::SubmitAuditRequest) -> Result<(Signed, Option<VersionName>)> {
    let report = signed("report", message.report)?;
    let found = report.body.len();
    if found > LARGEST_BYTES {
        let message = format!("expected at most {LARGEST_BYTES} bytes, found {found}");
        return Err(invalid("report", message));
    }
    let version = message.version.map(|version| parsed("version", &version));
    Ok((report, version.transpose()?))
}

pub(super) fn audit_to_wire(view: &AuditView) -> v1::Audit {
    v1::Audit {
        report: view.report.as_bytes().to_vec(),
        institution: view.institution.to_string(),
        at_ms: view.at.as_millis(),
        verdict: view.verdict.to_string(),
        parts: view.parts.iter().map(part_to_wire).collect(),
    }
}

pub(super) fn audit_from_wire(message: v1::Audit) -> Result<AuditView> {
    Ok(AuditView {
        report: digest("report", &message.report)?,
        institution: parsed("institution", &message.institution)?,
        at: time(message.at_ms),
        verdict: parsed("verdict", &message.verdict)?,
        parts: message.parts.into_iter().map(part_from_wire).collect(),
    })
}

fn part_to_wire(part: &Part) -> v1::AuditPart {
    let bounds = part.bounds.iter().map(|bound| v1::AuditBound {
        epsilon_lower_bound: bound.epsilon_lower_bound,
        epsilon_claimed: bound.epsilon_claimed,
        delta: bound.delta,
        confidence: bound.confidence,
    });
    v1::AuditPart {
        name: part.name.clone(),
        trials: part.trials,
        bounds: bounds.collect(),
        power: part.power,
    }
}

fn part_from_wire(message: v1::AuditPart) -> Part {
    let bounds = message.bounds.into_iter().map(|bound| Verdict {
        epsilon_lower_bound: bound.epsilon_lower_bound,
        epsilon_claimed: bound.epsilon_claimed,
        delta: bound.delta,
        confidence: bound.confidence,
    });
    Part {
        name: shown(message.name),
        trials: message.trials,
        bounds: bounds.collect(),
        power: message.power,
    }
}

#[cfg(test)]
mod tests {
    use fedner_shared::audit::Outcome;
    use fedner_shared::digest::Digest;
    use fedner_shared::refusal::Code;

    use super::*;

    fn request(body: String, version: Option<&str>) -> v1::SubmitAuditRequest {
        v1::SubmitAuditRequest {
            report: Some(v1::Signed {
                body,
                signature: vec![1; 64],
            }),
            version: version.map(str::to_owned),
        }
    }

    #[test]
    fn reports_are_bounded_and_versions_are_names() {
        let (report, version) =
            submitted_audit(request("{}".into(), Some("notes@2"))).expect("taken");
        assert_eq!(report.body, "{}");
        assert_eq!(version, Some("notes@2".parse().expect("name")));
        assert!(submitted_audit(request("x".repeat(LARGEST_BYTES), None)).is_ok());
        let long = submitted_audit(request("x".repeat(LARGEST_BYTES + 1), None));
        assert_eq!(long.expect_err("too long").code, Code::RequestInvalid);
        assert!(submitted_audit(request("{}".into(), Some("champion"))).is_err());
        assert!(submitted_audit(v1::SubmitAuditRequest::default()).is_err());
    }

    #[test]
    fn what_is_shown_survives_the_wire() {
        let bound = Verdict {
            epsilon_lower_bound: 0.5,
            epsilon_claimed: f64::INFINITY,
            delta: 1e-5,
            confidence: 0.99,
        };
        let view = AuditView {
            report: Digest::of(b"report"),
            institution: "st-anna".parse().expect("name"),
            at: time(7),
            verdict: Outcome::Pass,
            parts: vec![Part {
                name: "steps".to_owned(),
                trials: 4000,
                bounds: vec![bound],
                power: Some(0.5),
            }],
        };
        let wire = audit_to_wire(&view);
        assert_eq!(audit_from_wire(wire.clone()).expect("read"), view);
        let mut attack = wire.clone();
        attack.parts[0].name = "steps\u{1b}[2J\n\u{202e}".to_owned();
        let read = audit_from_wire(attack).expect("read");
        assert_eq!(read.parts[0].name, "steps\\u{1b}[2J\\n\\u{202e}");
        let verdict = "perhaps".to_owned();
        assert!(audit_from_wire(v1::Audit { verdict, ..wire }).is_err());
    }
}
