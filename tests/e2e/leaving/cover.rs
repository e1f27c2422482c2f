//! What covers each thing that leaves: that it is public, a consent, or a receipt.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use fedner_client::config::Directory;
use fedner_client::egress::Reason;
use fedner_coordinator::config::Paths;
use fedner_coordinator::store::Store;
use fedner_proto::v1::upload_request::Part;
use fedner_proto::{SESSION, v1};
use fedner_shared::audit::AuditReport;
use fedner_shared::digest::Digest;
use fedner_shared::history::{Seen, Tree};
use fedner_shared::keys::Trust;
use fedner_shared::refusal::Code;
use fedner_shared::sign::SecretKey;
use fedner_shared::statement::{Consent, UpdateReceipt};
use prost::Message;
use rcgen::{CertificateSigningRequestParams, DnType, DnValue};
use serde_json::Value;

use super::frames::Request;
use crate::setting::Setting;

/// How the HTTP/2 client of the program calls itself.
const TONIC: &str = "tonic/0.14.9";
/// The long poll, and the question at the start.
const WAITS: [u32; 2] = [20_000, 0];
const SERVICE: &str = "/fedner.v1.Federation/";

/// All that may be known of an institution.
#[derive(Debug)]
pub(crate) struct Known {
    address: String,
    institution: String,
    secret: String,
    signing_key: Vec<u8>,
    /// By digest: run and rounds.
    plans: BTreeMap<Digest, (String, u32)>,
    /// The coordinator's versions, by name.
    versions: BTreeSet<String>,
    /// Their files.
    objects: BTreeSet<Digest>,
    /// By digest: the kind.
    receipts: BTreeMap<Digest, String>,
    /// Those that receipts name.
    updates: BTreeSet<Digest>,
    declared: u32,
    policy: Digest,
    /// The coordinator's events.
    history: Tree,
    /// What it says is to be trusted.
    trust: Digest,
}

type Verdict = std::result::Result<(), String>;

impl Known {
    /// What coordinator and institution say of themselves, `address` being what the client dials.
    pub(crate) fn new(setting: &Setting, name: &str, address: &str, invite: &str) -> Result<Self> {
        let cluster = &setting.cluster;
        let directory = Directory::new(Some(cluster.client_directory(name)))?;
        let settings = directory.settings()?;
        let key = std::fs::read_to_string(directory.identity().join("signing.key"))?;
        let invite: toml::Table = toml::from_str(invite)?;
        let mut known = Self {
            address: address.to_owned(),
            institution: name.to_owned(),
            secret: invite["secret"].as_str().context("secret")?.to_owned(),
            signing_key: SecretKey::from_pem(&key)?.public().as_bytes().to_vec(),
            plans: BTreeMap::new(),
            versions: BTreeSet::new(),
            objects: BTreeSet::new(),
            receipts: BTreeMap::new(),
            updates: BTreeSet::new(),
            declared: settings.declared_examples.context("declared")?,
            policy: directory.policy()?.digest(),
            history: Tree::default(),
            trust: Trust {
                authorities: vec![std::fs::read_to_string(
                    Paths::new(cluster.coordinator_directory()).authority_certificate(),
                )?],
                successions: Vec::new(),
            }
            .digest(),
        };
        let events = Store::open_read_only(&cluster.coordinator_directory().join("state.sqlite"))?
            .read(|tx| tx.entry_digests(1))?;
        for digest in events {
            known.history.push(digest);
        }
        let text =
            |value: &Value| Ok::<_, anyhow::Error>(value.as_str().context("text")?.to_owned());
        for plan in rows(&cluster.consult(name, &["consent", "list"])?)? {
            let rounds = plan["rounds"].as_u64().context("rounds")? as u32;
            let digest = text(&plan["plan"])?.parse()?;
            known.plans.insert(digest, (text(&plan["run"])?, rounds));
        }
        for model in rows(&cluster.coordinate(&["model", "list"])?)? {
            known.versions.insert(text(&model["version"]["name"])?);
            for file in ["weights", "frozen", "config", "tokenizer"] {
                let file = &model["version"][file];
                if file.is_string() {
                    known.objects.insert(text(file)?.parse()?);
                }
            }
        }
        for receipt in rows(&cluster.consult(name, &["receipts", "list"])?)? {
            let digest = text(&receipt["receipt"])?.parse()?;
            known.receipts.insert(digest, text(&receipt["kind"])?);
            if receipt["blob"].is_string() {
                known.updates.insert(text(&receipt["blob"])?.parse()?);
            }
        }
        Ok(known)
    }

    /// What of the requests nothing covers.
    pub(crate) fn problems(&self, requests: &[Request]) -> Vec<String> {
        let checks = requests.iter().flat_map(|request| {
            let path = request.header(":path");
            let body = if request.unsaid {
                Ok(())
            } else {
                self.body(&path, &request.body)
            };
            [self.headers(request), body]
                .into_iter()
                .filter_map(Result::err)
                .map(move |problem| format!("{path}: {problem}"))
        });
        checks.collect()
    }

    fn headers(&self, request: &Request) -> Verdict {
        let agent = format!("{} {TONIC}", fedner_client::SOFTWARE);
        for (name, value) in &request.headers {
            let known = match name.as_str() {
                ":method" => "POST",
                ":scheme" => "http",
                ":authority" => &self.address,
                // Looked at with the body.
                ":path" => continue,
                "te" => "trailers",
                "content-type" => "application/grpc",
                "user-agent" => &agent,
                // Drawn at the start of the program, before it has read anything.
                SESSION => {
                    let digits = value.bytes().all(|byte| byte.is_ascii_hexdigit());
                    holds("the session", value.len() == 16 && digits)?;
                    continue;
                }
                _ => return Err(format!("the header {name}: {value}")),
            };
            if value != known {
                return Err(format!("the header {name} is {value}: expected {known}"));
            }
        }
        Ok(())
    }

    fn body(&self, path: &str, body: &[u8]) -> Verdict {
        let messages = messages(body)?;
        if path == "/fedner.v1.Enrolment/Enrol" {
            return self.enrolment(&exact(one(&messages)?)?);
        }
        match path.strip_prefix(SERVICE) {
            Some("CheckIn") => self.check_in(&exact(one(&messages)?)?),
            Some("Download") => {
                let wanted: v1::DownloadRequest = exact(one(&messages)?)?;
                holds(
                    "the object",
                    self.objects.contains(&digest(&wanted.digest)?),
                )?;
                holds("the offset", wanted.offset == 0)
            }
            Some("UploadOffset") => {
                let asked: v1::UploadOffsetRequest = exact(one(&messages)?)?;
                holds(
                    "the update asked for",
                    self.updates.contains(&digest(&asked.digest)?),
                )
            }
            Some("Upload") => self.upload(&messages),
            Some("Progress") => {
                let progress: v1::ProgressRequest = exact(one(&messages)?)?;
                self.place(&progress.run, progress.round, progress.attempt)?;
                holds("the stage", (1..=4).contains(&progress.stage))
            }
            Some("Decline") => {
                let declined: v1::DeclineRequest = exact(one(&messages)?)?;
                self.place(&declined.run, declined.round, declined.attempt)?;
                holds("the task", (1..=2).contains(&declined.task))?;
                holds("when again", declined.again_ms.is_none())?;
                let code = Code::parse(&declined.code).ok_or("the code")?;
                holds(
                    "the reason",
                    Reason::from_code(code).as_str() == declined.reason,
                )
            }
            Some("SubmitEvaluation") => {
                let submitted: v1::SubmitEvaluationRequest = exact(one(&messages)?)?;
                self.receipt(submitted.receipt.as_ref(), "evaluation")
                    .map(drop)
            }
            Some("SubmitAudit") => self.audit(&exact(one(&messages)?)?),
            Some(_) | None => Err("a call that is not needed".to_owned()),
        }
    }

    fn enrolment(&self, request: &v1::EnrolRequest) -> Verdict {
        holds("the invite's secret", request.secret == self.secret)?;
        holds("the signing key", request.signing_key == self.signing_key)?;
        let asked = CertificateSigningRequestParams::from_pem(&request.certificate_request);
        let asked = asked.map_err(|error| error.to_string())?.params;
        let names: Vec<_> = asked.distinguished_name.iter().collect();
        let own = DnValue::Utf8String(self.institution.clone());
        holds("the name asked for", names == [(&DnType::CommonName, &own)])?;
        let plain = asked.subject_alt_names.is_empty() && asked.custom_extensions.is_empty();
        holds("what else is asked for", plain)
    }

    fn check_in(&self, request: &v1::CheckInRequest) -> Verdict {
        holds("the wait", WAITS.contains(&request.wait_ms))?;
        holds("the software", request.software == fedner_client::SOFTWARE)?;
        holds("the protocol", request.protocol == fedner_proto::PROTOCOL)?;
        // The policy here has no hours, and nobody has paused the institution.
        let at_once = request.not_before_ms.is_none() && request.not_before_code.is_empty();
        holds("when it works", at_once)?;
        for plan in &request.known_plans {
            holds("a known plan", self.plans.contains_key(&digest(plan)?))?;
        }
        for plan in &request.plans_under_way {
            holds("a plan under way", self.plans.contains_key(&digest(plan)?))?;
        }
        // How far the coordinator's own history goes, as it said itself.
        if let Some(signed) = &request.history_seen {
            let seen: Seen = canonical(&signed.body)?;
            holds("the history's size", seen.size == request.history_size)?;
            let own = seen.institution.as_str() == self.institution;
            holds("the history's institution", own)?;
            let root = self.history.root(seen.size);
            holds("the history's root", root == Some(seen.root))?;
        } else {
            holds("the history's size", request.history_size == 0)?;
        }
        // What the coordinator said is to be trusted, as a digest.
        if !request.trust.is_empty() {
            holds("what is trusted", digest(&request.trust)? == self.trust)?;
        }
        for signed in &request.consents {
            let consent: Consent = canonical(&signed.body)?;
            holds("the consent's plan", self.plans.contains_key(&consent.plan))?;
            let own = consent.institution.as_str() == self.institution;
            holds("the consent's institution", own)?;
            holds("the declared examples", consent.examples == self.declared)?;
            holds("the policy", consent.policy == self.policy)?;
            let days = consent.expires.since(consent.at).as_secs() / 86_400;
            holds("the consent's life", days == 90)?;
        }
        Ok(())
    }

    /// The receipt, and then the very bytes that it names.
    fn upload(&self, messages: &[&[u8]]) -> Verdict {
        let (first, rest) = messages.split_first().ok_or("an empty upload")?;
        let Some(Part::Start(start)) = exact::<v1::UploadRequest>(first)?.part else {
            return Err("an upload without a receipt".to_owned());
        };
        holds("the offset", start.offset == 0)?;
        let body = self.receipt(start.receipt.as_ref(), "update")?;
        let receipt: UpdateReceipt = canonical(&body)?;
        let mut update = Vec::new();
        for message in rest {
            match exact::<v1::UploadRequest>(message)?.part {
                Some(Part::Data(data)) => update.extend(data),
                Some(Part::Start(_)) | None => return Err("no data in an upload".to_owned()),
            }
        }
        holds("the update's length", update.len() as u64 == receipt.bytes)?;
        holds("the update", Digest::of(&update) == receipt.blob)
    }

    /// A report that is a receipt itself, and the version that it is to be kept with.
    fn audit(&self, request: &v1::SubmitAuditRequest) -> Verdict {
        let body = self.receipt(request.report.as_ref(), "audit")?;
        canonical::<AuditReport>(&body)?;
        let version = request.version.as_ref();
        let is_known = version.is_none_or(|name| self.versions.contains(name));
        holds("the version", is_known)
    }

    /// The body of a statement of which the institution keeps a receipt.
    fn receipt(
        &self,
        signed: Option<&v1::Signed>,
        kind: &str,
    ) -> std::result::Result<String, String> {
        let signed = signed.ok_or("no receipt")?;
        let kept = self.receipts.get(&Digest::of(signed.body.as_bytes()));
        holds("the receipt", kept.is_some_and(|kept| kept == kind))?;
        holds("the signature's length", signed.signature.len() == 64)?;
        Ok(signed.body.clone())
    }

    fn place(&self, run: &str, round: u32, attempt: u32) -> Verdict {
        let of_run = self.plans.values().find(|(known, _)| known == run);
        let rounds = of_run.ok_or("the run")?.1;
        holds("the round", round <= rounds)?;
        holds("the attempt", attempt <= 3)
    }
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> String {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    }
}

fn rows(list: &Value) -> Result<&Vec<Value>> {
    list.as_array().context("a list")
}

fn holds(what: &str, known: bool) -> Verdict {
    if known {
        Ok(())
    } else {
        Err(format!("{what} is covered by nothing"))
    }
}

/// The messages in a gRPC body: each with a flag for compression and its length before it.
fn messages(mut body: &[u8]) -> std::result::Result<Vec<&[u8]>, String> {
    let mut messages = Vec::new();
    while let Some((head, rest)) = body.split_first_chunk::<5>() {
        holds("compression", head[0] == 0)?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let (message, after) = rest
            .split_at_checked(length)
            .ok_or("a message was cut off")?;
        messages.push(message);
        body = after;
    }
    holds("what follows the messages", body.is_empty())?;
    Ok(messages)
}

fn one<'a>(messages: &[&'a [u8]]) -> std::result::Result<&'a [u8], String> {
    match messages {
        [message] => Ok(message),
        _ => Err(format!("{} messages: expected one", messages.len())),
    }
}

/// The message, if its known fields account for every byte.
fn exact<M: Message + Default>(bytes: &[u8]) -> std::result::Result<M, String> {
    let message = M::decode(bytes).map_err(|error| error.to_string())?;
    holds("an unknown field", message.encode_to_vec() == bytes)?;
    Ok(message)
}

/// The statement, if its known fields account for every character.
fn canonical<S: fedner_shared::sign::Statement>(body: &str) -> std::result::Result<S, String> {
    let statement: S = serde_json::from_str(body).map_err(|error| error.to_string())?;
    let again = serde_json::to_string(&statement).map_err(|error| error.to_string())?;
    holds("an unknown field of a statement", again == body)?;
    Ok(statement)
}

fn digest(bytes: &[u8]) -> std::result::Result<Digest, String> {
    let bytes = bytes.try_into().map_err(|_| "a digest of another length")?;
    Ok(Digest::from_bytes(bytes))
}
