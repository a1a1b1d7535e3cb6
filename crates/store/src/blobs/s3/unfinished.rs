//! Deletes the parts of objects that a killed server never finished. They are no objects, and S3
//! keeps them until someone says that they are not needed.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use http::Method;
use object_store::aws::AmazonS3;
use object_store::multipart::MultipartStore as _;
use object_store::path::Path;
use object_store::signer::{SignedUrlOptions, Signer as _};
use serde::Deserialize;

use super::http::Connector;

/// How long the signature of the request is valid.
const VALID: Duration = Duration::from_mins(1);

/// The answer to `ListMultipartUploads`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    #[serde(default)]
    upload: Vec<Unfinished>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Unfinished {
    key: String,
    upload_id: String,
    initiated: DateTime<Utc>,
}

/// Deletes the parts of unfinished objects below a prefix that were begun before a time. The service
/// lists a thousand at most; the next call gets more.
pub(super) async fn delete(
    objects: &AmazonS3,
    connector: Connector,
    prefix: &str,
    before: SystemTime,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    // The library lists objects only.
    let query = [("uploads", ""), ("prefix", prefix)];
    let options = SignedUrlOptions::default().with_query(query);
    let bucket = Path::default();
    let url = objects
        .signed_url_opts(Method::GET, &bucket, VALID, &options)
        .await?;
    let answer = connector.client()?.get(url).send().await;
    let answer = answer.and_then(reqwest::Response::error_for_status);
    let text = answer.map_err(reqwest::Error::without_url)?.text().await?;
    let listed: Listed = quick_xml::de::from_str(&text)?;
    let before = DateTime::<Utc>::from(before);
    for one in listed.upload.iter().filter(|one| one.initiated < before) {
        objects
            .abort_multipart(&Path::parse(&one.key)?, &one.upload_id)
            .await?;
    }
    Ok(())
}
