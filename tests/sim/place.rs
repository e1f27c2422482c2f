//! What lies on the simulated disks, for those who look on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use fedner_client::state::Store as SiteStore;
use fedner_coordinator::blobs::Blobs;
use fedner_coordinator::registry::{Coordinates, Summation};
use fedner_coordinator::store::{Pending, Store, StoredStatement};
use fedner_round::Run;
use fedner_shared::digest::Digest;
use fedner_shared::event::Entry;
use fedner_shared::id::{InstitutionId, RunId};
use fedner_shared::plan::Plan;
use fedner_shared::version::{Origin, Version};
use object_store::ObjectStore;

/// The databases and folders of all machines.
#[derive(Debug)]
pub(crate) struct Place {
    store: Store,
    blobs: Blobs,
    staging: PathBuf,
    sites: BTreeMap<InstitutionId, SiteStore>,
    /// Copies of their directories.
    copies: Vec<(InstitutionId, SiteStore)>,
}

impl Place {
    pub(crate) fn open(
        directory: &Path,
        sites: &[&str],
        objects: Arc<dyn ObjectStore>,
    ) -> Result<Self> {
        let coordinator = directory.join("coordinator");
        let staging = coordinator.join("staging");
        let sites = sites.iter().map(|name| {
            let store = SiteStore::open(&directory.join(name).join("state.sqlite"))?;
            Ok((name.parse()?, store))
        });
        Ok(Self {
            store: Store::open_read_only(&coordinator.join("state.sqlite"))?,
            blobs: Blobs::new(objects, &directory.join("viewer"))?,
            staging,
            sites: sites.collect::<Result<_>>()?,
            copies: Vec::new(),
        })
    }

    pub(crate) fn events_from(&mut self, sequence: u64) -> Result<Vec<Entry>> {
        Ok(self.store.read(|tx| tx.events(None, sequence, 10_000))?)
    }

    /// Oldest first.
    pub(crate) fn runs(&mut self) -> Result<Vec<Run>> {
        Ok(self.store.read(|tx| tx.runs())?)
    }

    pub(crate) fn run(&mut self, id: &RunId) -> Result<Run> {
        let run = self.runs()?.into_iter().find(|run| run.id == *id);
        run.with_context(|| format!("run {id} is gone"))
    }

    pub(crate) fn outbox(&mut self) -> Result<Vec<Pending>> {
        Ok(self.store.read(|tx| tx.outbox())?)
    }

    pub(crate) fn version(&mut self, digest: Digest) -> Result<Option<Version>> {
        Ok(self.store.read(|tx| tx.version(digest))?)
    }

    pub(crate) fn statements(&mut self) -> Result<Vec<StoredStatement>> {
        Ok(self.store.read(|tx| tx.statements())?)
    }

    pub(crate) fn verify_chain(&mut self) -> Result<u64> {
        Ok(self.store.read(|tx| tx.verify_chain())?)
    }

    pub(crate) fn institutions(&self) -> Vec<InstitutionId> {
        self.sites.keys().cloned().collect()
    }

    pub(crate) fn site(&self, name: &InstitutionId) -> Result<&SiteStore> {
        self.sites
            .get(name)
            .with_context(|| format!("{name} takes no part"))
    }

    /// A copy of its directory is looked at from now on.
    pub(crate) fn add_copy(&mut self, name: InstitutionId, directory: &Path) -> Result<()> {
        let store = SiteStore::open(&directory.join("state.sqlite"))?;
        self.copies.push((name, store));
        Ok(())
    }

    /// The directories of an institution: its own, then copies of it.
    pub(crate) fn directories(&self, name: &InstitutionId) -> Result<Vec<&SiteStore>> {
        let copies = self.copies.iter().filter(|(of, _)| of == name);
        let copies = copies.map(|(_, store)| store);
        Ok([self.site(name)?].into_iter().chain(copies).collect())
    }

    /// Removes objects that nothing needs, as the coordinator does within some hours; how many stay.
    pub(crate) fn collect(&mut self) -> Result<usize> {
        let needed = self.store.read(|tx| tx.needed_objects())?;
        let later = SystemTime::now() + Duration::from_hours(1);
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        runtime.block_on(self.blobs.sweep(&needed, later))?;
        Ok(needed.len())
    }

    /// Whether some institution has a receipt for that update.
    pub(crate) fn is_released(&self, update: Digest) -> Result<bool> {
        let copies = self.copies.iter().map(|(_, store)| store);
        for site in self.sites.values().chain(copies) {
            if site
                .receipts()?
                .iter()
                .any(|receipt| receipt.blob == Some(update))
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The digests of the uploads under way.
    pub(crate) fn staged(&self) -> Result<Vec<Digest>> {
        let mut digests = Vec::new();
        for entry in std::fs::read_dir(&self.staging)? {
            let path = entry?.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            digests.extend(stem.and_then(|stem| stem.parse::<Digest>().ok()));
        }
        digests.sort();
        Ok(digests)
    }

    /// The digest of the weights, computed again by the coordinator's own code.
    pub(crate) fn replay(
        &self,
        plan: &Plan,
        version: &Version,
        parent: &Version,
    ) -> Result<Digest> {
        let Origin::Round(round) = &version.origin else {
            return Ok(version.weights);
        };
        let sum = Summation {
            plan,
            parent,
            rule: round.rule,
            run: &round.run,
            contributions: &round.participants,
            unmasking: round.unmasking,
            coordinates: &Coordinates::default(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let sum = runtime.block_on(sum.compute(&self.blobs, false))?;
        ensure!(sum.moments == round.moments, "other moments");
        Ok(sum.weights)
    }
}
