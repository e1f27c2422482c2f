//! What one member reads of another.

use anyhow::Result;
use fedner_proto::convert;
use fedner_proto::v1::check_in_response::Todo;
use fedner_proto::v1::{Assignment, CheckInRequest};
use fedner_shared::digest::Digest;
use fedner_shared::statement::UpdateReceipt;
use fedner_shared::time::Time;

use crate::bad_input::{Hand, encoded};
use crate::setting::{NO_NOISE, Setting, plan};

/// A member that declares `units`, and the plan it consented to.
struct Member {
    hand: Hand,
    units: u32,
    plan: Option<Digest>,
    dimension: usize,
}

impl Member {
    async fn new(setting: &Setting, name: &str, units: u32) -> Result<Self> {
        Ok(Self {
            hand: Hand::new(setting, name).await?,
            units,
            plan: None,
            dimension: 0,
        })
    }

    /// Checks in; consents to what is proposed.
    async fn look(&mut self) -> Result<Option<Assignment>> {
        let mut consents = Vec::new();
        loop {
            let request = CheckInRequest {
                wait_ms: if consents.is_empty() { 1000 } else { 0 },
                known_plans: Vec::from_iter(self.plan.map(|plan| plan.as_bytes().to_vec())),
                consents: std::mem::take(&mut consents),
                software: "hand".into(),
                ..CheckInRequest::default()
            };
            match self.hand.client.check_in(request).await?.into_inner().todo {
                Some(Todo::Proposal(proposal)) => {
                    let plan = convert::signed("plan", proposal.plan)?.digest();
                    consents.push(self.hand.consent(plan, self.units));
                    self.plan = Some(plan);
                    self.dimension = proposal.dimension as usize;
                }
                Some(Todo::Train(found) | Todo::Evaluate(found)) => return Ok(Some(found)),
                Some(Todo::SecureStep(_)) | None => return Ok(None),
            }
        }
    }

    /// The next assignment on a version that a round published, or on none of these.
    async fn assigned(&mut self, of_a_round: bool) -> Result<Assignment> {
        for _ in 0..30 {
            let Some(found) = self.look().await? else {
                continue;
            };
            let (_, version) = convert::version_from_record(&found.version)?;
            if version.round().is_some() == of_a_round {
                return Ok(found);
            }
        }
        anyhow::bail!("no assignment")
    }

    /// Sends an update whose values are all `value`.
    async fn train(&mut self, found: &Assignment, value: i32) -> Result<Digest> {
        let (base, _) = convert::version_from_record(&found.version)?;
        let bytes = encoded(&vec![value; self.dimension]);
        let receipt = UpdateReceipt {
            run: found.run.parse()?,
            plan: convert::signed("plan", found.plan.clone())?.digest(),
            round: found.round,
            attempt: found.attempt,
            institution: self.hand.name.clone(),
            base,
            manifest: convert::digest("manifest", &found.manifest)?,
            weight: self.units,
            blob: Digest::of(&bytes),
            bytes: bytes.len() as u64,
            masked: None,
            sigma: 0.0,
            epsilon_after: None,
            epsilon_alone: None,
            ledger_head: None,
            at: Time::from_millis(0),
        };
        self.hand.upload(&receipt, &bytes, 0).await?;
        Ok(receipt.blob)
    }
}

/// The record that i0 reads of the version of round 1, and the updates of i0 and i1 in it.
async fn read_by_another(members_see: &str) -> Result<(String, [Digest; 2])> {
    let setting = Setting::with_model()?;
    setting.enrol("i0", 0, 2)?;
    setting.enrol("i1", 1, 2)?;
    let mut first = Member::new(&setting, "i0", 1234).await?;
    let mut second = Member::new(&setting, "i1", 1357).await?;
    setting.start_run(&plan(2, 2, 2, "head", members_see, NO_NOISE))?;
    first.look().await?;
    second.look().await?;
    let (of_first, of_second) = (first.assigned(false).await?, second.assigned(false).await?);
    let updates = [
        first.train(&of_first, 1).await?,
        second.train(&of_second, 2).await?,
    ];
    let (read, seen) = (first.assigned(true).await?, second.assigned(true).await?);
    // It is that of the version which the coordinator published, as whoever hashes it finds.
    let published = setting.cluster.coordinate(&["model", "show", "notes@2"])?;
    for record in [&read.version, &seen.version] {
        assert_eq!(
            published["digest"],
            Digest::of(record.as_bytes()).to_string()
        );
    }
    let record = read.version + &read.participant;
    Ok((record, updates))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_reads_its_own_part_of_a_version_and_nothing_of_others() -> Result<()> {
    let (record, [own, other]) = read_by_another("").await?;
    for shown in ["i0", "1234", &own.to_string()] {
        assert!(record.contains(shown), "{shown} in {record}");
    }
    for hidden in ["i1", "1357", &other.to_string()] {
        assert!(!record.contains(hidden), "{hidden} in {record}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_may_show_members_each_others_parts() -> Result<()> {
    let (record, updates) = read_by_another("members_see = \"all\"").await?;
    let [own, other] = updates.map(|digest| digest.to_string());
    for shown in ["i0", "1234", &own, "i1", "1357", &other] {
        assert!(record.contains(shown), "{shown} in {record}");
    }
    Ok(())
}
