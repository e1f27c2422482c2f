//! `invite`: a one-time way in for an institution.

use clap::{Args, Subcommand};
use fedner_host::address::Addresses;
use fedner_host::output::{Output, table};
use fedner_proto::v1;
use fedner_shared::refusal::Code;
use fedner_shared::time::Time;
use serde::Serialize;

use super::connect;
use super::failed::Failed;
use crate::config::Paths;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// The name the institution will have
    #[arg(required = true)]
    institution: Option<String>,
    /// How long the invite lasts, such as 30m, 24h or 7d
    #[arg(long, default_value = "24h", value_parser = parse_span)]
    ttl: u64,
    /// Let a name come back that is enrolled, suspended or revoked; its older keys are worth nothing then
    #[arg(long)]
    reenrol: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Invites that nobody has used yet
    List,
    /// Make the open invites of a name worth nothing
    Withdraw { institution: String },
}

#[derive(Serialize)]
struct Open {
    institution: String,
    expires: String,
    reenrol: bool,
}

async fn manage(command: Command, paths: &Paths, output: &Output) -> Result<(), Failed> {
    let mut operations = connect::operations(paths).await?;
    match command {
        Command::List => {
            let answer = operations.list_invites(v1::ListInvitesRequest {}).await?;
            let invites = answer.into_inner().invites.into_iter();
            let invites = invites.map(|invite| Open {
                institution: invite.institution,
                expires: Time::from_millis(invite.expires_ms).to_string(),
                reenrol: invite.reenrol,
            });
            let invites: Vec<Open> = invites.collect();
            let none = "no invite is open; next: fedner-coordinator invite NAME > NAME.toml";
            output.list(&invites, none, |invites| {
                let row = |open: &Open| {
                    let back = if open.reenrol { "yes" } else { "no" };
                    [
                        open.institution.clone(),
                        open.expires.clone(),
                        back.to_owned(),
                    ]
                };
                table(
                    ["institution", "expires", "lets it come back"],
                    &[],
                    invites.iter().map(row),
                )
            })?;
        }
        Command::Withdraw { institution } => {
            let request = v1::WithdrawInvitesRequest {
                institution: institution.clone(),
            };
            let answer = operations.withdraw_invites(request).await?.into_inner();
            output.say(format!(
                "{institution}: {} invites withdrawn",
                answer.withdrawn
            ));
        }
    }
    Ok(())
}

/// What an invite file says.
#[derive(Serialize)]
struct Invite {
    institution: String,
    address: Addresses,
    secret: String,
    authority_sha256: String,
    expires: String,
}

impl Invite {
    fn of(institution: String, answer: v1::CreateInviteResponse) -> Result<Self, Failed> {
        // Older coordinators name one.
        let addresses = if answer.addresses.is_empty() {
            vec![answer.address]
        } else {
            answer.addresses
        };
        let address = Addresses::parse(addresses).map_err(|e| Failed::fault(e.to_string()))?;
        Ok(Self {
            institution,
            address,
            secret: answer.secret,
            authority_sha256: hex::encode(answer.authority_sha256),
            expires: Time::from_millis(answer.expires_ms).to_string(),
        })
    }

    /// The file to hand over.
    fn text(&self) -> Result<String, Failed> {
        let text = toml::to_string(self).map_err(|error| Failed::fault(error.to_string()))?;
        Ok(format!(
            "# A one-time invite to a fedner federation. Whoever holds it can enrol: hand it over in private.\n{text}"
        ))
    }
}

/// The invite file of an institution.
pub(super) fn written(
    institution: String,
    answer: v1::CreateInviteResponse,
) -> Result<String, Failed> {
    Invite::of(institution, answer)?.text()
}

pub(super) async fn run(
    arguments: Arguments,
    paths: &Paths,
    output: &Output,
) -> Result<(), Failed> {
    if let Some(command) = arguments.command {
        return manage(command, paths, output).await;
    }
    let institution = arguments.institution.unwrap_or_default();
    let request = v1::CreateInviteRequest {
        institution: institution.clone(),
        ttl_s: arguments.ttl,
        reenrol: arguments.reenrol,
    };
    let answer = connect::operations(paths)
        .await?
        .create_invite(request)
        .await?
        .into_inner();
    let reenrols = answer.reenrol;
    let invite = Invite::of(institution, answer)?;
    let text = invite.text()?;
    output.data(&invite, |_| text)?;
    if reenrols {
        output.say("the name is known: who uses this invite takes its place, with its account");
    }
    output.say("send the invite in private; the institution runs: fedner-client enroll INVITE");
    Ok(())
}

pub(super) fn parse_span(text: &str) -> Result<u64, String> {
    let wrong = || {
        format!(
            "`{text}` is not a time span: {} expected a number and s, m, h or d",
            Code::RequestInvalid
        )
    };
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    number.checked_mul(seconds).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_a_number_and_a_unit() {
        assert_eq!(parse_span("24h"), Ok(86_400));
        assert_eq!(parse_span("90s"), Ok(90));
        for bad in ["", "h", "24", "-1h", "1w", "99999999999999999999d"] {
            assert!(parse_span(bad).is_err(), "{bad}");
        }
    }
}
