//! Who is calling: the peer's certificate, and nothing else.

use fedner_shared::id::InstitutionId;
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::time::Time;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::authority::{BACKDATED, Role};

/// The holder of a certificate that TLS has verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub name: String,
    pub role: Role,
    /// Hexadecimal.
    pub serial: String,
    pub issued: Time,
    pub expires: Time,
}

impl Caller {
    /// Reads name and role from a certificate in DER.
    pub fn of_certificate(der: &[u8]) -> Result<Self, Refusal> {
        let untrusted = |what: &str| {
            Refusal::new(
                Code::CertificateUntrusted,
                format!("the client certificate {what}"),
            )
        };
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|_| untrusted("cannot be read"))?;
        let time = |seconds: i64| Time::from_millis(seconds.saturating_mul(1000));
        let subject = certificate.subject();
        let name = subject
            .iter_common_name()
            .next()
            .and_then(|name| name.as_str().ok());
        let unit = subject
            .iter_organizational_unit()
            .next()
            .and_then(|unit| unit.as_str().ok());
        let role = unit
            .and_then(Role::parse)
            .ok_or_else(|| untrusted("names no role"))?;
        let name = name.ok_or_else(|| untrusted("names no holder"))?.to_owned();
        Ok(Self {
            name,
            role,
            serial: hex::encode(certificate.raw_serial()),
            issued: time(certificate.validity().not_before.timestamp()) + BACKDATED,
            expires: time(certificate.validity().not_after.timestamp()),
        })
    }

    /// The caller at the other end of a connection with this certificate.
    pub fn of_connection(certificate: Option<&[u8]>) -> Result<Self, Refusal> {
        let certificate = certificate.ok_or_else(|| {
            Refusal::new(
                Code::CertificateMissing,
                "this call needs a client certificate: found none",
            )
        })?;
        Self::of_certificate(certificate)
    }

    /// That the certificate still holds: one that ran out in an open connection is worth nothing.
    pub fn check_expiry(&self, now: Time) -> Result<(), Refusal> {
        if now < self.expires {
            return Ok(());
        }
        let message = format!(
            "the certificate of {} held until {}",
            self.name, self.expires
        );
        Err(Refusal::new(Code::CertificateExpired, message))
    }

    /// That the caller has one of `roles`.
    pub fn require(&self, roles: &[Role]) -> Result<(), Refusal> {
        if roles.contains(&self.role) {
            return Ok(());
        }
        let expected: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
        let message = format!(
            "{} has the role {}: expected {}",
            self.name,
            self.role.as_str(),
            expected.join(" or ")
        );
        Err(Refusal::new(Code::RoleForbidden, message))
    }

    pub fn institution(&self) -> Result<InstitutionId, Refusal> {
        self.require(&[Role::Institution])?;
        self.name.parse().map_err(|_| {
            Refusal::new(
                Code::CertificateUntrusted,
                "the client certificate has no institution's name",
            )
        })
    }
}
