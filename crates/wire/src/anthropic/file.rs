//! `/v1/files`, as Anthropic's API has it.

use serde::{Deserialize, Serialize};

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileMetadata {
    /// The id.
    pub id: String,
    /// Always `file`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The client's name for the file.
    pub filename: String,
    /// The media type.
    pub mime_type: String,
    /// The length of the content in bytes.
    pub size_bytes: u64,
    /// The creation time, in the format of RFC 3339.
    pub created_at: String,
    /// When the file expires, in the format of RFC 3339. `None`: never.
    pub expires_at: Option<String>,
    /// Whether the content can be downloaded.
    pub downloadable: bool,
}

/// A page of a list of files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilePage {
    /// The files.
    pub data: Vec<FileMetadata>,
    /// Whether another page follows.
    pub has_more: bool,
    /// The id of the first file.
    pub first_id: Option<String>,
    /// The id of the last file.
    pub last_id: Option<String>,
    /// The value of `page` for the next page.
    pub next_page: Option<String>,
}

/// The answer to the deletion of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedFile {
    /// The id.
    pub id: String,
    /// Always `file_deleted`.
    #[serde(rename = "type")]
    pub kind: String,
}
