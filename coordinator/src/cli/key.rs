//! `key`: keys and certificates, and how new ones take their place.

mod succession;

use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use fedner_host::output::{Output, or_dash, table};
use fedner_proto::v1;
use fedner_proto::v1::rotate_key_request::Which;
use fedner_shared::time::Time;
use serde::Serialize;
use zeroize::Zeroizing;

use super::certificate::{certificate_request, generate, renew, write};
use super::connect;
use super::failed::Failed;
use crate::config::Paths;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Every key and certificate, and until when it holds
    List,
    /// Make a new key beside or in place of the present one; nobody enrols anew
    Rotate { what: Rotated },
    /// Trust the older authority no more, once everybody has a certificate of the new one
    Withdraw {
        /// Even though some have none yet; they have to enrol anew
        #[arg(long)]
        force: bool,
    },
    /// Write a key and a certificate for an operator or a viewer into a directory
    Issue {
        name: String,
        #[arg(long, value_enum, default_value_t = Person::Viewer)]
        role: Person,
        /// A new directory; `--dir` of an operator's commands may point at it
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
    },
    /// Make all certificates of that name worthless, and end what they have under way
    Revoke {
        name: String,
        #[arg(long, value_enum, default_value_t = Person::Viewer)]
        role: Person,
    },
    /// Write the plans of open runs to stdout, for `key succeed`
    OpenPlans,
    /// Make a new key for plans where the old one is, without a coordinator
    Succeed {
        /// What `key open-plans` wrote
        #[arg(long, value_name = "FILE")]
        plans: PathBuf,
        /// The present key
        #[arg(long, value_name = "FILE")]
        old: PathBuf,
        /// Where the new key is written
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Give the coordinator what `key succeed` wrote
    Install { succession: PathBuf },
}

/// What may be rotated by one command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Rotated {
    /// The certificate authority; `key withdraw` ends the older one
    Authority,
    /// The certificate of the listening socket
    Server,
    /// The certificate by which these commands call the coordinator
    Operator,
    /// The key in the directory that signs plans
    Plans,
    /// The key that signs the history of events
    History,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Person {
    Operator,
    Viewer,
}

impl From<Person> for v1::Person {
    fn from(person: Person) -> Self {
        match person {
            Person::Operator => Self::Operator,
            Person::Viewer => Self::Viewer,
        }
    }
}

#[derive(Serialize)]
struct Row {
    what: String,
    name: Option<String>,
    state: String,
    expires: Option<Time>,
    fingerprint: Option<String>,
}

pub(super) async fn run(command: Command, paths: &Paths, output: &Output) -> Result<(), Failed> {
    match command {
        Command::List => list(paths, output).await,
        Command::Rotate { what } => match what {
            Rotated::Authority => rotate(Which::Authority, paths, output).await,
            Rotated::Server => rotate(Which::Server, paths, output).await,
            Rotated::History => rotate(Which::History, paths, output).await,
            Rotated::Plans => succession::rotate(paths, output).await,
            Rotated::Operator => replace_operator(paths, output).await,
        },
        Command::Withdraw { force } => {
            let request = v1::WithdrawAuthorityRequest { force };
            let answer = connect::operations(paths)
                .await?
                .withdraw_authority(request)
                .await?;
            let behind = answer.into_inner().left_behind;
            output.say("the older authority is trusted no more");
            if !behind.is_empty() {
                output.say(format!("these enrol anew: {}", behind.join(", ")));
            }
            Ok(())
        }
        Command::Issue { name, role, to } => issue(&name, role, &to, paths, output).await,
        Command::Revoke { name, role } => {
            let request = v1::RevokeCertificateRequest {
                name: name.clone(),
                role: v1::Person::from(role).into(),
            };
            connect::operations(paths)
                .await?
                .revoke_certificate(request)
                .await?;
            output.say(format!("{name}: revoked"));
            Ok(())
        }
        Command::OpenPlans => succession::open_plans(paths, output).await,
        Command::Succeed { plans, old, to } => succession::succeed(&plans, &old, &to, output),
        Command::Install { succession } => succession::install(&succession, paths, output).await,
    }
}

async fn list(paths: &Paths, output: &Output) -> Result<(), Failed> {
    let answer = connect::operations(paths)
        .await?
        .list_keys(v1::ListKeysRequest {})
        .await?;
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    let rows = answer.into_inner().keys.into_iter().map(|key| Row {
        what: key.what,
        name: some(key.name),
        state: key.state,
        expires: key.expires_ms.map(Time::from_millis),
        fingerprint: some(key.fingerprint),
    });
    let rows: Vec<Row> = rows.collect();
    output.data(&rows, |rows| {
        let line = |row: &Row| {
            [
                row.what.clone(),
                or_dash(row.name.clone()),
                row.state.clone(),
                or_dash(row.expires),
                or_dash(row.fingerprint.clone()),
            ]
        };
        table(
            ["what", "name", "state", "until", "fingerprint"],
            &[],
            rows.iter().map(line),
        )
    })?;
    Ok(())
}

async fn rotate(which: Which, paths: &Paths, output: &Output) -> Result<(), Failed> {
    let request = v1::RotateKeyRequest {
        which: which.into(),
    };
    let answer = connect::operations(paths)
        .await?
        .rotate_key(request)
        .await?;
    output.say(format!(
        "the new one is {}",
        answer.into_inner().fingerprint
    ));
    if which == Which::Authority {
        output
            .say("institutions learn it when they check in; then: fedner-coordinator key withdraw");
    }
    Ok(())
}

/// A new key and certificate in place of those in the directory, whose older ones are revoked.
async fn replace_operator(paths: &Paths, output: &Output) -> Result<(), Failed> {
    let name = renew(paths, connect::operations(paths).await?, true).await?;
    output.say(format!(
        "{name} has a new key; older certificates of that name are revoked"
    ));
    Ok(())
}

async fn issue(
    name: &str,
    role: Person,
    to: &Path,
    paths: &Paths,
    output: &Output,
) -> Result<(), Failed> {
    super::backup::create_private(to)?;
    let key = generate()?;
    let request = v1::IssueCertificateRequest {
        name: name.to_owned(),
        role: v1::Person::from(role).into(),
        certificate_request: certificate_request(&key)?,
        replace: false,
    };
    let answer = connect::operations(paths)
        .await?
        .issue_certificate(request)
        .await?
        .into_inner();
    let target = Paths::new(to);
    let (key_path, certificate) = match role {
        Person::Operator => (target.operator_key(), target.operator_certificate()),
        Person::Viewer => (target.viewer_key(), target.viewer_certificate()),
    };
    write(
        &target.authority_certificate(),
        &answer.authorities.concat(),
    )?;
    write(&key_path, &Zeroizing::new(key.serialize_pem()))?;
    write(&certificate, &answer.certificate)?;
    super::backup::copy_file(&paths.config(), &target.config())?;
    let role = v1::Person::from(role).as_str_name();
    output.say(format!(
        "wrote a certificate of the {} {name} into {}",
        role.trim_start_matches("PERSON_").to_lowercase(),
        to.display()
    ));
    Ok(())
}
