//! What people do at an institution, and what somebody does with its keys or its directory.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::Result;
use fedner_client::config::Directory;
use fedner_client::consent;
use fedner_client::identity::Identity;

use super::World;
use crate::forge::forge;
use crate::hosts::SiteHost;
use crate::machine::SimMachine;
use crate::mishap::No;
use crate::op::Forgery;
use crate::plans::SITES;
use crate::prepared::copy;
use crate::trainer::{Mood, SimTrainer};

impl World {
    /// Entries in the ledger of each directory of the institution: its own, then those of copies.
    pub(crate) fn spent(&self, site: usize) -> Result<Vec<usize>> {
        let directories = self.place.directories(&SITES[site].parse()?)?;
        let spent = directories.into_iter();
        spent
            .map(|store| Ok(store.ledger()?.entries().len()))
            .collect()
    }

    /// Somebody starts a copy of the institution's directory on another machine.
    pub(super) fn copy(&mut self, site: usize) -> Result<()> {
        if self.copies.contains_key(&site) {
            return Ok(());
        }
        let name = format!("{}-copy", SITES[site]);
        let directory = self.directory.path().join(&name);
        copy(&self.directory.path().join(SITES[site]), &directory)?;
        self.place.add_copy(SITES[site].parse()?, &directory)?;
        self.salt += 1;
        let machine = Arc::new(SimMachine::new(self.salt << 32));
        self.copies.insert(site, machine.clone());
        let host = SiteHost {
            directory,
            machine,
            trainer: Arc::new(SimTrainer {
                seconds: self.setting.training,
                mood: Arc::default(),
            }),
        };
        self.sim.host(name, move || host.clone().run());
        Ok(())
    }

    pub(super) fn decline(&mut self, site: usize, no: No) -> Result<()> {
        match no {
            No::Later(minutes) => {
                let now = self.machines[site + 1].at(self.sim.elapsed());
                let until = now + Duration::from_mins(minutes.into());
                self.place
                    .site(&SITES[site].parse()?)?
                    .save_paused(Some(until))?;
            }
            No::Attempt => self.mood(site, |mood| mood.refuses = true),
            No::ForGood => self.folders[site].forbid()?,
        }
        Ok(())
    }

    pub(super) fn mood(&self, site: usize, change: impl FnOnce(&mut Mood)) {
        change(
            &mut self.moods[site]
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
    }

    /// What a person at the institution does with the client's commands.
    pub(super) fn consent(&mut self, site: usize, grant: bool) -> Result<()> {
        let now = self.machines[site + 1].at(self.sim.elapsed());
        let root = self.directory.path().join(SITES[site]);
        let directory = Directory::new(Some(root))?;
        let name = SITES[site].parse()?;
        let identity = Identity::load(&directory.identity(), name)?;
        let store = self.place.site(&identity.institution)?;
        // A command in a directory whose files are not whole is refused.
        let (Ok(settings), Ok(policy)) = (directory.settings(), directory.policy()) else {
            return Ok(());
        };
        let terms = consent::Terms {
            directory: &directory,
            settings: &settings,
            policy: &policy,
        };
        for record in store.plans()? {
            if grant {
                // Refused where the policy or the plan says so.
                let _ = consent::grant(store, &identity, terms, &record, None, now);
            } else {
                store.revoke_consents(&record.digest, now)?;
            }
        }
        Ok(())
    }

    pub(super) fn forge(&mut self, site: usize, forgery: Forgery) -> Result<()> {
        self.salt += 1;
        let now = self.machines[site + 1].at(self.sim.elapsed());
        for run in self.place.runs()? {
            let name = SITES[site].parse()?;
            let granted = run
                .members
                .get(&name)
                .is_some_and(|member| member.consent.is_some());
            // To decline a plan that it has not agreed to is any member's right.
            if forgery == Forgery::StaleDecline && !granted {
                continue;
            }
            let (message, traces) = forge(&run, site, forgery, now, self.salt);
            self.model.forged.extend(traces);
            self.say(message);
        }
        Ok(())
    }
}
