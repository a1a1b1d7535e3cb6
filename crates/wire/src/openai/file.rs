//! Files and uploads: the requests, and the objects in answers.

use serde::{Deserialize, Serialize};

use crate::object::object;

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileObject {
    /// The id.
    pub id: String,
    /// Always `file`.
    pub object: String,
    /// The length of the content in bytes.
    pub bytes: u64,
    /// When the file was created, in Unix seconds.
    pub created_at: u64,
    /// When the file expires, in Unix seconds. `None`: never.
    pub expires_at: Option<u64>,
    /// The client's name for the file.
    pub filename: String,
    /// The purpose: `assistants`, `batch`, `user_data` and so on.
    pub purpose: String,
    /// Always `processed`: a file can be used as soon as it exists.
    pub status: String,
    /// Always `None`.
    pub status_details: Option<String>,
}

object! {
    /// When a file expires.
    pub struct ExpiresAfter {
        /// The time from which the seconds count: always `created_at`.
        required anchor: String = "anchor",
        /// The seconds.
        required seconds: i64 = "seconds",
    }
}

object! {
    /// The request of `POST /v1/uploads`.
    pub struct CreateUpload {
        /// The length of the whole file in bytes.
        required bytes: i64 = "bytes",
        /// The client's name for the file.
        required filename: String = "filename",
        /// The media type of the file.
        required mime_type: String = "mime_type",
        /// The purpose of the file.
        required purpose: String = "purpose",
        /// When the file expires.
        optional expires_after: ExpiresAfter = "expires_after",
    }
}

object! {
    /// The request of `POST /v1/uploads/{upload_id}/complete`.
    pub struct CompleteUpload {
        /// The ids of the parts in the order of their contents.
        required part_ids: Vec<String> = "part_ids",
        /// The MD5 checksum of the whole file, as hex digits.
        optional md5: String = "md5",
    }
}

/// An upload of a file in parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// The id.
    pub id: String,
    /// Always `upload`.
    pub object: String,
    /// The length of the whole file in bytes, as the client announced it.
    pub bytes: u64,
    /// When the upload was created, in Unix seconds.
    pub created_at: u64,
    /// Until when the upload can be completed, in Unix seconds.
    pub expires_at: u64,
    /// The client's name for the file.
    pub filename: String,
    /// The purpose of the file.
    pub purpose: String,
    /// `pending`, `completed`, `cancelled` or `expired`.
    pub status: String,
    /// The file, once the upload is completed.
    pub file: Option<FileObject>,
}

/// A part of an upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadPart {
    /// The id.
    pub id: String,
    /// Always `upload.part`.
    pub object: String,
    /// When the part was created, in Unix seconds.
    pub created_at: u64,
    /// The id of the upload.
    pub upload_id: String,
}
