//! One stream through TLS to a verified update.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use fedner_proto::convert;
use fedner_proto::v1::check_in_response::Todo;
use fedner_tests::tiny::Size;

use crate::federation::{Federation, plan, spread};
use crate::hollow::Encoded;

/// More than 50 million weights.
const MODEL: Size = Size {
    hidden: 1024,
    layers: 4,
    heads: 8,
    inner: 4096,
    words: 6000,
};
const REPEATS: usize = 5;

pub(crate) async fn upload() -> Result<()> {
    let federation = Federation::start(MODEL)?;
    let mut institutions = federation.enrol(REPEATS).await?;
    federation.start_run(&plan(REPEATS, 1, "full", 1))?;
    let mut assignments = Vec::new();
    for institution in &mut institutions {
        let Some(Todo::Proposal(proposal)) = institution.check_in().await? else {
            bail!("no plan was proposed");
        };
        let dimension = proposal.dimension as usize;
        institution.agree(proposal)?;
        assignments.push(dimension);
    }
    let mut speeds = Vec::new();
    let mut bytes = 0;
    // Everybody agrees before anybody is asked for anything.
    let dimension = *assignments.first().context("an assignment")?;
    let mut waiting = tokio::task::JoinSet::new();
    for mut institution in institutions {
        waiting.spawn(async move {
            let todo = institution.check_in().await?;
            anyhow::Ok((institution, todo))
        });
    }
    let mut ready = Vec::new();
    while let Some(institution) = waiting.join_next().await {
        ready.push(institution??);
    }
    for (number, (institution, todo)) in ready.iter_mut().enumerate() {
        let Some(Todo::Train(assignment)) = todo else {
            bail!("no assignment came");
        };
        let update = Arc::new(Encoded::new(number as u64 + 1, dimension)?);
        let (base, _) = convert::version_from_record(&assignment.version)?;
        let receipt = institution.receipt(assignment, base, &update)?;
        let began = Instant::now();
        institution.upload(&receipt, &update.bytes).await?;
        bytes = update.bytes.len();
        speeds.push(bytes as f64 / began.elapsed().as_secs_f64() / 1e6);
    }
    println!(
        "upload: {} MB through TLS until verified, stored and accepted: {}",
        bytes / 1_000_000,
        spread(speeds, "MB/s")
    );
    Ok(())
}
