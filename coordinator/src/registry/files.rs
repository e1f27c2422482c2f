//! What is read of a version's files.

use std::fs::File;
use std::io::{BufReader, Seek};

use fedner_shared::bert::BertConfig;
use fedner_shared::checkpoint::{self, Layout};
use fedner_shared::version::Version;

use crate::aggregate;
use crate::blobs::Blobs;
use crate::engine::{Failure, Fault};

pub(super) async fn configuration(base: &Version, blobs: &Blobs) -> Result<BertConfig, Failure> {
    let config = String::from_utf8(blobs.read(base.config).await?)
        .map_err(|_| Fault::Inconsistent("config.json is not UTF-8 text".into()))?;
    let config = BertConfig::parse(&config)
        .map_err(checkpoint::Error::from)
        .map_err(Fault::from)?;
    Ok(config)
}

pub(super) fn layout_of(mut file: &File) -> Result<Layout, aggregate::Error> {
    let layout = Layout::read(BufReader::new(file))?;
    file.rewind()?;
    Ok(layout)
}
