//! Why a bucket cannot be used.

use std::io;

use loggia_api::store::StoreError;

/// Why a bucket cannot be used. No text has keys or signatures.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// It cannot be reached as the options say.
    #[error("{0}")]
    Setup(String),
    /// The service is on another machine, and would be reached without TLS.
    #[error(
        "the endpoint is reached without TLS, which would show everybody on the way what it stores"
    )]
    PlainHttp,
    /// One of two variables is missing, this one.
    #[error("the variable {0} is missing")]
    HalfOfKeys(&'static str),
    /// There are no keys.
    #[error(
        "there are no keys; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SHARED_CREDENTIALS_FILE"
    )]
    NoKeys,
    /// There is no such bucket.
    #[error("the bucket `{0}` does not exist; create it, or correct its name")]
    NoBucket(String),
    /// The service refuses the keys, or what they are used for.
    #[error(
        "the service refuses the keys ({0}); they must be allowed to list the bucket, and to put, get and delete its objects"
    )]
    Refused(String),
    /// The objects belong to another database.
    #[error("its files belong to another database")]
    OtherDatabase,
    /// The service cannot be reached, or does not work. It may come back.
    #[error("it cannot be reached: {0}")]
    Away(String),
}

impl BucketError {
    /// The reason why a request to a bucket failed.
    pub(super) fn of(error: &object_store::Error, bucket: &str) -> Self {
        let code = code(error);
        match code.as_deref() {
            Some("NoSuchBucket") => Self::NoBucket(bucket.to_owned()),
            // Also the codes of S3-compatible services for keys that they do not know.
            Some(
                "AccessDenied"
                | "AllAccessDisabled"
                | "ExpiredToken"
                | "Forbidden"
                | "InvalidAccessKeyId"
                | "InvalidSecurity"
                | "InvalidToken"
                | "NotSignedUp"
                | "RequestTimeTooSkewed"
                | "SignatureDoesNotMatch"
                | "Unauthorized",
            ) => Self::Refused(code.unwrap_or_default()),
            _ => Self::Away(cause(error)),
        }
    }
}

/// S3's code in an error, for example `NoSuchBucket`.
pub(super) fn code(error: &object_store::Error) -> Option<String> {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(one) = cause {
        if let Some(code) = code_in(&one.to_string()) {
            return Some(code.to_owned());
        }
        cause = one.source();
    }
    None
}

/// The code in the text of an answer or an error.
pub(super) fn code_in(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("<Code>")?;
    Some(rest.split_once("</Code>")?.0)
}

/// The innermost cause of an error, which says what did not work.
fn cause(error: &object_store::Error) -> String {
    if let Some(code) = code(error) {
        return format!("it answers {code}");
    }
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

impl BucketError {
    /// The reason as a fact of the trait.
    pub(super) fn fact(&self) -> StoreError {
        StoreError::Unavailable {
            cause: self.to_string(),
        }
    }
}

/// An answer that says that there is no more room.
pub(super) fn full() -> io::Error {
    io::ErrorKind::StorageFull.into()
}
