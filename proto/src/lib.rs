//! The gRPC services of fedner.
//!
//! [`v1`] is generated from `fedner/v1/*.proto`. [`convert`] is the only place where bytes from
//! the network become domain types; nothing else may trust a wire message.

pub mod convert;

/// Generated messages, clients and servers.
#[allow(
    clippy::pedantic,
    missing_debug_implementations,
    unreachable_pub,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod v1 {
    tonic::include_proto!("fedner.v1");
}

/// The services' descriptors, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/fedner.v1.bin"));

/// The form of the messages; it grows when a peer must know which one it speaks to.
pub const PROTOCOL: u32 = 1;

/// The header by which a running program is told from another one with the same certificate.
pub const SESSION: &str = "fedner-session";

/// In that header: a program that only looks, and takes no work.
pub const LOOKS: &str = "looks";

/// Bytes in one message of a transfer.
pub const CHUNK_BYTES: usize = 256 * 1024;

/// Bytes in one frame of HTTP/2: a message of a transfer is one frame.
pub const FRAME_BYTES: u32 = 2 * CHUNK_BYTES as u32;

/// The largest message either side accepts: a chunk with room to spare, or a long plan.
pub const MESSAGE_BYTES: usize = 4 * 1024 * 1024;
