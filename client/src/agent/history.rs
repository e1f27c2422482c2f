//! Whether the coordinator's history of events only grows.

use fedner_shared::history::{Head, Seen, extends};
use fedner_shared::keys::{Signs, newest};
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::sign::Signed;

use super::{Agent, Error};
use crate::state::{Contradiction, History};
use crate::transport::{Answer, Told};

impl Agent {
    /// What is said back of what was told: how far the history went, signed by the institution, and what is trusted.
    pub(super) fn said_back(&self) -> Result<Told, Error> {
        let trust = self.store.trust()?;
        let trust = (!trust.authorities.is_empty()).then(|| trust.digest());
        let nothing = || Told {
            trust,
            ..Told::default()
        };
        let Some(kept) = self.store.history()?.newest else {
            return Ok(nothing());
        };
        let head = kept.peek::<Head>().ok();
        Ok(head.map_or_else(nothing, |head| Told {
            trust,
            history: head.size,
            seen: Some(Signed::new(
                &Seen {
                    institution: self.identity.institution.clone(),
                    size: head.size,
                    root: head.root,
                    at: head.at,
                },
                &self.identity.signing,
            )),
        }))
    }

    /// Compares the history that is shown with the one that is kept, and keeps it. Where it does not go on from
    /// there, both are kept for good: they bear the coordinator's signature. Work goes on, since a coordinator that was
    /// restored from a backup looks the same; people are told.
    pub(super) fn note_history(&mut self, answer: &Answer) -> Result<(), Error> {
        let Some(shown) = &answer.history else {
            return Ok(());
        };
        let history = self.store.history()?;
        let successions = self.store.trust()?.successions;
        match compare(history.newest.as_ref(), shown, answer, &successions) {
            Ok(()) => {
                let size = |signed: &Signed| signed.peek::<Head>().ok().map(|head| head.size);
                if history.newest.as_ref().and_then(size) != size(shown) {
                    self.store.save_history(&History {
                        newest: Some(shown.clone()),
                        ..history
                    })?;
                }
            }
            Err(refusal) => {
                // The evidence is kept before anything is said of it.
                self.store
                    .save_history(&history.contradicted(Contradiction {
                        kept: history.newest.clone(),
                        shown: shown.clone(),
                        proof: answer.history_proof.clone(),
                        found: self.environment.machine.now(),
                        reason: refusal.message.clone(),
                    }))?;
                self.count_refusal(refusal.code);
                tracing::error!(
                    "{refusal} [{}]; hint: {}",
                    refusal.code,
                    refusal.code.hint()
                );
            }
        }
        Ok(())
    }
}

/// That what is shown is signed by the same key as before, or one that this gave way to, and goes on from what is
/// kept.
fn compare(
    kept: Option<&Signed>,
    shown: &Signed,
    answer: &Answer,
    successions: &[Signed],
) -> Result<(), Refusal> {
    let wrong = |message: String| Refusal::new(Code::HistoryRewritten, message);
    let head: Head = shown
        .peek()
        .map_err(|error| wrong(format!("the head of the history cannot be read: {error}")))?;
    let signed = shown.verify::<Head>(&head.key);
    signed.map_err(|error| wrong(format!("the head of the history is not signed: {error}")))?;
    let Some(before) = kept.and_then(|kept| kept.peek::<Head>().ok()) else {
        return Ok(());
    };
    if newest(&Signs::History, before.key, successions) != head.key {
        return Err(wrong(
            "the history is signed by another key than before".to_owned(),
        ));
    }
    if head.size < before.size {
        return Err(wrong(format!(
            "the history has {} events: {} were shown before",
            head.size, before.size
        )));
    }
    let (earlier, later) = ((before.size, before.root), (head.size, head.root));
    if !extends(earlier, later, &answer.history_proof) {
        return Err(wrong(format!(
            "the history of {} events does not begin with the {} that were shown before",
            head.size, before.size
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use fedner_shared::digest::Digest;
    use fedner_shared::history::Tree;
    use fedner_shared::keys::Succession;
    use fedner_shared::sign::SecretKey;
    use fedner_shared::time::Time;

    use super::*;
    use crate::transport::Todo;

    fn tree(size: u64, fork: u64) -> Tree {
        let mut tree = Tree::default();
        for number in 0..size {
            let text = if number < fork {
                format!("{number}")
            } else {
                format!("other {number}")
            };
            tree.push(Digest::of(text.as_bytes()));
        }
        tree
    }

    fn head(tree: &Tree, key: u8) -> Signed {
        let key = SecretKey::from_seed([key; 32]);
        let head = Head {
            size: tree.size(),
            root: tree.root(tree.size()).expect("root"),
            key: key.public(),
            at: Time::from_millis(1),
        };
        Signed::new(&head, &key)
    }

    fn answer(tree: &Tree, known: u64) -> Answer {
        Answer {
            todo: Todo::Nothing,
            ledger_heads: Vec::new(),
            history: None,
            trust: None,
            history_proof: tree.consistency(known, tree.size()).unwrap_or_default(),
            software: String::new(),
            protocol: 0,
            under_way: Vec::new(),
        }
    }

    #[test]
    fn a_history_that_grows_passes_and_a_rewritten_forked_or_shorter_one_does_not() {
        let (before, after) = (tree(9, 99), tree(14, 99));
        let kept = head(&before, 1);
        let pass =
            |shown: &Tree, key| compare(Some(&kept), &head(shown, key), &answer(shown, 9), &[]);
        compare(None, &kept, &answer(&before, 0), &[]).expect("the first");
        pass(&before, 1).expect("the same");
        pass(&after, 1).expect("grown");
        for (what, shown, key) in [
            ("rewritten from the start", tree(14, 0), 1),
            ("forked", tree(14, 8), 1),
            ("truncated", tree(8, 99), 1),
            ("of another key", tree(14, 99), 2),
            ("rewritten in place", tree(9, 8), 1),
        ] {
            let refusal = pass(&shown, key).expect_err(what);
            assert_eq!(refusal.code, Code::HistoryRewritten, "{what}");
        }
        // One whose signature is another's.
        let mut forged = head(&after, 1);
        forged.signature = head(&before, 1).signature;
        assert!(compare(Some(&kept), &forged, &answer(&after, 9), &[]).is_err());
        // A key that the one before named in its place.
        let (old, new) = (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]));
        let succession = Succession {
            signs: Signs::History,
            old: old.public(),
            new: new.public(),
            at: Time::from_millis(2),
        };
        let pass_by = |signer: &SecretKey| {
            let chain = [Signed::new(&succession, signer)];
            compare(Some(&kept), &head(&after, 2), &answer(&after, 9), &chain)
        };
        pass_by(&old).expect("named by the old key");
        assert!(pass_by(&new).is_err(), "named by itself");
    }
}
