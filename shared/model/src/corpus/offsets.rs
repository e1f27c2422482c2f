//! What the offsets of a file count: characters, UTF-16 units or bytes; a CRLF as two or as one.

use std::fmt;

use super::Fault;
use super::bytes::MARK;
use super::mention::{Mention, RawMention, same};
use super::options::Offsets;

/// A way to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Convention {
    unit: Offsets,
    /// A CRLF counts as one.
    joined: bool,
    /// The byte-order mark at the beginning of the file counts.
    marked: bool,
}

impl fmt::Display for Convention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            Offsets::Characters => "characters",
            Offsets::Utf16 => "UTF-16 units",
            Offsets::Bytes => "bytes",
        };
        f.write_str(unit)?;
        if self.joined {
            f.write_str(", with line ends of CRLF as one")?;
        }
        if self.marked {
            f.write_str(", with the byte-order mark before them")?;
        }
        Ok(())
    }
}

/// The entities of a text with their places in characters.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) mentions: Vec<Mention>,
    /// The way to count that was found out; `None` where it is the one that was asked for.
    pub(super) found: Option<Convention>,
    /// Edges inside words, and another way to count that would have none.
    pub(super) hint: Option<(usize, Convention)>,
}

/// Finds out how the entities of `text` are counted, and gives their places in characters.
///
/// What an entity is said to be decides where files say it. Else offsets are taken as they are
/// meant to be; where many cut words and those of another way to count cut none, that is hinted at.
/// `marked` says that the file has a byte-order mark before the text.
pub(super) fn place(
    text: &str,
    raw: Vec<RawMention>,
    (forced, marked): (Option<Offsets>, bool),
) -> Result<Placed, Vec<(usize, Fault)>> {
    let usual = Convention {
        unit: forced.unwrap_or_default(),
        joined: false,
        marked: false,
    };
    let others = || others(text, usual, (forced, marked)).map(|other| Ruler::new(text, other));
    let ruler = Ruler::new(text, usual);
    let fits = |ruler: &Ruler| raw.iter().all(|mention| ruler.fits(text, mention));
    let said = raw.iter().any(|mention| mention.text.is_some());
    let mut placed = Placed {
        mentions: Vec::new(),
        found: None,
        hint: None,
    };
    let mut chosen = ruler;
    if said && !fits(&chosen) {
        if let Some(other) = others().find(|ruler| fits(ruler)) {
            placed.found = Some(other.convention);
            chosen = other;
        }
    } else if !said {
        let bad = chosen.edges_in_words(text, &raw);
        if bad >= 2
            && let Some(other) = others().find(|ruler| ruler.edges_in_words(text, &raw) == 0)
        {
            placed.hint = Some((bad, other.convention));
        }
    }
    let mut faults = Vec::new();
    for mention in raw {
        let line = mention.line;
        match chosen.characters(mention) {
            Ok(mention) => placed.mentions.push(mention),
            Err(fault) => faults.push((line, fault)),
        }
    }
    if faults.is_empty() {
        Ok(placed)
    } else {
        Err(faults)
    }
}

/// Other ways to count that differ in this text.
fn others(
    text: &str,
    usual: Convention,
    (forced, has_mark): (Option<Offsets>, bool),
) -> impl Iterator<Item = Convention> {
    let crlf = text.contains("\r\n");
    let wide = text.chars().any(|c| c.len_utf16() > 1);
    let units = [Offsets::Characters, Offsets::Utf16, Offsets::Bytes];
    let differs = move |unit: &Offsets| match forced {
        Some(forced) => *unit == forced,
        None => match unit {
            Offsets::Characters => true,
            Offsets::Utf16 => wide,
            Offsets::Bytes => !usual.joined,
        },
    };
    let ways = units
        .into_iter()
        .filter(differs)
        .flat_map(|unit| [false, true].map(|joined| (unit, joined)))
        .flat_map(|(unit, joined)| {
            [false, true].map(|marked| Convention {
                unit,
                joined,
                marked,
            })
        });
    ways.filter(move |way| *way != usual && (crlf || !way.joined) && (has_mark || !way.marked))
}

/// The offset of every character in one way to count.
struct Ruler {
    convention: Convention,
    /// Of each character, and of the end.
    marks: Vec<usize>,
}

impl Ruler {
    fn new(text: &str, convention: Convention) -> Self {
        let mut marks = Vec::with_capacity(text.len() + 1);
        let mut at = match (convention.marked, convention.unit) {
            (false, _) => 0,
            (true, Offsets::Characters | Offsets::Utf16) => MARK.len_utf16(),
            (true, Offsets::Bytes) => MARK.len_utf8(),
        };
        let mut characters = text.chars().peekable();
        while let Some(c) = characters.next() {
            marks.push(at);
            let joined = convention.joined && c == '\r' && characters.peek() == Some(&'\n');
            at += match convention.unit {
                _ if joined => 0,
                Offsets::Characters => 1,
                Offsets::Utf16 => c.len_utf16(),
                Offsets::Bytes => c.len_utf8(),
            };
        }
        marks.push(at);
        Self { convention, marks }
    }

    /// The character that begins at an offset. Offsets past the end stay past it.
    fn character(&self, offset: usize) -> Option<usize> {
        let end = self.marks.len() - 1;
        let last = self.marks[end];
        if offset > last {
            return Some(end.saturating_add(offset - last));
        }
        let index = self.marks.partition_point(|mark| *mark < offset);
        (self.marks[index] == offset).then_some(index)
    }

    fn characters(&self, mention: RawMention) -> Result<Mention, Fault> {
        let place = |offset: usize| {
            self.character(offset).ok_or_else(|| Fault::OffsetInside {
                found: offset,
                unit: self.convention.to_string(),
            })
        };
        let parts = mention.parts.iter();
        let parts = parts
            .map(|(start, end)| Ok((place(*start)?, place(*end)?)))
            .collect::<Result<Vec<_>, Fault>>()?;
        Ok(Mention::new(mention, parts))
    }

    /// Whether there stands what the file says.
    fn fits(&self, text: &str, mention: &RawMention) -> bool {
        let mut found = String::new();
        for (start, end) in &mention.parts {
            let (Some(start), Some(end)) = (self.character(*start), self.character(*end)) else {
                return false;
            };
            if start > end || end >= self.marks.len() {
                return false;
            }
            found.push(' ');
            found.extend(text.chars().skip(start).take(end - start));
        }
        let said = mention.text.as_deref();
        said.is_none_or(|said| same(said, &found))
    }

    /// How many edges of entities stand between two letters or digits, or nowhere.
    fn edges_in_words(&self, text: &str, mentions: &[RawMention]) -> usize {
        let characters: Vec<char> = text.chars().collect();
        let letter = |index: usize| characters.get(index).is_some_and(|c| c.is_alphanumeric());
        let inside = |offset: usize| match self.character(offset) {
            None => true,
            Some(0) => false,
            Some(index) if index > characters.len() => true,
            Some(index) => letter(index - 1) && letter(index),
        };
        let parts = mentions.iter().flat_map(|mention| &mention.parts);
        let edges = parts.flat_map(|(start, end)| [*start, *end]);
        edges.filter(|edge| inside(*edge)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(start: usize, end: usize, text: Option<&str>) -> RawMention {
        RawMention {
            parts: vec![(start, end)],
            label: "X".to_owned(),
            text: text.map(str::to_owned),
            name: "T1".to_owned(),
            line: 1,
        }
    }

    fn placed(
        text: &str,
        raw: Vec<RawMention>,
        forced: Option<Offsets>,
    ) -> (Vec<(usize, usize)>, Option<String>) {
        let placed = place(text, raw, (forced, false)).expect("placed");
        let places = placed.mentions.iter().map(|m| (m.start, m.end)).collect();
        (places, placed.found.map(|found| found.to_string()))
    }

    #[test]
    fn the_text_said_tells_what_offsets_count() {
        let text = "😀 Für\r\nflu";
        let cases = [
            (raw(7, 10, Some("flu")), None),
            (raw(8, 11, Some("flu")), Some("UTF-16 units")),
            (raw(11, 14, Some("flu")), Some("bytes")),
            (
                raw(6, 9, Some("flu")),
                Some("characters, with line ends of CRLF as one"),
            ),
        ];
        for (mention, convention) in cases {
            let (places, found) = placed(text, vec![mention], None);
            assert_eq!(places, [(7, 10)]);
            assert_eq!(found.as_deref(), convention);
        }
        // All of them have to fit in one way.
        let mixed = vec![raw(7, 10, Some("flu")), raw(8, 11, Some("flu"))];
        assert_eq!(placed(text, mixed, None).1, None);
        let forced = placed(text, vec![raw(11, 14, None)], Some(Offsets::Bytes));
        assert_eq!(forced.0, [(7, 10)]);
    }

    #[test]
    fn a_byte_order_mark_may_count() {
        let after = |start: usize| vec![raw(start, start + 3, Some("flu"))];
        for (start, way) in [
            (5, "characters, with the byte-order mark before them"),
            (4, ""),
        ] {
            let placed = place("The flu", after(start), (None, true)).expect("placed");
            assert_eq!(placed.mentions[0].start, 4);
            let found = placed.found.map(|found| found.to_string());
            assert_eq!(found.unwrap_or_default(), way);
        }
        let bytes = place("The flu", after(7), (Some(Offsets::Bytes), true)).expect("placed");
        assert_eq!(bytes.mentions[0].start, 4);
        let without = place("The flu", after(5), (None, false)).expect("placed");
        assert!(without.found.is_none());
    }

    #[test]
    fn another_way_is_hinted_at_where_many_cut_words() {
        let text = "😀😀😀 lung cancer and flu";
        let mentions = vec![raw(7, 18, None), raw(23, 26, None)];
        let found = place(text, mentions, (None, false)).expect("placed");
        let (edges, convention) = found.hint.expect("a hint");
        assert_eq!((edges, convention.unit), (3, Offsets::Utf16));
        let fine = place(text, vec![raw(4, 15, None)], (None, false)).expect("placed");
        assert!(fine.hint.is_none());
    }

    #[test]
    fn an_offset_inside_a_character_is_named() {
        let bytes = (Some(Offsets::Bytes), false);
        let faults = place("ü", vec![raw(0, 1, None)], bytes).expect_err("inside");
        assert_eq!(faults[0].1.code(), "offset-inside");
    }
}
