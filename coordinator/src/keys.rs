//! The keys and certificates of the coordinator itself, and how new ones take their place while it serves.
//!
//! | what | how it gives way |
//! |---|---|
//! | authority | a new one signs certificates beside the old one, members learn it in their check-ins, and the old one is withdrawn |
//! | server certificate | by itself, or at once; handshakes that begin later see the new one |
//! | operator's and viewer's certificates | by themselves where they lie in the directory; revocable by name |
//! | keys for plans and for the history | by a statement that the old key signs |

pub mod shared;
#[cfg(test)]
mod tests;
mod upkeep;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use fedner_host::files::write_secret;
use fedner_host::machine::Machine;
use fedner_shared::keys::{Signs, Succession, Trust, newest};
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::sign::{self, PublicKey, SecretKey, Signed};
use fedner_shared::time::Time;
use rustls::ServerConfig;
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::authority::{self, Authority, Identity, Issued, Life, Role};
use crate::config::Paths;
use crate::identity::Caller;
use crate::store::{self, Keyring, Person, Store};
use crate::tls;

use shared::SharedKeys;
pub use upkeep::upkeep;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("{file}: {source}")]
    File {
        file: String,
        source: std::io::Error,
    },
    #[error("{file}: {source}")]
    Authority {
        file: String,
        source: authority::Error,
    },
    #[error(transparent)]
    Make(#[from] authority::Error),
    #[error("{file}: {source}")]
    Key { file: String, source: sign::Error },
    #[error(transparent)]
    Sign(#[from] sign::Error),
    #[error(transparent)]
    Tls(#[from] tls::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// All of them. One for a serving coordinator.
#[derive(Debug)]
pub struct Keys {
    machine: Arc<dyn Machine>,
    /// Where they lie; nowhere in simulations.
    paths: Option<Paths>,
    /// Where other processes have them too.
    shared: Option<SharedKeys>,
    state: RwLock<State>,
    tls: watch::Sender<Arc<ServerConfig>>,
}

#[derive(Debug)]
struct State {
    /// By which institutions dial.
    names: Vec<String>,
    /// The authority that the server's certificate is of.
    serving: Arc<Authority>,
    /// The one that signs certificates for others, where it is another.
    next: Option<Arc<Authority>>,
    server: Identity,
    history: Arc<SecretKey>,
    /// The first key for plans, and all that came after it.
    plans: PublicKey,
    successions: Vec<Signed>,
    trust: Arc<Trust>,
    people: BTreeMap<(Role, String), Person>,
}

/// What the store knows of keys.
#[derive(Debug, Default)]
pub struct Recorded {
    pub successions: Vec<Signed>,
    pub people: Vec<Person>,
    /// Those that processes share, where they do.
    pub shared: Option<Keyring>,
}

impl Recorded {
    pub fn read(store: &mut Store) -> Result<Self, store::Error> {
        let shared = store.is_shared();
        store.read(|tx| {
            Ok(Self {
                successions: tx.own_successions()?,
                people: tx.people()?,
                shared: if shared { tx.keyring()? } else { None },
            })
        })
    }
}

impl State {
    /// What lies in the directory. A change that was cut short is settled.
    fn read(
        paths: &Paths,
        names: Vec<String>,
        plans: PublicKey,
        recorded: Recorded,
        now: Time,
    ) -> Result<Self, Error> {
        settle(paths)?;
        let serving = read_authority(&paths.authority_certificate(), &paths.authority_key())?;
        let next = if paths.next_authority_key().exists() {
            let (certificate, key) = (
                paths.next_authority_certificate(),
                paths.next_authority_key(),
            );
            Some(read_authority(&certificate, &key)?)
        } else {
            None
        };
        let history = read_history_key(paths, &recorded.successions)?;
        Self::new((serving, next), (plans, history), names, recorded, now)
    }

    fn new(
        (serving, next): (Authority, Option<Authority>),
        (plans, history): (PublicKey, SecretKey),
        names: Vec<String>,
        recorded: Recorded,
        now: Time,
    ) -> Result<Self, Error> {
        let server = serving.server(&names, now)?;
        let people = recorded.people.into_iter();
        let mut state = Self {
            names,
            serving: Arc::new(serving),
            next: next.map(Arc::new),
            server,
            history: Arc::new(history),
            plans,
            successions: recorded.successions,
            trust: Arc::default(),
            people: people
                .map(|person| ((person.role, person.name.clone()), person))
                .collect(),
        };
        state.told();
        Ok(state)
    }

    fn issuing(&self) -> &Arc<Authority> {
        self.next.as_ref().unwrap_or(&self.serving)
    }

    fn told(&mut self) {
        let authorities = self.next.iter().chain([&self.serving]);
        self.trust = Arc::new(Trust {
            authorities: authorities
                .map(|authority| authority.certificate_pem().to_owned())
                .collect(),
            successions: self.successions.clone(),
        });
    }

    fn tls(&self) -> Result<Arc<ServerConfig>, Error> {
        let trusted = self.next.iter().map(Arc::as_ref);
        let trusted: Vec<&Authority> = [self.serving.as_ref()].into_iter().chain(trusted).collect();
        Ok(Arc::new(tls::server_config(&trusted, &self.server)?))
    }
}

impl Keys {
    /// Those in the directory. `names` are those by which institutions dial, `plans` is the first key for plans.
    pub fn open(
        paths: Paths,
        names: Vec<String>,
        plans: PublicKey,
        recorded: Recorded,
        machine: Arc<dyn Machine>,
    ) -> Result<Arc<Self>, Error> {
        let state = State::read(&paths, names, plans, recorded, machine.now())?;
        Self::assemble(state, (Some(paths), None), machine)
    }

    /// The same of a directory whose keys other processes have too. The store may have newer ones.
    pub fn open_shared(
        paths: Paths,
        names: Vec<String>,
        plans: PublicKey,
        recorded: Recorded,
        machine: Arc<dyn Machine>,
    ) -> Result<Arc<Self>, Error> {
        let shared = SharedKeys::open(&paths)?;
        if let Some(keyring) = &recorded.shared {
            shared.adopt(keyring)?;
        }
        let state = State::read(&paths, names, plans, recorded, machine.now())?;
        Self::assemble(state, (Some(paths), Some(shared)), machine)
    }

    /// Takes over what lies in the directory and is recorded by now: another process may have changed it.
    pub fn adopt(&self, recorded: Recorded) -> Result<(), Error> {
        let Some(paths) = &self.paths else {
            return Ok(());
        };
        if let (Some(shared), Some(keyring)) = (&self.shared, &recorded.shared) {
            shared.adopt(keyring)?;
        }
        let mut state = self.write();
        let (names, plans) = (state.names.clone(), state.plans);
        *state = State::read(paths, names, plans, recorded, self.machine.now())?;
        self.tls.send_replace(state.tls()?);
        Ok(())
    }

    /// Of which generation those are that processes share; 0 where they do not, or none are stored yet.
    pub fn generation(&self) -> i64 {
        let generation = self.shared.as_ref().map(SharedKeys::generation);
        generation.and_then(Result::ok).unwrap_or_default()
    }

    /// Puts those that processes share into their store. It comes before they take effect: whoever leads next needs
    /// them.
    pub fn keep_in(&self, store: &mut Store) -> Result<(), Error> {
        let Some(shared) = &self.shared else {
            return Ok(());
        };
        let keyring = shared.seal()?;
        store.transact("keep keys", |tx| tx.put_keyring(&keyring))?;
        shared.stored(keyring.generation)
    }

    /// Those that lie in no directory.
    pub fn in_memory(
        authority: Authority,
        plans: PublicKey,
        history: SecretKey,
        machine: Arc<dyn Machine>,
    ) -> Result<Arc<Self>, Error> {
        let state = State::new(
            (authority, None),
            (plans, history),
            vec!["localhost".to_owned()],
            Recorded::default(),
            machine.now(),
        )?;
        Self::assemble(state, (None, None), machine)
    }

    fn assemble(
        state: State,
        (paths, shared): (Option<Paths>, Option<SharedKeys>),
        machine: Arc<dyn Machine>,
    ) -> Result<Arc<Self>, Error> {
        let (tls, _) = watch::channel(state.tls()?);
        Ok(Arc::new(Self {
            machine,
            paths,
            shared,
            state: RwLock::new(state),
            tls,
        }))
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The authority that signs certificates for others.
    pub fn issuing(&self) -> Arc<Authority> {
        self.read().issuing().clone()
    }

    /// The authority that the server's own certificate is of; invites name it.
    pub fn serving(&self) -> Arc<Authority> {
        self.read().serving.clone()
    }

    /// The key that signs the history of events.
    pub fn history(&self) -> Arc<SecretKey> {
        self.read().history.clone()
    }

    /// The key by which plans are signed at present.
    pub fn plans(&self) -> PublicKey {
        let state = self.read();
        newest(&Signs::Plans, state.plans, &state.successions)
    }

    /// The key of the history and what members are to trust, both of the same moment.
    pub fn said(&self) -> (Arc<SecretKey>, Arc<Trust>) {
        let state = self.read();
        (state.history.clone(), state.trust.clone())
    }

    /// What members are to trust.
    pub fn trust(&self) -> Arc<Trust> {
        self.read().trust.clone()
    }

    /// What a process shows to the others, and whom it trusts to be one.
    pub fn process(&self) -> Result<(Identity, Vec<Arc<Authority>>), Error> {
        let state = self.read();
        let identity = state.serving.process(self.machine.now())?;
        let trusted = [&state.serving].into_iter().chain(&state.next);
        Ok((identity, trusted.cloned().collect()))
    }

    /// The configuration for handshakes that begin now.
    pub fn tls(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.tls.subscribe()
    }

    /// That the certificates of that operator or viewer were not revoked since this one was issued.
    pub fn check_person(&self, caller: &Caller) -> Result<(), Refusal> {
        let state = self.read();
        let person = state.people.get(&(caller.role, caller.name.clone()));
        let revoked = person.and_then(|person| person.revoked);
        match revoked {
            Some(revoked) if caller.issued <= revoked => {
                let message = format!(
                    "the certificates of the {} {} issued until {revoked} are revoked",
                    caller.role.as_str(),
                    caller.name
                );
                Err(Refusal::new(Code::CertificateRevoked, message))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Operators and viewers that have or had certificates.
    pub fn people(&self) -> Vec<Person> {
        self.read().people.values().cloned().collect()
    }

    pub fn person(&self, role: Role, name: &str) -> Option<Person> {
        self.read().people.get(&(role, name.to_owned())).cloned()
    }

    /// A certificate for an operator or a viewer, and what is to be recorded of it.
    pub fn certify(
        &self,
        name: &str,
        role: Role,
        request: &str,
        replace: bool,
    ) -> Result<(Issued, Person), Error> {
        let now = self.after_revocation(role, name, replace);
        let issued = self.issuing().certify(name, role, request, now)?;
        // Times in certificates have whole seconds.
        let whole = Time::from_millis(now.as_millis().div_euclid(1000) * 1000);
        let person = Person {
            role,
            name: name.to_owned(),
            issued: whole,
            expires: issued.expires,
            revoked: replace.then(|| Time::from_millis(whole.as_millis() - 1)),
        };
        Ok((issued, person))
    }

    /// The present time, or the second after the name was revoked if that is later: certificates have whole seconds.
    fn after_revocation(&self, role: Role, name: &str, replace: bool) -> Time {
        let second = |time: Time| time.as_millis().div_euclid(1000);
        let now = self.machine.now();
        let state = self.read();
        let before = state.people.get(&(role, name.to_owned()));
        let issued = before.map(|person| person.issued).filter(|_| replace);
        let least = before
            .and_then(|person| person.revoked)
            .into_iter()
            .chain(issued);
        match least.map(second).max() {
            Some(least) if least >= second(now) => Time::from_millis((least + 1) * 1000),
            Some(_) | None => now,
        }
    }

    /// Takes over what was recorded of a person.
    pub fn know(&self, person: Person) {
        let mut state = self.write();
        let key = (person.role, person.name.clone());
        let before = state.people.get(&key).and_then(|before| before.revoked);
        let revoked = person.revoked.or(before);
        state.people.insert(key, Person { revoked, ..person });
    }

    /// Takes over a recorded succession of the key for plans or for the history.
    pub fn succeeded(&self, signed: Signed) {
        let mut state = self.write();
        state.successions.push(signed);
        state.told();
    }

    /// A new authority beside the present one; its fingerprint.
    pub fn add_authority(&self, federation: &str) -> Result<String, Error> {
        let mut state = self.write();
        if let Some(next) = &state.next {
            let message = format!(
                "the authority {} waits for the older one to be withdrawn",
                next.sha256()
            );
            return Err(Refusal::new(Code::AuthorityState, message).into());
        }
        let (authority, key) = Authority::create(federation, self.machine.now())?;
        if let Some(paths) = &self.paths {
            // The key last: it is there only with its certificate.
            write(
                &paths.next_authority_certificate(),
                authority.certificate_pem(),
            )?;
            write(&paths.next_authority_key(), &key)?;
        }
        let fingerprint = authority.sha256();
        state.next = Some(Arc::new(authority));
        state.told();
        self.tls.send_replace(state.tls()?);
        Ok(fingerprint)
    }

    /// The new authority, if there is one beside the older one.
    pub fn next(&self) -> Result<Arc<Authority>, Refusal> {
        let none = || {
            let message = "there is one authority only: a new one is made first";
            Refusal::new(Code::AuthorityState, message)
        };
        self.read().next.clone().ok_or_else(none)
    }

    /// The older authority is trusted no more; its fingerprint.
    pub fn withdraw_authority(&self) -> Result<String, Error> {
        let next = self.next()?;
        let mut state = self.write();
        let server = next.server(&state.names, self.machine.now())?;
        if let Some(paths) = &self.paths {
            rename(&paths.next_authority_key(), &paths.authority_key())?;
            settle(paths)?;
        }
        let old = std::mem::replace(&mut state.serving, next);
        state.next = None;
        state.server = server;
        state.told();
        self.tls.send_replace(state.tls()?);
        Ok(old.sha256())
    }

    /// Another key and certificate for the listening socket; its fingerprint.
    pub fn replace_server(&self) -> Result<String, Error> {
        let mut state = self.write();
        let now = self.machine.now();
        state.server = state.serving.server(&state.names, now)?;
        self.tls.send_replace(state.tls()?);
        Ok(authority::sha256_of_pem(&state.server.certificate)?)
    }

    /// The same under other names.
    pub fn rename_server(&self, names: Vec<String>) -> Result<String, Error> {
        self.write().names = names;
        self.replace_server()
    }

    /// Until when the server's certificate holds.
    pub fn server_life(&self) -> Result<Life, Error> {
        Ok(Life::of_pem(&self.read().server.certificate)?)
    }

    /// The server's certificate, PEM.
    pub fn server_certificate(&self) -> String {
        self.read().server.certificate.clone()
    }

    /// Another key for the history, and the statement by which the present one gives way. It takes effect with
    /// [`take_history_key`](Self::take_history_key), once the statement is recorded.
    pub fn prepare_history_key(&self) -> Result<(SecretKey, Signed), Error> {
        let old = self.history();
        let new = SecretKey::generate()?;
        if let Some(paths) = &self.paths {
            write(&paths.next_history_key(), &new.to_pem()?)?;
        }
        let succession = Succession {
            signs: Signs::History,
            old: old.public(),
            new: new.public(),
            at: self.machine.now(),
        };
        Ok((new, Signed::new(&succession, &old)))
    }

    pub fn take_history_key(&self, key: SecretKey, succession: Signed) -> Result<(), Error> {
        if let Some(paths) = &self.paths {
            rename(&paths.next_history_key(), &paths.history_key())?;
        }
        let mut state = self.write();
        state.history = Arc::new(key);
        state.successions.push(succession);
        state.told();
        Ok(())
    }
}

/// Finishes a withdrawal that was cut short: the key was renamed, its certificate was not.
fn settle(paths: &Paths) -> Result<(), Error> {
    let certificate = paths.next_authority_certificate();
    if certificate.exists() && !paths.next_authority_key().exists() {
        let text = read(&certificate)?;
        let key = read_secret(&paths.authority_key())?;
        if authority::belong_together(&text, &key)? {
            return rename(&certificate, &paths.authority_certificate());
        }
        // The other way round: its key was never written.
        return fs::remove_file(&certificate).map_err(|source| file(&certificate, source));
    }
    Ok(())
}

/// The key that signs the history of events. A directory of an older version has none yet, and a new one may wait
/// for its name.
fn read_history_key(paths: &Paths, successions: &[Signed]) -> Result<SecretKey, Error> {
    let (path, next) = (paths.history_key(), paths.next_history_key());
    if !path.exists() {
        let key = SecretKey::generate()?;
        write(&path, &key.to_pem()?)?;
        return Ok(key);
    }
    let of = |path: &Path| {
        SecretKey::from_pem(&read_secret(path)?).map_err(|source| Error::Key {
            file: path.display().to_string(),
            source,
        })
    };
    let key = of(&path)?;
    let present = newest(&Signs::History, key.public(), successions);
    if present == key.public() {
        return Ok(key);
    }
    let waiting = of(&next)?;
    if waiting.public() == present {
        rename(&next, &path)?;
        return Ok(waiting);
    }
    let message = format!("the key {present} that signs the history is missing");
    Err(Refusal::new(Code::StateInvalid, message).into())
}

fn read_authority(certificate: &Path, key: &Path) -> Result<Authority, Error> {
    Authority::read(&read(certificate)?, &read_secret(key)?).map_err(|source| Error::Authority {
        file: certificate.display().to_string(),
        source,
    })
}

/// A private key, which is wiped once it is used.
fn read_secret(path: &Path) -> Result<Zeroizing<String>, Error> {
    read(path).map(Zeroizing::new)
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| file(path, source))
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    write_secret(path, text.as_bytes()).map_err(|source| file(path, source))
}

fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(|source| file(to, source))
}

fn file(path: &Path, source: std::io::Error) -> Error {
    Error::File {
        file: path.display().to_string(),
        source,
    }
}
