//! Device names of plans and configuration files, and which of them this machine has.
//!
//! `cpu` is in every build and needs nothing. Each other kind is a feature of the build:
//! `libtorch` computes with PyTorch's library, which the program is then linked with; `cuda` and
//! `wgpu` compile their own kernels and look for a driver when they are asked for.

use std::fmt;
use std::str::FromStr;

#[cfg(feature = "wgpu")]
use burn::tensor::DeviceKind;
use burn::tensor::{Device as BurnDevice, FloatDType};
#[cfg(any(feature = "libtorch", feature = "cuda", feature = "wgpu"))]
use burn::{backend::DispatchDevice, tensor::DeviceType};
use fedner_shared::plan::Precision;

/// Where tensors live and are computed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// burn's `flex` backend, on all cores of the rayon pool.
    #[default]
    Cpu,
    /// libtorch on the processor.
    #[cfg(feature = "libtorch")]
    LibTorch,
    /// libtorch on an NVIDIA GPU, by its number.
    #[cfg(feature = "libtorch")]
    LibTorchCuda(u16),
    /// burn's own kernels on an NVIDIA GPU, by its number.
    #[cfg(feature = "cuda")]
    Cuda(u16),
    /// burn's own kernels on the GPU that Vulkan, Metal or DirectX 12 offers first.
    #[cfg(feature = "wgpu")]
    Wgpu,
    /// The same kernels on a driver that computes on the processor. It is slower than `cpu`, and
    /// shows what `wgpu` computes where there is no GPU.
    #[cfg(feature = "wgpu")]
    WgpuCpu,
}

/// The name is not that of a device this build and this machine have.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "the device `{0}` is unknown: expected auto, cpu, libtorch, libtorch-cuda:N, cuda:N, wgpu or wgpu-cpu"
    )]
    Unknown(String),
    #[error(
        "the device `{name}` needs a build with `--features {feature}`{}: expected auto or cpu",
        needed_to_build(feature)
    )]
    NotBuilt { name: String, feature: &'static str },
    #[error(
        "the device `{name}` has no bfloat16, in which `training.precision` = mixed computes: expected single"
    )]
    NoMixed { name: String },
    #[error("the device `{name}` is not on this machine, which has {found}: install {install}")]
    Absent {
        name: String,
        /// What there is of its kind.
        found: String,
        /// What makes such devices appear.
        install: &'static str,
    },
}

fn needed_to_build(feature: &str) -> &'static str {
    match feature {
        "libtorch" => " beside PyTorch 2.9.0 (pip install torch==2.9.0; LIBTORCH_USE_PYTORCH=1)",
        _ => "",
    }
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let unknown = || Error::Unknown(name.to_owned());
        let (kind, index) = match name.split_once(':') {
            Some((kind, index)) => (kind, Some(index.parse().map_err(|_| unknown())?)),
            None => (name, None),
        };
        match (kind, index) {
            ("auto", None) => Ok(Self::best()),
            ("cpu", None) => Ok(Self::Cpu),
            ("libtorch", None) => libtorch(),
            ("libtorch-cuda", index) => libtorch_cuda(index.unwrap_or(0)),
            ("cuda", index) => cuda(index.unwrap_or(0)),
            ("wgpu", None) => wgpu(),
            ("wgpu-cpu", None) => wgpu_cpu(),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => {
                let threads = rayon::current_num_threads();
                let vectors = vectors();
                write!(formatter, "cpu (burn flex, {vectors}, {threads} threads)")
            }
            #[cfg(feature = "libtorch")]
            Self::LibTorch => write!(formatter, "libtorch (processor)"),
            #[cfg(feature = "libtorch")]
            Self::LibTorchCuda(index) => write!(formatter, "libtorch-cuda:{index}"),
            #[cfg(feature = "cuda")]
            Self::Cuda(index) => write!(formatter, "cuda:{index}"),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => write!(formatter, "wgpu"),
            #[cfg(feature = "wgpu")]
            Self::WgpuCpu => write!(formatter, "wgpu-cpu"),
        }
    }
}

/// The widest vectors of the processor that the kernels and the matrix product use.
fn vectors() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            return "AVX-512";
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            return "AVX2";
        }
    }
    "128-bit vectors"
}

impl Device {
    /// The first GPU that this build can use and this machine has; without one, the processor.
    pub fn best() -> Self {
        cuda(0)
            .or_else(|_| libtorch_cuda(0))
            .or_else(|_| wgpu())
            .unwrap_or_default()
    }

    /// Whether it is another than the processor.
    pub fn is_gpu(self) -> bool {
        match self {
            Self::Cpu => false,
            #[cfg(feature = "libtorch")]
            Self::LibTorch => false,
            #[cfg(feature = "libtorch")]
            Self::LibTorchCuda(_) => true,
            #[cfg(feature = "cuda")]
            Self::Cuda(_) => true,
            #[cfg(feature = "wgpu")]
            Self::Wgpu => true,
            #[cfg(feature = "wgpu")]
            Self::WgpuCpu => false,
        }
    }

    /// What differential privacy of sampled units rests on here.
    pub fn guarantee(self) -> &'static str {
        match self {
            Self::Cpu => {
                "clip and noise are computed on the processor; a unit's gradient is the same to the last bit \
                 whoever else is in a step"
            }
            #[cfg(any(feature = "libtorch", feature = "cuda", feature = "wgpu"))]
            _ => {
                "clip and noise are computed on the processor; that a unit's gradient does not depend on who \
                 else is in a step was shown for cpu alone"
            }
        }
    }

    /// `precision`, if the device has it.
    pub(crate) fn precision(self, precision: Precision) -> Result<Precision, Error> {
        let has_half = self.plain().supports_dtype(FloatDType::BF16);
        if precision == Precision::Single || has_half {
            return Ok(precision);
        }
        Err(self.no_mixed())
    }

    fn no_mixed(self) -> Error {
        Error::NoMixed {
            name: self.to_string(),
        }
    }

    /// The device without a gradient tape.
    #[cfg_attr(
        feature = "libtorch",
        allow(
            deprecated,
            reason = "burn means to drop libtorch; until then it is the fastest"
        )
    )]
    pub(crate) fn plain(self) -> BurnDevice {
        match self {
            Self::Cpu => BurnDevice::flex(),
            #[cfg(feature = "libtorch")]
            Self::LibTorch => BurnDevice::libtorch(),
            #[cfg(feature = "libtorch")]
            Self::LibTorchCuda(index) => BurnDevice::libtorch_cuda(usize::from(index)),
            #[cfg(feature = "cuda")]
            Self::Cuda(index) => BurnDevice::cuda(usize::from(index)),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => BurnDevice::wgpu(DeviceKind::DefaultDevice),
            #[cfg(feature = "wgpu")]
            Self::WgpuCpu => BurnDevice::wgpu(DeviceKind::Cpu),
        }
    }
}

/// `device`, if its number is one of the `count` that there are.
#[cfg(any(feature = "libtorch", feature = "cuda"))]
fn numbered(
    device: Device,
    index: u16,
    count: usize,
    install: &'static str,
) -> Result<Device, Error> {
    if usize::from(index) < count {
        return Ok(device);
    }
    Err(Error::Absent {
        name: device.to_string(),
        found: format!("{count} NVIDIA GPUs that can be used"),
        install,
    })
}

#[cfg(feature = "libtorch")]
fn libtorch() -> Result<Device, Error> {
    Ok(Device::LibTorch)
}

#[cfg(not(feature = "libtorch"))]
fn libtorch() -> Result<Device, Error> {
    Err(not_built("libtorch".to_owned(), "libtorch"))
}

#[cfg(feature = "libtorch")]
fn libtorch_cuda(index: u16) -> Result<Device, Error> {
    use burn::backend::LibTorchDevice;

    let devices = BurnDevice::enumerate(DeviceType::LibTorch).into_vec();
    let is_gpu = |device: &&BurnDevice| {
        let device = device.as_dispatch();
        matches!(device, DispatchDevice::LibTorch(LibTorchDevice::Cuda(_)))
    };
    let count = devices.iter().filter(is_gpu).count();
    let install = "the NVIDIA driver, and PyTorch 2.9.0 built for CUDA";
    numbered(Device::LibTorchCuda(index), index, count, install)
}

#[cfg(not(feature = "libtorch"))]
fn libtorch_cuda(index: u16) -> Result<Device, Error> {
    Err(not_built(format!("libtorch-cuda:{index}"), "libtorch"))
}

#[cfg(feature = "cuda")]
fn cuda(index: u16) -> Result<Device, Error> {
    let count = BurnDevice::enumerate(DeviceType::Cuda).into_vec().len();
    let install = "the NVIDIA driver and the CUDA toolkit 12 or later";
    numbered(Device::Cuda(index), index, count, install)
}

#[cfg(not(feature = "cuda"))]
fn cuda(index: u16) -> Result<Device, Error> {
    Err(not_built(format!("cuda:{index}"), "cuda"))
}

/// A GPU. An adapter that computes on the processor has its own name, so that no machine without a
/// driver trains on it by mistake.
#[cfg(feature = "wgpu")]
fn wgpu() -> Result<Device, Error> {
    let install =
        "the GPU maker's driver for Vulkan (on macOS and Windows it comes with the system)";
    adapter(Device::Wgpu, "a GPU", install)
}

#[cfg(feature = "wgpu")]
fn wgpu_cpu() -> Result<Device, Error> {
    let install = "Mesa's software driver for Vulkan (Debian: mesa-vulkan-drivers)";
    adapter(Device::WgpuCpu, "the processor", install)
}

/// `device`, if an adapter is of its kind, which is called `kind`.
#[cfg(feature = "wgpu")]
fn adapter(device: Device, kind: &str, install: &'static str) -> Result<Device, Error> {
    use burn::backend::{CubeDevice, WgpuDeviceKind};

    let adapters = BurnDevice::enumerate(DeviceType::Wgpu).into_vec();
    let fits = |adapter: &BurnDevice| match adapter.as_dispatch() {
        DispatchDevice::Cube(CubeDevice::Wgpu(adapter)) => {
            (adapter.kind != WgpuDeviceKind::Cpu) == device.is_gpu()
        }
        _ => false,
    };
    if adapters.iter().any(fits) {
        return Ok(device);
    }
    Err(Error::Absent {
        name: device.to_string(),
        found: format!("{} adapters, none of them {kind}", adapters.len()),
        install,
    })
}

#[cfg(not(feature = "wgpu"))]
fn wgpu() -> Result<Device, Error> {
    Err(not_built("wgpu".to_owned(), "wgpu"))
}

#[cfg(not(feature = "wgpu"))]
fn wgpu_cpu() -> Result<Device, Error> {
    Err(not_built("wgpu-cpu".to_owned(), "wgpu"))
}

#[cfg(not(all(feature = "libtorch", feature = "cuda", feature = "wgpu")))]
fn not_built(name: String, feature: &'static str) -> Error {
    Error::NotBuilt { name, feature }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_always_there() {
        assert_eq!("cpu".parse::<Device>().expect("cpu"), Device::Cpu);
        let best = "auto".parse::<Device>().expect("auto");
        assert_eq!(best, Device::best());
        assert!(Device::Cpu.to_string().starts_with("cpu (burn flex"));
    }

    #[test]
    fn only_the_processor_promises_gradients_that_are_the_same_whoever_else_is_there() {
        assert!(Device::Cpu.guarantee().contains("to the last bit"));
        #[cfg(feature = "libtorch")]
        assert!(Device::LibTorch.guarantee().contains("for cpu alone"));
        #[cfg(feature = "cuda")]
        assert!(Device::Cuda(0).guarantee().contains("for cpu alone"));
        #[cfg(feature = "wgpu")]
        for device in [Device::Wgpu, Device::WgpuCpu] {
            assert!(device.guarantee().contains("for cpu alone"));
        }
    }

    #[test]
    fn the_processor_has_both_precisions_and_a_device_that_has_not_is_named() {
        for precision in [Precision::Single, Precision::Mixed] {
            assert_eq!(Device::Cpu.precision(precision).ok(), Some(precision));
        }
        let message = Device::Cpu.no_mixed().to_string();
        assert!(
            message.contains("cpu") && message.contains("training.precision"),
            "{message}"
        );
    }

    #[test]
    fn unknown_names_are_told() {
        for name in [
            "",
            "tpu",
            "cuda:x",
            "cuda:-1",
            "cuda:70000",
            "cpu:0",
            "auto:1",
            "wgpu:0",
            "wgpu-cpu:0",
        ] {
            let error = name.parse::<Device>().expect_err("unknown");
            assert!(matches!(error, Error::Unknown(_)), "{error}");
        }
    }

    /// Of a kind that is in the build there are no machines with 1000.
    #[test]
    fn absent_devices_say_what_to_install_or_build() {
        let kinds = [
            (
                "libtorch-cuda:1000",
                cfg!(feature = "libtorch"),
                "PyTorch 2.9.0",
            ),
            ("cuda:1000", cfg!(feature = "cuda"), "cuda"),
        ];
        for (name, built, needed) in kinds {
            let error = name.parse::<Device>().expect_err("absent");
            let message = error.to_string();
            assert!(
                message.contains(name) && message.to_lowercase().contains(&needed.to_lowercase()),
                "{message}"
            );
            match error {
                Error::Absent { install, .. } => assert!(built && install.contains("driver")),
                Error::NotBuilt { .. } => assert!(!built && message.contains("--features")),
                Error::Unknown(_) | Error::NoMixed { .. } => panic!("{message}"),
            }
        }
    }

    #[cfg(not(feature = "wgpu"))]
    #[test]
    fn a_feature_that_is_not_built_is_named() {
        for name in ["wgpu", "wgpu-cpu"] {
            let error = name.parse::<Device>().expect_err("not built");
            assert!(error.to_string().contains("--features wgpu"), "{error}");
        }
    }

    /// `auto` is never a driver that computes on the processor, which is slower than `cpu`.
    #[cfg(feature = "wgpu")]
    #[test]
    fn an_adapter_that_computes_on_the_processor_is_used_only_by_its_name() {
        assert_ne!(Device::best(), Device::WgpuCpu);
        assert!(Device::Wgpu.is_gpu() && !Device::WgpuCpu.is_gpu());
        match "wgpu-cpu".parse::<Device>() {
            Ok(device) => assert_eq!(device, Device::WgpuCpu),
            Err(error) => assert!(error.to_string().contains("mesa-vulkan-drivers"), "{error}"),
        }
    }
}
