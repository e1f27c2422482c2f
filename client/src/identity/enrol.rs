//! Getting a certificate with an invite.

use std::path::{Path, PathBuf};

use fedner_host::files;
use fedner_proto::convert;
use fedner_proto::v1::EnrolRequest;
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::sign::SecretKey;
use rcgen::KeyPair;
use sha2::{Digest as _, Sha256};
use x509_parser::pem::parse_x509_pem;

use super::{
    AUTHORITY, Error, OPERATOR, SIGNING_KEY, TLS_CERTIFICATE, TLS_KEY, Validity,
    certificate_request, read, read_secret, validity, write,
};
use crate::config::{self, Directory, Invite, Policy, Settings};
use crate::transport::{self, Destination};

/// Where keys wait for the answer to an invite.
const ENROLLING: &str = "enrolling";
/// Which invite was used here last.
const USED: &str = "invite.used";

/// How the coordinator is reached, where that is not said by its address alone.
#[derive(Debug, Clone, Default)]
pub struct Way {
    pub server_name: Option<String>,
    pub proxy: Option<String>,
}

/// What enrolling gave.
#[derive(Debug)]
pub struct Enrolled {
    pub settings: Settings,
    pub validity: Validity,
    /// The directory was enrolled before.
    pub again: bool,
}

/// Makes the keys, has the certificate made, and writes the directory. The keys are written
/// before the invite is used up, so that a full disk does not cost an invite.
pub async fn enrol(
    directory: &Directory,
    invite: &Invite,
    data: Vec<PathBuf>,
    held_out: Vec<PathBuf>,
    way: Way,
) -> Result<Enrolled, Error> {
    let before = enrolled_before(directory, invite)?;
    // A daemon would go on with the old keys.
    let _lock = match &before {
        Some(_) => Some(directory.lock()?),
        None => None,
    };
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
    let Keys {
        tls: tls_key,
        signing,
    } = Keys::for_invite(&identity, before.is_some())?;
    let request = EnrolRequest {
        secret: invite.secret.clone(),
        certificate_request: certificate_request(&invite.institution, &tls_key)?,
        signing_key: signing.public().as_bytes().to_vec(),
    };
    let to = Destination {
        addresses: invite.address.clone(),
        server_name: way.server_name.clone(),
        proxy: way.proxy.clone(),
    };
    let response = transport::enrol(&to, invite.authority, request).await?;
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
    write(&identity.join(TLS_KEY), &tls_key.serialize_pem())?;
    write(&identity.join(SIGNING_KEY), &signing.to_pem()?)?;
    write(&certificate, &response.certificate)?;
    let again = before.is_some();
    let new = || Settings::new(invite.institution.clone(), invite.address.clone());
    let before = before.unwrap_or_else(new);
    let settings = settings_after(before, invite, data, held_out, way);
    write_configuration(directory, &settings)?;
    write(&identity.join(USED), &mark(invite))?;
    // From here on the same invite is of no use here.
    let waiting = identity.join(ENROLLING);
    if let Err(source) = std::fs::remove_dir_all(&waiting) {
        return Err(Error::Write {
            file: waiting,
            source,
        });
    }
    Ok(Enrolled {
        settings,
        validity,
        again,
    })
}

/// Keys that an invite is used for. They are kept until the answer is here, so that it can be asked for
/// again when it was lost on its way.
struct Keys {
    tls: KeyPair,
    signing: SecretKey,
}

impl Keys {
    /// Those of an earlier try, or new ones. Where the directory was enrolled before, its signing key
    /// stays: what it has signed stays good.
    fn for_invite(identity: &Path, again: bool) -> Result<Self, Error> {
        let waiting = identity.join(ENROLLING);
        files::create_private_dir(&waiting).map_err(|source| Error::Write {
            file: waiting.clone(),
            source,
        })?;
        let (tls_file, signing_file) = (waiting.join(TLS_KEY), waiting.join(SIGNING_KEY));
        if tls_file.exists() && signing_file.exists() {
            return Ok(Self {
                tls: KeyPair::from_pem(&read_secret(&tls_file)?)?,
                signing: SecretKey::from_pem(&read_secret(&signing_file)?)?,
            });
        }
        let present = identity.join(SIGNING_KEY);
        let signing = if again && present.exists() {
            SecretKey::from_pem(&read_secret(&present)?)?
        } else {
            SecretKey::generate()?
        };
        let tls = KeyPair::generate()?;
        write(&tls_file, &tls.serialize_pem())?;
        write(&signing_file, &signing.to_pem()?)?;
        Ok(Self { tls, signing })
    }
}

/// The configuration that is there, with what the invite and the person say anew.
fn settings_after(
    before: Settings,
    invite: &Invite,
    data: Vec<PathBuf>,
    held_out: Vec<PathBuf>,
    way: Way,
) -> Settings {
    let or = |said: Vec<PathBuf>, before: Vec<PathBuf>| if said.is_empty() { before } else { said };
    Settings {
        coordinator: invite.address.clone(),
        data: or(data, before.data),
        held_out: or(held_out, before.held_out),
        server_name: way.server_name.or(before.server_name),
        proxy: way.proxy.or(before.proxy),
        ..before
    }
}

/// Names an invite without telling its secret.
fn mark(invite: &Invite) -> String {
    format!("{}\n", hex::encode(Sha256::digest(&invite.secret)))
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

/// The configuration of a directory that this institution enrolled before, at the same coordinator. Then a
/// new invite gives it a new certificate, and all else stays.
fn enrolled_before(directory: &Directory, invite: &Invite) -> Result<Option<Settings>, Error> {
    let identity = directory.identity();
    let certificate = identity.join(TLS_CERTIFICATE);
    let settings_file = directory.settings_file();
    let taken = [certificate, settings_file.clone()];
    let Some(file) = taken.into_iter().find(|file| file.exists()) else {
        return Ok(None);
    };
    let enrolled = || Error::Enrolled { file: file.clone() };
    let settings = directory.settings()?;
    let used = std::fs::read_to_string(identity.join(USED)).unwrap_or_default();
    if settings.institution != invite.institution || used == mark(invite) {
        return Err(enrolled());
    }
    let authority = read(&identity.join(AUTHORITY)).map_err(|_| enrolled())?;
    check_authority(&authority, invite.authority).map_err(|_| enrolled())?;
    Ok(Some(settings))
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
