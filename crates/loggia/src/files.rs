//! The contents of files: in a folder, or in a bucket that servers share.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use loggia_api::Blobs;
use loggia_api::store::blobs::{Leftovers, in_pages};
use loggia_seal::Keys;
use loggia_store::{BucketError, FileBlobs, S3Blobs, S3Options, SqlStore};

use crate::config::{Config, environment};

/// The folder of the contents in the data folder, unless a setting names another one.
const FOLDER: &str = "files";

/// Opens the storage of the contents, and returns what a server that was killed may have left there.
/// The folder is created with the first file. A bucket that cannot be used is an error of the start
/// and not of the first request; one that cannot be reached may come back later, so that is a
/// warning.
pub(crate) async fn open(
    config: &Config,
    keys: &Arc<Keys>,
    store: &Arc<SqlStore>,
) -> anyhow::Result<(Arc<dyn Blobs>, Leftovers)> {
    let encrypts = config.store_encrypted.0;
    let Some(bucket) = bucket(config).map_err(|error| unusable(&error))? else {
        let blobs = FileBlobs::in_folder(folder(config)).with_keys(Arc::clone(keys), encrypts);
        let leftovers = blobs.leftovers().await;
        let leftovers = leftovers.context("the folder of the files cannot be read; --files-dir names another folder, --store=false serves without files")?;
        return Ok((Arc::new(blobs), leftovers));
    };
    let bucket = bucket
        .with_keys(Arc::clone(keys), encrypts)
        .with_database(Arc::clone(store));
    let checked = match bucket.check().await {
        Ok(()) => bucket.check_database().await,
        Err(error) => Err(error),
    };
    let leftovers = match checked {
        Ok(()) => bucket.leftovers().await.ok(),
        Err(error @ BucketError::Away(_)) => {
            tracing::warn!(
                "files_url = {bucket}: {error}; requests that need files get a 503 until it works"
            );
            None
        }
        Err(error) => return Err(unusable(&error).context(format!("files_url = {bucket}"))),
    };
    // What is not found now is found later.
    let leftovers = leftovers.unwrap_or_else(|| in_pages(Vec::new()));
    Ok((Arc::new(bucket), leftovers))
}

/// The line of `loggia check` about the contents, and whether they can be written.
pub(crate) async fn report(config: &Config) -> (String, bool) {
    if !config.store.0 {
        return (String::new(), true);
    }
    let (place, found) = match bucket(config) {
        Ok(None) => {
            let folder = folder(config);
            let found = match FileBlobs::in_folder(&folder).check().await {
                Ok(true) => Ok("writable"),
                Ok(false) => Ok("created with the first file"),
                Err(error) => Err(error.to_string()),
            };
            (folder.display().to_string(), found)
        }
        Ok(Some(bucket)) => {
            let found = bucket.check().await.map(|()| "writable");
            let found = found.map_err(|error| unusable(&error).to_string());
            (bucket.to_string(), found)
        }
        Err(error) => {
            let url = config.files_url.value.as_ref();
            let url = url.map(ToString::to_string).unwrap_or_default();
            (url, Err(unusable(&error).to_string()))
        }
    };
    match found {
        Ok(text) => (format!("# files at {place}: {text}\n"), true),
        Err(why) => (format!("# files at {place}: NOT USABLE: {why}\n"), false),
    }
}

fn folder(config: &Config) -> PathBuf {
    let folder = config.files_dir.value.clone();
    folder.unwrap_or_else(|| config.data_dir.join(FOLDER))
}

/// The bucket of the configuration. `None` if the contents are in a folder.
fn bucket(config: &Config) -> Result<Option<S3Blobs>, BucketError> {
    let Some(url) = &config.files_url.value else {
        return Ok(None);
    };
    let endpoint = config.files_endpoint.value.clone();
    let options = S3Options {
        endpoint: endpoint.map(|endpoint| endpoint.0),
        region: config.files_region.value.clone(),
        path_style: config.files_path_style.0,
        plain_http: config.files_plain_http.0,
        largest: config.file_size.bytes(),
        ..S3Options::new(url.0.clone())
    };
    S3Blobs::new(&options, &environment).map(Some)
}

/// The error with what to do about it.
fn unusable(error: &BucketError) -> anyhow::Error {
    match error {
        BucketError::PlainHttp => anyhow::anyhow!(
            "{error}; write https:// in files_endpoint, or set files_plain_http = true if only your servers use that network"
        ),
        BucketError::OtherDatabase => anyhow::anyhow!(
            "{error}: name another prefix in files_url, or that database in store_url"
        ),
        error => anyhow::anyhow!("{error}"),
    }
}
