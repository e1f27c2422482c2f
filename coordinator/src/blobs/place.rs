//! Where the objects lie, as `coordinator.toml` says it.

use std::path::PathBuf;

use super::Error;
use super::s3::Bucket;
use crate::config::Paths;

/// Where the objects lie.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    Folder(PathBuf),
    Bucket(Bucket),
}

impl Place {
    pub(super) fn of(url: Option<&str>, paths: &Paths) -> Result<Self, Error> {
        let Some(url) = url else {
            return Ok(Self::Folder(paths.blobs()));
        };
        let folder = url.strip_prefix("file:").map(|path| {
            let path = path.strip_prefix("//").unwrap_or(path);
            (!path.is_empty()).then(|| Self::Folder(paths.directory().join(path)))
        });
        let bucket = || Bucket::parse(url.strip_prefix("s3://")?).map(Self::Bucket);
        folder.unwrap_or_else(bucket).ok_or_else(|| {
            // What somebody took for the place of a secret is not repeated.
            let place = url.rsplit_once('@').map_or(url, |(_, place)| place);
            Error::Url {
                url: place.to_owned(),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use fedner_shared::refusal::Code;

    use super::*;

    #[test]
    fn a_place_is_a_folder_or_a_bucket_and_its_error_repeats_no_secret() {
        let paths = Paths::new("/srv/fedner");
        let folder = |url: Option<&str>| match Place::of(url, &paths) {
            Ok(Place::Folder(folder)) => folder.display().to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(folder(None), "/srv/fedner/blobs");
        assert_eq!(folder(Some("file:objects")), "/srv/fedner/objects");
        assert_eq!(folder(Some("file:///mnt/objects")), "/mnt/objects");
        let bucket = Place::of(Some("s3://models/north"), &paths).expect("a bucket");
        assert!(matches!(bucket, Place::Bucket(_)));
        for wrong in [
            "file:",
            "s3://",
            "/mnt",
            "https://models",
            "s3://key:secret@models",
        ] {
            let error = Place::of(Some(wrong), &paths).expect_err(wrong);
            assert!(!error.to_string().contains("secret"), "{error}");
            assert_eq!(error.code(), Some(Code::ConfigInvalid));
        }
    }
}
