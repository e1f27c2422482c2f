//! The documents against the code: whatever a reader may set, read or meet is documented, nothing
//! else is, and each sentence can be read at once.

mod chart;
mod circles;
mod imports;
mod keys;
mod manifests;
mod names;
mod prose;
mod tree;
