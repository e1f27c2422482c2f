//! Objects in a bucket of S3, or of what speaks as S3 does.
//!
//! Credentials, region and endpoint come as the tools of AWS take them: from the environment, from the files of a
//! profile, or from the role of a machine or container. None of them stands in `coordinator.toml`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredential};
use object_store::client::CredentialProvider;
use object_store::path::Path as ObjectPath;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ObjectStore, RetryConfig};

use super::http::{BUNDLE, Connector};

/// A request is tried again so often, and for so long, before it has failed.
const RETRIES: usize = 5;
const PATIENCE: Duration = Duration::from_mins(1);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// For so long credentials of a file are used before the file is read again.
const FRESH: Duration = Duration::from_mins(1);

/// The variables by which the tools of AWS are told where a store is and who asks.
pub type Environment = BTreeMap<String, String>;

/// The bucket, and what stands before the names of its objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bucket {
    name: String,
    prefix: ObjectPath,
}

impl Bucket {
    /// Reads `BUCKET` or `BUCKET/PREFIX`; credentials and options have no place in it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (name, prefix) = text.split_once('/').unwrap_or((text, ""));
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if name.is_empty() || !name.chars().all(plain) || prefix.contains(['?', '#']) {
            return None;
        }
        let prefix = ObjectPath::parse(prefix).ok()?;
        Some(Self {
            name: name.to_owned(),
            prefix,
        })
    }

    /// Nothing is asked of the bucket yet.
    pub(super) fn open(
        self,
        environment: &Environment,
    ) -> object_store::Result<Arc<dyn ObjectStore>> {
        let retry = RetryConfig {
            backoff: BackoffConfig {
                init_backoff: FIRST_PAUSE,
                max_backoff: LONGEST_PAUSE,
                base: 2.0,
            },
            max_retries: RETRIES,
            retry_timeout: PATIENCE,
        };
        let variables = environment.iter().filter_map(|(name, value)| {
            let key: AmazonS3ConfigKey = name.to_ascii_lowercase().parse().ok()?;
            name.starts_with("AWS_").then_some((key, value))
        });
        let mut builder = AmazonS3Builder::new();
        for (key, value) in variables {
            builder = builder.with_config(key, value);
        }
        let bundle = environment.get(BUNDLE).map(PathBuf::from);
        let mut builder = builder
            .with_bucket_name(self.name)
            .with_http_connector(Connector::new(bundle))
            .with_disable_bulk_delete(true)
            .with_retry(retry);
        let profile = Profile::of(environment);
        let said = |key| builder.get_config_value(&key).is_some();
        let elsewhere = said(AmazonS3ConfigKey::AccessKeyId)
            || said(AmazonS3ConfigKey::WebIdentityTokenFile)
            || said(AmazonS3ConfigKey::ContainerCredentialsRelativeUri)
            || said(AmazonS3ConfigKey::ContainerCredentialsFullUri);
        let region = said(AmazonS3ConfigKey::Region) || said(AmazonS3ConfigKey::DefaultRegion);
        if !region && let Some(region) = profile.region() {
            builder = builder.with_region(region);
        }
        if !elsewhere && profile.credential().is_some() {
            builder = builder.with_credentials(Arc::new(FileCredentials {
                profile,
                read: Mutex::default(),
            }));
        }
        let store = builder.build()?;
        if self.prefix.as_ref().is_empty() {
            return Ok(Arc::new(store));
        }
        Ok(Arc::new(PrefixStore::new(store, self.prefix)))
    }
}

/// A section of the files `credentials` and `config` that the tools of AWS share.
#[derive(Debug)]
struct Profile {
    name: String,
    credentials: Option<PathBuf>,
    config: Option<PathBuf>,
}

impl Profile {
    fn of(environment: &Environment) -> Self {
        let home = environment.get("HOME");
        let home = home.map(|home| Path::new(home).join(".aws"));
        let file = |variable: &str, name: &str| {
            let said = environment.get(variable).map(PathBuf::from);
            said.or_else(|| home.as_ref().map(|home| home.join(name)))
        };
        Self {
            name: environment
                .get("AWS_PROFILE")
                .map_or("default", String::as_str)
                .to_owned(),
            credentials: file("AWS_SHARED_CREDENTIALS_FILE", "credentials"),
            config: file("AWS_CONFIG_FILE", "config"),
        }
    }

    fn credential(&self) -> Option<AwsCredential> {
        let text = fs::read_to_string(self.credentials.as_ref()?).ok()?;
        let value = |key| value_in(&text, &self.name, key);
        Some(AwsCredential {
            key_id: value("aws_access_key_id")?,
            secret_key: value("aws_secret_access_key")?,
            token: value("aws_session_token"),
        })
    }

    fn region(&self) -> Option<String> {
        let text = fs::read_to_string(self.config.as_ref()?).ok()?;
        let named = format!("profile {}", self.name);
        value_in(&text, &named, "region").or_else(|| value_in(&text, &self.name, "region"))
    }
}

/// What `key` is in a section of such a file.
fn value_in(text: &str, section: &str, key: &str) -> Option<String> {
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            inside = name.trim() == section;
            continue;
        }
        if let Some((found, value)) = line.split_once('=')
            && inside
            && found.trim() == key
        {
            return Some(value.trim().to_owned()).filter(|value| !value.is_empty());
        }
    }
    None
}

/// Credentials of a file, which somebody may renew.
#[derive(Debug)]
struct FileCredentials {
    profile: Profile,
    read: Mutex<Option<(Instant, Arc<AwsCredential>)>>,
}

#[async_trait]
impl CredentialProvider for FileCredentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, credential)) = read.as_ref()
            && at.elapsed() < FRESH
        {
            return Ok(credential.clone());
        }
        let credential = self.profile.credential();
        let credential = credential.ok_or_else(|| object_store::Error::Unauthenticated {
            path: self.profile.name.clone(),
            source: "the file of credentials has no such profile any more".into(),
        })?;
        let credential = Arc::new(credential);
        *read = Some((Instant::now(), credential.clone()));
        Ok(credential)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_has_a_name_and_perhaps_a_prefix_and_no_secrets() {
        let bucket = Bucket::parse("models/north/2026").expect("a bucket");
        assert_eq!(bucket.name, "models");
        assert_eq!(bucket.prefix.as_ref(), "north/2026");
        assert_eq!(
            Bucket::parse("models/").expect("a bucket").prefix.as_ref(),
            ""
        );
        for wrong in [
            "",
            "/north",
            "key:secret@models",
            "models?region=x",
            "models/a?b",
        ] {
            assert_eq!(Bucket::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_profile_is_read_from_its_own_section() {
        let folder = tempfile::tempdir().expect("folder");
        let (credentials, config) = (folder.path().join("c"), folder.path().join("f"));
        let text = "[default]\naws_access_key_id = a\naws_secret_access_key = b\n\n\
                    [north]\naws_access_key_id=c\naws_secret_access_key=d=\naws_session_token=e\n";
        fs::write(&credentials, text).expect("written");
        let text = "[default]\nregion = eu-west-1\n[profile north]\nregion = eu-north-1\n";
        fs::write(&config, text).expect("written");
        let profile = |name: &str| Profile {
            name: name.to_owned(),
            credentials: Some(credentials.clone()),
            config: Some(config.clone()),
        };
        let found = profile("north").credential().expect("credentials");
        assert_eq!(
            (found.key_id.as_str(), found.secret_key.as_str()),
            ("c", "d=")
        );
        assert_eq!(found.token.as_deref(), Some("e"));
        assert_eq!(profile("north").region().as_deref(), Some("eu-north-1"));
        assert_eq!(profile("default").region().as_deref(), Some("eu-west-1"));
        let found = profile("default").credential().expect("credentials");
        assert_eq!((found.key_id.as_str(), found.token), ("a", None));
        assert!(profile("south").credential().is_none());
        assert_eq!(profile("south").region(), None);
    }
}
