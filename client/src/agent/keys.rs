//! Keys and certificates: renewed in time, replaced when somebody asks, and learnt from the coordinator.

use std::mem;
use std::sync::Arc;

use fedner_shared::keys::{Signs, Succession, Trust, newest};
use fedner_shared::refusal::Code;
use fedner_shared::sign::Signed;

use super::{Agent, Error};
use crate::egress::Gate;
use crate::identity::{self, Identity};
use crate::transport::Coordinator;

impl Agent {
    pub(super) async fn renew_if_due(&mut self) {
        let now = self.environment.machine.now();
        if !identity::is_due(self.identity.validity, now) && !self.identity.is_of_older_authority()
        {
            return;
        }
        let until = self.identity.validity.not_after;
        match identity::renew(&self.directory, &self.identity, &self.coordinator).await {
            Ok(renewed) => match self.take_over(renewed) {
                Ok(()) => tracing::info!(
                    "the certificate was renewed and holds until {}",
                    self.identity.validity.not_after
                ),
                Err(error) => tracing::warn!("the renewed certificate cannot be used: {error}"),
            },
            Err(_) if now >= until => self.renewal_failed(format!(
                "the certificate expired at {until}, and no longer renews itself [{}]; hint: {}",
                Code::CertificateExpired,
                Code::CertificateExpired.hint()
            )),
            Err(error) => self.renewal_failed(format!(
                "the certificate, which holds until {until}, could not be renewed: {error}"
            )),
        }
    }

    /// Says so once, and not at each attempt of a long outage.
    fn renewal_failed(&mut self, message: String) {
        if self.renewal.as_ref() != Some(&message) {
            tracing::warn!("{message}");
        }
        self.renewal = Some(message);
    }

    /// Goes on with another identity.
    fn take_over(&mut self, identity: Identity) -> Result<(), Error> {
        self.to = (&self.directory.settings()?).into();
        self.identity = Arc::new(identity);
        self.dial()?;
        self.gate = Gate::new(
            self.store.clone(),
            self.blobs.clone(),
            Arc::clone(&self.identity),
        );
        Ok(())
    }

    /// From now on over a new connection.
    pub(super) fn dial(&mut self) -> Result<(), Error> {
        let network = &self.environment.network;
        let channel = network.dial(&self.to, &self.identity.tls)?;
        let present = Coordinator::from_channel(&self.to.addresses, channel)
            .with_session(self.program.clone());
        let before = mem::replace(&mut self.coordinator, present);
        self.replaced.get_or_insert(before);
        Ok(())
    }

    /// Trusts what the coordinator says is to be trusted, over a connection that was trusted before. A key for plans
    /// is trusted only if the present one has signed that it comes next.
    pub(super) fn learn(&mut self, trust: Option<&Trust>) -> Result<(), Error> {
        let Some(trust) = trust else {
            return Ok(());
        };
        let present = self.identity.operator;
        let operator = newest(&Signs::Plans, present, &trust.successions);
        identity::trust(&self.directory, &trust.authorities, &operator)?;
        self.store.save_trust(trust)?;
        self.turned_down.clear();
        if operator != present {
            tracing::warn!("plans are signed by {operator} from now on, as {present} has signed");
        }
        let institution = self.identity.institution.clone();
        let identity = Identity::load(&self.directory.identity(), institution)?;
        if identity.tls.authority_pem != self.identity.tls.authority_pem {
            tracing::info!("the coordinator's authorities have changed");
        }
        self.take_over(identity)
    }

    /// Signs with the key that waits, if there is one, after the coordinator has taken it.
    pub(super) async fn replace_key_if_asked(&mut self) -> Result<(), Error> {
        let Some(next) = identity::waiting_key(&self.directory)? else {
            return Ok(());
        };
        let (old, new) = (self.identity.signing.public(), next.public());
        let succession = Succession {
            signs: Signs::Statements(self.identity.institution.clone()),
            old,
            new,
            // The same statement whenever this is begun again.
            at: self.identity.validity.not_before,
        };
        let succession = Signed::new(&succession, &self.identity.signing);
        self.coordinator.replace_signing_key(&succession).await?;
        // What the coordinator does not have yet, it gets with the new signature.
        self.store.sign_anew(&next, &old)?;
        identity::take_waiting_key(&self.directory)?;
        let institution = self.identity.institution.clone();
        self.take_over(Identity::load(&self.directory.identity(), institution)?)?;
        tracing::warn!("this institution signs with {new} from now on, in place of {old}");
        Ok(())
    }
}
