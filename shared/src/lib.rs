//! The vocabulary of fedner, shared by the coordinator and the client.
//!
//! Nothing here speaks to a peer, reads a clock or touches a database: the crate holds the names,
//! the signed statements and the byte formats that both sides must agree on.

pub mod adamw;
pub mod audit;
pub mod bert;
pub mod checkpoint;
pub mod digest;
pub mod event;
pub mod figures;
pub mod forgetting;
pub mod history;
pub mod id;
pub mod keys;
pub mod manifest;
pub mod onnx;
pub mod plan;
pub mod refusal;
pub mod scheme;
pub mod score;
pub mod seal;
pub mod secure;
pub mod serde_helpers;
pub mod sign;
pub mod state;
pub mod statement;
pub mod text;
pub mod time;
pub mod tokenizer;
pub mod unpack;
pub mod update;
pub mod vector;
pub mod version;
pub mod view;
