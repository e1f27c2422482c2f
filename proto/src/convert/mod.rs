//! Wire to trusted types, and back.

mod audits;
mod models;
mod refusal;
mod views;

use fedner_shared::digest::Digest;
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::sign::{PublicKey, Signature, Signed};
use fedner_shared::time::Time;

pub use audits::submitted_audit;
pub use models::{version_from_record, version_from_wire, version_to_wire};
pub use refusal::{refusal_of, status_of};
pub use views::{
    entry_from_wire, entry_to_wire, explanation_from_wire, explanation_to_wire,
    institution_from_wire, institution_to_wire, run_from_wire, run_to_wire,
};

use crate::v1;

type Result<T> = std::result::Result<T, Refusal>;

fn invalid(field: &str, found: impl std::fmt::Display) -> Refusal {
    Refusal::new(
        Code::RequestInvalid,
        format!("the field `{field}` is wrong: {found}"),
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
    PublicKey::from_bytes(&array).map_err(|error| invalid(field, error))
}

/// Text in the form of `T`: a name, a version.
pub fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(field: &str, text: &str) -> Result<T> {
    text.parse().map_err(|error| invalid(field, error))
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

pub fn signed_to_wire(signed: &Signed) -> v1::Signed {
    v1::Signed {
        body: signed.body.clone(),
        signature: signed.signature.as_bytes().to_vec(),
    }
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
        assert!(signed("s", None).is_err());
        let short = v1::Signed {
            body: String::new(),
            signature: vec![1; 63],
        };
        assert!(signed("s", Some(short)).is_err());
        assert!(parsed::<fedner_shared::id::InstitutionId>("i", "../x").is_err());
    }
}
