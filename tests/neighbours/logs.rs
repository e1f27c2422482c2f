//! What the daemon logs, at its most talkative: never a word of the text, whatever is wrong with it.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result};
use fedner_client::training;
use fedner_model::corpus::Reader;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::base::Base;
use crate::oracles::plan;
use crate::site::{Site, run_all};
use crate::text;

/// A word that this test's text has, and no other's.
const SECRET: &str = "Zyzzogeton";

/// Everything that was logged in this process.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        log.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Takes down all that any thread logs from now on, at every level.
fn log() -> Result<&'static Log> {
    static LOG: OnceLock<Result<Log, String>> = OnceLock::new();
    let begun = LOG.get_or_init(|| {
        let log = Log::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(LevelFilter::TRACE)
            .with_ansi(false)
            .with_writer(log.clone())
            .finish();
        tracing::subscriber::set_global_default(subscriber).map_err(|e| e.to_string())?;
        Ok(log)
    });
    begun
        .as_ref()
        .map_err(|error| anyhow::anyhow!(error.clone()))
}

/// One person's text with each kind of fault, the secret word in it.
fn faulty() -> Vec<Vec<u8>> {
    let lines = [
        "SECRET\n",
        "SECRET SECRET\n",
        "SECRET B-\n",
        "SECRET B-SECRET\n",
        "odd SECRET O\n",
        "SECRET\t\n",
        "SECRET O\nafter I-Disease\n",
        "SECRET\rSECRET O\n",
        "# person = SECRET\nodd\n",
        "# document = SECRET\n# person =\nSECRET O\n",
        "SECRET\u{1}\u{2} O\n",
        "SECRET,O\n",
    ];
    let mut texts: Vec<Vec<u8>> = lines
        .iter()
        .map(|line| line.replace("SECRET", SECRET).into_bytes())
        .collect();
    texts.push([SECRET.as_bytes(), b"\xff\xfe O\n"].concat());
    texts.push([SECRET.repeat(500).as_bytes(), b" O\n"].concat());
    texts
}

#[test]
fn no_word_of_the_text_is_logged() -> Result<()> {
    let log = log()?;
    let base = Arc::new(Base::new(&plan("person"), |_| Ok(()))?);
    let mut sites: Vec<Site> = faulty().iter().map(|own| Site::new(&base, own)).collect();
    let record = format!("{{\"tokens\": [\"{SECRET}\"], \"ner_tags\": [\"{SECRET}\"]}}");
    sites.push(Site {
        data: text::json(record.as_bytes()),
        held_out: text::json(format!("{{\"{SECRET}\": ").as_bytes()),
        ..Site::new(&base, b"")
    });
    let count = sites.len();
    for outcome in run_all(sites)? {
        assert!(outcome.transcript.has("Upload"), "{outcome:?}");
    }
    let said = log.text();
    let found = said.lines().find(|line| line.contains(SECRET));
    assert_eq!(found, None);
    // It is told by line and kind, for each of them and for training and evaluation.
    let told = said.matches("left out of training").count();
    assert!(told >= count, "{told} of {count}");

    // What a person asks to see names it, and this log would show it.
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("odd.conll");
    std::fs::write(&file, format!("odd B-{SECRET}\n"))?;
    let labels = ["Disease".to_owned()];
    let error = training::read_corpora(&[file], &labels, Reader::default());
    tracing::warn!("{}", error.err().context("a fault")?);
    assert!(log.text().contains(SECRET));
    Ok(())
}
