//! Wire to trusted types, and back.

mod audits;
mod details;
mod models;
mod refusal;
mod secure;
mod trust;
mod views;

use fedner_shared::digest::Digest;
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::sign::{PublicKey, Signature, Signed};
use fedner_shared::text;
use fedner_shared::time::Time;

pub use audits::submitted_audit;
pub use models::{version_from_record, version_from_wire, version_to_wire};
pub use refusal::{refusal_of, status_of};
pub use secure::{
    roster, roster_to_wire, secure_attempt, secure_attempt_to_wire, secure_statement, secure_step,
    secure_step_to_wire,
};
pub use trust::{trust, trust_to_wire};
pub use views::{
    entry_from_wire, entry_to_wire, explanation_from_wire, explanation_to_wire,
    institution_from_wire, institution_to_wire, run_from_wire, run_to_wire,
};

use crate::v1;

/// The longest consent or receipt of an update.
const STATEMENT_BYTES: usize = 16 << 10;

type Result<T> = std::result::Result<T, Refusal>;

fn invalid(field: &str, found: impl std::fmt::Display) -> Refusal {
    Refusal::new(
        Code::RequestInvalid,
        format!(
            "the field `{field}` is wrong: {}",
            text::cut(&found.to_string(), 300)
        ),
    )
}

/// A 32-byte digest.
pub fn digest(field: &str, bytes: &[u8]) -> Result<Digest> {
    let array: [u8; 32] = bytes
        .try_into()
        .map_err(|_| invalid(field, format!("expected 32 bytes, found {}", bytes.len())))?;
    Ok(Digest::from_bytes(array))
}

/// A 32-byte Ed25519 public key.
pub fn public_key(field: &str, bytes: &[u8]) -> Result<PublicKey> {
    let array: [u8; 32] = bytes
        .try_into()
        .map_err(|_| invalid(field, format!("expected 32 bytes, found {}", bytes.len())))?;
    let key = PublicKey::from_bytes(&array).map_err(|error| invalid(field, error))?;
    if key.is_weak() {
        return Err(invalid(field, "the key verifies nothing"));
    }
    Ok(key)
}

/// Text in the form of `T`: a name, a version.
pub fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(field: &str, text: &str) -> Result<T> {
    text.parse().map_err(|error| invalid(field, error))
}

/// From when on an institution takes work, and why not before.
pub fn later(from_ms: Option<i64>, code: &str) -> Result<Option<(Time, Code)>> {
    let Some(from) = from_ms else {
        return Ok(None);
    };
    match Code::parse(code) {
        Some(code @ (Code::OutsideHours | Code::InstitutionPaused)) => Ok(Some((time(from), code))),
        _ => Err(invalid(
            "not_before_code",
            format!("`{}` is no reason to wait", text::brief(code)),
        )),
    }
}

/// A signed statement, its signature not yet verified.
pub fn signed(field: &str, message: Option<v1::Signed>) -> Result<Signed> {
    let message = message.ok_or_else(|| invalid(field, "it is missing"))?;
    let found = message.signature.len();
    let signature: [u8; 64] = message.signature.try_into().map_err(|_| {
        invalid(
            field,
            format!("expected a signature of 64 bytes, found {found}"),
        )
    })?;
    Ok(Signed {
        body: message.body,
        signature: Signature::from_bytes(signature),
    })
}

/// The same of an institution's consent or receipt, which is short: it is kept for good.
pub fn statement(field: &str, message: Option<v1::Signed>) -> Result<Signed> {
    signed_within(field, message, STATEMENT_BYTES)
}

/// A signed statement of at most so many bytes, its signature not yet verified.
fn signed_within(field: &str, message: Option<v1::Signed>, most: usize) -> Result<Signed> {
    let signed = signed(field, message)?;
    let found = signed.body.len();
    if found > most {
        let message = format!("the field `{field}` has {found} bytes: expected at most {most}");
        return Err(Refusal::new(Code::MessageTooLarge, message));
    }
    Ok(signed)
}

pub fn signed_to_wire(signed: &Signed) -> v1::Signed {
    v1::Signed {
        body: signed.body.clone(),
        signature: signed.signature.as_bytes().to_vec(),
    }
}

/// Text that the other side chose, in one line that acts on no terminal.
fn shown(text: String) -> String {
    text::line(&text).into_owned()
}

fn time(millis: i64) -> Time {
    Time::from_millis(millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_the_wrong_form_are_named() {
        assert!(digest("d", &[0; 32]).is_ok());
        let refusal = digest("d", &[0; 31]).expect_err("short");
        assert_eq!(refusal.code, Code::RequestInvalid);
        assert!(
            refusal.message.contains("`d`") && refusal.message.contains("31"),
            "{refusal}"
        );
        let sound = fedner_shared::sign::SecretKey::from_seed([1; 32]).public();
        assert!(public_key("k", sound.as_bytes()).is_ok());
        let mut identity = [0; 32];
        identity[0] = 1;
        for weak in [[0; 32], identity] {
            assert!(public_key("k", &weak).is_err(), "{weak:?}");
        }
        assert!(signed("s", None).is_err());
        let short = v1::Signed {
            body: String::new(),
            signature: vec![1; 63],
        };
        assert!(signed("s", Some(short)).is_err());
        let sized = |bytes: usize| {
            let message = v1::Signed {
                body: " ".repeat(bytes),
                signature: vec![1; 64],
            };
            statement("s", Some(message))
        };
        assert!(sized(STATEMENT_BYTES).is_ok());
        let refusal = sized(STATEMENT_BYTES + 1).expect_err("long");
        assert_eq!(refusal.code, Code::MessageTooLarge);
        let refusal = parsed::<fedner_shared::id::InstitutionId>("i", &"x".repeat(4_000_000));
        assert!(refusal.expect_err("long").message.len() < 500);
        assert!(parsed::<fedner_shared::id::InstitutionId>("i", "../x").is_err());
    }
}
