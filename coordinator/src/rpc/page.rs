//! Long lists in pages, as <https://google.aip.dev/158> has them: no answer is longer than one message may be.

use fedner_shared::refusal::{Code, Refusal};
use prost::Message;

/// What ordinary clients take is 4 MiB.
const MOST_BYTES: usize = 3 << 20;

/// Items of a page, and the token of the next one; empty on the last. There is at least one item, if any is left.
pub(super) fn page<T, M: Message>(
    items: &[T],
    (size, token): (u32, &str),
    to_wire: impl Fn(&T) -> M,
) -> Result<(Vec<M>, String), Refusal> {
    let wrong = || {
        let message = "page_token is not one of the answer before";
        Refusal::new(Code::RequestInvalid, message)
    };
    let from = match token {
        "" => 0,
        token => token.parse::<usize>().map_err(|_| wrong())?,
    };
    let left = items.get(from..).ok_or_else(wrong)?;
    let most = if size == 0 { left.len() } else { size as usize };
    let (mut page, mut bytes) = (Vec::new(), 0);
    for item in left.iter().take(most) {
        let item = to_wire(item);
        bytes += item.encoded_len();
        if bytes > MOST_BYTES && !page.is_empty() {
            break;
        }
        page.push(item);
    }
    let next = from + page.len();
    let token = if next < items.len() {
        next.to_string()
    } else {
        String::new()
    };
    Ok((page, token))
}

#[cfg(test)]
mod tests {
    use fedner_proto::v1::Chunk;

    use super::*;

    /// All pages, one after another: how many items each has.
    fn pages(items: &[usize], size: u32) -> Vec<usize> {
        let (mut found, mut token) = (Vec::new(), String::new());
        loop {
            let chunk = |bytes: &usize| Chunk {
                data: vec![0; *bytes],
            };
            let (page, next) = page(items, (size, &token), chunk).expect("a page");
            found.push(page.len());
            if next.is_empty() {
                return found;
            }
            token = next;
        }
    }

    #[test]
    fn pages_hold_all_items_once_and_none_is_longer_than_a_message() {
        const MIB: usize = 1 << 20;
        assert_eq!(pages(&[], 0), [0]);
        assert_eq!(pages(&[1; 5], 0), [5]);
        assert_eq!(pages(&[1; 5], 2), [2, 2, 1]);
        assert_eq!(pages(&[MIB; 5], 0), [2, 2, 1]);
        assert_eq!(pages(&[5 * MIB, 1, 1], 0), [1, 2], "a long one comes alone");
        for wrong in ["x", "-1", "4"] {
            let refused = page(&[1, 2, 3], (0, wrong), |_| Chunk::default());
            assert_eq!(refused.expect_err(wrong).code, Code::RequestInvalid);
        }
    }
}
