//! What is kept of one run.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use fedner_proto::v1;
use prost::Message;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::super::old_copy::copy;

pub(crate) const ENROL: &str = "/fedner.v1.Enrolment/Enrol";
pub(crate) const CHECK_IN: &str = "/fedner.v1.Federation/CheckIn";
pub(crate) const DOWNLOAD: &str = "/fedner.v1.Federation/Download";
pub(crate) const UPLOAD: &str = "/fedner.v1.Federation/Upload";
pub(crate) const DECLINE: &str = "/fedner.v1.Federation/Decline";
pub(crate) const EVALUATION: &str = "/fedner.v1.Federation/SubmitEvaluation";

/// The institution that takes part.
pub(crate) const NAME: &str = "i0";
/// With the runs created, and nobody enrolled.
pub(crate) const COORDINATOR: &str = "coordinator";
/// Enrolled, and not started.
pub(crate) const ENROLLED: &str = "enrolled";
/// After the run.
pub(crate) const FINISHED: &str = "finished";
const CALLS: &str = "calls.json";

/// One call and its answer, as gRPC frames them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Call {
    pub(crate) path: String,
    /// `fedner-session`, of programs that say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) session: Option<String>,
    #[serde(with = "digits")]
    pub(crate) request: Vec<u8>,
    /// Empty where the call was still open when the client ended.
    #[serde(with = "digits")]
    pub(crate) answer: Vec<u8>,
}

#[derive(Debug, Clone)]
pub(crate) struct Recording {
    folder: PathBuf,
    /// In the order in which they were begun.
    pub(crate) calls: Vec<Call>,
}

impl Recording {
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let text = fs::read_to_string(folder.join(CALLS))?;
        let mut calls: Vec<Call> = serde_json::from_str(&text)?;
        // Still open when the client ended.
        calls.retain(|call| !call.answer.is_empty());
        Ok(Self {
            folder: folder.to_owned(),
            calls,
        })
    }

    pub(crate) fn write(folder: &Path, calls: &[Call]) -> Result<()> {
        for path in [ENROL, CHECK_IN, DOWNLOAD, UPLOAD, DECLINE, EVALUATION] {
            let found = calls.iter().any(|call| call.path == path);
            ensure!(found, "{path} was not recorded");
        }
        let text = serde_json::to_string_pretty(calls)?;
        Ok(fs::write(folder.join(CALLS), text + "\n")?)
    }

    /// A directory as it was, in a folder of its own, for its owner alone.
    pub(crate) fn directory(&self, name: &str) -> Result<TempDir> {
        let place = TempDir::new()?;
        copy(&self.folder.join(name), place.path())?;
        close(place.path())?;
        Ok(place)
    }

    /// The last answer to a check-in that asks for something, and that.
    pub(crate) fn last_todo(&self) -> Result<(v1::CheckInResponse, v1::Assignment)> {
        for call in self.calls.iter().rev().filter(|call| call.path == CHECK_IN) {
            let answer: v1::CheckInResponse = only(&call.answer)?;
            if let Some(v1::check_in_response::Todo::Evaluate(assignment)) = &answer.todo {
                let assignment = assignment.clone();
                return Ok((answer, assignment));
            }
        }
        anyhow::bail!("no evaluation was asked for")
    }

    /// The recording with one thing changed in it, whatever that is.
    pub(crate) fn changed(&self) -> Result<Vec<(&'static str, Self)>> {
        let change = |path: &str, edit: &dyn Fn(&mut Call) -> Result<bool>| {
            let mut changed = self.clone();
            for call in changed.calls.iter_mut().filter(|call| call.path == path) {
                if edit(call)? {
                    return Ok(changed);
                }
            }
            anyhow::bail!("no such call")
        };
        let request = |call: &mut Call| Ok(flip_last(&mut call.request));
        let answer = |call: &mut Call| Ok(flip_last(&mut call.answer));
        let todo = |call: &mut Call| {
            let mut answer: v1::CheckInResponse = only(&call.answer)?;
            let Some(v1::check_in_response::Todo::Evaluate(assignment)) = &mut answer.todo else {
                return Ok(false);
            };
            assignment.version =
                assignment
                    .version
                    .replacen("\"weights\":\"", "\"weights\":\"0", 1);
            call.answer = framed(&[answer.encode_to_vec().into()]);
            Ok(true)
        };
        Ok(vec![
            ("another update", change(UPLOAD, &request)?),
            ("other counts", change(EVALUATION, &request)?),
            ("another object", change(DOWNLOAD, &answer)?),
            ("another model", change(CHECK_IN, &todo)?),
        ])
    }
}

fn flip_last(bytes: &mut [u8]) -> bool {
    let last = bytes.last_mut().map(|last| *last ^= 1);
    last.is_some()
}

/// The messages of a body.
pub(crate) fn messages(mut body: &[u8]) -> Result<Vec<Bytes>> {
    let mut messages = Vec::new();
    while let Some((head, rest)) = body.split_at_checked(5) {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let (message, rest) = rest.split_at_checked(length).context("cut off")?;
        messages.push(Bytes::copy_from_slice(message));
        body = rest;
    }
    ensure!(body.is_empty(), "{} bytes are no message", body.len());
    Ok(messages)
}

/// The only message of a body.
pub(crate) fn only<M: Message + Default>(body: &[u8]) -> Result<M> {
    let messages = messages(body)?;
    ensure!(messages.len() == 1, "{} messages", messages.len());
    Ok(M::decode(messages[0].clone())?)
}

/// Messages as a body.
pub(crate) fn framed(messages: &[Bytes]) -> Vec<u8> {
    let mut body = Vec::new();
    for message in messages {
        body.push(0);
        body.extend((message.len() as u32).to_be_bytes());
        body.extend_from_slice(message);
    }
    body
}

fn close(path: &Path) -> Result<()> {
    let is_folder = path.is_dir();
    let mode = if is_folder { 0o700 } else { 0o600 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    if is_folder {
        for entry in fs::read_dir(path)? {
            close(&entry?.path())?;
        }
    }
    Ok(())
}

/// Bytes as hexadecimal digits.
mod digits {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        hex::decode(String::deserialize(from)?).map_err(D::Error::custom)
    }
}
