//! Why an object store elsewhere does not do what it is asked, as far as an operator can mend it.

use std::error::Error as _;

use fedner_shared::refusal::Code;
use object_store::client::{HttpError, HttpErrorKind};

/// What stands in a store's answers, and what it means.
const SAID: [(&str, Code); 13] = [
    ("NoSuchBucket", Code::BucketUnknown),
    ("PermanentRedirect", Code::BucketUnknown),
    ("AuthorizationHeaderMalformed", Code::BucketUnknown),
    ("incorrectly configured region", Code::BucketUnknown),
    ("RequestTimeTooSkewed", Code::BucketClock),
    ("InvalidAccessKeyId", Code::BucketForbidden),
    ("SignatureDoesNotMatch", Code::BucketForbidden),
    ("AccessDenied", Code::BucketForbidden),
    ("ExpiredToken", Code::BucketForbidden),
    ("InvalidToken", Code::BucketForbidden),
    // Where machines and containers of a cloud ask for the credentials of their role.
    ("http://169.254.169.254", Code::BucketForbidden),
    ("http://169.254.170.2", Code::BucketForbidden),
    ("SlowDown", Code::BucketUnreachable),
];

/// The code of a failure that an operator, or time, can mend; none of a disk's.
pub(super) fn code(error: &object_store::Error) -> Option<Code> {
    let mut text = error.to_string();
    let mut unanswered = false;
    let mut next = error.source();
    while let Some(error) = next {
        unanswered |= error.downcast_ref::<HttpError>().is_some_and(|error| {
            !matches!(error.kind(), HttpErrorKind::Decode | HttpErrorKind::Unknown)
        });
        text = format!("{text}\n{error}");
        next = error.source();
    }
    let said = SAID.iter().find(|(said, _)| text.contains(said));
    if let Some((_, code)) = said {
        return Some(*code);
    }
    // An answer without a body, as to HEAD, has its status alone.
    let status = |from: &str| text.contains(&format!("status code: {from}"));
    if status("401") || status("403") {
        Some(Code::BucketForbidden)
    } else if unanswered || status("5") || status("429") || status("408") {
        Some(Code::BucketUnreachable)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn said(text: &str) -> Option<Code> {
        code(&object_store::Error::Generic {
            store: "S3",
            source: text.to_owned().into(),
        })
    }

    #[test]
    fn what_a_store_says_has_a_code_and_what_a_disk_says_has_none() {
        let answer = "Server returned non-2xx status code: 403 Forbidden: ";
        let skewed = format!("{answer}<Error><Code>RequestTimeTooSkewed</Code></Error>");
        assert_eq!(said(&skewed), Some(Code::BucketClock));
        assert_eq!(said(answer), Some(Code::BucketForbidden));
        let gone = "status code: 404 Not Found: <Code>NoSuchBucket</Code>";
        assert_eq!(said(gone), Some(Code::BucketUnknown));
        assert_eq!(
            said("status code: 404 Not Found: <Code>NoSuchKey</Code>"),
            None
        );
        assert_eq!(
            said("status code: 503 Service Unavailable: "),
            Some(Code::BucketUnreachable)
        );
        let disk = object_store::Error::Generic {
            store: "LocalFileSystem",
            source: Box::new(io::Error::from(io::ErrorKind::PermissionDenied)),
        };
        assert_eq!(code(&disk), None);
        let unanswered = |kind| object_store::Error::Generic {
            store: "S3",
            source: Box::new(HttpError::new(kind, io::Error::other("nobody"))),
        };
        assert_eq!(
            code(&unanswered(HttpErrorKind::Connect)),
            Some(Code::BucketUnreachable)
        );
        assert_eq!(code(&unanswered(HttpErrorKind::Decode)), None);
    }
}
