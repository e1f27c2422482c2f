//! Who the institution is: keys that never leave it, and the certificates made for them.
//!
//! | file in `identity/` | holds |
//! |---|---|
//! | `tls.key` | the key of the TLS certificate |
//! | `tls.pem` | the certificate |
//! | `authority.pem` | the coordinator's authorities, the only roots that are trusted; the first signs certificates |
//! | `signing.key` | the Ed25519 key that signs consents and receipts |
//! | `storage.key` | with which features, checkpoints and waiting updates are sealed |
//! | `operator.pub` | the key by which plans are signed |
//! | `tls.next.key`, `tls.next.pem` | what takes the place of the first two, for a moment |
//! | `signing.next.key` | a key that takes the signing key's place once the coordinator knows of it |

mod enrol;
mod renew;
mod rotate;
mod storage;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fedner_host::files;
use fedner_host::files::check_secret;
use fedner_shared::id::InstitutionId;
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::sign::{self, PublicKey, SecretKey};
use fedner_shared::time::Time;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use x509_parser::certificate::X509Certificate;
use x509_parser::pem::parse_x509_pem;
use x509_parser::x509::X509Name;
use zeroize::Zeroizing;

use crate::transport::TlsIdentity;
use crate::{config, transport};

pub use enrol::{Enrolled, Way, enrol};
pub use renew::{is_due, renew};
pub use rotate::{make_waiting_key, take_waiting_key, trust, waiting_key};
pub use storage::storage_key;

const TLS_KEY: &str = "tls.key";
const TLS_CERTIFICATE: &str = "tls.pem";
const AUTHORITY: &str = "authority.pem";
const NEXT_TLS_KEY: &str = "tls.next.key";
const NEXT_TLS_CERTIFICATE: &str = "tls.next.pem";
const SIGNING_KEY: &str = "signing.key";
const NEXT_SIGNING_KEY: &str = "signing.next.key";
const OPERATOR: &str = "operator.pub";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{} cannot be read: {source}", file.display())]
    Read { file: PathBuf, source: io::Error },
    #[error("{} cannot be written: {source}", file.display())]
    Write { file: PathBuf, source: io::Error },
    #[error("{} is not a certificate: {reason}", file.display())]
    Certificate { file: PathBuf, reason: String },
    #[error("{} exists: this directory is enrolled already", file.display())]
    Enrolled { file: PathBuf },
    #[error("the coordinator enrolled `{found}`: expected `{expected}`, whom the invite names")]
    OtherInstitution { expected: String, found: String },
    #[error("a key or a certificate request cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    #[error(transparent)]
    Readable(#[from] Refusal),
    #[error(transparent)]
    Sign(#[from] sign::Error),
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    Transport(#[from] transport::Error),
}

impl Error {
    pub fn refusal(&self) -> Option<Refusal> {
        let code = match self {
            Self::Transport(error) => return error.refusal(),
            Self::Readable(refusal) => return Some(refusal.clone()),
            Self::Config(error) => return Some(error.refusal()),
            Self::Enrolled { .. } => Code::AlreadyExists,
            Self::Read { .. } | Self::Certificate { .. } | Self::OtherInstitution { .. } => {
                Code::StateInvalid
            }
            Self::Write { .. } => Code::ConfigInvalid,
            Self::Sign(_) => Code::StateInvalid,
            Self::Make(_) => return None,
        };
        Some(Refusal::new(code, self.to_string()))
    }
}

/// Keys and certificates of one institution.
#[derive(Debug)]
pub struct Identity {
    pub institution: InstitutionId,
    pub tls: TlsIdentity,
    pub signing: SecretKey,
    pub operator: PublicKey,
    pub validity: Validity,
}

/// From when until when a certificate holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    pub not_before: Time,
    pub not_after: Time,
}

impl Identity {
    /// Reads `identity/`.
    pub fn load(directory: &Path, institution: InstitutionId) -> Result<Self, Error> {
        renew::settle(directory)?;
        let certificate = directory.join(TLS_CERTIFICATE);
        let certificate_pem = read(&certificate)?;
        let validity = validity(&certificate_pem).map_err(|reason| Error::Certificate {
            file: certificate,
            reason,
        })?;
        Ok(Self {
            institution,
            tls: TlsIdentity {
                key_pem: read_secret(&directory.join(TLS_KEY))?,
                certificate_pem,
                authority_pem: read(&directory.join(AUTHORITY))?,
            },
            signing: SecretKey::from_pem(&read_secret(&directory.join(SIGNING_KEY))?)?,
            operator: read(&directory.join(OPERATOR))?.trim().parse()?,
            validity,
        })
    }
}

impl Identity {
    /// Whether the certificate is of another authority than the one that signs now. They are told apart by their
    /// names, which no two share.
    pub fn is_of_older_authority(&self) -> bool {
        let issuing = name_of(&self.tls.authority_pem, |certificate| certificate.subject());
        let issuer = name_of(&self.tls.certificate_pem, |certificate| {
            certificate.issuer()
        });
        matches!((issuing, issuer), (Some(one), Some(other)) if one != other)
    }
}

/// A name in the first certificate of a text.
fn name_of(
    pem: &str,
    which: impl for<'a> Fn(&'a X509Certificate<'a>) -> &'a X509Name<'a>,
) -> Option<Vec<u8>> {
    let (_, pem) = parse_x509_pem(pem.as_bytes()).ok()?;
    let certificate = pem.parse_x509().ok()?;
    Some(which(&certificate).as_raw().to_vec())
}

fn read(file: &Path) -> Result<String, Error> {
    fs::read_to_string(file).map_err(|source| Error::Read {
        file: file.to_owned(),
        source,
    })
}

/// Nothing of it stays in memory once it is dropped.
fn read_secret(file: &Path) -> Result<Zeroizing<String>, Error> {
    check_secret(file)?;
    read(file).map(Zeroizing::new)
}

fn write(file: &Path, contents: &str) -> Result<(), Error> {
    files::write_secret(file, contents.as_bytes()).map_err(|source| Error::Write {
        file: file.to_owned(),
        source,
    })
}

/// A PKCS#10 request for `institution`, PEM. The coordinator takes the name from the invite or
/// from the present certificate; the one in the request is for those who read it.
fn certificate_request(institution: &InstitutionId, key: &KeyPair) -> Result<String, Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, institution.as_str());
    Ok(params.serialize_request(key)?.pem()?)
}

fn validity(certificate_pem: &str) -> Result<Validity, String> {
    let (_, pem) = parse_x509_pem(certificate_pem.as_bytes()).map_err(|e| e.to_string())?;
    let certificate = pem.parse_x509().map_err(|e| e.to_string())?;
    let time = |seconds: i64| Time::from_millis(seconds.saturating_mul(1000));
    Ok(Validity {
        not_before: time(certificate.validity().not_before.timestamp()),
        not_after: time(certificate.validity().not_after.timestamp()),
    })
}
