//! All bytes that leave a client in a full run, decrypted and decoded: nothing is in them that no
//! receipt covers.

mod cover;
pub(crate) mod frames;
pub(crate) mod tap;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fedner_proto::v1;
use fedner_proto::v1::upload_request::Part;
use fedner_tests::cluster::{Member, Policy};
use fedner_tests::notes::Split;
use prost::Message;

use self::cover::Known;
use self::frames::{Connection, Request, decode};
use self::tap::Tap;
use crate::audit;
use crate::setting::{self, MINUTES, NO_NOISE, Setting, plan};

/// A name that no vocabulary has and no other text.
const SECRET: &str = "Quxzelborp";
/// What the run with noise comes to.
const VERSION: &str = "notes@3";
const PRIVACY: &str = "unit = \"institution\"\nclip = 1.0\nnoise_multiplier = 1.0\ndelta = 1e-5\nmax_epsilon = 50.0\n\
     evaluation_noise = 5.0";

/// A federation of one, its wire tapped since before it enrolled.
struct Tapped {
    setting: Setting,
    tap: Tap,
    invite: String,
}

impl Tapped {
    fn new() -> Result<Self> {
        let setting = Setting::with_model()?;
        let tap = Tap::start(&setting.cluster, "i0")?;
        let invite = setting.cluster.invite("i0")?;
        let text = fs::read_to_string(&invite)?;
        let text = text.replace(&setting.cluster.address(), &tap.address());
        fs::write(&invite, &text)?;
        let member = Member {
            name: "i0".to_owned(),
            data: plant(&setting, Split::Train)?,
            held_out: plant(&setting, Split::Devel)?,
            policy: Policy {
                allow_no_privacy: false,
                share_evaluation: true,
                max_epsilon_run: 1000.0,
                declared_examples: Some(77),
            },
        };
        setting.cluster.enrol_with(&member, &invite)?;
        setting.add_to_policy("i0", "share_audits = true\n")?;
        Ok(Self {
            setting,
            tap,
            invite: text,
        })
    }

    /// Two rounds with noise, a plan that the policy forbids, and an audit.
    fn run(&mut self) -> Result<()> {
        self.setting.cluster.start_client("i0")?;
        let run = self
            .setting
            .start_run(&plan(1, 1, 2, "head", "", PRIVACY))?;
        self.setting.wait_for_state(&run, "completed", MINUTES)?;
        let open = plan(1, 1, 1, "head", "", NO_NOISE).replace("\"notes\"", "\"open\"");
        self.setting.start_run(&open)?;
        let deadline = Instant::now() + MINUTES;
        while !self.sent(b"policy-forbids") {
            ensure!(Instant::now() < deadline, "the plan was not declined");
            std::thread::sleep(Duration::from_millis(50));
        }
        let client = self.setting.cluster.client_process("i0").context("i0")?;
        ensure!(client.terminate(Duration::from_secs(10))?.success());
        self.audit()
    }

    /// Tells the coordinator what an attack on the trained model made of the institution's text.
    fn audit(&self) -> Result<()> {
        let cluster = &self.setting.cluster;
        let [model, members, others] =
            ["exported", "0-train.conll", "0-devel.conll"].map(|name| self.setting.path(name));
        let model = model.to_str().context("path")?;
        cluster.coordinate(&["model", "export", VERSION, "--to", model])?;
        let mut attack = cluster.client_command("i0", &["audit", "run", "--model", model])?;
        attack.arg("--members").arg(members);
        attack.arg("--non-members").arg(others);
        setting::run(attack)?;
        let report = audit::kept(&self.setting)?.pop().context("a report")?;
        let mut submit = cluster.client_command("i0", &["audit", "submit"])?;
        submit.arg(report).args(["--model-version", VERSION]);
        setting::run(submit).map(drop)
    }

    fn sent(&self, needle: &[u8]) -> bool {
        self.tap.sent().iter().any(|sent| contains(sent, needle))
    }
}

/// Notes of an institution with the secret in them, as a name.
fn plant(setting: &Setting, split: Split) -> Result<std::path::PathBuf> {
    let path = setting.text(0, split, 6)?;
    let text = fs::read_to_string(&path)?;
    let planted = format!("# person = {SECRET}-file\nSeen\tO\n{SECRET}\tB-Person\n.\tO\n\n");
    fs::write(
        &path,
        format!("{text}# document = {SECRET}-note\n{planted}"),
    )?;
    Ok(path)
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

#[test]
fn every_byte_that_leaves_is_public_or_covered_by_a_receipt() -> Result<()> {
    let mut tapped = Tapped::new()?;
    tapped.run()?;
    let sent = tapped.tap.sent();
    let connections = sent
        .iter()
        .map(|sent| decode(sent))
        .collect::<Result<Vec<Connection>>>()?;
    let upkeep: Vec<&String> = connections.iter().flat_map(|c| &c.problems).collect();
    assert!(upkeep.is_empty(), "{upkeep:#?}");
    let requests: Vec<Request> = connections
        .into_iter()
        .flat_map(|connection| connection.requests)
        .collect();
    let calls: BTreeSet<String> = requests.iter().map(|r| r.header(":path")).collect();
    for call in [
        "Enrol",
        "CheckIn",
        "Download",
        "Upload",
        "SubmitEvaluation",
        "SubmitAudit",
        "Decline",
    ] {
        let found = calls.iter().any(|path| path.ends_with(&format!("/{call}")));
        assert!(found, "{call} was not seen: {calls:?}");
    }
    let known = Known::new(&tapped.setting, "i0", &tapped.tap.address(), &tapped.invite)?;
    let problems = known.problems(&requests);
    assert!(problems.is_empty(), "{problems:#?}");

    let texts = ["0-train.conll", "0-devel.conll"].map(|file| tapped.setting.path(file));
    for word in telling_words(&texts)? {
        for sent in &sent {
            assert!(!contains(sent, word.as_bytes()), "`{word}` left");
            assert!(
                !contains(sent, hex::encode(&word).as_bytes()),
                "`{word}` left"
            );
        }
    }
    // What finds nothing in an honest capture finds each thing that is added to it.
    for (name, tampered) in tampered(&requests)? {
        assert!(
            !known.problems(&tampered).is_empty(),
            "{name} was not found"
        );
    }
    for (name, extra) in [
        (
            "an unknown frame",
            vec![0, 0, 3, 0xbb, 0, 0, 0, 0, 0, b'f', b'l', b'u'],
        ),
        (
            "a ping with a message",
            [&[0, 0, 8, 6, 0, 0, 0, 0, 0][..], b"asthma!!"].concat(),
        ),
        (
            "a setting of its own",
            vec![0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 42],
        ),
        (
            "a farewell with words",
            [&[0, 0, 11, 7, 0, 0, 0, 0, 0][..], &[0; 8], b"flu"].concat(),
        ),
    ] {
        let longest = sent.iter().max_by_key(|sent| sent.len()).context("sent")?;
        let found = decode(&[longest.as_slice(), &extra].concat())?;
        assert_eq!(found.problems.len(), 1, "{name} was not found");
    }
    tapped.setting.assert_no_errors_logged();
    Ok(())
}

/// The words, persons and documents of the text that are long enough not to come up by chance, and
/// are no names of types, which are public.
fn telling_words(files: &[impl AsRef<Path>]) -> Result<BTreeSet<String>> {
    let labels = [
        "Person",
        "Date",
        "Location",
        "Identifier",
        "Organisation",
        "Drug",
    ];
    let mut words = BTreeSet::new();
    for file in files {
        for line in fs::read_to_string(file)?.lines() {
            let word = line
                .strip_prefix("# ")
                .and_then(|mark| mark.split(" = ").nth(1));
            let word = word.or_else(|| line.split('\t').next()).unwrap_or_default();
            if word.len() >= 7 && !labels.contains(&word) {
                words.insert(word.to_owned());
            }
        }
    }
    ensure!(words.contains(SECRET) && words.len() > 20);
    Ok(words)
}

/// The capture with one thing more in it than there may be.
fn tampered(requests: &[Request]) -> Result<Vec<(&'static str, Vec<Request>)>> {
    let change = |call: &str, change: &dyn Fn(&mut Request) -> Result<()>| {
        let mut changed = requests.to_vec();
        let path = format!("/{call}");
        let request = changed
            .iter_mut()
            .rev()
            .find(|request| request.header(":path").ends_with(&path))
            .context("no such call")?;
        change(request)?;
        Ok::<_, anyhow::Error>(changed)
    };
    Ok(vec![
        (
            "an unknown field",
            change("SubmitEvaluation", &|request| {
                // Field 15, three bytes long.
                rewrite::<v1::SubmitEvaluationRequest>(
                    request,
                    |_| {},
                    &[0x7a, 3, b'f', b'l', b'u'],
                )
            })?,
        ),
        (
            "a header",
            change("CheckIn", &|request| {
                let note = ("x-note".to_owned(), SECRET.to_owned());
                request.headers.push(note);
                Ok(())
            })?,
        ),
        (
            "another software's name",
            change("CheckIn", &|request| {
                rewrite::<v1::CheckInRequest>(request, |m| m.software.push('+'), &[])
            })?,
        ),
        (
            "another count of examples",
            change("CheckIn", &|request| {
                let edit = |message: &mut v1::CheckInRequest| {
                    for consent in &mut message.consents {
                        consent.body = consent.body.replace("\"examples\":77", "\"examples\":78");
                    }
                };
                rewrite(request, edit, &[])
            })?,
        ),
        (
            "a field of a consent",
            change("CheckIn", &|request| {
                let edit = |message: &mut v1::CheckInRequest| {
                    for consent in &mut message.consents {
                        consent.body = consent.body.replacen('{', "{\"note\":1,", 1);
                    }
                };
                rewrite(request, edit, &[])
            })?,
        ),
        (
            "another count of an evaluation",
            change("SubmitEvaluation", &|request| {
                let edit = |message: &mut v1::SubmitEvaluationRequest| {
                    if let Some(receipt) = &mut message.receipt {
                        receipt.body = receipt.body.replace("_positives\":", "_positives\":1");
                    }
                };
                rewrite(request, edit, &[])
            })?,
        ),
        (
            "another figure of an audit",
            change("SubmitAudit", &|request| {
                let edit = |message: &mut v1::SubmitAuditRequest| {
                    if let Some(report) = &mut message.report {
                        report.body = report.body.replace("\"auc\":0", "\"auc\":1");
                    }
                };
                rewrite(request, edit, &[])
            })?,
        ),
        (
            "an audited version of its own",
            change("SubmitAudit", &|request| {
                let edit = |message: &mut v1::SubmitAuditRequest| {
                    message.version = Some(SECRET.to_owned());
                };
                rewrite(request, edit, &[])
            })?,
        ),
        (
            "another update",
            change("Upload", &|request| {
                let last = request.body.last_mut().context("a body")?;
                *last ^= 1;
                Ok(())
            })?,
        ),
        (
            "more of an update",
            change("Upload", &|request| {
                let more = v1::UploadRequest {
                    part: Some(Part::Data(SECRET.as_bytes().to_vec())),
                };
                request.body.extend(framed(&more.encode_to_vec()));
                Ok(())
            })?,
        ),
        (
            "a reason in words",
            change("Decline", &|request| {
                let edit = |message: &mut v1::DeclineRequest| message.reason.push_str(SECRET);
                rewrite(request, edit, &[])
            })?,
        ),
        (
            "an object of its own",
            change("Download", &|request| {
                let edit = |message: &mut v1::DownloadRequest| message.digest[0] ^= 1;
                rewrite(request, edit, &[])
            })?,
        ),
        (
            "another call",
            change("CheckIn", &|request| {
                for (name, value) in &mut request.headers {
                    if name == ":path" {
                        "/fedner.v1.Federation/Report".clone_into(value);
                    }
                }
                Ok(())
            })?,
        ),
    ])
}

/// Edits the only message of a request, and puts `more` behind its fields.
fn rewrite<M: Message + Default>(
    request: &mut Request,
    edit: impl Fn(&mut M),
    more: &[u8],
) -> Result<()> {
    let mut message = M::decode(request.body.get(5..).context("a body")?)?;
    edit(&mut message);
    let mut bytes = message.encode_to_vec();
    bytes.extend_from_slice(more);
    ensure!(framed(&bytes) != request.body, "nothing was changed");
    request.body = framed(&bytes);
    Ok(())
}

/// A message as gRPC sends it.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u32).to_be_bytes();
    [&[0], length.as_slice(), message].concat()
}
