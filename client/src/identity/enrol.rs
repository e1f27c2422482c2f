//! Getting a certificate with an invite.

use std::path::PathBuf;

use fedner_proto::convert;
use fedner_proto::v1::EnrolRequest;
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::sign::SecretKey;
use rcgen::KeyPair;
use sha2::{Digest as _, Sha256};
use x509_parser::pem::parse_x509_pem;

use super::{
    AUTHORITY, Error, OPERATOR, SIGNING_KEY, TLS_CERTIFICATE, TLS_KEY, Validity,
    certificate_request, validity, write,
};
use crate::config::{self, Directory, Invite, Policy, Settings};
use crate::{clock, files, transport};

/// What enrolling gave.
#[derive(Debug)]
pub struct Enrolled {
    pub settings: Settings,
    pub validity: Validity,
}

/// Makes the keys, has the certificate made, and writes the directory. The keys are written
/// before the invite is used up, so that a full disk does not cost an invite.
pub async fn enrol(
    directory: &Directory,
    invite: &Invite,
    data: Vec<PathBuf>,
    held_out: Vec<PathBuf>,
) -> Result<Enrolled, Error> {
    refuse_to_overwrite(directory)?;
    if invite.expires <= clock::now() {
        return Err(Error::InviteExpired(invite.expires));
    }
    let tls_key = KeyPair::generate()?;
    let signing = SecretKey::generate()?;
    let identity = directory.identity();
    let root = directory.root();
    files::create_private_dir(root).map_err(|source| Error::Write {
        file: root.to_owned(),
        source,
    })?;
    files::create_private_dir(&identity).map_err(|source| Error::Write {
        file: identity.clone(),
        source,
    })?;
    write(&identity.join(TLS_KEY), &tls_key.serialize_pem())?;
    write(&identity.join(SIGNING_KEY), &signing.to_pem()?)?;
    let request = EnrolRequest {
        secret: invite.secret.clone(),
        certificate_request: certificate_request(&invite.institution, &tls_key)?,
        signing_key: signing.public().as_bytes().to_vec(),
    };
    let response = transport::enrol(&invite.address, invite.authority, request).await?;
    if response.institution != invite.institution.as_str() {
        return Err(Error::OtherInstitution {
            expected: invite.institution.to_string(),
            found: response.institution,
        });
    }
    let operator = convert::public_key("operator_key", &response.operator_key)
        .map_err(transport::Error::Refused)?;
    let certificate = identity.join(TLS_CERTIFICATE);
    let validity = validity(&response.certificate).map_err(|reason| Error::Certificate {
        file: certificate.clone(),
        reason,
    })?;
    check_authority(&response.authority, invite.authority)?;
    write(&identity.join(AUTHORITY), &response.authority)?;
    write(&identity.join(OPERATOR), &format!("{operator}\n"))?;
    write(&certificate, &response.certificate)?;
    let mut settings = Settings::new(invite.institution.clone(), invite.address.clone());
    settings.data = data;
    settings.held_out = held_out;
    write_configuration(directory, &settings)?;
    Ok(Enrolled { settings, validity })
}

/// The authority that is kept for good is the one that the invite names.
fn check_authority(pem: &str, expected: [u8; 32]) -> Result<(), Error> {
    let unlike = |found: String| {
        let expected = hex::encode(expected);
        let message =
            format!("the coordinator sent the authority {found}: the invite names {expected}");
        transport::Error::Refused(Refusal::new(Code::CertificateUntrusted, message))
    };
    let (_, read) =
        parse_x509_pem(pem.as_bytes()).map_err(|_| unlike("no certificate".to_owned()))?;
    let found: [u8; 32] = Sha256::digest(&read.contents).into();
    if found == expected {
        return Ok(());
    }
    Err(unlike(hex::encode(found)).into())
}

fn refuse_to_overwrite(directory: &Directory) -> Result<(), Error> {
    let taken = [
        directory.identity().join(TLS_CERTIFICATE),
        directory.settings_file(),
    ];
    match taken.into_iter().find(|file| file.exists()) {
        Some(file) => Err(Error::Enrolled { file }),
        None => Ok(()),
    }
}

/// `client.toml`, and the default `policy.toml` unless one was put there beforehand.
fn write_configuration(directory: &Directory, settings: &Settings) -> Result<(), Error> {
    let invalid = |reason: toml::ser::Error| config::Error::Write {
        file: directory.settings_file(),
        source: std::io::Error::other(reason),
    };
    let policy_file = directory.policy_file();
    if !policy_file.exists() {
        let policy = toml::to_string(&Policy::default()).map_err(invalid)?;
        let head = "# What this institution allows, whatever a plan says.\n";
        write(&policy_file, &format!("{head}{policy}"))?;
    }
    let text = toml::to_string(settings).map_err(invalid)?;
    write(&directory.settings_file(), &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_authority_than_the_invite_names_is_not_kept() {
        let of = |name: &str| {
            let key = KeyPair::generate().expect("key");
            let params = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("params");
            params.self_signed(&key).expect("certificate")
        };
        let (ours, theirs) = (of("ours"), of("theirs"));
        let pin: [u8; 32] = Sha256::digest(ours.der()).into();
        check_authority(&ours.pem(), pin).expect("the one that is named");
        for wrong in [theirs.pem(), "no certificate".to_owned()] {
            let error = check_authority(&wrong, pin).expect_err("another");
            let code = error.refusal().map(|refusal| refusal.code);
            assert_eq!(code, Some(Code::CertificateUntrusted));
        }
    }
}
