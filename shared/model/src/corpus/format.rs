//! How a file holds annotated text.

choices! {
    /// How a file holds annotated text.
    Format {
        /// A word and its tag a line, a blank line after a sentence.
        #[default]
        Conll = "conll",
        /// A JSON object a line, with `tokens` and `ner_tags`.
        JsonTokens = "json-tokens",
        /// A JSON object a line, with `text` and `entities`.
        JsonText = "json-text",
        /// Columns with commas or semicolons between them, named in the first line.
        Csv = "csv",
        /// `PubTator`: titles and abstracts, and the offsets of their entities.
        PubTator = "pubtator",
        /// `BioC` collections, or a text with stand-off tags as i2b2 and n2c2 have them.
        Xml = "xml",
        /// A `.txt` file and an `.ann` file of the same name, or a folder of such pairs.
        Brat = "brat",
    }
}
