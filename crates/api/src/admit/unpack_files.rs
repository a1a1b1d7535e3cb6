//! Replaces `file` parts by their content: text becomes a text part, an image becomes an image
//! part, if the model supports it. All others (a PDF, the id of a stored file) become a note, as
//! other parts that the model cannot read.

use std::path::Path;

use loggia_backend::data_url::{self, DataUrl};
use loggia_backend::fetch_images::ImageKind;
use loggia_backend::{Abilities, Ability};
use loggia_wire::Extra;
use loggia_wire::openai::{ChatCompletionRequest, Content, File, Part, PartKind};
use serde_json::Value;

use crate::ApiError;

/// Media types of text files besides `text/…`.
const TEXTS: [&str; 9] = [
    "application/json",
    "application/xml",
    "application/yaml",
    "application/x-yaml",
    "application/toml",
    "application/javascript",
    "application/x-ndjson",
    "application/x-sh",
    "application/sql",
];

/// File name extensions of text files, for data without a media type.
const TEXT_ENDINGS: [&str; 10] = [
    "txt", "md", "csv", "json", "xml", "yaml", "yml", "toml", "html", "log",
];

/// Replaces files by their content.
///
/// # Errors
/// Fails for a file whose data is neither base64 nor a `data:` URL, and for an image file whose data is
/// not an image.
pub(crate) fn unpack(request: &mut ChatCompletionRequest, can: &Abilities) -> Result<(), ApiError> {
    if can.has(Ability::Files) {
        return Ok(());
    }
    for (message, at) in request.messages.iter_mut().zip(0..) {
        let Some(Content::Parts(parts)) = &mut message.content else {
            continue;
        };
        for (part, place) in parts.iter_mut().zip(0..) {
            if let PartKind::File(file) = &part.kind
                && let Some(kind) = content(file, can).map_err(|why| unreadable(at, place, why))?
            {
                let kind = if place == 0 { kind } else { apart(kind) };
                let mut extra = std::mem::take(&mut part.extra);
                extra.extend(unread(file));
                *part = Part { kind, extra };
            }
        }
    }
    Ok(())
}

/// Adds a line break before the content of a file, because text parts are concatenated without a
/// separator.
fn apart(kind: PartKind) -> PartKind {
    match kind {
        PartKind::Text(text) => PartKind::Text(format!("\n\n{text}")),
        other => other,
    }
}

/// Returns the fields of a file that are ignored after its content replaced it. They are listed
/// with the unknown fields.
fn unread(file: &File) -> impl Iterator<Item = (String, Value)> {
    let id = file
        .file_id
        .as_ref()
        .map(|id| ("file_id", Value::from(id.as_str())));
    let odd = file
        .extra
        .iter()
        .map(|(name, value)| (name.as_str(), value.clone()));
    id.into_iter()
        .chain(odd)
        .map(|(name, value)| (format!("file.{name}"), value))
}

/// Returns the content of a file. `None` if it cannot be read here.
fn content(file: &File, can: &Abilities) -> Result<Option<PartKind>, &'static str> {
    let Some(data) = file.file_data.as_deref() else {
        return Ok(None);
    };
    let name = file.filename.as_deref();
    let read = if data_url::is_data_url(data) {
        DataUrl::read(data)
    } else {
        data_url::base64(data).map(|bytes| DataUrl {
            media_type: String::new(),
            bytes,
        })
    };
    let read = read.ok_or("is neither base64 nor a data: URL")?;
    if is_text(&read.media_type, name) {
        // Text in another encoding cannot be read.
        return Ok(String::from_utf8(read.bytes)
            .ok()
            .map(|text| PartKind::Text(titled(name, text))));
    }
    let mut kinds = ImageKind::ALL.iter();
    let is_image = kinds.any(|kind| kind.media_type() == read.media_type);
    if is_image && ImageKind::of(&read.bytes).is_none() {
        return Err("is not an image, although its media type is that of one");
    }
    if is_image && can.has(Ability::Images) {
        return Ok(Some(PartKind::ImageUrl {
            url: read.canonical(),
            detail: None,
            extra: Extra::default(),
        }));
    }
    Ok(None)
}

fn titled(name: Option<&str>, text: String) -> String {
    match name {
        Some(name) => format!("{name}:\n\n{text}\n"),
        None => text,
    }
}

fn is_text(kind: &str, name: Option<&str>) -> bool {
    let ending = name
        .and_then(|name| Path::new(name).extension())
        .and_then(|ending| ending.to_str());
    kind.starts_with("text/")
        || TEXTS.contains(&kind)
        || matches!(kind, "" | "application/octet-stream")
            && ending.is_some_and(|ending| {
                TEXT_ENDINGS
                    .iter()
                    .any(|text| ending.eq_ignore_ascii_case(text))
            })
}

fn unreadable(message: usize, part: usize, why: &str) -> ApiError {
    let place = format!("messages[{message}].content[{part}].file.file_data");
    let text = format!("Invalid value for '{place}': it {why}.");
    ApiError::invalid(&place, "invalid_value", text)
}

#[cfg(test)]
mod tests {
    use loggia_backend::AbilitySet;
    use serde_json::json;

    use super::*;

    fn unpacked(file: &Value, abilities: &[Ability]) -> Result<Value, ApiError> {
        let asked = json!({"model": "m", "messages": [{"role": "user", "content": [{"type": "file", "file": file}]}]});
        let mut request: ChatCompletionRequest = serde_json::from_value(asked).unwrap();
        let can = Abilities {
            can: AbilitySet::of(abilities),
            ..Abilities::default()
        };
        unpack(&mut request, &can)?;
        Ok(serde_json::to_value(&request).unwrap()["messages"][0]["content"][0].clone())
    }

    #[test]
    fn a_file_of_text_is_a_text_part_with_its_name() {
        let text = json!({"type": "text", "text": "notes.md:\n\n# Hé\n\n"});
        for data in [
            "data:text/markdown;charset=utf-8;base64,IyBIw6kK",
            "IyBIw6kK",
            "IyBI\r\nw6kK",
            "DATA:text/markdown;base64,IyBI w6kK",
            "data:text/markdown,%23%20H%C3%A9%0A",
        ] {
            assert_eq!(
                unpacked(&json!({"filename": "notes.md", "file_data": data}), &[]).unwrap(),
                text
            );
        }
    }

    #[test]
    fn what_a_file_holds_begins_on_a_line_of_its_own() {
        let parts = json!([{"type": "text", "text": "See"}, {"type": "file", "file": {"filename": "a.txt", "file_data": "aGk="}}]);
        let asked = json!({"model": "m", "messages": [{"role": "user", "content": parts}]});
        let mut request: ChatCompletionRequest = serde_json::from_value(asked).unwrap();
        unpack(&mut request, &Abilities::default()).unwrap();
        assert_eq!(
            request.messages[0].content.as_ref().unwrap().joined_text(),
            "See\n\na.txt:\n\nhi\n"
        );
    }

    #[test]
    fn a_file_that_is_an_image_is_an_image_part_where_the_model_sees() {
        let file = json!({"filename": "a.png", "file_data": "data:image/png;base64,iVBORw0KGgo="});
        let image = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}});
        assert_eq!(unpacked(&file, &[Ability::Images]).unwrap(), image);
        assert_eq!(
            unpacked(&file, &[]).unwrap()["type"],
            "file",
            "left to be replaced"
        );
    }

    #[test]
    fn what_nobody_can_read_stays_a_file() {
        for file in [
            json!({"file_id": "file-1"}),
            json!({"file_data": "data:application/pdf;base64,AA=="}),
            json!({"file_data": "data:text/plain;base64,/w=="}),
        ] {
            assert_eq!(unpacked(&file, &[Ability::Images]).unwrap()["type"], "file");
        }
        let text = json!({"file_data": "data:text/plain;base64,AA=="});
        assert_eq!(
            unpacked(&text, &[Ability::Files]).unwrap()["type"],
            "file",
            "an engine that takes files gets them"
        );
    }

    #[test]
    fn data_that_cannot_be_read_is_an_error_that_names_its_place() {
        for data in [
            "data:text/plain",
            "data:text/plain;base64,?",
            "data:image/png;base64,AA==",
            "no base64!",
        ] {
            let error = unpacked(&json!({"file_data": data}), &[]).unwrap_err();
            assert_eq!(
                error.body().error.param.as_deref(),
                Some("messages[0].content[0].file.file_data")
            );
        }
    }
}
