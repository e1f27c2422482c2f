//! How annotated text is read: arguments that several commands share.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use fedner_model::corpus::{Format, InvalidTags, ReadOptions, Scheme};

#[derive(Debug, clap::Args)]
pub(super) struct ReadArguments {
    /// Format of the annotated text [default: found by content]
    #[arg(long, value_name = "FORMAT", value_parser = formats())]
    format: Option<Format>,
    /// How its tags are written [default: found by content]
    #[arg(long, value_name = "SCHEME", value_parser = schemes())]
    scheme: Option<Scheme>,
    /// Tag sequences that the scheme does not allow: refuse the file, or begin an entity there
    #[arg(long, value_name = "CHOICE", value_parser = choices(), default_value = "refuse")]
    invalid_tags: InvalidTags,
}

impl ReadArguments {
    pub(super) fn options(&self) -> ReadOptions {
        ReadOptions {
            format: self.format,
            scheme: self.scheme,
            invalid_tags: self.invalid_tags,
        }
    }
}

fn formats() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new(Format::ALL.map(Format::as_str)).try_map(|text| text.parse())
}

fn schemes() -> impl TypedValueParser<Value = Scheme> {
    PossibleValuesParser::new(["iob1", "iob2", "iobes"]).try_map(|text| text.parse())
}

fn choices() -> impl TypedValueParser<Value = InvalidTags> {
    PossibleValuesParser::new(["refuse", "repair"]).try_map(|text| text.parse())
}
