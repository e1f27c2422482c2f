//! Other keys in the place of those that were given at enrolment.

use std::fs;

use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::sign::{PublicKey, SecretKey};
use x509_parser::pem::parse_x509_pem;

use super::{AUTHORITY, Error, NEXT_SIGNING_KEY, OPERATOR, SIGNING_KEY, read_secret, write};
use crate::config::Directory;
use crate::transport;

/// Keeps what is to be trusted: certificates of authorities, and the key for plans.
pub fn trust(
    directory: &Directory,
    authorities: &[String],
    operator: &PublicKey,
) -> Result<(), Error> {
    let identity = directory.identity();
    for authority in authorities {
        check_authority(authority)?;
    }
    write(&identity.join(OPERATOR), &format!("{operator}\n"))?;
    write(&identity.join(AUTHORITY), &authorities.concat())
}

/// One certificate, of an authority.
fn check_authority(pem: &str) -> Result<(), Error> {
    let wrong = |what: &str| {
        let message = format!("the coordinator sent an authority that {what}");
        Error::Transport(transport::Error::Refused(Refusal::new(
            Code::CertificateUntrusted,
            message,
        )))
    };
    let (rest, parsed) = parse_x509_pem(pem.as_bytes()).map_err(|_| wrong("cannot be read"))?;
    let certificate = parsed.parse_x509().map_err(|_| wrong("cannot be read"))?;
    if !certificate.is_ca() {
        return Err(wrong("is none"));
    }
    if !rest.iter().all(u8::is_ascii_whitespace) {
        return Err(wrong("has something after it"));
    }
    Ok(())
}

/// A new key that the daemon puts in the signing key's place.
pub fn make_waiting_key(directory: &Directory) -> Result<PublicKey, Error> {
    if let Some(waiting) = waiting_key(directory)? {
        return Ok(waiting.public());
    }
    let key = SecretKey::generate()?;
    let file = directory.identity().join(NEXT_SIGNING_KEY);
    write(&file, &key.to_pem()?)?;
    Ok(key.public())
}

/// The key that waits, if there is one.
pub fn waiting_key(directory: &Directory) -> Result<Option<SecretKey>, Error> {
    let file = directory.identity().join(NEXT_SIGNING_KEY);
    if !file.exists() {
        return Ok(None);
    }
    Ok(Some(SecretKey::from_pem(&read_secret(&file)?)?))
}

/// Puts the key that waits in its place.
pub fn take_waiting_key(directory: &Directory) -> Result<(), Error> {
    let identity = directory.identity();
    let file = identity.join(SIGNING_KEY);
    fs::rename(identity.join(NEXT_SIGNING_KEY), &file)
        .and_then(|()| fedner_host::files::sync_dir(&identity))
        .map_err(|source| Error::Write { file, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_certificates_of_authorities_are_trusted() {
        let make = |ca: bool| {
            let mut params = rcgen::CertificateParams::new(Vec::new()).expect("params");
            if ca {
                params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
            }
            let key = rcgen::KeyPair::generate().expect("key");
            params.self_signed(&key).expect("certificate").pem()
        };
        check_authority(&make(true)).expect("an authority");
        for wrong in [make(false), "text".to_owned(), make(true) + &make(true)] {
            let error = check_authority(&wrong).expect_err("no authority");
            let code = error.refusal().map(|refusal| refusal.code);
            assert_eq!(code, Some(Code::CertificateUntrusted));
        }
    }
}
