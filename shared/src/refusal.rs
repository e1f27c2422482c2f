//! What is said to a peer or a user whose request is refused: a stable code, a message, a hint.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $class:ident, $hint:literal;)*) => {
        /// A stable name for a reason to refuse. The text never changes once released.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            pub const fn class(self) -> Class {
                match self { $(Self::$name => Class::$class,)* }
            }

            /// What the reader can do about it.
            pub const fn hint(self) -> &'static str {
                match self { $(Self::$name => $hint,)* }
            }
        }
    };
}

/// The kind of refusal; each has one gRPC status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Who the peer is could not be established.
    Unauthenticated,
    /// The peer is known and may not do this.
    Forbidden,
    /// The request is wrong in itself.
    Invalid,
    /// The thing named does not exist.
    Missing,
    /// The thing exists already.
    Exists,
    /// The request does not fit the present state.
    State,
    /// Too much, too large, or no room.
    Exhausted,
}

codes! {
    // Enrolment and identity.
    InviteUnknown = "invite-unknown", Unauthenticated, "ask the operator for a new invite";
    InviteExpired = "invite-expired", Unauthenticated, "ask the operator for a new invite; `--ttl` sets how long it lasts";
    InviteUsed = "invite-used", Unauthenticated, "an invite works once; if it was not you who used it, tell the operator at once";
    CertificateMissing = "certificate-missing", Unauthenticated, "enrol first: `fedner-client enroll INVITE`";
    CertificateUntrusted = "certificate-untrusted", Unauthenticated, "the message says whose certificate it is: a network that inspects TLS must let this connection through; whose own certificate is not accepted needs a new invite";
    ServerName = "server-name", Unauthenticated, "dial the coordinator by a name that its certificate has, or say which one to expect: `server_name` in client.toml; operators list `names` in coordinator.toml";
    ServerExpired = "server-expired", Unauthenticated, "if the clock here is right, the operator must start the coordinator again, or renew its authority";
    ServerNotYetValid = "server-not-yet-valid", Unauthenticated, "set the clock here, or the coordinator's";
    NoTls = "no-tls", Unauthenticated, "is the address right? something else listens there, or a proxy answers in its place";
    ProxyRefused = "proxy-refused", State, "see `proxy` in client.toml and HTTPS_PROXY: its address, its credentials, and whether it may reach the coordinator";
    CertificateRequest = "certificate-request-invalid", Invalid, "make the request with `fedner-client enroll`";
    RoleForbidden = "role-forbidden", Forbidden, "use the certificate of a role that may call this";
    InstitutionUnknown = "institution-unknown", Forbidden, "see `fedner-coordinator institution list`";
    InstitutionSuspended = "institution-suspended", Forbidden, "ask the operator to lift the suspension";
    InstitutionRevoked = "institution-revoked", Forbidden, "a revoked certificate is never restored; enrol again with a new invite";
    IdentityInUse = "identity-in-use", State, "another running program uses this identity: stop the copy, or move the institution with `fedner-client move`";
    DirectoryMoved = "directory-moved", State, "this institution works from the directory that it was moved to; this one is kept for its books";
    ClientTooOld = "client-too-old", Forbidden, "the coordinator asks for a newer fedner-client: install it and start again";
    CertificateExpired = "certificate-expired", Unauthenticated, "certificates renew themselves while they hold and the coordinator runs; after that an institution needs `fedner-coordinator invite NAME`, an operator elsewhere `fedner-coordinator key issue NAME`";
    CertificateRevoked = "certificate-revoked", Unauthenticated, "an operator revoked this name's certificates; ask for a new one: `fedner-coordinator key issue NAME`";
    KeySuccession = "key-succession-invalid", Forbidden, "the present key must sign which key comes next; see `fedner-coordinator key --help` or `fedner-client key --help`";
    AuthorityState = "authority-state", State, "see `fedner-coordinator key list`";
    InviteVoid = "invite-void", Unauthenticated, "the name is enrolled, or was; ask the operator for an invite that lets it come back: `fedner-coordinator invite NAME --reenrol`";
    InviteRequired = "invite-reenrol", Exists, "the name is enrolled, or was; `--reenrol` writes an invite that replaces its keys and lets it come back";
    // Rations.
    RateLimited = "rate-limited", Exhausted, "too many of these in a short time; wait a little and try again";
    TooManyRequests = "too-many-requests", Exhausted, "too many requests at once; wait for answers before asking more";
    ConnectionLimit = "connection-limit", Exhausted, "too many connections; use one for all calls";
    MessageTooLarge = "message-too-large", Exhausted, "send the message in the form that fedner-client gives it; the operator's guide has the sizes";
    MessageCompressed = "message-compressed", Invalid, "send messages uncompressed";
    RequestSlow = "request-too-slow", Exhausted, "send the request without pauses; an upload goes on from its offset";
    // Plans, runs and models.
    PlanInvalid = "plan-invalid", Invalid, "fix the plan file; shared/src/plan/PLAN.md lists every key";
    PlanSignature = "plan-signature-invalid", Forbidden, "the plan must be signed by the operator's key of this coordinator";
    PlanTooNew = "plan-too-new", Forbidden, "the plan has something that this fedner-client does not know: install a newer one and start it, and the plan is shown again";
    PlanTooNoisy = "plan-too-noisy", Invalid, "train fewer weights (method head), invite more institutions or, with sampled units, take larger batches, or accept a larger ε; `--force` creates the run all the same";
    RunUnknown = "run-unknown", Missing, "see `fedner-coordinator run list`";
    RunExists = "run-exists", Exists, "this very plan was created already; change it or use the existing run";
    RunState = "run-state", State, "see `fedner-coordinator run explain`";
    RoundStale = "round-stale", State, "check in again for the current assignment";
    QuorumLost = "quorum-lost", State, "readmit another institution first, or take this one out for good: `institution suspend`";
    NotInCohort = "not-in-cohort", Forbidden, "the plan does not name this institution";
    ConsentMissing = "consent-missing", Forbidden, "grant it at the institution: `fedner-client consent grant PLAN`";
    ConsentInvalid = "consent-invalid", Forbidden, "the consent must be signed by the institution over this plan's digest";
    ExamplesOutOfRange = "examples-out-of-range", Invalid, "declare between 1 and the plan's `max_examples` examples";
    ModelUnknown = "model-unknown", Missing, "see `fedner-coordinator model list`";
    ModelExists = "model-exists", Exists, "this very model was imported already";
    ModelPruned = "model-pruned", Missing, "`model prune` let go of it on purpose; a backup from before may have it";
    CheckpointInvalid = "checkpoint-invalid", Invalid, "give a Hugging Face directory of a BERT model: config.json, tokenizer.json or vocab.txt, and model.safetensors or its parts";
    AnnotationUndeclared = "annotation-undeclared", Invalid, "list the entity types that your text annotates as `annotated_types` in client.toml, then grant the plan again";
    LabelsMismatch = "labels-mismatch", Invalid, "make the labels of plan, model and corpus the same";
    // Updates.
    UpdateUnexpected = "update-unexpected", State, "nothing is awaited from this institution in this round";
    UpdateRepeated = "update-repeated", Exists, "this round already has an update from this institution";
    UpdateBase = "update-base-version", State, "the update was trained on another version than the round's";
    BaseMismatch = "base-mismatch", Forbidden, "the coordinator sends another model than the plan names; ask the operator, and agree to nothing meanwhile";
    UpdateShape = "update-shape", Invalid, "the update does not match the plan's manifest";
    UpdateRange = "update-range", Invalid, "a value lies outside what clip and noise allow";
    UpdateNorm = "update-norm", Invalid, "the update is longer than steps and clip of the plan, or its `max_update_norm`, allow";
    UpdateFormat = "update-format", Invalid, "the bytes are not an update of this version of fedner";
    UpdateWeight = "update-weight", Invalid, "the weight must be the one declared with the consent";
    UpdateDigest = "update-digest", Invalid, "the bytes differ from the digest that was announced; send them again";
    RosterRefused = "roster-refused", Forbidden, "compare the fingerprints of `fedner-client consent list` with the institutions, then name them in `known_institutions` of policy.toml";
    SecureStep = "secure-step-invalid", Invalid, "the statement does not fit what was said before in this attempt, which is tried again";
    SignatureInvalid = "signature-invalid", Forbidden, "the statement must be signed with the key given at enrolment";
    TransferSize = "transfer-size", Invalid, "the stream is longer or shorter than announced";
    TransferOffset = "transfer-offset", State, "ask for the offset and go on from there";
    BlobUnknown = "blob-unknown", Missing, "the coordinator holds no such object for you";
    EvaluationInvalid = "evaluation-invalid", Invalid, "counts must be non-negative and of the plan's types";
    EvaluationRange = "evaluation-range", Invalid, "counts must be of at most as many entities as the declared text can have; declare `declared_held_out` in client.toml";
    StorageFull = "storage-full", Exhausted, "free disk space; the transfer goes on where it stopped";
    BucketUnknown = "bucket-unknown", Missing, "make the bucket, or mend `blobs_url` in coordinator.toml; AWS_REGION and AWS_ENDPOINT_URL say where it is";
    BucketForbidden = "bucket-forbidden", Forbidden, "give credentials that may list, read, write and delete there: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a role";
    BucketClock = "bucket-clock", State, "set the clock of this machine: the store takes no request that is many minutes off";
    BucketUnreachable = "bucket-unreachable", State, "does the store run, and is AWS_ENDPOINT_URL right? what failed may be done again";
    StoreUnreachable = "store-unreachable", State, "does the database's server run, and is `store_url` in coordinator.toml right? what failed may be done again";
    StoreForbidden = "store-forbidden", Forbidden, "see PGPASSWORD or PGPASSFILE, and whether the role may make tables in the database of `store_url`";
    StoreUnknown = "store-unknown", Missing, "make the database first: `createdb`; `store_url` in coordinator.toml names it";
    StoreTaken = "store-taken", State, "another coordinator works with this database since; stop one of them";
    RequestInvalid = "request-invalid", Invalid, "the request lacks a field or has one out of range";
    // At the institution.
    PolicyForbids = "policy-forbids", Forbidden, "see `fedner-client policy show`";
    UnitForbidden = "unit-forbidden", Forbidden, "the institution's policy lists the `units` that plans may protect; see `fedner-client policy show`";
    TooFewUnits = "too-few-units", Forbidden, "declare at least the policy's `min_units`, or choose a plan that protects another unit";
    ResourcesLacking = "resources-lacking", Forbidden, "give the machine what the plan requires, or declare what it has under `[resources]` in client.toml, then grant the plan anew";
    OperatorForbidden = "operator-forbidden", Forbidden, "the institution's policy lists the keys of `operators`; see `fedner-client policy show`";
    InstitutionPaused = "institution-paused", State, "the institution has paused its part; `fedner-client resume` ends that";
    OutsideHours = "outside-hours", State, "the institution's policy has `hours`; ask again within them";
    ReleaseHeld = "release-held", State, "the update waits for a person: `fedner-client release list`";
    ReleaseRefused = "release-refused", Forbidden, "a person at the institution kept the update from leaving";
    BudgetSpent = "budget-spent", Forbidden, "the next round would pass the largest ε; see `fedner-client privacy show`";
    NotFinite = "update-not-finite", Invalid, "training diverged; lower the learning rate";
    NotDone = "not-done", Invalid, "ask the institution: its own log has the cause, which stays there";
    DataUnavailable = "data-unavailable", State, "mount the share or mend the path in client.toml; the run asks again";
    CorpusInvalid = "corpus-invalid", Invalid, "mend the line and try again; nothing was trained on";
    CorpusTags = "corpus-tags-invalid", Invalid, "mend the tags, or read them as conlleval does: `--invalid-tags repair`, in client.toml `invalid_tags = \"repair\"` under `[reading]`; nothing was trained on";
    CorpusEmpty = "corpus-empty", Invalid, "give a file with at least one sentence";
    TextInvalid = "text-invalid", Invalid, "give files of UTF-8 text that can be read";
    TextTooLong = "text-too-long", Exhausted, "send shorter texts, or fewer at a time; a stream of lines may be as long as it likes";
    DeviceUnknown = "device-unknown", Invalid, "use auto or cpu, or build with the feature the device needs";
    ConfigInvalid = "config-invalid", Invalid, "mend the configuration file";
    SecretReadable = "secret-readable", State, "others on this machine could read it: make a new one if you do not trust them all, and `chmod 600` it";
    HistoryRewritten = "history-rewritten", State, "the coordinator's record of events does not go on from what was shown here; keep this directory as evidence and ask the operator and the other institutions";
    StateInvalid = "state-invalid", State, "was the directory changed by hand or by another version?";
    NotEnrolled = "not-enrolled", State, "enrol first: `fedner-client enroll INVITE`";
    AlreadyExists = "already-exists", Exists, "choose another directory or remove the old one";
    Unreachable = "coordinator-unreachable", State, "is it running, and is the address right? see `fedner-client check`";
    LedgerInvalid = "ledger-invalid", State, "the ledger's chain is broken; restore the directory from a backup and tell the operator";
    LedgerBehind = "ledger-behind", State, "this directory is an old copy; bring back the newest one: what was spent since would not be counted. Where that is lost for good: `fedner-client privacy recover`";
    AuditInvalid = "audit-invalid", Invalid, "see `fedner-client audit run --help` for what an attack needs";
    AuditModel = "audit-model-unknown", Missing, "audit a model as `fedner-coordinator model export` writes it, and name its version with `--model-version`";
    AuditLimit = "audit-limit", Exhausted, "as many reports of an institution are kept with a version as tell anything new";
    NothingFound = "nothing-found", Missing, "check the spelling";
}

/// For how long an institution's refusal of an assignment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasts {
    /// Asking again would only repeat it: the institution takes no further part.
    ForGood,
    /// This attempt is lost to it.
    Attempt,
    /// Until a time of the day, or until somebody has mended it: it is asked again, and the attempt stays
    /// open for it. All of these are decided before text is read.
    UntilMended,
}

impl Code {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "every other code is of one attempt"
    )]
    pub const fn lasts(self) -> Lasts {
        match self {
            Self::BudgetSpent
            | Self::PolicyForbids
            | Self::UnitForbidden
            | Self::TooFewUnits
            | Self::ResourcesLacking
            | Self::OperatorForbidden
            | Self::PlanTooNew
            | Self::ConsentMissing => Lasts::ForGood,
            Self::OutsideHours
            | Self::DataUnavailable
            | Self::DeviceUnknown
            | Self::ConfigInvalid
            | Self::StorageFull
            | Self::StateInvalid
            | Self::InstitutionPaused => Lasts::UntilMended,
            _ => Lasts::Attempt,
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("unknown code `{text}`")))
    }
}

/// The peer's or the user's fault, told in a way that they can act on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub code: Code,
    /// Names the thing, what was expected and what was found.
    pub message: String,
}

impl Refusal {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_distinct_and_parse_back() {
        let texts: BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(texts.len(), Code::ALL.len());
        for code in Code::ALL {
            assert_eq!(Code::parse(code.as_str()), Some(*code));
            assert!(!code.hint().is_empty());
        }
    }
}
