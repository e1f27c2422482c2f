//! Reports of audits pass the gate by the policy, and only as this institution signed them.

use fedner_shared::audit::{AuditReport, AuditedModel, LARGEST_BYTES, Outcome};
use fedner_shared::id::VersionName;

use super::*;
use crate::state::ReceiptKind;

fn report() -> AuditReport {
    AuditReport {
        model: Some(AuditedModel {
            weights: Digest::of(b"weights"),
            tags: vec!["O".to_owned()],
        }),
        ..AuditReport::new(crate::SOFTWARE, identity().institution, NOW, 0.99)
    }
}

fn sharing() -> Policy {
    Policy {
        share_audits: true,
        ..Policy::default()
    }
}

fn code(result: Result<ReleasedAudit, Error>) -> Code {
    let error = result.expect_err("refused");
    error.refusal().expect("a refusal").code
}

#[test]
fn a_report_leaves_only_where_the_policy_says_so_and_has_one_receipt() {
    let bench = Bench::new("institution");
    let signed = Signed::new(&report(), &identity().signing);
    let version: VersionName = "notes@2".parse().expect("name");
    let release = |policy: &Policy, now| {
        bench
            .gate()
            .release_audit(&signed, Some(version.clone()), policy, now)
    };
    assert_eq!(code(release(&Policy::default(), NOW)), Code::PolicyForbids);
    bench.assert_nothing_left();
    let later = Time::from_millis(NOW.as_millis() + 1);
    for now in [NOW, later] {
        let released = release(&sharing(), now).expect("released");
        assert_eq!(released.report(), &signed);
        assert_eq!(released.version(), Some(&version));
    }
    let kept = bench.place.open().receipts().expect("receipts");
    assert_eq!(kept.len(), 1, "one thing left, however often it was sent");
    assert_eq!((kept[0].kind, kept[0].time), (ReceiptKind::Audit, NOW));
    assert_eq!((kept[0].digest, &kept[0].asked), (signed.digest(), &None));
    let ledger = bench.place.open().ledger().expect("ledger");
    assert!(ledger.entries().is_empty(), "no ε covers it");
}

#[test]
fn what_no_audit_here_signed_stays() {
    let bench = Bench::new("institution");
    let release = |signed: &Signed| bench.gate().release_audit(signed, None, &sharing(), NOW);
    let own = |report: &AuditReport| Signed::new(report, &identity().signing);
    let foreign = Signed::new(&report(), &SecretKey::from_seed([9; 32]));
    assert_eq!(code(release(&foreign)), Code::SignatureInvalid);
    let mut edited = own(&report());
    edited.body = edited.body.replace("\"none\"", "\"pass\"");
    assert_eq!(code(release(&edited)), Code::SignatureInvalid);
    let elsewhere = AuditReport {
        institution: "mercy".parse().expect("name"),
        ..report()
    };
    assert_eq!(code(release(&own(&elsewhere))), Code::AuditInvalid);
    let of_a_plan = AuditReport {
        model: None,
        ..report()
    };
    assert_eq!(code(release(&own(&of_a_plan))), Code::AuditInvalid);
    let boast = AuditReport {
        verdict: Outcome::Pass,
        ..report()
    };
    assert_eq!(code(release(&own(&boast))), Code::AuditInvalid);
    let long = AuditReport {
        notes: vec!["x".repeat(LARGEST_BYTES)],
        ..report()
    };
    assert_eq!(code(release(&own(&long))), Code::AuditInvalid);
    bench.assert_nothing_left();
}

#[test]
fn a_report_that_an_earlier_key_signed_leaves_under_the_present_one() {
    let bench = Bench::new("institution");
    let earlier = SecretKey::from_seed([7; 32]);
    let signed = Signed::new(&report(), &earlier);
    let release = || bench.gate().release_audit(&signed, None, &sharing(), NOW);
    assert_eq!(code(release()), Code::SignatureInvalid, "a stranger's key");
    let present = identity().signing;
    let store = bench.place.open();
    store.sign_anew(&present, &earlier.public()).expect("known");
    let released = release().expect("released");
    assert_eq!(released.report().digest(), signed.digest());
    let verified = released.report().verify::<AuditReport>(&present.public());
    assert_eq!(verified.expect("signed anew"), report());
}

#[test]
fn a_receipt_that_is_not_durable_releases_nothing() {
    let bench = Bench::new("institution");
    bench.place.break_table("receipts");
    let signed = Signed::new(&report(), &identity().signing);
    let error = bench
        .gate()
        .release_audit(&signed, None, &sharing(), NOW)
        .expect_err("broken");
    assert!(matches!(error, Error::State(_)), "{error}");
    bench.assert_nothing_left();
}
