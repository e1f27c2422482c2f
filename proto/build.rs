//! Compiles the services with protox, so that no protoc is needed.

use std::path::PathBuf;

use prost::Message;

const FILES: [&str; 5] = [
    "fedner/v1/common.proto",
    "fedner/v1/enrolment.proto",
    "fedner/v1/federation.proto",
    "fedner/v1/operations.proto",
    "fedner/v1/monitoring.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=fedner");
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    // gRPC reflection serves this very set.
    std::fs::write(out.join("fedner.v1.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
