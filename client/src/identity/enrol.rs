//! Getting a certificate with an invite.

use std::path::PathBuf;

use fedner_proto::convert;
use fedner_proto::v1::EnrolRequest;
use fedner_shared::sign::SecretKey;
use rcgen::KeyPair;

use super::{
    AUTHORITY, Error, OPERATOR, SIGNING_KEY, TLS_CERTIFICATE, TLS_KEY, Validity,
    certificate_request, validity, write, write_secret,
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
    files::create_private_dir(&identity).map_err(|source| Error::Write {
        file: identity.clone(),
        source,
    })?;
    write_secret(&identity.join(TLS_KEY), &tls_key.serialize_pem())?;
    write_secret(&identity.join(SIGNING_KEY), &signing.to_pem()?)?;
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
    write(&identity.join(AUTHORITY), &response.authority)?;
    write(&identity.join(OPERATOR), &format!("{operator}\n"))?;
    write(&certificate, &response.certificate)?;
    let mut settings = Settings::new(invite.institution.clone(), invite.address.clone());
    settings.data = data;
    settings.held_out = held_out;
    write_configuration(directory, &settings)?;
    Ok(Enrolled { settings, validity })
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
