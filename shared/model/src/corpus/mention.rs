//! Entities as files state them, and which of them can stand beside each other.

use super::Fault;
use super::options::{Discontinuous, Overlaps, ReadOptions};

/// An entity as a file states it.
#[derive(Debug, Clone)]
pub(super) struct RawMention {
    /// Offsets of each part, as the file counts.
    pub(super) parts: Vec<(usize, usize)>,
    pub(super) label: String,
    /// What the file says stands there.
    pub(super) text: Option<String>,
    /// How problems with another entity name this one.
    pub(super) name: String,
    pub(super) line: usize,
}

/// An entity with its place in characters.
#[derive(Debug, Clone)]
pub(super) struct Mention {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) label: String,
    pub(super) line: usize,
    parts: Vec<(usize, usize)>,
    text: Option<String>,
    name: String,
}

/// What was done to the entities of a text, and how often.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) overlapping: usize,
    pub(super) joined: usize,
    pub(super) dropped: usize,
    pub(super) renamed: usize,
    pub(super) left_out: usize,
}

impl Mention {
    pub(super) fn new(raw: RawMention, parts: Vec<(usize, usize)>) -> Self {
        Self {
            start: parts.first().map_or(0, |(start, _)| *start),
            end: parts.last().map_or(0, |(_, end)| *end),
            label: raw.label,
            line: raw.line,
            text: raw.text,
            name: raw.name,
            parts,
        }
    }

    /// What is wrong with the entity alone.
    fn fault(&self, text: &str, bytes: &[usize]) -> Option<Fault> {
        if let Some(fault) = label_fault(&self.label) {
            return Some(fault);
        }
        let length = bytes.len() - 1;
        let mut found = String::new();
        for (start, end) in self.parts.iter().copied() {
            if start > end {
                return Some(Fault::SpanOrder { start, end });
            }
            if start == end {
                return Some(Fault::SpanEmpty { start, end });
            }
            if end > length {
                return Some(Fault::SpanOutside { start, end, length });
            }
            if !found.is_empty() {
                found.push(' ');
            }
            found.push_str(&text[bytes[start]..bytes[end]]);
        }
        let (start, end) = (self.start, self.end);
        if start > end {
            return Some(Fault::SpanOrder { start, end });
        }
        if found.trim().is_empty() {
            return Some(Fault::SpanBlank { start, end });
        }
        let said = self.text.clone().filter(|said| !same(said, &found))?;
        Some(Fault::SpanText {
            start,
            end,
            said,
            found,
        })
    }

    /// Whether words stand between its parts.
    fn is_discontinuous(&self, text: &str, bytes: &[usize]) -> bool {
        let mut pairs = self.parts.windows(2);
        pairs.any(|pair| {
            let (end, start) = (pair[0].1, pair[1].0);
            start < end || !text[bytes[end]..bytes[start]].trim().is_empty()
        })
    }

    /// What keeps the entity from standing beside `other`, which begins no later.
    fn conflict(&self, other: &Self) -> Fault {
        let (start, end) = (self.start, self.end);
        let other_name = if other.line == self.line {
            other.name.clone()
        } else {
            format!("{} in line {}", other.name, other.line)
        };
        if (start, end) == (other.start, other.end) {
            let other = other_name;
            return Fault::SpanTwice { start, end, other };
        }
        let nested = end <= other.end || start == other.start;
        let other = other_name;
        if nested {
            return Fault::SpanNested { start, end, other };
        }
        Fault::SpanOverlaps { start, end, other }
    }

    const fn length(&self) -> usize {
        self.end - self.start
    }

    const fn overlaps(&self, other: &Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// What keeps a name from being an entity type.
pub(super) fn label_fault(label: &str) -> Option<Fault> {
    let tag = ["B-", "I-", "E-", "S-", "L-", "U-"];
    let label = label.to_owned();
    if label.is_empty() {
        return Some(Fault::TypeEmpty);
    }
    if label.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Some(Fault::TypeBlank { label });
    }
    let is_tag = label == "O" || tag.iter().any(|prefix| label.starts_with(prefix));
    is_tag.then_some(Fault::TypeIsTag { label })
}

/// Files write a line's end inside an entity as a blank, and parts with a blank between them.
pub(super) fn same(said: &str, found: &str) -> bool {
    said.split_whitespace().eq(found.split_whitespace())
}

/// Gives types their names, sorts the entities, and settles or names everything that is wrong with
/// them.
pub(super) fn settle(
    text: &str,
    mentions: &mut Vec<Mention>,
    options: &ReadOptions,
) -> Result<Settled, Vec<(usize, Fault)>> {
    let mut settled = Settled::default();
    rename(mentions, options, &mut settled);
    // The byte at which each character begins, and the end.
    let mut bytes: Vec<usize> = text.char_indices().map(|(byte, _)| byte).collect();
    bytes.push(text.len());
    let mut faults: Vec<(usize, Fault)> = mentions
        .iter()
        .filter_map(|mention| Some((mention.line, mention.fault(text, &bytes)?)))
        .collect();
    if faults.is_empty() {
        faults.extend(parts(text, &bytes, mentions, options, &mut settled));
    }
    if faults.is_empty() {
        if options.overlaps == Overlaps::Refuse {
            mentions.sort_by_key(|mention| (mention.start, mention.end));
            faults = conflicts(mentions);
        } else {
            let before = mentions.len();
            *mentions = without_overlaps(std::mem::take(mentions), options.overlaps);
            settled.overlapping = before - mentions.len();
        }
    }
    faults.sort_by_key(|(line, _)| *line);
    if faults.is_empty() {
        Ok(settled)
    } else {
        Err(faults)
    }
}

fn rename(mentions: &mut Vec<Mention>, options: &ReadOptions, settled: &mut Settled) {
    mentions.retain_mut(|mention| {
        let Some(name) = options.name_of(&mention.label) else {
            settled.left_out += 1;
            return false;
        };
        if name != mention.label {
            settled.renamed += 1;
            let name = name.to_owned();
            mention.label = name;
        }
        true
    });
}

/// Entities of several parts: one that goes over a line's end is one all the same.
fn parts(
    text: &str,
    bytes: &[usize],
    mentions: &mut Vec<Mention>,
    options: &ReadOptions,
    settled: &mut Settled,
) -> Vec<(usize, Fault)> {
    let choice = options.discontinuous();
    let mut faults = Vec::new();
    mentions.retain(|mention| {
        if !mention.is_discontinuous(text, bytes) {
            return true;
        }
        match choice {
            Discontinuous::Refuse => {
                let id = mention.name.clone();
                faults.push((mention.line, Fault::Discontinuous { id }));
            }
            Discontinuous::Join => settled.joined += 1,
            Discontinuous::Drop => settled.dropped += 1,
        }
        choice == Discontinuous::Join
    });
    faults
}

/// What is wrong between entities, which are sorted by their places.
fn conflicts(mentions: &[Mention]) -> Vec<(usize, Fault)> {
    let mut faults = Vec::new();
    // The entity that reaches furthest of those before.
    let mut furthest: Option<&Mention> = None;
    for mention in mentions {
        if let Some(other) = furthest.filter(|other| mention.start < other.end) {
            faults.push((mention.line, mention.conflict(other)));
        }
        if furthest.is_none_or(|other| mention.end > other.end) {
            furthest = Some(mention);
        }
    }
    faults
}

/// Those entities that stay, sorted by their places.
fn without_overlaps(mut mentions: Vec<Mention>, choice: Overlaps) -> Vec<Mention> {
    match choice {
        Overlaps::Refuse | Overlaps::First => {}
        Overlaps::Longest => mentions.sort_by_key(|m| (std::cmp::Reverse(m.length()), m.start)),
        Overlaps::Outermost => mentions.sort_by_key(|m| (m.start, std::cmp::Reverse(m.end))),
    }
    let mut kept: std::collections::BTreeMap<usize, Mention> = std::collections::BTreeMap::new();
    for mention in mentions {
        // Those kept are apart: only the neighbours can overlap.
        let before = kept.range(..=mention.start).next_back();
        let after = kept.range(mention.start..).next();
        let overlaps = [before, after].into_iter().flatten();
        if !overlaps
            .into_iter()
            .any(|(_, other)| other.overlaps(&mention))
        {
            kept.insert(mention.start, mention);
        }
    }
    kept.into_values().collect()
}
