//! What is sound of an institution's text: what the daemon trains and evaluates on.
//!
//! What is wrong with a sentence leaves out that sentence, and nothing else. So no fault of one
//! person's text ends a training, or changes what others add to it, and the coordinator sees none. The
//! institution's own people see each: here in the log, by file and line, and with the text by
//! `fedner-client check` and `data inspect`.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use fedner_model::Sentence;
use fedner_model::corpus::{Item, Reader};
use fedner_shared::plan::{Plan, Unit};
use fedner_shared::refusal::{Code, Refusal};

use crate::training::{Error, code_of_problem};

/// Lines of a file that are named in the log, at most.
const NAMED: usize = 20;

/// The sentences of all files that can be used for the plan. Where the plan protects nothing, a fault
/// is an error as elsewhere.
pub fn sound_sentences(
    files: &[PathBuf],
    plan: &Plan,
    mut reader: Reader,
) -> Result<Vec<Sentence>, Error> {
    if plan.privacy.unit == Unit::None {
        return crate::training::read_corpora(files, &plan.labels, reader);
    }
    let mut sentences = Vec::new();
    for file in files {
        let mut faults = Faults::default();
        let mut sink = |item| match item {
            Item::Problem(problem) => faults.add(code_of_problem(&problem).as_str(), problem.line),
            Item::Sentence(sentence) => match fault(&sentence, plan) {
                Some(fault) => faults.add(fault, sentence.line),
                None => sentences.push(sentence),
            },
        };
        reader.stream(file, &mut sink)?;
        faults.tell(file);
    }
    Ok(within_cap(plan, sentences))
}

/// The sentences of at most `max_per_person` documents or sentences of each person, the first ones in
/// the order of the text. A document is that of the person whom its first sentence names.
///
/// This is the lemma *cap* of `fedner-privacy`. Which of one person's are kept depends on nothing of
/// another's. So whether a person's text is there
/// changes that person's documents or sentences alone, and no more of them than the plan says.
pub fn within_cap(plan: &Plan, sentences: Vec<Sentence>) -> Vec<Sentence> {
    let Some(most) = plan.privacy.max_per_person else {
        return sentences;
    };
    let mut cap = Cap {
        unit: plan.privacy.unit,
        most,
        of_person: HashMap::new(),
        documents: HashMap::new(),
    };
    let count = sentences.len();
    let kept: Vec<Sentence> = sentences
        .into_iter()
        .filter(|sentence| cap.takes(sentence))
        .collect();
    if kept.len() < count {
        tracing::warn!(
            "{} sentences are left out: they name no person, or the person has {most} of the unit {} already",
            count - kept.len(),
            plan.privacy.unit
        );
    }
    kept
}

/// What was kept of each person so far.
struct Cap {
    unit: Unit,
    most: u32,
    of_person: HashMap<String, u32>,
    /// Whose each document is, and whether it is kept.
    documents: HashMap<u32, (String, bool)>,
}

impl Cap {
    fn takes(&mut self, sentence: &Sentence) -> bool {
        let Some(person) = &sentence.person else {
            return false;
        };
        if self.unit != Unit::Document {
            return self.counts(person);
        }
        let Some(document) = sentence.document else {
            return false;
        };
        if let Some((owner, kept)) = self.documents.get(&document) {
            return *kept && owner == person;
        }
        let kept = self.counts(person);
        self.documents.insert(document, (person.clone(), kept));
        kept
    }

    fn counts(&mut self, person: &str) -> bool {
        let count = self.of_person.entry(person.to_owned()).or_default();
        *count += 1;
        *count <= self.most
    }
}

/// Why a sentence cannot be used.
fn fault(sentence: &Sentence, plan: &Plan) -> Option<&'static str> {
    let unit = match plan.privacy.unit {
        Unit::Person => sentence.person.is_some(),
        Unit::Document => sentence.document.is_some(),
        Unit::Sentence | Unit::Institution | Unit::None => true,
    };
    if !unit {
        return Some("names no person or document, as the plan's unit needs it");
    }
    let known = |tag: &String| {
        let label = tag.split_once('-').map(|(_, label)| label);
        label.is_none_or(|label| plan.labels.iter().any(|known| known == label))
    };
    (!sentence.tags.iter().all(known)).then_some("has an entity type that the plan lacks")
}

/// What is wrong, by kind, with the lines where it stands. Never the text.
#[derive(Debug, Default)]
struct Faults(BTreeMap<&'static str, (usize, Vec<usize>)>);

impl Faults {
    fn add(&mut self, what: &'static str, line: usize) {
        let (count, lines) = self.0.entry(what).or_default();
        *count += 1;
        if lines.len() < NAMED {
            lines.push(line);
        }
    }

    fn tell(&self, file: &Path) {
        for (what, (count, lines)) in &self.0 {
            tracing::warn!(
                file = %file.display(),
                ?lines,
                "left out of training {count} times: {what}"
            );
        }
    }
}

/// Whether all files can be opened.
pub fn check_files(files: &[PathBuf]) -> Result<(), Refusal> {
    for file in files {
        let opened = if file.is_dir() {
            std::fs::read_dir(file).map(drop)
        } else {
            std::fs::File::open(file).map(drop)
        };
        if let Err(error) = opened {
            let message = format!("{} cannot be opened: {error}", file.display());
            return Err(Refusal::new(Code::DataUnavailable, message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use fedner_model::corpus::{ReadOptions, Shapes};

    use super::*;
    use crate::config::policy::tests::plan;

    fn sentence(person: &str, document: u32, line: usize) -> Sentence {
        Sentence {
            person: (!person.is_empty()).then(|| person.to_owned()),
            document: Some(document),
            line,
            ..Sentence::default()
        }
    }

    fn lines(plan: &Plan, sentences: &[Sentence]) -> Vec<usize> {
        let kept = within_cap(plan, sentences.to_vec());
        kept.iter().map(|sentence| sentence.line).collect()
    }

    #[test]
    fn a_person_has_no_more_than_the_plan_says() {
        let text = [
            sentence("ada", 1, 1),
            sentence("ada", 1, 2),
            sentence("bob", 1, 3),
            sentence("", 2, 4),
            sentence("ada", 2, 5),
            sentence("bob", 3, 6),
            sentence("ada", 4, 7),
            sentence("ada", 5, 8),
        ];
        let mut sentences = plan("sentence");
        assert_eq!(lines(&sentences, &text).len(), text.len());
        sentences.privacy.max_per_person = Some(2);
        assert_eq!(lines(&sentences, &text), [1, 2, 3, 6]);
        let mut documents = plan("document");
        documents.privacy.max_per_person = Some(2);
        // The first document is Ada's: what it says of Bob is left out.
        assert_eq!(lines(&documents, &text), [1, 2, 5, 6]);
    }

    /// The neighbours of the claim: one person's text is there or not.
    #[test]
    fn one_person_changes_nothing_of_anybody_else() {
        let persons = ["ada", "bob", "eve"];
        for unit in ["sentence", "document"] {
            let mut plan = plan(unit);
            plan.privacy.max_per_person = Some(3);
            let text: Vec<Sentence> = (0..60)
                .map(|i| {
                    sentence(
                        persons[i * i % 7 % 3],
                        (i / 2) as u32 * 3 + (i * i % 7 % 3) as u32,
                        i,
                    )
                })
                .collect();
            let all = within_cap(&plan, text.clone());
            for left_out in persons {
                let is = |sentence: &Sentence| sentence.person.as_deref() == Some(left_out);
                let rest: Vec<Sentence> = text.iter().filter(|s| !is(s)).cloned().collect();
                let kept: Vec<usize> = all.iter().filter(|s| !is(s)).map(|s| s.line).collect();
                assert_eq!(lines(&plan, &rest), kept, "{unit} {left_out}");
                let own: Vec<Sentence> = all.iter().filter(|s| is(s)).cloned().collect();
                let own = fedner_model::count_units(plan.privacy.unit, &own).expect("units");
                assert!(own <= 3, "{unit} {left_out}: {own}");
            }
        }
    }

    const OTHERS: &str = "# person = b\nthe O\nflu B-Disease\n\n# person = c\nwell O\n\n";

    fn shape(folder: &Path, text: &str) -> Shapes {
        let file = folder.join("whole.conll");
        std::fs::write(&file, text).expect("write");
        let summary = Reader::default().stream(&file, &mut |_| {});
        let shape = summary.expect("read").shape();
        // As it is kept in the database.
        let json = serde_json::to_string(&shape).expect("JSON");
        let shape = serde_json::from_str(&json).expect("read back");
        [(folder.join("data.conll"), shape)].into()
    }

    /// The persons whose text is used when this text stands before that of others.
    fn persons(folder: &Path, first: &str, shapes: Shapes) -> Vec<String> {
        let file = folder.join("data.conll");
        std::fs::write(&file, format!("{first}{OTHERS}")).expect("write");
        let reader = Reader::new(ReadOptions::default()).with_shapes(shapes);
        let sentences = sound_sentences(&[file], &plan("person"), reader).expect("sound");
        let persons = sentences.into_iter().filter_map(|s| s.person);
        persons.collect()
    }

    /// What stands first in a file would decide how the rest is read. What was found when the
    /// institution agreed keeps it from that.
    #[test]
    fn the_first_persons_text_does_not_decide_how_others_are_read() {
        let folder = tempfile::tempdir().expect("folder");
        let folder = folder.path();
        let known = shape(folder, OTHERS);
        for first in [
            "# person = a\nodd NN O\n\n",
            "{\"tokens\": [\n\n",
            "<?xml version=\"1.0\"?>\n\n",
            "1234567|t|odd\n\n",
            "word,tag\n\n",
        ] {
            assert_eq!(persons(folder, first, known.clone()), ["b", "c"], "{first}");
            // Without what is known it does.
            let alone = persons(folder, first, Shapes::default());
            assert_ne!(alone, ["b", "c"], "{first}");
        }
        // A heading is one again.
        let heading = "# person = h\nword\ttag\n\n";
        let tabs = OTHERS.replace(" O", "\tO").replace(" B-", "\tB-");
        let known = shape(folder, &format!("{heading}{tabs}"));
        assert_eq!(persons(folder, heading, known.clone()), ["b", "c"]);
        assert_eq!(persons(folder, "", known), ["b", "c"]);
    }
}
