//! What institutions have signed. Signatures are verified before the engine takes its turn, so that nobody
//! waits for another's.

use fedner_shared::id::InstitutionId;
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::sign::{PublicKey, Signed, Statement};

use super::{Engine, Failure};
use crate::store::{StatementKind, StoredStatement};

/// A statement whose signature and author were verified.
#[derive(Debug, Clone)]
pub struct Vouched<T> {
    pub said: T,
    signed: Signed,
    author: InstitutionId,
    key: PublicKey,
}

impl<T: Statement> Vouched<T> {
    /// That `author` signed this with `key`, and says so itself; `code` where the signature is wrong.
    pub fn verify(
        signed: Signed,
        author: &InstitutionId,
        key: PublicKey,
        code: Code,
        named: impl Fn(&T) -> &InstitutionId,
    ) -> Result<Self, Refusal> {
        let said: T = signed
            .verify(&key)
            .map_err(|error| Refusal::new(code, error.to_string()))?;
        let found = named(&said);
        if found != author {
            let message = format!("the statement is by {found}: expected {author}");
            return Err(Refusal::new(Code::SignatureInvalid, message));
        }
        Ok(Self {
            said,
            signed,
            author: author.clone(),
            key,
        })
    }

    pub fn signed(&self) -> &Signed {
        &self.signed
    }

    pub fn key(&self) -> PublicKey {
        self.key
    }

    pub fn author(&self) -> &InstitutionId {
        &self.author
    }
}

impl Engine {
    /// A statement by `author`, to be kept with the key that verifies it. The institution may have enrolled
    /// anew since that was done.
    pub(super) fn statement<T>(
        &mut self,
        kind: StatementKind,
        author: &InstitutionId,
        vouched: &Vouched<T>,
    ) -> Result<StoredStatement, Failure> {
        if vouched.author != *author || self.signing_key(author)? != vouched.key {
            let message = format!("the key of {author} has been replaced");
            return Err(Failure::refuse(Code::SignatureInvalid, message));
        }
        Ok(StoredStatement {
            digest: vouched.signed.digest(),
            kind,
            author: author.clone(),
            key: vouched.key,
            signed: vouched.signed.clone(),
        })
    }
}
