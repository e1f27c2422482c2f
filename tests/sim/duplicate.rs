//! Everything a site ever sent, once more.

use anyhow::Result;
use fedner_client::state::ReceiptKind;
use fedner_coordinator::store::StatementKind;
use fedner_shared::id::InstitutionId;
use fedner_shared::time::Time;

use crate::objects::SimObjects;
use crate::outsider::{Call, Message};
use crate::place::Place;

/// Steps of secure aggregations, updates that the coordinator has the bytes of, evaluations, and the consents in force.
pub(crate) fn everything(
    place: &mut Place,
    site: &InstitutionId,
    objects: &SimObjects,
) -> Result<Vec<Message>> {
    let mut calls = Vec::new();
    for statement in place.statements()? {
        if let StatementKind::Secure(step) = statement.kind
            && statement.author == *site
        {
            calls.push(Call::Step(step, statement.signed));
        }
    }
    let store = place.site(site)?;
    for receipt in store.receipts()? {
        match receipt.kind {
            ReceiptKind::Update => {
                let bytes = receipt.blob.and_then(|blob| objects.peek(blob));
                calls.extend(bytes.map(|bytes| Call::Upload {
                    receipt: receipt.signed,
                    bytes: bytes.to_vec(),
                }));
            }
            ReceiptKind::Evaluation => calls.push(Call::Evaluation(receipt.signed)),
            // No site has anybody who would submit one.
            ReceiptKind::Audit => {}
        }
    }
    let consents = store.consents_in_force(Time::from_millis(0))?;
    let consents = consents.into_iter().map(|record| record.signed).collect();
    calls.push(Call::CheckIn(consents));
    let message = |call| Message {
        what: format!("once more from {site}"),
        caller: site.to_string(),
        call,
        forged: None,
    };
    Ok(calls.into_iter().map(message).collect())
}
