//! How annotated text is read: arguments that several commands share.

use std::sync::Arc;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use fedner_model::corpus::{
    Annotated, Columns, Discontinuous, Format, InvalidTags, Offsets, Overlaps, ReadOptions, Reader,
    Scheme, renaming,
};

#[derive(Debug, clap::Args)]
pub(super) struct ReadArguments {
    /// Format of the annotated text [default: found by content]
    #[arg(long, value_name = "FORMAT", value_parser = formats())]
    format: Option<Format>,
    /// How its tags are written [default: what fits best]
    #[arg(long, value_name = "SCHEME", value_parser = schemes())]
    scheme: Option<Scheme>,
    /// Tag sequences that the scheme does not allow: repair a few among many, refuse the file, or
    /// begin an entity at each
    #[arg(long, value_name = "CHOICE", value_parser = named::<InvalidTags>(InvalidTags::NAMES), default_value = "few")]
    invalid_tags: InvalidTags,
    /// Columns of word and tag, such as word=2,tag=4 [default: the first and the last, or as the
    /// content says]
    #[arg(long, value_name = "COLUMNS")]
    columns: Option<Columns>,
    /// What offsets count [default: what fits the texts that are said, else characters]
    #[arg(long, value_name = "UNIT", value_parser = named::<Offsets>(Offsets::NAMES))]
    offsets: Option<Offsets>,
    /// Which entities stay of those that share text
    #[arg(long, value_name = "CHOICE", value_parser = named::<Overlaps>(Overlaps::NAMES), default_value = "refuse")]
    overlaps: Overlaps,
    /// Entities of several parts [default: refuse; drop with --overlaps]
    #[arg(long, value_name = "CHOICE", value_parser = named::<Discontinuous>(Discontinuous::NAMES))]
    discontinuous: Option<Discontinuous>,
    /// Give an entity type another name, or leave it out with none after the `=`
    #[arg(long, value_name = "OLD=NEW", value_parser = renaming)]
    rename: Vec<(String, String)>,
    /// Entity types that the text annotates, where these are not all: what it says of others is left
    /// open
    #[arg(long, value_name = "TYPE", value_delimiter = ',')]
    annotated_types: Option<Vec<String>>,
}

impl ReadArguments {
    pub(super) fn reader(&self) -> Reader {
        Reader::new(self.options()).with_annotated(Annotated {
            types: self.annotated_types.clone().map(Arc::from),
            ..Annotated::default()
        })
    }

    pub(super) fn options(&self) -> ReadOptions {
        ReadOptions {
            format: self.format,
            scheme: self.scheme,
            invalid_tags: self.invalid_tags,
            columns: self.columns,
            offsets: self.offsets,
            overlaps: self.overlaps,
            discontinuous: self.discontinuous,
            rename: self.rename.iter().cloned().collect(),
        }
    }
}

fn formats() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new(Format::NAMES).try_map(|text| text.parse())
}

fn schemes() -> impl TypedValueParser<Value = Scheme> {
    PossibleValuesParser::new(Scheme::ALL.map(Scheme::as_str)).try_map(|text| text.parse())
}

fn named<T>(names: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: std::str::FromStr<Err = String> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names).try_map(|text| text.parse())
}
