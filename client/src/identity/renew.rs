//! A certificate renews itself while it still holds.

use fedner_shared::time::Time;
use rcgen::KeyPair;

use super::{Error, Identity, TLS_CERTIFICATE, Validity, certificate_request, validity, write};
use crate::config::Directory;
use crate::transport::Coordinator;

/// Whether less than a third of the certificate's life is left.
pub fn is_due(validity: Validity, now: Time) -> bool {
    let life = validity.not_after.since(validity.not_before);
    validity.not_after.since(now) < life / 3
}

/// Has a new certificate made for the present key and puts it in the old one's place. The key
/// stays, so that key and certificate match whenever this is cut short.
pub async fn renew(
    directory: &Directory,
    identity: &Identity,
    coordinator: &Coordinator,
) -> Result<Identity, Error> {
    let key = KeyPair::from_pem(&identity.tls.key_pem)?;
    let request = certificate_request(&identity.institution, &key)?;
    let certificate = coordinator.renew(request).await?;
    let file = directory.identity().join(TLS_CERTIFICATE);
    validity(&certificate).map_err(|reason| Error::Certificate {
        file: file.clone(),
        reason,
    })?;
    write(&file, &certificate)?;
    Identity::load(&directory.identity(), identity.institution.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_is_due_in_the_last_third() {
        let time = Time::from_millis;
        let validity = Validity {
            not_before: time(0),
            not_after: time(9_000),
        };
        assert!(!is_due(validity, time(5_999)));
        assert!(is_due(validity, time(6_001)));
        assert!(is_due(validity, time(10_000)), "an expired one is due too");
    }
}
