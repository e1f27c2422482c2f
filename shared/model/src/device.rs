//! Device names of plans and configuration files.

use std::str::FromStr;

use burn::tensor::Device as BurnDevice;

/// Where tensors live and are computed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// burn's `flex` backend, on all cores of the rayon pool.
    #[default]
    Cpu,
}

/// The name is not one of a device this build has.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the device `{0}` is unknown: expected auto, cpu, libtorch, libtorch-cuda:N or cuda:N")]
    Unknown(String),
    #[error("the device `{name}` needs a build with the feature `{feature}`: expected auto or cpu")]
    NotBuilt { name: String, feature: &'static str },
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let (kind, index) = name.split_once(':').unwrap_or((name, "0"));
        if index.parse::<u16>().is_err() {
            return Err(Error::Unknown(name.to_owned()));
        }
        let feature = match kind {
            "auto" | "cpu" if kind == name => return Ok(Self::Cpu),
            "libtorch" | "libtorch-cuda" => "libtorch",
            "cuda" => "cuda",
            "wgpu" => "wgpu",
            _ => return Err(Error::Unknown(name.to_owned())),
        };
        let name = name.to_owned();
        Err(Error::NotBuilt { name, feature })
    }
}

impl Device {
    /// The device without a gradient tape.
    pub(crate) fn plain(self) -> BurnDevice {
        match self {
            Self::Cpu => BurnDevice::flex(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_absent_and_unknown_devices_differ() {
        assert_eq!("auto".parse::<Device>().expect("auto"), Device::Cpu);
        assert_eq!("cpu".parse::<Device>().expect("cpu"), Device::Cpu);
        for name in ["libtorch", "libtorch-cuda:0", "cuda:1", "wgpu"] {
            let error = name.parse::<Device>().expect_err("not built");
            assert!(matches!(error, Error::NotBuilt { .. }), "{error}");
        }
        for name in ["", "tpu", "cuda:x", "cpu:0", "auto:1"] {
            let error = name.parse::<Device>().expect_err("unknown");
            assert!(matches!(error, Error::Unknown(_)), "{error}");
        }
    }
}
