//! What is too large for memory, in a temporary file without a name, which no crash leaves behind.

use std::fs::File;
use std::io::{self, Write as _};

use bytes::Bytes;
use http::StatusCode;

use crate::ApiError;

/// Appends bytes to a temporary file, which is created for the first ones. `what` is what the client
/// sends, for the error: "body".
///
/// # Errors
/// Returns a 503 if the disk has no space.
pub(crate) async fn append(
    file: Option<File>,
    bytes: Bytes,
    what: &'static str,
) -> Result<File, ApiError> {
    let writing = move || {
        let mut file = match file {
            Some(file) => file,
            None => tempfile::tempfile()?,
        };
        file.write_all(&bytes)?;
        Ok(file)
    };
    let written = tokio::task::spawn_blocking(writing).await;
    let written = written.map_err(io::Error::other).flatten();
    written.map_err(|error| {
        tracing::error!(%error, "a {what} cannot be kept in a temporary file");
        let message =
            format!("The server has no space for the {what} at the moment; try again later.");
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message).coded("store_full")
    })
}
