//! What the coordinator keeps of this institution's own receipts.

use fedner_proto::convert;
use fedner_proto::v1::ListReceiptsRequest;
use fedner_shared::sign::Signed;

use super::{CALL, Coordinator, Error};

/// Pages of a coordinator that has no end of them.
const MOST_PAGES: usize = 2000;

/// A receipt as the coordinator keeps it; nothing of it is verified.
#[derive(Debug, Clone)]
pub struct KeptReceipt {
    pub receipt: Signed,
    pub evaluation: bool,
    pub plan: Signed,
    pub dimension: u64,
    pub units: u32,
}

impl Coordinator {
    /// All of them, oldest first.
    pub async fn receipts(&self) -> Result<Vec<KeptReceipt>, Error> {
        let (mut kept, mut after) = (Vec::new(), 0);
        for _ in 0..MOST_PAGES {
            let request = ListReceiptsRequest { after };
            let mut client = self.federation();
            let page = self.within(CALL, client.list_receipts(request)).await?;
            for receipt in page.receipts {
                after = after.max(receipt.place);
                let signed = convert::signed("receipt", receipt.receipt);
                kept.push(KeptReceipt {
                    receipt: signed.map_err(Error::Refused)?,
                    evaluation: receipt.evaluation,
                    plan: convert::signed("plan", receipt.plan).map_err(Error::Refused)?,
                    dimension: receipt.dimension,
                    units: receipt.units,
                });
            }
            if !page.more {
                break;
            }
        }
        Ok(kept)
    }
}
