//! What the tags of a tagging head mean: read once from its `id2label`.

use std::collections::BTreeSet;

use super::{Position, Scheme, is_plain_type, misplaced, plain_to_iob2, split, to_iob2};

/// The scheme and the entity types of a head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadTags {
    pub scheme: Scheme,
    /// In the order in which the head's tags name them.
    pub types: Vec<String>,
    /// Tags that stand for no entity beside `O`, such as `[CLS]`.
    markers: Vec<String>,
}

/// Tags that are in no scheme.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the head's tags in id2label are in no scheme that is known ({reason}): found {}; expected O, and \
     B- and I- with entity types (IOB), E- and S- (IOBES) or L- and U- (BILOU) besides, or types alone",
    shown(found)
)]
pub struct Unreadable {
    reason: String,
    found: Vec<String>,
}

fn shown(tags: &[String]) -> String {
    const SHOWN: usize = 8;
    let quoted = tags
        .iter()
        .take(SHOWN)
        .map(|tag| format!("`{}`", tag.escape_debug()));
    let mut text = quoted.collect::<Vec<_>>().join(", ");
    if tags.len() > SHOWN {
        text.push_str(", …");
    }
    text
}

impl HeadTags {
    /// Finds out what the tags mean; `tags` are those of the head, in order.
    pub fn read(tags: &[String]) -> Result<Self, Unreadable> {
        let unreadable = |reason: String| Unreadable {
            reason,
            found: tags.to_vec(),
        };
        let distinct: BTreeSet<&String> = tags.iter().collect();
        if distinct.len() != tags.len() {
            return Err(unreadable("a tag stands twice".to_owned()));
        }
        if !tags.iter().any(|tag| tag == "O") {
            return Err(unreadable("there is no O".to_owned()));
        }
        let (markers, others): (Vec<_>, Vec<_>) = tags
            .iter()
            .filter(|tag| *tag != "O")
            .cloned()
            .partition(|tag| is_marker(tag));
        let prefixed = others.iter().filter(|tag| split(tag).is_some()).count();
        let fits = |tag: &&String| split(tag).is_some() || (prefixed == 0 && is_plain_type(tag));
        if let Some(odd) = others.iter().find(|tag| !fits(tag)) {
            return Err(unreadable(format!("`{}` is none", odd.escape_debug())));
        }
        if others.is_empty() {
            return Err(unreadable("there is no entity type".to_owned()));
        }
        let scheme = if prefixed == 0 {
            if let Some((first, second, _)) = misplaced(others.iter().map(String::as_str)) {
                let (first, second) = (first.escape_debug(), second.escape_debug());
                return Err(unreadable(format!("`{first}` and `{second}` are none")));
            }
            Scheme::Plain
        } else {
            scheme_of(&others)
        };
        let mut types: Vec<String> = Vec::new();
        for tag in &others {
            let label = split(tag).map_or(tag.as_str(), |(_, label)| label);
            if !types.iter().any(|known| known == label) {
                types.push(label.to_owned());
            }
        }
        Ok(Self {
            scheme,
            types,
            markers,
        })
    }

    /// Rewrites the tags given to a sentence as IOB2. Those of IOB2 heads stay as they are: a tag
    /// that goes on with nothing counts differently in seqeval's two modes.
    pub fn to_iob2(&self, tags: &mut [String]) {
        for tag in tags.iter_mut().filter(|tag| self.markers.contains(tag)) {
            "O".clone_into(tag);
        }
        match self.scheme {
            Scheme::Iob2 => {}
            Scheme::Plain => plain_to_iob2(tags),
            Scheme::Iob1 | Scheme::Ioe1 | Scheme::Ioe2 | Scheme::Iobes | Scheme::Bilou => {
                to_iob2(tags);
            }
        }
    }

    /// The head's tag that says of a word what the IOB2 tag says.
    pub fn counterpart(&self, iob2: &str) -> String {
        match split(iob2) {
            Some((_, label)) if self.scheme == Scheme::Plain => label.to_owned(),
            Some((_, label))
                if matches!(self.scheme, Scheme::Iob1 | Scheme::Ioe1 | Scheme::Ioe2) =>
            {
                format!("I-{label}")
            }
            Some(_) | None => iob2.to_owned(),
        }
    }
}

/// Some heads have tags for the special tokens of a sentence.
fn is_marker(tag: &str) -> bool {
    let within = |open: char, close: char| tag.starts_with(open) && tag.ends_with(close);
    within('[', ']') || within('<', '>')
}

fn scheme_of(tags: &[String]) -> Scheme {
    let begins_with = |prefix: &str| tags.iter().any(|tag| tag.starts_with(prefix));
    let has = |position: Position| {
        let mut positions = tags.iter().filter_map(|tag| split(tag));
        positions.any(|(found, _)| found == position)
    };
    if begins_with("L-") || begins_with("U-") {
        Scheme::Bilou
    } else if has(Position::Begin) && (has(Position::End) || has(Position::Single)) {
        Scheme::Iobes
    } else if has(Position::End) || has(Position::Single) {
        Scheme::Ioe2
    } else if has(Position::Begin) {
        Scheme::Iob2
    } else {
        Scheme::Iob1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn scheme_and_types_are_read_from_the_tags() {
        let cases = [
            ("O B-X I-X", Scheme::Iob2, "X"),
            ("B-X I-X B-Y I-Y O", Scheme::Iob2, "X Y"),
            ("O I-Y I-X", Scheme::Iob1, "Y X"),
            ("O B-X I-X E-X S-X", Scheme::Iobes, "X"),
            ("O B-X I-X L-X U-X", Scheme::Bilou, "X"),
            ("O B-X M-X E-X S-X", Scheme::Iobes, "X"),
            ("O I-X E-X", Scheme::Ioe2, "X"),
            ("O PER LOC", Scheme::Plain, "PER LOC"),
            ("O B-X I-X [CLS] [SEP]", Scheme::Iob2, "X"),
            (
                "O B-tax-percent I-tax-percent B-tax",
                Scheme::Iob2,
                "tax-percent tax",
            ),
        ];
        for (text, scheme, types) in cases {
            let found = HeadTags::read(&tags(text)).expect(text);
            assert_eq!(
                (found.scheme, found.types.join(" ")),
                (scheme, types.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_tagger_is_refused_with_what_was_found() {
        for text in [
            "NEGATIVE POSITIVE",
            "LABEL_0 LABEL_1 LABEL_2",
            "O LABEL_1",
            "B-X I-X",
            "O B-X PER",
            "O 1 2",
            "O B-X B-X",
            "O",
            "O B_X I_X",
            "O X-B X-I",
            "O b-X i-X",
        ] {
            let message = HeadTags::read(&tags(text)).expect_err(text).to_string();
            let first = text.split(' ').next().unwrap_or_default();
            assert!(
                message.contains("id2label") && message.contains(first),
                "{message}"
            );
        }
    }

    #[test]
    fn tags_given_are_rewritten_by_the_scheme() {
        for (head, given, expected) in [
            ("O PER LOC", "PER PER O LOC", "B-PER I-PER O B-LOC"),
            ("O B-X I-X E-X S-X", "B-X E-X S-X", "B-X I-X B-X"),
            ("O B-X I-X", "I-X O", "I-X O"),
            ("O I-X", "I-X I-X", "B-X I-X"),
            ("O I-X E-X", "E-X I-X E-X", "B-X B-X I-X"),
            ("O B-X I-X [SEP]", "[SEP] B-X", "O B-X"),
        ] {
            let mut given = tags(given);
            HeadTags::read(&tags(head)).expect(head).to_iob2(&mut given);
            assert_eq!(given.join(" "), expected);
        }
    }
}
