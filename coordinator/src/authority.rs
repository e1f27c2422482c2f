//! The coordinator's certificate authority: who is who, for TLS.

use std::net::IpAddr;
use std::time::Duration;

use fedner_shared::digest::Digest;
use fedner_shared::keys::is_due;
use fedner_shared::time::Time;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateSigningRequestParams, DnType,
    DnValue, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
    SanType, SerialNumber,
};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("a certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    #[error("the time is out of a certificate's range")]
    Time,
    #[error("the operating system gave no randomness: {0}")]
    Random(#[from] getrandom::Error),
    #[error("a certificate cannot be read")]
    Read,
    #[error("certificate and key do not belong together")]
    Unpaired,
}

/// What the holder of a certificate may do; it stands in the certificate's organisational unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    Operator,
    Viewer,
    Institution,
    /// A process of the federation itself, towards the others.
    Coordinator,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Viewer => "viewer",
            Self::Institution => "institution",
            Self::Coordinator => "coordinator",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::Operator,
            Self::Viewer,
            Self::Institution,
            Self::Coordinator,
        ]
        .into_iter()
        .find(|role| role.as_str() == text)
    }
}

/// How long an institution's certificate lasts; its client renews it in the last third.
pub const INSTITUTION_LIFE: Duration = Duration::from_hours(90 * 24);
/// The same for an operator's or a viewer's.
pub const PERSON_LIFE: Duration = Duration::from_hours(90 * 24);
/// The name that a process shows to the others; it is nobody's address.
pub(crate) const PROCESS: &str = "process.fedner.internal";
/// A process makes another one for each connection.
const PROCESS_LIFE: Duration = Duration::from_hours(24);
const SERVER_LIFE: Duration = Duration::from_hours(365 * 24);
const AUTHORITY_LIFE: Duration = Duration::from_hours(20 * 365 * 24);
/// Clocks of two machines differ.
pub(crate) const BACKDATED: Duration = Duration::from_mins(10);

/// Signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
    certificate_der: Vec<u8>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({})", hex::encode(&self.fingerprint()[..6]))
    }
}

/// A certificate with its private key, both PEM.
pub struct Identity {
    pub certificate: String,
    pub key: Zeroizing<String>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

/// A certificate made for a request.
#[derive(Debug)]
pub struct Issued {
    pub pem: String,
    /// Hexadecimal.
    pub serial: String,
    pub expires: Time,
    /// The fingerprint of the authority, hexadecimal.
    pub authority: String,
}

/// What is said of a certificate of our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    pub from: Time,
    pub until: Time,
}

impl Life {
    /// Of a certificate in PEM.
    pub fn of_pem(pem: &str) -> Result<Self, Error> {
        let der = der_of(pem)?;
        let (_, certificate) = X509Certificate::from_der(&der).map_err(|_| Error::Read)?;
        let validity = certificate.validity();
        let time = |seconds: i64| Time::from_millis(seconds.saturating_mul(1000));
        Ok(Self {
            from: time(validity.not_before.timestamp()),
            until: time(validity.not_after.timestamp()),
        })
    }

    /// Whether less than a third of it is left.
    pub fn is_due(self, now: Time) -> bool {
        is_due(self.from, self.until, now)
    }
}

/// The certificate's bytes.
pub(crate) fn der_of(pem: &str) -> Result<Vec<u8>, Error> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|_| Error::Read)?;
    Ok(pem.contents)
}

impl Authority {
    /// A new authority; returns it with its key in PEM, to be written where only the operator reads.
    pub fn create(federation: &str, now: Time) -> Result<(Self, Zeroizing<String>), Error> {
        let key = KeyPair::generate()?;
        let key_pem = Zeroizing::new(key.serialize_pem());
        let mut number = [0u8; 4];
        getrandom::fill(&mut number)?;
        // The number tells it from an older one of the same federation.
        let name = format!("{federation} fedner authority {}", hex::encode(number));
        let mut params = parameters(&name, None, now, AUTHORITY_LIFE)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?;
        let authority = Self::assemble(&certificate.pem(), certificate.der().to_vec(), key)?;
        Ok((authority, key_pem))
    }

    pub fn read(certificate_pem: &str, key_pem: &str) -> Result<Self, Error> {
        let der = der_of(certificate_pem)?;
        let key = KeyPair::from_pem(key_pem)?;
        if !is_pair(&der, &key)? {
            return Err(Error::Unpaired);
        }
        Self::assemble(certificate_pem, der, key)
    }

    fn assemble(pem: &str, der: Vec<u8>, key: KeyPair) -> Result<Self, Error> {
        let issuer = Issuer::from_ca_cert_pem(pem, key)?;
        Ok(Self {
            issuer,
            certificate_pem: pem.to_owned(),
            certificate_der: der,
        })
    }

    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// SHA-256 of the certificate, which invites carry.
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(&self.certificate_der).into()
    }

    /// The same in hexadecimal digits.
    pub fn sha256(&self) -> String {
        hex::encode(self.fingerprint())
    }

    /// Whether it signed that certificate (PEM); told by the issuer's name, which no two authorities share.
    pub fn issued(&self, pem: &str) -> Result<bool, Error> {
        let der = der_of(pem)?;
        let (_, certificate) = X509Certificate::from_der(&der).map_err(|_| Error::Read)?;
        let own = X509Certificate::from_der(&self.certificate_der);
        let (_, own) = own.map_err(|_| Error::Read)?;
        Ok(certificate.issuer() == own.subject())
    }

    /// For the listening socket, with the names by which it is dialled.
    pub fn server(&self, names: &[String], now: Time) -> Result<Identity, Error> {
        let first = names.first().map_or("localhost", String::as_str);
        let mut params = parameters(first, None, now, SERVER_LIFE)?;
        let mut names = names.to_vec();
        names.extend([
            "localhost".to_owned(),
            "127.0.0.1".to_owned(),
            "::1".to_owned(),
        ]);
        for name in names {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(ip) => SanType::IpAddress(ip),
                Err(_) => SanType::DnsName(name.try_into()?),
            });
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.with_new_key(&params)
    }

    /// For a process of the federation, at either end of a connection to another one.
    pub fn process(&self, now: Time) -> Result<Identity, Error> {
        let role = Role::Coordinator;
        let mut params = parameters(role.as_str(), Some(role), now, PROCESS_LIFE)?;
        let name = SanType::DnsName(PROCESS.try_into()?);
        params.subject_alt_names.push(name);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        self.with_new_key(&params)
    }

    /// For the operator or a viewer, whose keys are made here.
    pub fn person(&self, name: &str, role: Role, now: Time) -> Result<Identity, Error> {
        let mut params = parameters(name, Some(role), now, PERSON_LIFE)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.with_new_key(&params)
    }

    fn with_new_key(&self, params: &CertificateParams) -> Result<Identity, Error> {
        let key = KeyPair::generate()?;
        let certificate: Certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Identity {
            certificate: certificate.pem(),
            key: Zeroizing::new(key.serialize_pem()),
        })
    }

    /// Another certificate for a person's key, which stays.
    pub fn person_again(
        &self,
        name: &str,
        role: Role,
        key_pem: &str,
        now: Time,
    ) -> Result<String, Error> {
        let key = KeyPair::from_pem(key_pem)?;
        let mut params = parameters(name, Some(role), now, PERSON_LIFE)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        Ok(params.signed_by(&key, &self.issuer)?.pem())
    }

    /// The digest of the public key for which a certificate is asked.
    pub fn key_of_request(request_pem: &str) -> Result<Digest, Error> {
        let request = CertificateSigningRequestParams::from_pem(request_pem)?;
        Ok(Digest::of(request.public_key.der_bytes()))
    }

    /// For an institution, from the request it made.
    pub fn institution(&self, name: &str, request: &str, now: Time) -> Result<Issued, Error> {
        self.certify(name, Role::Institution, request, now)
    }

    /// Only the public key is taken from the request; name, role and life are the coordinator's to say.
    pub fn certify(
        &self,
        name: &str,
        role: Role,
        request_pem: &str,
        now: Time,
    ) -> Result<Issued, Error> {
        let life = match role {
            Role::Institution => INSTITUTION_LIFE,
            Role::Operator | Role::Viewer | Role::Coordinator => PERSON_LIFE,
        };
        let mut request = CertificateSigningRequestParams::from_pem(request_pem)?;
        let mut params = parameters(name, Some(role), now, life)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let serial = params
            .serial_number
            .as_ref()
            .map(|s| hex::encode(s.to_bytes()))
            .unwrap_or_default();
        request.params = params;
        let certificate = request.signed_by(&self.issuer)?;
        Ok(Issued {
            pem: certificate.pem(),
            serial,
            expires: now + life,
            authority: self.sha256(),
        })
    }
}

/// SHA-256 of a certificate in PEM, hexadecimal.
pub fn sha256_of_pem(pem: &str) -> Result<String, Error> {
    Ok(hex::encode(Sha256::digest(der_of(pem)?)))
}

/// Whether the certificate is of that key.
fn is_pair(certificate_der: &[u8], key: &KeyPair) -> Result<bool, Error> {
    let (_, certificate) = X509Certificate::from_der(certificate_der).map_err(|_| Error::Read)?;
    Ok(certificate.public_key().raw == key.subject_public_key_info())
}

/// Whether a certificate and a key, both PEM, belong together.
pub fn belong_together(certificate_pem: &str, key_pem: &str) -> Result<bool, Error> {
    is_pair(&der_of(certificate_pem)?, &KeyPair::from_pem(key_pem)?)
}

fn parameters(
    name: &str,
    role: Option<Role>,
    now: Time,
    life: Duration,
) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, DnValue::Utf8String(name.to_owned()));
    if let Some(role) = role {
        let unit = DnValue::Utf8String(role.as_str().to_owned());
        params
            .distinguished_name
            .push(DnType::OrganizationalUnitName, unit);
    }
    let mut serial = [0u8; 16];
    getrandom::fill(&mut serial)?;
    // A positive number without leading zeros, so that its text is the same everywhere.
    serial[0] = (serial[0] & 0x7f) | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.not_before = instant(Time::from_millis(
        now.as_millis() - BACKDATED.as_millis() as i64,
    ))?;
    params.not_after = instant(now + life)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    Ok(params)
}

fn instant(time: Time) -> Result<OffsetDateTime, Error> {
    OffsetDateTime::from_unix_timestamp(time.as_millis().div_euclid(1000)).map_err(|_| Error::Time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Caller;

    const NOW: Time = Time::from_millis(1_790_000_000_000);

    #[test]
    fn a_request_decides_nothing_but_the_key() {
        let (authority, key) = Authority::create("test", NOW).expect("authority");
        let again = Authority::read(authority.certificate_pem(), &key).expect("read");
        assert_eq!(again.fingerprint(), authority.fingerprint());
        let key = KeyPair::generate().expect("key");
        let mut wish = CertificateParams::default();
        wish.distinguished_name.push(DnType::CommonName, "operator");
        wish.distinguished_name
            .push(DnType::OrganizationalUnitName, "operator");
        let request = wish
            .serialize_request(&key)
            .expect("request")
            .pem()
            .expect("pem");
        let issued = again.institution("st-anna", &request, NOW).expect("issued");
        let (_, pem) = x509_parser::pem::parse_x509_pem(issued.pem.as_bytes()).expect("pem");
        let caller = Caller::of_certificate(&pem.contents).expect("caller");
        assert_eq!(
            (caller.name.as_str(), caller.role, caller.serial),
            ("st-anna", Role::Institution, issued.serial)
        );
        assert!(again.institution("x", "no request", NOW).is_err());
    }
}
