//! The notation of the word and sentence lists, and how an entry becomes words.
//!
//! | notation | stands for |
//! |---|---|
//! | `== name` | begins the rule `name`; with ` *` its results are held out (see [`Grammar::parse`]) |
//! | a line, or a part between ` \| ` | one entry of the rule; ` ^3` at its end triples its weight |
//! | `<a\|b>` | one of the parts |
//! | `{rule}` | an entry of the rule; `{!rule}` in capitals, `{_rule}` in lower case |
//! | `{rule@}` | `rule.f` or `rule.m`, by the person the note is about |
//! | `{my.rule}`, `{doc.rule}` | the same result throughout the person's notes, or throughout the note |
//! | `{1..28}`, `{01..12}` | a number, padded to the width of the lower end |
//! | `{###}`, `{@@}` | that many digits, that many capital letters |
//! | `{Label}` | an entity with the words of the rule `Label` |
//! | `{Label:rule rule}` | an entity with the words of these rules |
//!
//! Entities stand as whole words in sentences and nowhere else.

use std::collections::BTreeMap;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{LABELS, Split};

/// The tag of a word outside every entity.
pub(super) const OUTSIDE: &str = "O";

/// Attempts at a result that the split may use before a test or devel set takes any at hand.
const ATTEMPTS: usize = 64;

#[derive(Debug)]
struct Rule {
    held_out: bool,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    weight: u32,
    text: String,
}

/// Rules by name.
#[derive(Debug, Default)]
pub(super) struct Grammar {
    rules: BTreeMap<String, Rule>,
}

impl Grammar {
    /// Reads rules; a later text replaces rules of the same name.
    ///
    /// Of a held-out rule's results a fifth occur only in test sets and a fifth only in devel
    /// sets, so that a model meets strings there that it has never been trained on.
    pub(super) fn parse(texts: &[&str]) -> Self {
        let mut grammar = Self::default();
        for text in texts {
            let mut name = String::new();
            for line in text.lines().map(str::trim) {
                if line.is_empty() || line.starts_with("# ") {
                    continue;
                }
                if let Some(header) = line.strip_prefix("== ") {
                    let (bare, held_out) = match header.strip_suffix(" *") {
                        Some(bare) => (bare, true),
                        None => (header, false),
                    };
                    bare.clone_into(&mut name);
                    let entries = Vec::new();
                    grammar
                        .rules
                        .insert(name.clone(), Rule { held_out, entries });
                } else if let Some(rule) = grammar.rules.get_mut(&name) {
                    rule.entries.extend(line.split(" | ").map(Entry::parse));
                }
            }
        }
        grammar
    }

    #[cfg(test)]
    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        self.rules.iter().flat_map(|(name, rule)| {
            let texts = rule.entries.iter().map(|entry| entry.text.as_str());
            texts.map(move |text| (name.as_str(), text))
        })
    }

    #[cfg(test)]
    pub(super) fn has(&self, name: &str) -> bool {
        self.rules.contains_key(name)
    }
}

impl Entry {
    fn parse(part: &str) -> Self {
        let weighted = part
            .rsplit_once(" ^")
            .and_then(|(text, weight)| Some((text, weight.trim().parse().ok()?)));
        let (text, weight) = weighted.unwrap_or((part, 1));
        let text = text.trim().to_owned();
        Self { weight, text }
    }
}

/// Writes sentences from a grammar, remembering what belongs to a person and to a note.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    grammar: &'a Grammar,
    split: Split,
    rng: ChaCha8Rng,
    female: bool,
    person: BTreeMap<String, String>,
    document: BTreeMap<String, String>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(grammar: &'a Grammar, split: Split, rng: ChaCha8Rng) -> Self {
        Self {
            grammar,
            split,
            rng,
            female: false,
            person: BTreeMap::new(),
            document: BTreeMap::new(),
        }
    }

    pub(super) fn rng(&mut self) -> &mut ChaCha8Rng {
        &mut self.rng
    }

    pub(super) fn begin_person(&mut self) {
        self.female = self.rng.random_bool(0.5);
        self.person.clear();
    }

    pub(super) fn begin_document(&mut self) {
        self.document.clear();
    }

    /// One entry's text, its slots still in place; empty if there is no such rule.
    pub(super) fn pick(&mut self, name: &str) -> &'a str {
        let Some(rule) = self.grammar.rules.get(name) else {
            return "";
        };
        let total = rule.entries.iter().map(|entry| entry.weight).sum::<u32>();
        let mut left = self.rng.random_range(0..total.max(1));
        for entry in &rule.entries {
            if left < entry.weight {
                return &entry.text;
            }
            left -= entry.weight;
        }
        ""
    }

    /// A template's words with their tags.
    pub(super) fn sentence(&mut self, template: &str) -> Vec<(String, String)> {
        let template = self.choose(template);
        let mut words = Vec::new();
        for piece in pieces(&template) {
            let entity = entity(piece);
            let text = match entity {
                Some((_, rules)) => self.expand_all(rules),
                None => self.fill(piece),
            };
            for (position, word) in text.split_whitespace().enumerate() {
                let tag = match (entity, position) {
                    (None, _) => OUTSIDE.to_owned(),
                    (Some((label, _)), 0) => format!("B-{label}"),
                    (Some((label, _)), _) => format!("I-{label}"),
                };
                words.push((word.to_owned(), tag));
            }
        }
        if let Some((word, tag)) = words.first_mut()
            && tag == OUTSIDE
        {
            *word = capitalised(word);
        }
        words
    }

    fn expand_all(&mut self, slots: &str) -> String {
        let texts = slots.split(' ').map(|slot| self.expand(slot));
        texts.collect::<Vec<_>>().join(" ")
    }

    /// What stands for a slot, given without its braces.
    fn expand(&mut self, slot: &str) -> String {
        if let Some(rest) = slot.strip_prefix('!') {
            return self.expand(rest).to_uppercase();
        }
        if let Some(rest) = slot.strip_prefix('_') {
            return self.expand(rest).to_lowercase();
        }
        if let Some(rest) = slot.strip_prefix("my.") {
            if let Some(text) = self.person.get(rest) {
                return text.clone();
            }
            let text = self.expand(rest);
            self.person.insert(rest.to_owned(), text.clone());
            return text;
        }
        if let Some(rest) = slot.strip_prefix("doc.") {
            if let Some(text) = self.document.get(rest) {
                return text.clone();
            }
            let text = self.expand(rest);
            self.document.insert(rest.to_owned(), text.clone());
            return text;
        }
        if let Some(text) = self.characters(slot) {
            return text;
        }
        match slot.strip_suffix('@') {
            Some(stem) if self.female => self.rule(&format!("{stem}.f")),
            Some(stem) => self.rule(&format!("{stem}.m")),
            None => self.rule(slot),
        }
    }

    /// Digits, letters or a number of a range, if the slot asks for these.
    fn characters(&mut self, slot: &str) -> Option<String> {
        if let Some((low, high)) = slot.split_once("..") {
            let width = low.len();
            let (low, high) = (low.parse::<u32>().ok()?, high.parse::<u32>().ok()?);
            let number = self.rng.random_range(low..=high.max(low));
            return Some(format!("{number:0width$}"));
        }
        if !slot.chars().all(|c| c == '#' || c == '@') {
            return None;
        }
        let one = |c| match c {
            '#' => char::from(self.rng.random_range(b'0'..=b'9')),
            _ => char::from(self.rng.random_range(b'A'..=b'Z')),
        };
        Some(slot.chars().map(one).collect())
    }

    fn rule(&mut self, name: &str) -> String {
        let held_out = self.grammar.rules.get(name).is_some_and(|r| r.held_out);
        if !held_out {
            return self.rule_once(name);
        }
        let own = self.split != Split::Train && self.rng.random_bool(0.5);
        let mut result = String::new();
        for _ in 0..ATTEMPTS {
            let text = self.rule_once(name);
            match reserved(&text) {
                Some(split) if own && split == self.split => return text,
                None if !own => return text,
                None => result = text,
                Some(_) => {}
            }
        }
        result
    }

    fn rule_once(&mut self, name: &str) -> String {
        let entry = self.pick(name);
        let entry = self.choose(entry);
        self.fill(&entry)
    }

    fn choose(&mut self, text: &str) -> String {
        let mut chosen = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('<') {
            let Some((choice, after)) = after.split_once('>') else {
                break;
            };
            let parts = choice.split('|').collect::<Vec<_>>();
            let part = self.rng.random_range(0..parts.len());
            chosen.push_str(before);
            chosen.push_str(parts[part]);
            rest = after;
        }
        chosen + rest
    }

    fn fill(&mut self, text: &str) -> String {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((slot, after)) = after.split_once('}') else {
                break;
            };
            filled.push_str(before);
            filled.push_str(&self.expand(slot));
            rest = after;
        }
        filled + rest
    }
}

/// The parts between spaces, those within braces kept together.
pub(super) fn pieces(template: &str) -> impl Iterator<Item = &str> {
    let mut within = false;
    template
        .split(move |c| {
            match c {
                '{' => within = true,
                '}' => within = false,
                _ => {}
            }
            c == ' ' && !within
        })
        .filter(|piece| !piece.is_empty())
}

/// The label and the rules of a piece that is an entity's slot.
pub(super) fn entity(piece: &str) -> Option<(&str, &str)> {
    let slot = piece.strip_prefix('{')?.strip_suffix('}')?;
    let (label, rules) = slot.split_once(':').unwrap_or((slot, slot));
    LABELS.contains(&label).then_some((label, rules))
}

/// The split that a held-out text is kept for, or none where every split may use it.
pub(super) fn reserved(text: &str) -> Option<Split> {
    // FNV-1a: a text must fall into the same part on every machine and in every release.
    let digest = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    match (digest >> 32) % 5 {
        3 => Some(Split::Devel),
        4 => Some(Split::Test),
        _ => None,
    }
}

fn capitalised(word: &str) -> String {
    let mut chars = word.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}
