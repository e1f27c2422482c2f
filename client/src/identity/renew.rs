//! A certificate renews itself while it still holds.

use std::fs;
use std::io;
use std::path::Path;

use fedner_host::files;
use fedner_shared::keys;
use fedner_shared::time::Time;
use rcgen::KeyPair;

use super::{
    Error, Identity, NEXT_TLS_CERTIFICATE, NEXT_TLS_KEY, TLS_CERTIFICATE, TLS_KEY, Validity,
    certificate_request, validity, write,
};
use crate::config::Directory;
use crate::transport::Coordinator;

/// Whether less than a third of the certificate's life is left.
pub fn is_due(validity: Validity, now: Time) -> bool {
    keys::is_due(validity.not_before, validity.not_after, now)
}

/// Has a certificate made for a new key, and puts both in the old ones' place.
pub async fn renew(
    directory: &Directory,
    identity: &Identity,
    coordinator: &Coordinator,
) -> Result<Identity, Error> {
    let folder = directory.identity();
    let key = KeyPair::generate()?;
    write(&folder.join(NEXT_TLS_KEY), &key.serialize_pem())?;
    let request = certificate_request(&identity.institution, &key)?;
    let certificate = coordinator.renew(request).await?;
    let file = folder.join(NEXT_TLS_CERTIFICATE);
    validity(&certificate).map_err(|reason| Error::Certificate {
        file: file.clone(),
        reason,
    })?;
    // From here on the new ones count: loading finishes what is cut short.
    write(&file, &certificate)?;
    Identity::load(&folder, identity.institution.clone())
}

/// Puts a renewed certificate and its key in their place. The certificate is there only with its key, and is renamed
/// last.
pub(super) fn settle(folder: &Path) -> Result<(), Error> {
    let certificate = folder.join(NEXT_TLS_CERTIFICATE);
    if !certificate.exists() {
        return Ok(());
    }
    let put = |from: &Path, name: &str| {
        let file = folder.join(name);
        match fs::rename(from, &file).and_then(|()| files::sync_dir(folder)) {
            // Another process of this institution has done it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            outcome => outcome.map_err(|source| Error::Write { file, source }),
        }
    };
    let key = folder.join(NEXT_TLS_KEY);
    if key.exists() {
        put(&key, TLS_KEY)?;
    }
    put(&certificate, TLS_CERTIFICATE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewal_that_was_cut_short_is_finished_from_every_point() {
        for done in 0..3 {
            let folder = tempfile::tempdir().expect("folder");
            let at = |name: &str| folder.path().join(name);
            for (name, text) in [
                (TLS_KEY, "old key"),
                (TLS_CERTIFICATE, "old"),
                (NEXT_TLS_KEY, "new key"),
                (NEXT_TLS_CERTIFICATE, "new"),
            ] {
                fs::write(at(name), text).expect("written");
            }
            if done > 0 {
                fs::rename(at(NEXT_TLS_KEY), at(TLS_KEY)).expect("renamed");
            }
            if done > 1 {
                fs::rename(at(NEXT_TLS_CERTIFICATE), at(TLS_CERTIFICATE)).expect("renamed");
            }
            settle(folder.path()).expect("settled");
            let read = |name: &str| fs::read_to_string(at(name)).expect("read");
            assert_eq!(
                (read(TLS_KEY).as_str(), read(TLS_CERTIFICATE).as_str()),
                ("new key", "new")
            );
            assert!(!at(NEXT_TLS_KEY).exists() && !at(NEXT_TLS_CERTIFICATE).exists());
        }
        // Without the certificate nothing happened yet.
        let folder = tempfile::tempdir().expect("folder");
        fs::write(folder.path().join(NEXT_TLS_KEY), "new key").expect("written");
        settle(folder.path()).expect("nothing");
        assert!(folder.path().join(NEXT_TLS_KEY).exists());
    }
}
