//! `/v1/files` in the form of Anthropic's API. The files are the same as those of OpenAI's.

use std::path::Path;

use http::Response;
use loggia_wire::anthropic::{DeletedFile, FileMetadata, FilePage};

use super::{Files, Head, StoredFile, answered, has_expired, stored};
use crate::admit::checks::too_long;
use crate::messages::models::time;
use crate::store::{Filter, Kind, Order, Page, StoreError};
use crate::stored::page;
use crate::{ApiError, Body};

/// The purpose of files that are sent without one.
pub(super) const PURPOSE: &str = "user_data";

/// The times that a file can be kept, in seconds: an hour to ninety days.
pub(super) const KEPT_SECONDS: (i64, i64) = (3600, 90 * 24 * 3600);

/// The largest limit of a list, the usual one, and the most ids of a request.
const MOST_LISTED: i64 = 1000;
const USUALLY_LISTED: i64 = 20;
const MOST_IDS: usize = 100;

/// Comes before the id of the last file in the cursor of a page.
const CURSOR: &str = "page_";

/// Endings of names, and the media type that a file with it has if its client sent none. The first
/// ending of a type is that of a file without a name.
const MEDIA_TYPES: [(&str, &str); 16] = [
    ("txt", "text/plain"),
    ("log", "text/plain"),
    ("md", "text/markdown"),
    ("csv", "text/csv"),
    ("html", "text/html"),
    ("json", "application/json"),
    ("jsonl", "application/x-ndjson"),
    ("xml", "application/xml"),
    ("yaml", "application/yaml"),
    ("yml", "application/yaml"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
];

/// The media type of a content of which nothing is known.
pub(super) const UNKNOWN: &str = "application/octet-stream";

impl Files {
    /// `GET /v1/files`.
    pub(super) async fn list_for_anthropic(
        &self,
        head: &Head<'_>,
    ) -> Result<Response<Body>, ApiError> {
        let ids: Vec<&str> = head.query.all("ids").collect();
        if !ids.is_empty() {
            return self.list_of(ids).await;
        }
        let limit = page::limit(&head.query, USUALLY_LISTED, 1, MOST_LISTED)?;
        let cursor = head.query.get("page");
        let cursor = cursor.map(|cursor| cursor.strip_prefix(CURSOR).unwrap_or(cursor));
        let before = head.query.get("before_id").filter(|_| cursor.is_none());
        let after = cursor.or(before).or(head.query.get("after_id"));
        let part = Page {
            after: after.map(str::to_owned),
            limit,
            order: match before {
                Some(_) => Order::Ascending,
                None => Order::Descending,
            },
        };
        let filter = Filter::default();
        let found = self.store.objects(&self.owner, Kind::File, &filter, &part);
        let found = match found.await {
            Ok(found) => found,
            // Nothing follows a file that was deleted. A list that began again would never end.
            Err(StoreError::AfterNotFound) => return answered(&FilePage::default(), ""),
            Err(error) => return Err(self.failed(&error)),
        };
        // The cursor may be a file that has expired and is not shown.
        let last = found.data.last().map(|last| format!("{CURSOR}{}", last.id));
        let mut data = Vec::with_capacity(found.data.len());
        for object in &found.data {
            let stored = stored(object)?;
            if !has_expired(&stored.file) {
                data.push(shown(&stored));
            }
        }
        if before.is_some() {
            data.reverse();
        }
        let is_forward = before.is_none();
        let next_page = last.filter(|_| found.has_more && is_forward);
        answered(&page_of(data, found.has_more, next_page), "")
    }

    /// Lists the files with these ids. Those that do not exist are left out.
    async fn list_of(&self, mut ids: Vec<&str>) -> Result<Response<Body>, ApiError> {
        ids.sort_unstable();
        ids.dedup();
        if ids.len() > MOST_IDS {
            return Err(too_long("ids", MOST_IDS, ids.len()));
        }
        let mut data = Vec::with_capacity(ids.len());
        for id in ids {
            match self.store.object(self.at(Kind::File, id)).await {
                Ok(object) => {
                    let stored = stored(&object)?;
                    data.extend((!has_expired(&stored.file)).then(|| shown(&stored)));
                }
                Err(StoreError::NotFound) => {}
                Err(error) => return Err(self.failed(&error)),
            }
        }
        answered(&page_of(data, false, None), "")
    }
}

fn page_of(data: Vec<FileMetadata>, has_more: bool, next_page: Option<String>) -> FilePage {
    FilePage {
        has_more,
        first_id: data.first().map(|file| file.id.clone()),
        last_id: data.last().map(|file| file.id.clone()),
        next_page,
        data,
    }
}

/// Returns a file as Anthropic's API shows it.
pub(super) fn shown(stored: &StoredFile) -> FileMetadata {
    let StoredFile {
        file, media_type, ..
    } = stored;
    FileMetadata {
        id: file.id.clone(),
        kind: "file".to_owned(),
        filename: file.filename.clone(),
        mime_type: media_type
            .clone()
            .unwrap_or_else(|| media_type_of(&file.filename).to_owned()),
        size_bytes: file.bytes,
        created_at: time(file.created_at),
        expires_at: file.expires_at.map(time),
        // Anthropic's API keeps uploaded files for models alone.
        downloadable: true,
    }
}

pub(super) fn deleted(id: String) -> DeletedFile {
    DeletedFile {
        id,
        kind: "file_deleted".to_owned(),
    }
}

/// Returns the media type that files with such a name have.
fn media_type_of(name: &str) -> &'static str {
    let ending = Path::new(name).extension();
    let ending = ending
        .and_then(|ending| ending.to_str())
        .unwrap_or_default();
    let mut known = MEDIA_TYPES.iter();
    let found = known.find(|(known, _)| known.eq_ignore_ascii_case(ending));
    found.map_or(UNKNOWN, |(_, media_type)| media_type)
}

/// Returns the name of a file of this type whose client gave it none.
pub(super) fn name_for(media_type: Option<&str>) -> String {
    let mut known = MEDIA_TYPES.iter();
    let found = known.find(|(_, known)| Some(*known) == media_type);
    found.map_or_else(
        || "unnamed".to_owned(),
        |(ending, _)| format!("unnamed.{ending}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_follows_from_a_name_and_a_name_from_a_media_type() {
        for (name, media_type) in [
            ("a.PDF", "application/pdf"),
            ("b.c.jpeg", "image/jpeg"),
            ("c", UNKNOWN),
            (".txt", UNKNOWN),
            ("d.exe", UNKNOWN),
        ] {
            assert_eq!(media_type_of(name), media_type, "{name}");
        }
        assert_eq!(name_for(Some("image/jpeg")), "unnamed.jpg");
        assert_eq!(name_for(Some("font/woff2")), "unnamed");
        assert_eq!(name_for(None), "unnamed");
    }
}
