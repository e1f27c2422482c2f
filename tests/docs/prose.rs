//! Documents that are short enough to be read, and whose links lead somewhere.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result};

use crate::tree::{files, name, read};

const MOST_LINES: usize = 150;
const MOST_WORDS: usize = 35;

/// Lines outside blocks of code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

/// Paragraphs, points of lists and cells of tables.
fn blocks(text: &str) -> Vec<String> {
    let (mut blocks, mut block) = (Vec::new(), String::new());
    for line in prose(text).chain([""]) {
        let line = line.trim();
        let (number, rest) = line.split_once(". ").unwrap_or(("", line));
        let numbered = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        let point = line.strip_prefix("- ").or(numbered.then_some(rest));
        if line.is_empty() || line.starts_with(['#', '|']) || point.is_some() {
            blocks.push(std::mem::take(&mut block));
        }
        if line.starts_with('|') {
            blocks.extend(line.split('|').map(str::to_owned));
        } else if !line.starts_with('#') {
            block.push_str(point.unwrap_or(line));
            block.push(' ');
        }
    }
    blocks
}

/// Sentences end with a full stop, a question mark or an exclamation mark before a space.
fn sentences(block: &str) -> Vec<Vec<&str>> {
    let mut sentences = vec![Vec::new()];
    for word in block.split_whitespace() {
        let last = sentences.len() - 1;
        if word.chars().any(char::is_alphanumeric) {
            sentences[last].push(word);
        }
        if word
            .trim_end_matches(['*', '_', ')', '`', '"'])
            .ends_with(['.', '!', '?'])
        {
            sentences.push(Vec::new());
        }
    }
    sentences
}

#[test]
fn the_readme_is_short() -> Result<()> {
    let lines = read("README.md")?.lines().count();
    assert!(
        lines <= MOST_LINES,
        "README.md has {lines} lines: at most {MOST_LINES}"
    );
    Ok(())
}

#[test]
fn no_sentence_is_long() -> Result<()> {
    let (mut long, mut seen) = (Vec::new(), 0);
    for path in files(&[".md"])? {
        for block in blocks(&fs::read_to_string(&path)?) {
            for words in sentences(&block) {
                seen += usize::from(!words.is_empty());
                if words.len() > MOST_WORDS {
                    long.push(format!(
                        "{}: {} words: {}",
                        name(&path),
                        words.len(),
                        words.join(" ")
                    ));
                }
            }
        }
    }
    assert!(seen > 500, "only {seen} sentences were found");
    assert!(
        long.is_empty(),
        "longer than {MOST_WORDS} words:\n{}",
        long.join("\n")
    );
    Ok(())
}

/// A heading as links name it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() -> Result<()> {
    let mut followed = 0;
    for path in files(&[".md"])? {
        let text = fs::read_to_string(&path)?;
        // A link's text may be broken over two lines, its target not.
        let targets = prose(&text).flat_map(|line| {
            let begins = line
                .match_indices("](")
                .map(|(at, mark)| &line[at + mark.len()..]);
            begins
                .filter_map(|rest| Some(rest.split_once(')')?.0))
                .collect::<Vec<_>>()
        });
        for target in targets.filter(|target| !target.contains("://")) {
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let folder = path.parent().unwrap_or(&path);
            let leads = if file.is_empty() {
                path.clone()
            } else {
                folder.join(file)
            };
            assert!(
                leads.exists(),
                "{} leads to {target}, which is not there",
                name(&path)
            );
            if !heading.is_empty() {
                let text = fs::read_to_string(&leads)?;
                let anchors: BTreeSet<_> = prose(&text)
                    .filter_map(|line| {
                        Some(anchor(line.strip_prefix('#')?.trim_start_matches('#')))
                    })
                    .collect();
                assert!(
                    anchors.contains(heading),
                    "{}: no heading {target}",
                    name(&path)
                );
            }
            followed += 1;
        }
    }
    assert!(followed > 20, "only {followed} links were found");
    Ok(())
}

#[test]
fn a_sentence_ends_where_a_reader_ends_it() {
    let found = sentences("One *two.* Three (four?) Five 6.5 seven");
    let lengths: Vec<_> = found.iter().map(Vec::len).collect();
    assert_eq!(lengths, [2, 2, 3]);
    let found = blocks("# h\na\nb\n\n- c\n1. d\n| e | f |\n```\ng\n```\n");
    let found: Vec<_> = found.iter().map(|block| block.trim()).collect();
    let found: Vec<_> = found
        .into_iter()
        .filter(|block| !block.is_empty())
        .collect();
    assert_eq!(found, ["a b", "c", "d", "e", "f"]);
}

/// What a reader of a guarantee must know is said once, and linked from where the guarantee is met.
#[test]
fn what_no_claim_covers_is_said_and_linked() -> Result<()> {
    let claims = read("shared/privacy/README.md")?;
    let (_, rest) = claims
        .split_once("## What no claim covers\n")
        .context("the section")?;
    let section = rest.split("\n## ").next().context("a section")?;
    let section: Vec<_> = section.split_whitespace().collect();
    let section = section.join(" ");
    for limit in [
        // Persons at several institutions, and those who are mentioned by others.
        "at k institutions has the sum of their ε",
        "mentioned in another person's text",
        // Tuning, and tables whose persons are sentences.
        "were tuned on its corpora",
        "one annotated sentence each",
        "sentences of one abstract are not independent people",
        // What lies on the disk, and what names the text.
        "`training.checkpoint` lie in the client's directory unencrypted",
        "by a digest, which whoever has the text can recompute",
        // Single bits, and time.
        "as the one code `not-done`",
        "tells the time itself",
    ] {
        assert!(section.contains(limit), "not said any more: {limit}");
    }
    assert!(claims.contains("**Declared numbers are inputs.**"));
    for (file, link) in [
        ("README.md", "shared/privacy/README.md#what-no-claim-covers"),
        (
            "client/README.md",
            "../shared/privacy/README.md#what-no-claim-covers",
        ),
        (
            ".github/SECURITY.md",
            "../shared/privacy/README.md#what-no-claim-covers",
        ),
        (
            "shared/src/plan/PLAN.md",
            "../../privacy/README.md#what-no-claim-covers",
        ),
        (
            "tests/BENCHMARKS.md",
            "../shared/privacy/README.md#what-no-claim-covers",
        ),
    ] {
        assert!(
            read(file)?.contains(link),
            "{file} does not link what no claim covers"
        );
    }
    Ok(())
}
