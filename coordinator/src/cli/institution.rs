//! `institution`: who takes part.

use clap::Subcommand;
use fedner_host::output::{Output, or_dash, table};
use fedner_proto::v1::set_institution_state_request::State;
use fedner_proto::{convert, v1};
use fedner_shared::digest::canonical_text;
use fedner_shared::history::Export;
use fedner_shared::id::InstitutionId;
use fedner_shared::refusal::Refusal;
use fedner_shared::view::InstitutionView;

use super::failed::Failed;
use super::{connect, lists};
use crate::config::{Config, Paths};
use crate::store::{Place, Store};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// All enrolled institutions
    List,
    /// One institution
    Show { institution: String },
    /// Write what an institution needs to compare the history with its own copies (`fedner-client verify`)
    History { institution: InstitutionId },
    /// Keep an institution out for a while
    Suspend { institution: String },
    /// Let a suspended institution back in
    Reinstate { institution: String },
    /// Keep an institution out for good; only an invite written with `--reenrol` lets it come back
    Revoke { institution: String },
}

pub(super) async fn run(command: Command, paths: &Paths, output: &Output) -> Result<(), Failed> {
    match command {
        Command::List => {
            let found = lists::institutions(connect::monitoring(paths).await?).await?;
            let views = found.into_iter().map(convert::institution_from_wire);
            let views: Vec<InstitutionView> = views.collect::<Result<_, Refusal>>()?;
            output.list(
                &views,
                "nobody is enrolled yet; next: fedner-coordinator invite NAME > NAME.toml",
                render,
            )?;
            Ok(())
        }
        Command::Show { institution } => {
            let answer = connect::monitoring(paths)
                .await?
                .get_institution(v1::GetInstitutionRequest { institution })
                .await?;
            let view = convert::institution_from_wire(answer.into_inner())?;
            output.data(&view, |view| render(std::slice::from_ref(view)))?;
            Ok(())
        }
        Command::History { institution } => history(institution, paths, output),
        Command::Suspend { institution } => set(institution, State::Suspended, paths, output).await,
        Command::Reinstate { institution } => set(institution, State::Active, paths, output).await,
        Command::Revoke { institution } => set(institution, State::Revoked, paths, output).await,
    }
}

/// Read from the directory: whoever holds it may be the one to be checked.
fn history(institution: InstitutionId, paths: &Paths, output: &Output) -> Result<(), Failed> {
    let fault = Failed::from;
    let config = Config::read(paths)?;
    let mut store = Store::look_at(&Place::from_config(paths, &config)?)?;
    let (digests, entries) = store
        .read(|tx| {
            let digests = tx.entry_digests(1)?;
            let mut entries = tx.events(None, 1, digests.len())?;
            entries.retain(|entry| entry.event.is_about(&institution));
            Ok((digests, entries))
        })
        .map_err(fault)?;
    let export = Export {
        institution,
        digests,
        entries,
    };
    output.data(&export, canonical_text)?;
    Ok(())
}

async fn set(
    institution: String,
    state: State,
    paths: &Paths,
    output: &Output,
) -> Result<(), Failed> {
    let request = v1::SetInstitutionStateRequest {
        institution: institution.clone(),
        state: state.into(),
    };
    connect::operations(paths)
        .await?
        .set_institution_state(request)
        .await?;
    output.say(format!(
        "{institution}: {}",
        state
            .as_str_name()
            .trim_start_matches("STATE_")
            .to_lowercase()
    ));
    Ok(())
}

fn render(views: &[InstitutionView]) -> String {
    let row = |view: &InstitutionView| {
        [
            view.institution.to_string(),
            view.state.to_string(),
            view.enrolled.to_string(),
            view.certificate_expires.to_string(),
            or_dash(view.last_seen),
            or_dash(view.software.as_deref()),
            remark(view),
        ]
    };
    table(
        [
            "institution",
            "state",
            "enrolled",
            "certificate until",
            "last seen",
            "software",
            "remark",
        ],
        &[],
        views.iter().map(row),
    )
}

fn remark(view: &InstitutionView) -> String {
    if view.twice {
        return "in use in two places: a second running copy was refused".to_owned();
    }
    match (&view.not_before, &view.not_before_code) {
        (Some(from), Some(code)) => format!("takes no work before {from} ({code})"),
        _ => "-".to_owned(),
    }
}
