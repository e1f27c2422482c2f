//! Entities that nobody else has, planted in the text: does the finished model know them?

use std::fmt::Write as _;

use fedner_model::Sentence;
use fedner_privacy::audit::exposure::rank;
use fedner_shared::audit::Exposures;
use fedner_shared::refusal::{Code, Refusal};

use super::Error;
use super::membership::Suspect;

/// What planted entities are made of: 64 syllables, so that six bits draw one.
const CONSONANTS: [char; 16] = [
    'b', 'd', 'f', 'g', 'h', 'k', 'l', 'm', 'n', 'p', 'r', 's', 't', 'v', 'w', 'z',
];
const VOWELS: [char; 4] = ['a', 'e', 'i', 'o'];
/// Of 2^24 words.
const SYLLABLES: usize = 4;

/// A word that means nothing; `fill` gives the randomness.
fn secret(fill: &mut dyn FnMut(&mut [u8]) -> Result<(), Error>) -> Result<String, Error> {
    let mut bytes = [0; SYLLABLES];
    fill(&mut bytes)?;
    let syllable = |byte: u8| {
        let consonant = CONSONANTS[usize::from(byte & 15)];
        [consonant, VOWELS[usize::from(byte >> 4 & 3)]]
    };
    Ok(bytes.into_iter().flat_map(syllable).collect())
}

fn from_system(bytes: &mut [u8]) -> Result<(), Error> {
    Ok(getrandom::fill(bytes)?)
}

/// CoNLL text of `count` sentences to be trained on, each with an entity of the type `label` that
/// was drawn for it, and about a person of its own.
pub fn plant(label: &str, count: usize, repeat: usize) -> Result<String, Error> {
    let mut text = String::new();
    for number in 1..=count {
        let secret = secret(&mut from_system)?;
        for _ in 0..repeat {
            let _ = write!(
                text,
                "# document = planted-{number}\n# person = planted-{number}\n\
                 Seen\tO\nfor\tO\n{secret}\tB-{label}\ntoday\tO\n.\tO\n\n"
            );
        }
    }
    Ok(text)
}

/// The exposure of the entity in each of `planted`, among `candidates` words drawn as [`plant`] draws
/// them. Repeated sentences count once.
pub fn attack(
    suspect: &Suspect,
    planted: &[Sentence],
    candidates: usize,
) -> Result<Exposures, Error> {
    attack_with(suspect, planted, candidates, &mut from_system)
}

pub(super) fn attack_with(
    suspect: &Suspect,
    planted: &[Sentence],
    candidates: usize,
    fill: &mut dyn FnMut(&mut [u8]) -> Result<(), Error>,
) -> Result<Exposures, Error> {
    let mut once: Vec<&Sentence> = Vec::new();
    for sentence in planted {
        if !once.iter().any(|known| known.words == sentence.words) {
            once.push(sentence);
        }
    }
    let mut exposures = Vec::with_capacity(once.len());
    for sentence in once {
        let place = place(sentence)?;
        let mut all = vec![sentence.clone()];
        for _ in 0..candidates {
            let mut other = sentence.clone();
            other.words[place] = secret(fill)?;
            all.push(other);
        }
        let losses: Vec<f64> = suspect.losses(&all)?.iter().map(|loss| loss.sum).collect();
        exposures.push(rank(losses[0], &losses[1..]));
    }
    let bits = exposures.iter().map(|exposure| exposure.bits);
    Ok(Exposures {
        mean_bits: bits.clone().sum::<f64>() / exposures.len().max(1) as f64,
        largest_bits: bits.fold(0.0, f64::max),
        planted: exposures,
    })
}

/// Where the one word of the entity stands.
fn place(sentence: &Sentence) -> Result<usize, Refusal> {
    let mut tagged = sentence.tags.iter().enumerate();
    let mut tagged = tagged.by_ref().filter(|(_, tag)| *tag != "O");
    match (tagged.next(), tagged.next()) {
        (Some((place, _)), None) => Ok(place),
        (found, _) => {
            let message = format!(
                "the planted sentence at line {} has {} words of entities: expected one, as `audit \
                 plant` writes it",
                sentence.line,
                if found.is_some() { "several" } else { "no" }
            );
            Err(Refusal::new(Code::AuditInvalid, message))
        }
    }
}
