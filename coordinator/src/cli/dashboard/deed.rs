//! What an operator can do on the page. Each is a command too, and is recorded as the command's is.

use fedner_page::layout::part;
use fedner_proto::v1;
use fedner_proto::v1::control_run_request::Action;
use fedner_proto::v1::set_institution_state_request::State;
use fedner_shared::refusal::{Code, Refusal};
use maud::{Markup, html};
use serde::Deserialize;

use crate::cli::connect;
use crate::cli::failed::Failed;
use crate::cli::invite;
use crate::config::Paths;

/// As it stands in an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
pub(super) struct Deed {
    what: String,
    /// Of a run, an institution or an alias.
    pub(super) name: String,
    /// The version that an alias moves to, or how many seconds an invite is good.
    #[serde(default)]
    to: String,
}

/// What one does, and what then.
struct Meaning {
    button: &'static str,
    question: &'static str,
    consequence: &'static str,
    harsh: bool,
}

const fn meaning(
    button: &'static str,
    question: &'static str,
    consequence: &'static str,
    harsh: bool,
) -> Meaning {
    Meaning {
        button,
        question,
        consequence,
        harsh,
    }
}

const START: Meaning = meaning(
    "Start",
    "Start the run",
    "Institutions that have agreed to the plan are asked to train.",
    false,
);
const PAUSE: Meaning = meaning(
    "Pause",
    "Pause the run",
    "No more work is given out and its clock stops. Updates under way are still taken.",
    false,
);
const RESUME: Meaning = meaning(
    "Resume",
    "Resume the run",
    "It goes on where it was paused, and its deadlines move.",
    false,
);
const RETRY: Meaning = meaning(
    "Retry",
    "Retry the failed run",
    "It goes on from its last version. Institutions pay for a repeated round again.",
    false,
);
const CANCEL: Meaning = meaning(
    "Cancel",
    "Cancel the run",
    "It ends for good. Its versions stay, and what was spent stays spent.",
    true,
);
const SUSPEND: Meaning = meaning(
    "Suspend",
    "Suspend the institution",
    "It is refused until it is reinstated. Runs go on without it, or fail for want of a quorum.",
    true,
);
const REINSTATE: Meaning = meaning(
    "Reinstate",
    "Reinstate the institution",
    "It may take part again.",
    false,
);
const TAG: Meaning = meaning(
    "Tag",
    "Move the alias",
    "Whoever asks for the alias gets this version from now on.",
    false,
);
const ROLLBACK: Meaning = meaning(
    "Roll back",
    "Roll the alias back",
    "Whoever asks for the alias gets this earlier version. The step back is recorded as one.",
    true,
);
const INVITE: Meaning = meaning(
    "Invite",
    "Write an invite",
    "Whoever holds it can enrol under that name once. Hand it over in private.",
    false,
);

impl Deed {
    pub(super) fn of_run(what: &str, run: &str) -> Self {
        Self {
            what: what.to_owned(),
            name: run.to_owned(),
            to: String::new(),
        }
    }

    pub(super) fn of_institution(what: &str, institution: &str) -> Self {
        Self::of_run(what, institution)
    }

    fn meaning(&self) -> Option<Meaning> {
        Some(match self.what.as_str() {
            "start" => START,
            "pause" => PAUSE,
            "resume" => RESUME,
            "retry" => RETRY,
            "cancel" => CANCEL,
            "suspend" => SUSPEND,
            "reinstate" => REINSTATE,
            "tag" => TAG,
            "rollback" => ROLLBACK,
            "invite" => INVITE,
            _ => return None,
        })
    }

    /// Leads to the question, which is asked once.
    pub(super) fn button(&self) -> Markup {
        let Some(meaning) = self.meaning() else {
            return html! {};
        };
        let address = format!("act?what={}&name={}", self.what, part(&self.name));
        html! { a.button.bad[meaning.harsh] href=(address) { (meaning.button) } }
    }

    /// What is asked, what follows, the word on the button, and whether it is hard to undo; `None` where
    /// there is no such deed.
    pub(super) fn question(&self) -> Option<(String, &'static str, &'static str, bool)> {
        let meaning = self.meaning()?;
        let to = match self.what.as_str() {
            "tag" | "rollback" => format!(" to {}", self.to),
            _ => String::new(),
        };
        let question = format!("{} {}{to}?", meaning.question, self.name);
        Some((question, meaning.consequence, meaning.button, meaning.harsh))
    }

    pub(super) fn to(&self) -> &str {
        &self.to
    }

    pub(super) fn what(&self) -> &str {
        &self.what
    }

    /// The page on which one sees what came of it.
    pub(super) fn place(&self) -> String {
        match self.what.as_str() {
            "start" | "pause" | "resume" | "retry" | "cancel" => {
                format!("runs/{}", part(&self.name))
            }
            "tag" | "rollback" => format!("models/{}", part(&self.to)),
            _ => "institutions".to_owned(),
        }
    }

    /// Does it; the text that is to be handed over, where there is one.
    pub(super) async fn carry_out(&self, paths: &Paths) -> Result<Option<String>, Failed> {
        let action = match self.what.as_str() {
            "start" => Some(Action::Start),
            "pause" => Some(Action::Pause),
            "resume" => Some(Action::Resume),
            "retry" => Some(Action::Retry),
            "cancel" => Some(Action::Cancel),
            _ => None,
        };
        let state = match self.what.as_str() {
            "suspend" => Some(State::Suspended),
            "reinstate" => Some(State::Active),
            _ => None,
        };
        let mut operations = connect::operations(paths).await?;
        if let Some(action) = action {
            let request = v1::ControlRunRequest {
                run: self.name.clone(),
                action: action.into(),
            };
            operations.control_run(request).await?;
            return Ok(None);
        }
        if let Some(state) = state {
            let request = v1::SetInstitutionStateRequest {
                institution: self.name.clone(),
                state: state.into(),
            };
            operations.set_institution_state(request).await?;
            return Ok(None);
        }
        match self.what.as_str() {
            "tag" | "rollback" => {
                let request = v1::MoveAliasRequest {
                    alias: self.name.clone(),
                    version: self.to.clone(),
                    rollback: self.what == "rollback",
                };
                operations.move_alias(request).await?;
                Ok(None)
            }
            "invite" => {
                let ttl_s = self.to.parse().map_err(|_| {
                    Refusal::new(
                        Code::RequestInvalid,
                        "the time of an invite is a number of seconds",
                    )
                })?;
                let request = v1::CreateInviteRequest {
                    institution: self.name.clone(),
                    ttl_s,
                    reenrol: false,
                };
                let answer = operations.create_invite(request).await?.into_inner();
                invite::written(self.name.clone(), answer).map(Some)
            }
            _ => Err(Failed::refuse(
                Code::RequestInvalid,
                "there is no such action",
            )),
        }
    }
}
