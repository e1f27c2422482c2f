//! `model export`: versions for Python.
//!
//! A version of a `lora` or `ffa-lora` run keeps its adapters beside the frozen weights. It is
//! exported either with the adapters merged, as a plain model, or as the adapters alone.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use fedner_host::output::Output;
use fedner_host::progress::Progress;
use fedner_proto::v1::operations_client::OperationsClient;
use fedner_proto::{convert, v1};
use fedner_shared::bert::BertConfig;
use fedner_shared::checkpoint::{self, Checkpoint};
use fedner_shared::digest::Digest;
use fedner_shared::onnx::{self, Precision};
use fedner_shared::refusal::Code;
use fedner_shared::version::{Origin, Pruned};
use fedner_shared::view::VersionView;
use tonic::transport::Channel;

use crate::cli::failed::Failed;
use crate::cli::{connect, lists};
use crate::config::Paths;

const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
const WEIGHTS: &str = "model.safetensors";
const CARD: &str = "README.md";
const ADAPTER_CONFIG: &str = "adapter_config.json";
const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    version: String,
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Write only the adapters and the head, as Python PEFT loads them; for versions of lora and
    /// ffa-lora runs
    #[arg(long)]
    adapter: bool,
    /// What the model is written as
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    format: Format,
    /// Weights in 8 bits, for ONNX: about a quarter of the size, and some words get another tag
    #[arg(long, conflicts_with = "adapter")]
    int8: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// As transformers and fedner load it
    #[default]
    Safetensors,
    /// As ONNX Runtime and others load it
    Onnx,
}

pub(super) async fn run(
    arguments: Arguments,
    paths: &Paths,
    output: &Output,
) -> Result<(), Failed> {
    let Arguments {
        version,
        to,
        adapter,
        format,
        int8,
    } = arguments;
    if (format == Format::Onnx && adapter) || (format == Format::Safetensors && int8) {
        let message = "ONNX has no adapters, and safetensors no 8 bits: expected `--format onnx --int8`, or \
                       `--adapter` alone";
        return Err(Failed::refuse(Code::RequestInvalid, message.to_owned()));
    }
    if [WEIGHTS, ADAPTER_WEIGHTS, onnx::FILE]
        .iter()
        .any(|file| to.join(file).exists())
    {
        let message = format!("{} holds a model already", to.display());
        return Err(Failed::refuse(Code::AlreadyExists, message));
    }
    let request = v1::GetModelRequest {
        version,
        ..v1::GetModelRequest::default()
    };
    let answer = connect::monitoring(paths).await?.get_model(request).await?;
    let view = convert::version_from_wire(answer.into_inner())?;
    if view.pruned == Some(Pruned::Files) {
        let message = format!("the files of {} were pruned on purpose", view.version.name);
        return Err(Failed::refuse(Code::ModelPruned, message));
    }
    let mut objects = Objects(connect::operations(paths).await?);
    let config_json = objects.text(CONFIG, view.version.config).await?;
    let config = BertConfig::parse(&config_json)
        .map_err(|error| Failed::refuse(Code::CheckpointInvalid, error.to_string()))?;
    if format == Format::Onnx {
        let precision = if int8 {
            Precision::Int8
        } else {
            Precision::Float32
        };
        as_onnx(&view, &config_json, (&to, precision), &mut objects).await?;
        let said = format!("exported {} as ONNX to {}", view.version.name, to.display());
        output.data(&view, |_| said)?;
        return Ok(());
    }
    let in_one_file = config.adapters.is_none() && view.version.frozen.is_none();
    match (adapter, config.adapters.is_some()) {
        (false, _) if in_one_file => as_it_is(&view, &config_json, &to, &mut objects).await?,
        (false, _) => merged(&view, &config_json, &to, &mut objects).await?,
        (true, true) => adapters(&view, &config_json, &to, &mut objects).await?,
        (true, false) => {
            let message = format!(
                "{} has no adapters: expected a version of a run with the method lora or ffa-lora",
                view.version.name
            );
            return Err(Failed::refuse(Code::RequestInvalid, message));
        }
    }
    let base = if adapter {
        Some(adapted_base(&view, paths).await?)
    } else {
        None
    };
    let own_head = !config.head.is_plain();
    output.data(&view, |view| report(view, &to, base.as_deref(), own_head))?;
    Ok(())
}

async fn as_it_is(
    view: &VersionView,
    config_json: &str,
    to: &Path,
    objects: &mut Objects,
) -> Result<(), Failed> {
    let version = &view.version;
    let config = checkpoint::config_of_float32(config_json).map_err(unreadable)?;
    write(to, CONFIG, config.as_bytes())?;
    objects.save(version.weights, to, WEIGHTS).await?;
    beside(view, config_json, to, objects).await
}

/// The tokenizer in the files that other programs read, and the model card.
async fn beside(
    view: &VersionView,
    config_json: &str,
    to: &Path,
    objects: &mut Objects,
) -> Result<(), Failed> {
    let tokenizer = objects.read(TOKENIZER, view.version.tokenizer).await?;
    write(to, TOKENIZER, &tokenizer)?;
    let config = BertConfig::parse(config_json)
        .map_err(|error| Failed::refuse(Code::CheckpointInvalid, error.to_string()))?;
    for (file, contents) in checkpoint::companions(&tokenizer, config.max_position_embeddings) {
        write(to, file, &contents)?;
    }
    let card = super::card::from_view(view, config.head.is_plain());
    write(to, CARD, card.to_markdown().as_bytes())
}

/// In one file, whatever the version is kept in.
async fn merged(
    view: &VersionView,
    config_json: &str,
    to: &Path,
    objects: &mut Objects,
) -> Result<(), Failed> {
    let checkpoint = objects.checkpoint(view, config_json).await?.merged();
    let config = checkpoint::config_with_additions(config_json, &checkpoint.config);
    let config = config.map_err(unreadable)?;
    let config = checkpoint::config_of_float32(&config).map_err(unreadable)?;
    write(to, CONFIG, config.as_bytes())?;
    let weights = checkpoint.to_safetensors().map_err(unreadable)?;
    write(to, WEIGHTS, &weights)?;
    beside(view, &config, to, objects).await
}

/// The adapters merged, as a graph.
async fn as_onnx(
    view: &VersionView,
    config_json: &str,
    (to, precision): (&Path, Precision),
    objects: &mut Objects,
) -> Result<(), Failed> {
    let checkpoint = objects.checkpoint(view, config_json).await?.merged();
    let config = checkpoint::config_with_additions(config_json, &checkpoint.config);
    let config = config.map_err(unreadable)?;
    let tags = checkpoint::tags_of_config(&config).map_err(unreadable)?;
    let graph = onnx::write(&checkpoint, &tags.unwrap_or_default(), precision)
        .map_err(|error| Failed::refuse(Code::CheckpointInvalid, error.to_string()))?;
    beside(view, &config, to, objects).await?;
    let mut card = super::card::from_view(view, false);
    card.onnx = Some(onnx::card(&checkpoint.config.head, precision));
    write(to, CARD, card.to_markdown().as_bytes())?;
    write(to, onnx::FILE, &graph)?;
    write(to, CONFIG, config.as_bytes())
}

async fn adapters(
    view: &VersionView,
    config_json: &str,
    to: &Path,
    objects: &mut Objects,
) -> Result<(), Failed> {
    let checkpoint = objects.checkpoint(view, config_json).await?;
    let files = checkpoint.to_peft(None).map_err(unreadable)?;
    let files = files.ok_or_else(|| Failed::fault("the version has no adapters".to_owned()))?;
    write(to, ADAPTER_CONFIG, files.config.as_bytes())?;
    write(to, ADAPTER_WEIGHTS, &files.weights)
}

/// The version that the adapters began on: merged, its adapters add nothing.
async fn adapted_base(view: &VersionView, paths: &Paths) -> Result<String, Failed> {
    let version = view.version.name.to_string();
    let line = lists::lineage(connect::monitoring(paths).await?, version).await?;
    for model in line {
        let ancestor = convert::version_from_wire(model)?;
        if matches!(ancestor.version.origin, Origin::Prepared { .. }) {
            return Ok(ancestor.version.name.to_string());
        }
    }
    Err(Failed::fault(format!(
        "{} descends from no version with new adapters",
        view.version.name
    )))
}

fn report(view: &VersionView, to: &Path, base: Option<&str>, own_head: bool) -> String {
    let (name, to) = (&view.version.name, to.display());
    if let Some(base) = base {
        return format!(
            "exported the adapters of {name} for PEFT to {to}\nthey belong on the model that `model export {base} --to DIR` writes"
        );
    }
    let kind = if view.version.labels.is_empty() {
        "encoder"
    } else if own_head {
        "model with a head on several layers, which `fedner-client` loads and transformers does not,"
    } else {
        "BertForTokenClassification"
    };
    format!("exported {name} as {kind} to {to}")
}

/// The objects of the coordinator.
struct Objects(OperationsClient<Channel>);

impl Objects {
    /// Writes the object to a file, as it comes.
    async fn save(&mut self, digest: Digest, to: &Path, file: &str) -> Result<(), Failed> {
        fs::create_dir_all(to).map_err(Failed::io("create", to))?;
        let path = to.join(file);
        let mut out = fs::File::create(&path).map_err(Failed::io("create", &path))?;
        let failed = |error| Failed::io("write", &path)(error);
        self.fetch(file, digest, |bytes| out.write_all(bytes).map_err(failed))
            .await
    }

    async fn read(&mut self, file: &str, digest: Digest) -> Result<Vec<u8>, Failed> {
        let mut all = Vec::new();
        self.fetch(file, digest, |bytes| {
            all.extend_from_slice(bytes);
            Ok(())
        })
        .await?;
        Ok(all)
    }

    async fn text(&mut self, file: &str, digest: Digest) -> Result<String, Failed> {
        String::from_utf8(self.read(file, digest).await?)
            .map_err(|_| Failed::fault(format!("{file} is not UTF-8 text")))
    }

    async fn checkpoint(
        &mut self,
        view: &VersionView,
        config_json: &str,
    ) -> Result<Checkpoint, Failed> {
        let weights = self.read(WEIGHTS, view.version.weights).await?;
        let frozen = match view.version.frozen {
            Some(frozen) => Some(self.read(WEIGHTS, frozen).await?),
            None => None,
        };
        Checkpoint::read_parts(config_json, &weights, frozen.as_deref()).map_err(unreadable)
    }

    async fn fetch(
        &mut self,
        file: &str,
        digest: Digest,
        mut take: impl FnMut(&[u8]) -> Result<(), Failed>,
    ) -> Result<(), Failed> {
        let request = v1::DownloadRequest {
            digest: digest.as_bytes().to_vec(),
            offset: 0,
        };
        let mut chunks = self.0.get_object(request).await?.into_inner();
        let mut hasher = blake3::Hasher::new();
        let shown = Progress::bytes(file);
        while let Some(chunk) = chunks.message().await? {
            hasher.update(&chunk.data);
            shown.came(chunk.data.len());
            take(&chunk.data)?;
        }
        drop(shown);
        let found = Digest::from_bytes(*hasher.finalize().as_bytes());
        if found != digest {
            return Err(Failed::fault(format!(
                "{file} came with the digest {found}: expected {digest}"
            )));
        }
        Ok(())
    }
}

fn write(to: &Path, file: &str, contents: &[u8]) -> Result<(), Failed> {
    fs::create_dir_all(to).map_err(Failed::io("create", to))?;
    let path = to.join(file);
    fs::write(&path, contents).map_err(Failed::io("write", &path))
}

fn unreadable(error: checkpoint::Error) -> Failed {
    Failed::refuse(Code::CheckpointInvalid, error.to_string())
}
