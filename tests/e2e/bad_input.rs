//! What is wrong is named, counted and loses nothing.

use std::fs;

use anyhow::{Context, Result};
use fedner_proto::v1::check_in_response::Todo;
use fedner_proto::v1::federation_client::FederationClient;
use fedner_proto::v1::upload_request::Part;
use fedner_proto::{convert, v1};
use fedner_shared::bert::tags;
use fedner_shared::checkpoint::{self, Checkpoint};
use fedner_shared::digest::Digest;
use fedner_shared::id::InstitutionId;
use fedner_shared::plan::Plan;
use fedner_shared::refusal::Code;
use fedner_shared::sign::{SecretKey, Signed};
use fedner_shared::statement::{Consent, UpdateReceipt};
use fedner_shared::time::Time;
use fedner_shared::update::encode;
use fedner_tests::grpc::{Credentials, channel};
use fedner_tests::process;
use tonic::transport::Channel;

use crate::setting::{NO_NOISE, Setting, plan, refused};

/// An institution that speaks the protocol by hand, with a real certificate and signing key.
pub(crate) struct Hand {
    pub(crate) name: InstitutionId,
    pub(crate) client: FederationClient<Channel>,
    pub(crate) key: SecretKey,
}

impl Hand {
    pub(crate) async fn new(setting: &Setting, name: &str) -> Result<Self> {
        let identity = setting.cluster.client_directory(name).join("identity");
        let (certificate, key) = (identity.join("tls.pem"), identity.join("tls.key"));
        let credentials = Credentials {
            certificate: &certificate,
            key: &key,
        };
        let channel = channel(
            &setting.cluster.address(),
            &identity.join("authority.pem"),
            Some(credentials),
        )
        .await?;
        let key = SecretKey::from_pem(&fs::read_to_string(identity.join("signing.key"))?)?;
        Ok(Self {
            name: name.parse()?,
            client: FederationClient::new(channel),
            key,
        })
    }

    pub(crate) async fn check_in(
        &mut self,
        consents: Vec<v1::Signed>,
    ) -> Result<Option<Todo>, tonic::Status> {
        let request = v1::CheckInRequest {
            wait_ms: 2000,
            known_plans: vec![],
            consents,
            software: "hand".into(),
            ..v1::CheckInRequest::default()
        };
        Ok(self.client.check_in(request).await?.into_inner().todo)
    }

    pub(crate) fn consent(&self, plan: Digest, examples: u32) -> v1::Signed {
        let consent = Consent {
            plan,
            institution: self.name.clone(),
            examples,
            held_out: None,
            annotation: None,
            policy: Digest::of(b"policy"),
            at: Time::from_millis(0),
            expires: Time::from_millis(i64::MAX / 2),
        };
        convert::signed_to_wire(&Signed::new(&consent, &self.key))
    }

    /// Sends `bytes` under a receipt, from `offset` on.
    pub(crate) async fn upload(
        &mut self,
        receipt: &UpdateReceipt,
        bytes: &[u8],
        offset: u64,
    ) -> Result<(), tonic::Status> {
        let signed = convert::signed_to_wire(&Signed::new(receipt, &self.key));
        self.upload_signed(signed, bytes, offset).await
    }

    pub(crate) async fn upload_signed(
        &mut self,
        signed: v1::Signed,
        bytes: &[u8],
        offset: u64,
    ) -> Result<(), tonic::Status> {
        let start = v1::UploadStart {
            receipt: Some(signed),
            offset,
        };
        let mut parts = vec![v1::UploadRequest {
            part: Some(Part::Start(start)),
        }];
        for data in bytes[offset as usize..].chunks(1000) {
            parts.push(v1::UploadRequest {
                part: Some(Part::Data(data.to_vec())),
            });
        }
        self.client
            .upload(tokio_stream::iter(parts))
            .await
            .map(drop)
    }
}

pub(crate) fn encoded(values: &[i32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(values, &mut bytes).expect("memory");
    bytes
}

pub(crate) fn code(outcome: Result<(), tonic::Status>) -> Option<Code> {
    convert::refusal_of(&outcome.expect_err("this must be refused")).map(|refusal| refusal.code)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_update_is_refused_by_its_own_code_and_the_right_one_still_counts() -> Result<()> {
    let setting = Setting::with_model()?;
    setting.enrol("i0", 0, 2)?;
    let run = setting.start_run(&plan(1, 1, 1, "head", "", NO_NOISE))?;
    let mut hand = Hand::new(&setting, "i0").await?;

    let Some(Todo::Proposal(proposal)) = hand.check_in(vec![]).await? else {
        anyhow::bail!("a proposal")
    };
    let signed = convert::signed("plan", proposal.plan)?;
    let plan: Plan = signed.peek()?;
    let dimension = proposal.dimension as usize;

    // A weight outside the plan, and a consent to something else.
    for (examples, expected) in [
        (0, Code::ExamplesOutOfRange),
        (2_000_000, Code::ExamplesOutOfRange),
    ] {
        let outcome = hand
            .check_in(vec![hand.consent(signed.digest(), examples)])
            .await
            .map(drop);
        assert_eq!(code(outcome), Some(expected));
    }
    let mut forged = hand.consent(signed.digest(), 50);
    forged.body = forged.body.replace("50", "60");
    assert_eq!(
        code(hand.check_in(vec![forged]).await.map(drop)),
        Some(Code::ConsentInvalid)
    );

    let consent = hand.consent(signed.digest(), 50);
    let Some(Todo::Train(assignment)) = hand.check_in(vec![consent]).await? else {
        anyhow::bail!("an assignment")
    };
    let (base, _) = convert::version_from_record(&assignment.version)?;
    let good = encoded(&vec![3; dimension]);
    let receipt = UpdateReceipt {
        run: run.parse()?,
        plan: signed.digest(),
        round: 1,
        attempt: 1,
        institution: "i0".parse()?,
        base,
        manifest: convert::digest("manifest", &assignment.manifest)?,
        weight: 50,
        blob: Digest::of(&good),
        bytes: good.len() as u64,
        masked: None,
        sigma: 0.0,
        epsilon_after: None,
        epsilon_alone: None,
        ledger_head: None,
        at: Time::from_millis(0),
    };
    let of = |bytes: &[u8]| UpdateReceipt {
        blob: Digest::of(bytes),
        bytes: bytes.len() as u64,
        ..receipt.clone()
    };

    // Receipts that do not fit the round.
    let other = Digest::of(b"other");
    let receipts = [
        (
            UpdateReceipt {
                weight: 51,
                ..receipt.clone()
            },
            Code::UpdateWeight,
        ),
        (
            UpdateReceipt {
                weight: u32::MAX,
                ..receipt.clone()
            },
            Code::UpdateWeight,
        ),
        (
            UpdateReceipt {
                base: other,
                ..receipt.clone()
            },
            Code::UpdateBase,
        ),
        (
            UpdateReceipt {
                manifest: other,
                ..receipt.clone()
            },
            Code::UpdateShape,
        ),
        (
            UpdateReceipt {
                round: 2,
                ..receipt.clone()
            },
            Code::RoundStale,
        ),
        (
            UpdateReceipt {
                attempt: 2,
                ..receipt.clone()
            },
            Code::RoundStale,
        ),
        (
            UpdateReceipt {
                plan: other,
                ..receipt.clone()
            },
            Code::ConsentInvalid,
        ),
        (
            UpdateReceipt {
                run: "no.run".parse()?,
                ..receipt.clone()
            },
            Code::RunUnknown,
        ),
        (
            UpdateReceipt {
                institution: "i1".parse()?,
                ..receipt.clone()
            },
            Code::SignatureInvalid,
        ),
        (
            UpdateReceipt {
                bytes: 1 << 40,
                ..receipt.clone()
            },
            Code::TransferSize,
        ),
    ];
    for (wrong, expected) in receipts {
        assert_eq!(
            code(hand.upload(&wrong, &good, 0).await),
            Some(expected),
            "{wrong:?}"
        );
    }
    let mut edited = convert::signed_to_wire(&Signed::new(&receipt, &hand.key));
    edited.body = edited.body.replace("\"weight\":50", "\"weight\":51");
    assert_eq!(
        code(hand.upload_signed(edited, &good, 0).await),
        Some(Code::SignatureInvalid)
    );

    // Bytes that are no update of this plan.
    let mut trailing = good.clone();
    trailing.push(0);
    let bytes: [(Vec<u8>, Code); 7] = [
        (b"JUNKJUNKJUNKJUNKJUNK".to_vec(), Code::UpdateFormat),
        (encoded(&vec![3; dimension - 1]), Code::UpdateShape),
        (encoded(&vec![3; dimension + 1]), Code::UpdateShape),
        (encoded(&vec![i32::MAX; dimension]), Code::UpdateRange),
        (encoded(&vec![1 << 24; dimension]), Code::UpdateNorm),
        (good[..good.len() - 1].to_vec(), Code::UpdateFormat),
        (trailing, Code::UpdateFormat),
    ];
    for (wrong, expected) in bytes {
        assert_eq!(
            code(hand.upload(&of(&wrong), &wrong, 0).await),
            Some(expected)
        );
    }
    // A NaN has no encoding: as a float's bit pattern it is a value out of range.
    let nan = encoded(&vec![f32::NAN.to_bits() as i32; dimension]);
    assert_eq!(
        code(hand.upload(&of(&nan), &nan, 0).await),
        Some(Code::UpdateRange)
    );

    // Streams that are not what was announced.
    let swapped = encoded(&vec![-3; dimension]);
    assert_eq!(swapped.len(), good.len());
    assert_eq!(
        code(hand.upload(&receipt, &swapped, 0).await),
        Some(Code::UpdateDigest)
    );
    let long = [&good[..], &[1, 2, 3]].concat();
    assert_eq!(
        code(hand.upload(&receipt, &long, 0).await),
        Some(Code::TransferSize)
    );
    assert_eq!(
        code(hand.upload(&receipt, &good, 7).await),
        Some(Code::TransferOffset)
    );

    // A cut stream is refused, kept, and goes on at the byte where it stopped.
    assert_eq!(
        code(hand.upload(&receipt, &good[..100], 0).await),
        Some(Code::TransferSize)
    );
    let asked = v1::UploadOffsetRequest {
        digest: receipt.blob.as_bytes().to_vec(),
    };
    assert_eq!(
        hand.client.upload_offset(asked).await?.into_inner().offset,
        100
    );
    hand.upload(&receipt, &good, 100)
        .await
        .context("the rest")?;
    assert!(matches!(
        code(hand.upload(&receipt, &good, 0).await),
        Some(Code::UpdateRepeated | Code::RoundStale)
    ));

    // Nothing of all that has touched the model.
    setting.wait_until(&run, crate::setting::MINUTES, |view| {
        view["state"] == "evaluating" || view["state"] == "completed"
    })?;
    setting.assert_replays()?;
    let step = plan.privacy.grid().gamma();
    assert!(step > 0.0);

    // Objects that are not of the institution's run are not given out.
    let request = v1::DownloadRequest {
        digest: receipt.blob.as_bytes().to_vec(),
        offset: 0,
    };
    let refused = hand.client.download(request).await.map(drop);
    assert_eq!(code(refused), Some(Code::BlobUnknown));
    Ok(())
}

#[test]
fn plans_and_models_are_checked_before_anything_is_created() -> Result<()> {
    let setting = Setting::with_model()?;
    let good = plan(2, 1, 1, "head", "", NO_NOISE);
    let create = |text: &str| -> Result<String> {
        let path = setting.path("wrong.toml");
        fs::write(&path, text)?;
        let command = setting.cluster.coordinator_command(&[
            "run",
            "create",
            path.to_str().context("path")?,
        ])?;
        refused(command)
    };
    for (from, to, code, names) in [
        ("rounds = 1", "round = 1", "plan-invalid", "round"),
        ("quorum = 1", "quorum = 3", "plan-invalid", "cohort.quorum"),
        (
            "method = \"head\"",
            "method = \"tail\"",
            "plan-invalid",
            "tail",
        ),
        ("base@1", "base@2", "model-unknown", "base@2"),
    ] {
        let said = create(&good.replace(from, to))?;
        assert!(said.contains(code) && said.contains(names), "{to}: {said}");
    }
    let noisy = good.replace(NO_NOISE, "unit = \"institution\"\nnoise_multiplier = 50.0");
    assert!(create(&noisy)?.contains("plan-too-noisy"));
    assert_eq!(
        setting.cluster.coordinate(&["run", "list"])?,
        serde_json::json!([])
    );

    // Checkpoints that are not BERT, or not whole.
    let base = setting.base_model()?;
    let import = |change: &dyn Fn(&std::path::Path) -> Result<()>| -> Result<String> {
        let copy = setting.path("copy");
        fs::create_dir_all(&copy)?;
        for file in ["config.json", "tokenizer.json", "model.safetensors"] {
            fs::copy(base.join(file), copy.join(file))?;
        }
        change(&copy)?;
        let from = copy.to_str().context("path")?;
        refused(
            setting
                .cluster
                .coordinator_command(&["model", "import", "--from", from, "--name", "x"])?,
        )
    };
    let rewrite = |file: &'static str, from: &'static str, to: &'static str| {
        move |copy: &std::path::Path| -> Result<()> {
            let text = fs::read_to_string(copy.join(file))?;
            assert!(text.contains(from), "{from}");
            Ok(fs::write(copy.join(file), text.replace(from, to))?)
        }
    };
    let said = import(&rewrite("config.json", "\"bert\"", "\"roberta\""))?;
    assert!(
        said.contains("checkpoint-invalid") && said.contains("roberta"),
        "{said}"
    );
    let said = import(&rewrite(
        "config.json",
        "\"hidden_size\": 32",
        "\"hidden_size\": 64",
    ))?;
    assert!(
        said.contains("checkpoint-invalid") && said.contains("expected ["),
        "{said}"
    );
    let said = import(&rewrite("tokenizer.json", "\"WordPiece\"", "\"BPE\""))?;
    assert!(said.contains("checkpoint-invalid"), "{said}");
    let said = import(&|copy| Ok(fs::write(copy.join("model.safetensors"), b"junk")?))?;
    assert!(said.contains("checkpoint-invalid"), "{said}");
    let said = import(&|copy| Ok(fs::remove_file(copy.join("tokenizer.json"))?))?;
    assert!(said.contains("tokenizer.json"), "{said}");
    let again = base.to_str().context("path")?;
    let again = setting
        .cluster
        .coordinator_command(&["model", "import", "--from", again, "--name", "base"])?;
    assert!(refused(again)?.contains("model-exists"));
    Ok(())
}

#[test]
fn a_model_of_other_labels_is_a_base_without_its_head() -> Result<()> {
    let setting = Setting::with_model()?;
    let base = setting.base_model()?;
    let encoder = Checkpoint::read(
        &fs::read_to_string(base.join("config.json"))?,
        &fs::read(base.join("model.safetensors"))?,
    )?;
    let import = |labels: &[&str], name: &str, options: &[&str]| -> Result<()> {
        let labels: Vec<String> = labels.iter().map(ToString::to_string).collect();
        let directory = setting.path(name);
        fs::create_dir_all(&directory)?;
        let whole = encoder.clone().with_new_head(tags(&labels).len(), 1);
        let config_json = fs::read_to_string(base.join("config.json"))?;
        let config_json = checkpoint::config_with_labels(&config_json, &labels)?;
        fs::copy(
            base.join("tokenizer.json"),
            directory.join("tokenizer.json"),
        )?;
        fs::write(directory.join("config.json"), config_json)?;
        fs::write(directory.join("model.safetensors"), whole.to_safetensors()?)?;
        let from = directory.to_str().context("path")?;
        let command = ["model", "import", "--from", from, "--name", name];
        setting.cluster.coordinate(&[&command, options].concat())?;
        Ok(())
    };
    let good = plan(2, 1, 1, "head", "", NO_NOISE);
    let create = |base: &str, option: &str| -> Result<std::process::Command> {
        let text = good.replace("base@1", base);
        let text = text.replace("[training]", &format!("[training]\n{option}"));
        let path = setting.path("plan.toml");
        fs::write(&path, text)?;
        let path = path.to_str().context("path")?;
        let command = ["run", "create", path, "--force"];
        setting.cluster.coordinator_command(&command)
    };

    import(&["Animal", "Plant"], "other", &[])?;
    let said = refused(create("other@1", "")?)?;
    assert!(
        said.contains("labels-mismatch") && said.contains("--encoder-only"),
        "{said}"
    );
    assert!(said.contains("Animal") && said.contains("`drop`"), "{said}");
    import(&["Animal", "Plant"], "encoder", &["--encoder-only"])?;
    process::run(create("encoder@1", "")?)?;

    // A head goes on being trained if its weights are those of the plan's, however it tags.
    let labels = Plan::parse(&good)?.labels;
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    import(&labels, "own", &[])?;
    process::run(create("own@1", "head_iob2 = true")?)?;
    // Its rows go where the plan has their tags.
    let turned: Vec<&str> = labels.iter().rev().copied().collect();
    import(&turned, "turned", &[])?;
    process::run(create("turned@1", "")?)?;
    let said = refused(create("own@1", "head_context = 1")?)?;
    assert!(
        said.contains("plan-invalid") && said.contains("head"),
        "{said}"
    );
    Ok(())
}

#[test]
fn a_malformed_corpus_is_named_and_not_trained_on() -> Result<()> {
    let mut setting = Setting::with_model()?;
    setting.enrol("i0", 0, 4)?;
    let data = setting.path("0-train.conll");
    let mut text = fs::read_to_string(&data)?;
    let lines = text.lines().count();
    text.push_str("lonely\n");
    fs::write(&data, &text)?;
    let said = refused(
        setting
            .cluster
            .client_command("i0", &["data", "inspect", data.to_str().context("path")?])?,
    )?;
    assert!(said.contains("corpus-invalid"), "{said}");
    setting.cluster.start_client("i0")?;
    let run = setting.start_run(&plan(1, 1, 1, "head", "max_attempts = 1", NO_NOISE))?;
    let outcome = setting.wait_for_state(&run, "completed", crate::setting::MINUTES);
    assert!(outcome.is_err(), "a malformed corpus was trained on");
    assert!(setting.published()?.is_empty());
    let log = fs::read_to_string(setting.cluster.log("i0"))?;
    assert!(
        log.contains("corpus-invalid") && log.contains(&(lines + 1).to_string()),
        "{log}"
    );
    Ok(())
}
