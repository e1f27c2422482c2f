//! Removing large objects that nothing needs any more.
//!
//! An object is written before the state refers to it, so one that nobody refers to may be about
//! to be needed. It is kept for a grace period after it was written or found present; what is
//! then referred to was looked at within that period, or is looked at anew by whoever refers.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;

use crate::blobs::Blobs;
use crate::engine::{Failure, Handle};
use crate::intake::{Intake, Swept};

/// At most so often; only after something happened.
const SWEEP_EVERY: Duration = Duration::from_secs(2);
const EVERY: Duration = Duration::from_hours(1);
/// Far longer than any request takes from writing an object to referring to it.
const GRACE: Duration = Duration::from_hours(6);

/// Collects now and then until `stop`, never while a backup holds the file `lock`.
pub async fn collect_regularly(
    engine: Handle,
    blobs: Blobs,
    lock: PathBuf,
    stop: CancellationToken,
) {
    loop {
        let before = SystemTime::now().checked_sub(GRACE);
        match once(
            &engine,
            &blobs,
            &lock,
            before.unwrap_or(SystemTime::UNIX_EPOCH),
        )
        .await
        {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "removed objects that nothing needs any more"),
            Err(failure) => failure.log("cannot remove unneeded objects"),
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

/// Removes unfinished uploads with their rounds, until `stop`.
pub async fn sweep_uploads(engine: Handle, intake: Intake, stop: CancellationToken) {
    let mut newest = engine.newest_event();
    loop {
        newest.mark_unchanged();
        let mut again = false;
        match intake.sweep().await {
            Ok(Swept { removed, busy }) => {
                again = busy > 0;
                if removed > 0 {
                    tracing::info!(removed, "removed unfinished uploads that nobody awaits");
                }
            }
            Err(failure) => failure.log("cannot remove unfinished uploads"),
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(SWEEP_EVERY) => {}
        }
        if again {
            continue;
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = newest.changed() => if changed.is_err() { return },
        }
    }
}

/// Removes what nothing needs and nobody has looked at since `before`; how many there were.
async fn once(
    engine: &Handle,
    blobs: &Blobs,
    lock: &Path,
    before: SystemTime,
) -> Result<usize, Failure> {
    let file = File::create(lock).map_err(crate::blobs::Error::Staging)?;
    if file.try_lock().is_err() {
        return Ok(0);
    }
    let needed = engine.call(|engine| engine.needed_objects()).await?;
    Ok(blobs.sweep(&needed, before).await?)
}

/// Keeps anything from being collected for as long as it lives.
#[derive(Debug)]
pub struct Hold(#[expect(dead_code, reason = "the lock goes with the file")] File);

impl Hold {
    /// Waits until a collection under way has ended.
    pub fn new(lock: &Path) -> std::io::Result<Self> {
        let file = File::create(lock)?;
        file.lock_shared()?;
        Ok(Self(file))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use fedner_round::{Contribution, Effect, Member, Phase, Run, Work};
    use fedner_shared::digest::Digest;
    use fedner_shared::plan::{Method, Rule};
    use fedner_shared::sign::{SecretKey, Signed};
    use fedner_shared::time::Time;
    use fedner_shared::version::{Origin, Participant, Round, Version};
    use proptest::prelude::*;

    use super::*;
    use crate::store::{Store, fixture};

    /// What changes which objects are needed.
    #[derive(Debug, Clone)]
    enum Op {
        /// Written by somebody who has not referred to it yet, or never will.
        Put(u8),
        Version([u8; 3], Vec<u8>),
        /// An institution's update in the open round.
        Upload(u8),
        /// The round is closed, its sum pending.
        Close,
        Publish,
        Cancel,
        Collect,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            any::<u8>().prop_map(Op::Put),
            (any::<[u8; 3]>(), prop::collection::vec(any::<u8>(), 0..3))
                .prop_map(|(files, updates)| Op::Version(files, updates)),
            any::<u8>().prop_map(Op::Upload),
            Just(Op::Close),
            Just(Op::Publish),
            Just(Op::Cancel),
            Just(Op::Collect),
        ]
    }

    struct Bench {
        folder: tempfile::TempDir,
        store: Store,
        blobs: Blobs,
        run: Run,
        numbers: u32,
        /// What must be there: of versions, and of the open round with its effect.
        versions: BTreeSet<Digest>,
        open: BTreeSet<Digest>,
        pending: Option<Effect>,
    }

    impl Bench {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("folder");
            let mut store = Store::open(&folder.path().join("s.sqlite")).expect("store");
            let staging = folder.path().join("staging");
            let blobs = Blobs::open(&folder.path().join("blobs"), &staging).expect("blobs");
            let signed = Signed::new(&fixture::plan(), &SecretKey::generate().expect("key"));
            let run = fixture::run(signed.digest());
            store
                .transact("test", |tx| {
                    tx.put_plan(&signed)?;
                    tx.put_run(&run, None)
                })
                .unwrap_or_else(|error: crate::store::Error| panic!("{error}"));
            Self {
                folder,
                store,
                blobs,
                run,
                numbers: 0,
                versions: BTreeSet::new(),
                open: BTreeSet::new(),
                pending: None,
            }
        }

        async fn put(&self, content: u8) -> Digest {
            self.blobs.put(vec![content]).await.expect("put")
        }

        fn save(&mut self, also: impl FnOnce(&crate::store::Tx<'_>, &Run)) {
            let run = &self.run;
            let saved = self.store.transact("test", |tx| {
                also(tx, run);
                tx.put_run(run, None)
            });
            saved.unwrap_or_else(|error: crate::store::Error| panic!("{error}"));
        }

        async fn apply(&mut self, op: Op) {
            match op {
                Op::Put(content) => drop(self.put(content).await),
                Op::Version([weights, config, tokenizer], updates) => {
                    let mut participants = Vec::new();
                    for update in updates {
                        let update = self.put(update).await;
                        self.versions.insert(update);
                        participants.push(Participant {
                            institution: "anna".parse().expect("name"),
                            weight: 1,
                            update,
                            receipt: update,
                            epsilon: None,
                            annotation: None,
                        });
                    }
                    self.numbers += 1;
                    let version = Version {
                        name: format!("notes@{}", self.numbers).parse().expect("name"),
                        parent: None,
                        origin: Origin::Round(Round {
                            run: self.run.id.clone(),
                            plan: self.run.plan_digest,
                            method: Method::Head,
                            round: 1,
                            attempt: 1,
                            manifest: self.run.manifest,
                            rule: Rule::default(),
                            moments: None,
                            unmasking: None,
                            participants,
                            sealed: Vec::new(),
                        }),
                        labels: vec![],
                        weights: self.put(weights).await,
                        frozen: Some(self.put(weights.wrapping_add(1)).await),
                        config: self.put(config).await,
                        tokenizer: self.put(tokenizer).await,
                        created: Time::from_millis(0),
                    };
                    self.versions.extend(version.objects());
                    self.save(|tx, _| {
                        tx.put_version(&version).expect("version");
                    });
                }
                Op::Upload(content) if !self.run.phase.is_end() => {
                    let update = self.put(content).await;
                    let contribution = Contribution {
                        institution: "anna".parse().expect("name"),
                        weight: 1,
                        update,
                        receipt: update,
                        epsilon: None,
                        annotation: None,
                    };
                    let member = Member {
                        work: Work::Uploaded { contribution },
                        ..Member::default()
                    };
                    let anna = "anna".parse().expect("name");
                    self.run.members = [(anna, member)].into_iter().collect();
                    self.open = [update].into();
                    self.save(|_, _| ());
                }
                Op::Close if self.pending.is_none() && !self.run.phase.is_end() => {
                    self.run.effects += 1;
                    let effect = Effect {
                        round: 1,
                        sequence: self.run.effects,
                        attempt: 1,
                        base: self.run.version,
                        contributions: self.run.contributions().cloned().collect(),
                    };
                    self.save(|tx, run| tx.put_effect(&run.id, &effect).expect("effect"));
                    self.pending = Some(effect);
                }
                Op::Publish => {
                    if let Some(effect) = self.pending.take() {
                        self.save(|tx, run| tx.remove_effect(&run.id, &effect).expect("effect"));
                    }
                }
                Op::Cancel => {
                    self.run.phase = Phase::Cancelled;
                    self.open.clear();
                    self.save(|_, _| ());
                }
                Op::Upload(_) | Op::Close => {}
                Op::Collect => self.collect().await,
            }
        }

        fn needed(&self) -> BTreeSet<Digest> {
            let pending = self.pending.iter().flat_map(|effect| &effect.contributions);
            let mut all = self.versions.clone();
            all.extend(&self.open);
            all.extend(pending.map(|contribution| contribution.update));
            all
        }

        /// With a grace period of no time at all.
        async fn collect(&mut self) {
            let keep = self.store.read(|tx| tx.needed_objects()).expect("needed");
            let later = SystemTime::now() + Duration::from_hours(1);
            self.blobs.sweep(&keep, later).await.expect("collected");
            for content in 0..=u8::MAX {
                let digest = Digest::of(&[content]);
                let here = self.blobs.contains(digest).await.expect("head");
                assert!(!here || self.needed().contains(&digest), "{content} stays");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn what_is_needed_stays_and_nothing_else(ops in prop::collection::vec(op(), 1..24)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
            runtime.block_on(async {
                let mut bench = Bench::new();
                for op in ops {
                    bench.apply(op).await;
                    for digest in bench.needed() {
                        assert!(bench.blobs.contains(digest).await.expect("head"), "{digest}");
                    }
                }
            });
        }
    }

    #[tokio::test]
    async fn what_was_looked_at_lately_stays_though_nobody_refers_to_it_yet() {
        let bench = Bench::new();
        let digest = bench.put(1).await;
        let before = SystemTime::now() - Duration::from_hours(1);
        let none = BTreeSet::new();
        assert_eq!(bench.blobs.sweep(&none, before).await.expect("none"), 0);
        let later = SystemTime::now() + Duration::from_hours(1);
        assert_eq!(bench.blobs.sweep(&none, later).await.expect("one"), 1);
        assert!(!bench.blobs.contains(digest).await.expect("head"));
    }

    #[tokio::test]
    async fn nothing_is_collected_while_a_backup_holds_everything() {
        let bench = Bench::new();
        let lock = bench.folder.path().join("lock");
        let key = SecretKey::generate().expect("key").public();
        let Bench { store, blobs, .. } = bench;
        let digest = blobs.put(b"unneeded".to_vec()).await.expect("put");
        let machine = std::sync::Arc::new(fedner_host::machine::ThisMachine);
        let loaded = crate::engine::load(store, key, machine).expect("engine");
        let (engine, _effects, serving) = loaded.serve();
        tokio::spawn(serving);
        let later = SystemTime::now() + Duration::from_hours(1);
        let hold = Hold::new(&lock).expect("hold");
        let held = once(&engine, &blobs, &lock, later).await.expect("skipped");
        assert_eq!(held, 0);
        drop(hold);
        let free = once(&engine, &blobs, &lock, later)
            .await
            .expect("collected");
        assert_eq!(free, 1);
        assert!(!blobs.contains(digest).await.expect("head"));
    }
}
