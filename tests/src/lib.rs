//! What the demo and the tests share: the real programs as processes, models and text to feed
//! them.

pub mod binaries;
pub mod browser;
pub mod cluster;
pub mod config;
pub mod corpus;
pub mod dictionary;
pub mod faulty;
pub mod grpc;
pub mod notes;
pub mod postgres;
pub mod pretrained;
pub mod process;
pub mod proxy;
pub mod s3;
pub mod schema;
pub mod several;
pub mod skip;
pub mod tiny;
