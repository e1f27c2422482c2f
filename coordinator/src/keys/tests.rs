//! Time passes, and what is cut short is finished.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use fedner_host::machine::ThisMachine;
use rcgen::CertificateParams;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::engine::{self, Handle};
use crate::store::Store;

const DAY: Duration = Duration::from_hours(24);

/// A machine whose clock the test sets.
#[derive(Debug)]
struct Clock(AtomicI64);

impl Clock {
    fn pass(&self, span: Duration) {
        self.0.fetch_add(span.as_millis() as i64, Ordering::Relaxed);
    }
}

impl Machine for Clock {
    fn now(&self) -> Time {
        Time::from_millis(self.0.load(Ordering::Relaxed))
    }

    fn seed(&self) -> Result<u64, getrandom::Error> {
        ThisMachine.seed()
    }
}

struct Bench {
    folder: tempfile::TempDir,
    clock: Arc<Clock>,
    engine: Handle,
    plans: PublicKey,
}

impl Bench {
    /// A directory as `init` makes it, and an engine.
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let clock = Arc::new(Clock(AtomicI64::new(1_790_000_000_000)));
        let paths = Paths::new(folder.path());
        let (authority, key) = Authority::create("test", clock.now()).expect("authority");
        let write = |path: &Path, text: &str| {
            fs::create_dir_all(path.parent().expect("folder")).expect("made");
            super::write(path, text).expect("written");
        };
        write(&paths.authority_key(), &key);
        write(&paths.authority_certificate(), authority.certificate_pem());
        for (name, role, key, certificate) in [
            (
                "operator",
                Role::Operator,
                paths.operator_key(),
                paths.operator_certificate(),
            ),
            (
                "viewer",
                Role::Viewer,
                paths.viewer_key(),
                paths.viewer_certificate(),
            ),
        ] {
            let person = authority.person(name, role, clock.now()).expect("person");
            write(&key, &person.key);
            write(&certificate, &person.certificate);
        }
        let plans = SecretKey::from_seed([1; 32]).public();
        let store = Store::open(&paths.store()).expect("store");
        let loaded = engine::load(store, plans, clock.clone()).expect("engine");
        let (engine, _, serving) = loaded.serve();
        tokio::spawn(serving);
        Self {
            folder,
            clock,
            engine,
            plans,
        }
    }

    fn paths(&self) -> Paths {
        Paths::new(self.folder.path())
    }

    fn open(&self) -> Arc<Keys> {
        let (paths, names) = (self.paths(), vec!["localhost".to_owned()]);
        Keys::open(
            paths,
            names,
            self.plans,
            Recorded::default(),
            self.clock.clone(),
        )
        .expect("keys")
    }

    fn life(path: &Path) -> Life {
        Life::of_pem(&read(path).expect("read")).expect("certificate")
    }

    fn caller(pem: &str) -> Caller {
        let der = authority::der_of(pem).expect("pem");
        Caller::of_certificate(&der).expect("caller")
    }
}

#[tokio::test]
async fn a_coordinator_that_ran_for_a_year_and_a_day_is_as_good_as_a_new_one() {
    let bench = Bench::new();
    let keys = bench.open();
    let tls = keys.tls();
    let first = keys.server_certificate();
    for day in 0..=366 {
        bench.clock.pass(DAY);
        keys.renew_own(&bench.engine).await.expect("renewed");
        let now = bench.clock.now();
        let lives = [
            ("server", keys.server_life().expect("life")),
            (
                "operator",
                Bench::life(&bench.paths().operator_certificate()),
            ),
            ("viewer", Bench::life(&bench.paths().viewer_certificate())),
        ];
        for (what, life) in lives {
            assert!(life.from <= now && !life.is_due(now), "{what} on day {day}");
        }
    }
    assert_ne!(keys.server_certificate(), first);
    assert!(
        tls.has_changed().expect("kept"),
        "handshakes see the new one"
    );
    // Without it the first one would have run out.
    let first = Life::of_pem(&first).expect("certificate");
    assert!(first.until < bench.clock.now());
}

/// A suspended machine, or a clock that was set: the hour between two looks has not passed.
#[tokio::test(start_paused = true)]
async fn a_jump_of_the_clock_either_way_renews_what_ran_out_within_seconds() {
    let bench = Bench::new();
    let keys = bench.open();
    let stop = CancellationToken::new();
    let keeping = tokio::spawn(upkeep(keys.clone(), bench.engine.clone(), stop.clone()));
    let operator = bench.paths().operator_certificate();
    let seconds = || tokio::time::sleep(Duration::from_secs(3));
    seconds().await;
    let before = (keys.server_certificate(), read(&operator).expect("read"));
    seconds().await;
    let same = (keys.server_certificate(), read(&operator).expect("read"));
    assert_eq!(before, same, "nothing is due");
    for millis in [400, -800].map(|days| days * DAY.as_millis() as i64) {
        bench.clock.0.fetch_add(millis, Ordering::Relaxed);
        let now = bench.clock.now();
        let lives = || {
            let server = keys.server_life().expect("life");
            [server, Bench::life(&operator)]
        };
        let out = lives()
            .iter()
            .all(|life| now < life.from || life.until < now);
        assert!(out, "before they are looked at");
        seconds().await;
        for life in lives() {
            assert!(life.from <= now && !life.is_due(now), "{life:?} at {now}");
        }
    }
    stop.cancel();
    keeping.await.expect("ended");
}

#[tokio::test]
async fn a_new_authority_signs_for_others_while_the_older_one_still_serves() {
    let bench = Bench::new();
    let keys = bench.open();
    assert!(keys.withdraw_authority().is_err(), "there is no other one");
    let old = keys.serving();
    let new = keys.add_authority("test").expect("added");
    assert!(keys.add_authority("test").is_err(), "two at most");
    keys.renew_own(&bench.engine).await.expect("renewed");
    for keys in [keys.clone(), bench.open()] {
        assert_eq!(keys.serving().sha256(), old.sha256());
        assert_eq!(keys.issuing().sha256(), new);
        assert_eq!(keys.trust().authorities.len(), 2);
        assert!(old.issued(&keys.server_certificate()).expect("read"));
    }
    let operator = read(&bench.paths().operator_certificate()).expect("read");
    assert!(
        keys.issuing().issued(&operator).expect("read"),
        "renewed at once"
    );
    assert_eq!(keys.withdraw_authority().expect("withdrawn"), old.sha256());
    for keys in [keys, bench.open()] {
        assert_eq!(keys.serving().sha256(), new);
        assert_eq!(keys.trust().authorities.len(), 1);
        assert!(
            keys.serving()
                .issued(&keys.server_certificate())
                .expect("read")
        );
    }
}

#[tokio::test]
async fn a_withdrawal_or_an_addition_that_was_cut_short_is_settled_at_the_next_start() {
    let bench = Bench::new();
    let paths = bench.paths();
    let (other, key) = Authority::create("test", bench.clock.now()).expect("authority");
    // The certificate was written, its key was not.
    write(&paths.next_authority_certificate(), other.certificate_pem()).expect("written");
    assert_ne!(bench.open().issuing().sha256(), other.sha256());
    assert!(!paths.next_authority_certificate().exists());
    // The key was renamed, its certificate was not.
    write(&paths.next_authority_certificate(), other.certificate_pem()).expect("written");
    write(&paths.authority_key(), &key).expect("written");
    assert_eq!(bench.open().serving().sha256(), other.sha256());
    assert!(!paths.next_authority_certificate().exists());
}

#[tokio::test]
async fn a_key_of_the_history_that_was_recorded_and_not_yet_in_its_place_is_taken_at_the_next_start()
 {
    let bench = Bench::new();
    let keys = bench.open();
    let old = keys.history().public();
    let (new, succession) = keys.prepare_history_key().expect("prepared");
    assert_eq!(bench.open().history().public(), old, "nothing is recorded");
    let recorded = [succession];
    let open = |recorded: &[Signed]| {
        let recorded = Recorded {
            successions: recorded.to_vec(),
            ..Recorded::default()
        };
        let (paths, names) = (bench.paths(), vec!["localhost".to_owned()]);
        Keys::open(paths, names, bench.plans, recorded, bench.clock.clone())
    };
    let taken = open(&recorded).expect("taken");
    assert_eq!(taken.history().public(), new.public());
    assert_eq!(taken.trust().successions, recorded);
    assert!(!bench.paths().next_history_key().exists());
    // Where it is gone, nothing else signs in its place.
    let other = SecretKey::from_seed([8; 32]);
    write(&bench.paths().history_key(), &other.to_pem().expect("pem")).expect("written");
    let succession = Succession {
        signs: Signs::History,
        old: other.public(),
        new: SecretKey::from_seed([9; 32]).public(),
        at: bench.clock.now(),
    };
    assert!(open(&[Signed::new(&succession, &other)]).is_err());
}

#[tokio::test]
async fn what_was_issued_before_a_revocation_is_worth_nothing_and_what_comes_after_is() {
    let bench = Bench::new();
    let keys = bench.open();
    let request = || {
        let key = rcgen::KeyPair::generate().expect("key");
        let params = CertificateParams::new(Vec::new()).expect("params");
        let request = params.serialize_request(&key).expect("request");
        request.pem().expect("pem")
    };
    let issue = |replace: bool| {
        let issued = keys.certify("dash", Role::Viewer, &request(), replace);
        let (issued, person) = issued.expect("issued");
        keys.know(person);
        Bench::caller(&issued.pem)
    };
    let (first, second) = (issue(false), issue(false));
    keys.check_person(&first).expect("in force");
    keys.check_person(&second).expect("in force");
    // In the same second.
    let third = issue(true);
    for old in [&first, &second] {
        let refusal = keys.check_person(old).expect_err("replaced");
        assert_eq!(refusal.code, Code::CertificateRevoked);
    }
    keys.check_person(&third).expect("in force");
    let mut person = keys.person(Role::Viewer, "dash").expect("known");
    person.revoked = Some(bench.clock.now().max(person.issued));
    keys.know(person);
    assert!(keys.check_person(&third).is_err());
    keys.check_person(&issue(false)).expect("issued anew");
    assert!(keys.check_person(&third).is_err(), "still revoked");
    let other = Caller {
        role: Role::Operator,
        ..third
    };
    keys.check_person(&other).expect("another role");
}

#[tokio::test]
async fn the_certificate_of_somebody_who_was_revoked_is_not_renewed() {
    let bench = Bench::new();
    let keys = bench.open();
    keys.renew_own(&bench.engine).await.expect("noted");
    let mut person = keys.person(Role::Viewer, "viewer").expect("noted");
    person.revoked = Some(bench.clock.now());
    keys.know(person);
    let before = read(&bench.paths().viewer_certificate()).expect("read");
    bench.clock.pass(80 * DAY);
    keys.renew_own(&bench.engine).await.expect("looked at");
    let after = read(&bench.paths().viewer_certificate()).expect("read");
    assert_eq!(before, after);
    let operator = Bench::life(&bench.paths().operator_certificate());
    assert!(!operator.is_due(bench.clock.now()), "the operator's was");
}
