//! Finds the images and sounds of a conversation, and puts marks for them into the text of its
//! prompt. Pure.

use std::sync::Arc;

use loggia_backend::BackendError;
use loggia_backend::data_url::{self, DataUrl};
use loggia_wire::openai::{ChatCompletionRequest, Content, Message, Part as MessagePart, PartKind};

/// An image or a sound in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MediaFile {
    /// The path of the request field, for errors.
    pub(crate) param: String,
    /// The format of a sound in the request: `wav`, `mp3`. `None` for an image.
    pub(crate) format: Option<String>,
    /// The bytes of the file.
    pub(crate) bytes: Vec<u8>,
}

/// A request whose images and sounds are replaced by marks in its texts.
#[derive(Debug)]
pub(crate) struct Marked {
    pub(crate) request: Arc<ChatCompletionRequest>,
    pub(crate) files: Vec<Arc<MediaFile>>,
    /// A random number that is part of each mark, so that a client's text cannot contain one.
    key: u64,
}

/// A part of a rendered prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    Text(&'a str),
    /// The image or sound with this index.
    File(usize),
}

impl Marked {
    /// Whether the request has images or sounds.
    pub(crate) fn has_any(request: &ChatCompletionRequest) -> bool {
        request.messages.iter().any(has_media)
    }

    /// Takes the images and sounds out of a request. Returns `None` if it has none. `key` must be
    /// random.
    pub(crate) fn of(
        request: &ChatCompletionRequest,
        key: u64,
    ) -> Result<Option<Self>, BackendError> {
        if !Self::has_any(request) {
            return Ok(None);
        }
        let mut files = Vec::new();
        let messages = request
            .messages
            .iter()
            .enumerate()
            .map(|(at, message)| marked(message, at, key, &mut files));
        let messages = messages.collect::<Result<_, _>>()?;
        let request = Arc::new(ChatCompletionRequest {
            messages,
            ..request.clone()
        });
        Ok(Some(Self {
            request,
            files,
            key,
        }))
    }

    /// Splits the rendered prompt at its marks. Fails if a mark is missing: the template has
    /// omitted an image or sound, and the model would answer without it.
    pub(crate) fn parts<'a>(&self, prompt: &'a str) -> Result<Vec<Part<'a>>, BackendError> {
        let mut parts = Vec::new();
        let mut rest = prompt;
        let before = mark_begins(self.key);
        while let Some(start) = rest.find(&before) {
            let after = &rest[start + before.len()..];
            let number = after
                .find(MARK_ENDS)
                .and_then(|end| Some((after[..end].parse::<usize>().ok()?, end)));
            let Some((number, end)) = number.filter(|&(number, _)| number < self.files.len())
            else {
                return Err(self.omitted_error(0));
            };
            parts.push(Part::Text(&rest[..start]));
            parts.push(Part::File(number));
            rest = &after[end + MARK_ENDS.len()..];
        }
        parts.push(Part::Text(rest));
        let is_there = |number: &usize| parts.contains(&Part::File(*number));
        match (0..self.files.len()).find(|number| !is_there(number)) {
            Some(missing) => Err(self.omitted_error(missing)),
            None => Ok(parts),
        }
    }

    /// The error for a model without a projector. `loggia-api` refuses such requests earlier, but
    /// other users of this crate may not.
    pub(crate) fn no_projector_error(&self) -> BackendError {
        let message = "This model does not accept images or sounds: it has no projector.";
        let param = self
            .files
            .first()
            .map(|file| file.param.clone())
            .unwrap_or_default();
        invalid(message.to_owned(), &param, "unsupported_parameter")
    }

    fn omitted_error(&self, number: usize) -> BackendError {
        let param = self.files.get(number).map(|file| file.param.clone());
        let message = "This model's chat template omits this part: it accepts images and sounds in other messages only, most often in user messages.";
        BackendError::InvalidRequest {
            message: message.to_owned(),
            param,
            code: Some("invalid_value".to_owned()),
        }
    }
}

fn is_medium(part: &MessagePart) -> bool {
    matches!(
        part.kind,
        PartKind::ImageUrl { .. } | PartKind::InputAudio { .. }
    )
}

fn has_media(message: &Message) -> bool {
    message
        .content
        .as_ref()
        .is_some_and(|content| content.parts().iter().any(is_medium))
}

const MARK_ENDS: &str = "_medium|>";

fn mark_begins(key: u64) -> String {
    format!("<|{key:016x}_")
}

fn marked(
    message: &Message,
    at: usize,
    key: u64,
    files: &mut Vec<Arc<MediaFile>>,
) -> Result<Message, BackendError> {
    if !has_media(message) {
        return Ok(message.clone());
    }
    let parts = message
        .content
        .as_ref()
        .map(Content::parts)
        .unwrap_or_default();
    let mut texts = Vec::with_capacity(parts.len());
    for (part_at, part) in parts.iter().enumerate() {
        let Some(medium) = media_file(part, &format!("messages[{at}].content[{part_at}]"))? else {
            texts.push(part.clone());
            continue;
        };
        let mark = format!("{}{}{MARK_ENDS}", mark_begins(key), files.len());
        texts.push(PartKind::Text(mark).into());
        files.push(Arc::new(medium));
    }
    let mut message = message.clone();
    message.content = Some(Content::Parts(texts));
    Ok(message)
}

/// Decodes the image or sound of a message part. Returns `None` for other parts.
fn media_file(part: &MessagePart, place: &str) -> Result<Option<MediaFile>, BackendError> {
    match &part.kind {
        PartKind::ImageUrl { url, .. } => {
            let param = format!("{place}.image_url.url");
            let bytes = DataUrl::read(url).map(|image| image.bytes).ok_or_else(|| {
                let message = "The image is not a data URL in base64 (data:image/png;base64,…).";
                invalid(message.to_owned(), &param, "invalid_image_url")
            })?;
            Ok(Some(MediaFile {
                param,
                format: None,
                bytes,
            }))
        }
        PartKind::InputAudio { data, format, .. } => {
            let param = format!("{place}.input_audio.data");
            let bytes = data_url::base64(data).ok_or_else(|| {
                let message = "The sound is not valid base64 (with the standard alphabet).";
                invalid(message.to_owned(), &param, "invalid_input_audio")
            })?;
            Ok(Some(MediaFile {
                param,
                format: Some(format.clone()),
                bytes,
            }))
        }
        _ => Ok(None),
    }
}

impl MediaFile {
    /// The error for a file that cannot be decoded or encoded.
    pub(crate) fn invalid_error(&self, why: &str) -> BackendError {
        match self.format {
            None => invalid(
                format!("The image cannot be used: {why}."),
                &self.param,
                "invalid_image_url",
            ),
            Some(_) => invalid(
                format!("The sound cannot be used: {why}."),
                &self.param,
                "invalid_input_audio",
            ),
        }
    }

    /// The error for a projector that does not accept this kind of input. `loggia-api` refuses such
    /// requests earlier.
    pub(crate) fn unsupported_error(&self) -> BackendError {
        let kind = if self.format.is_none() {
            "images"
        } else {
            "sounds"
        };
        invalid(
            format!("This model's projector does not accept {kind}."),
            &self.param,
            "unsupported_parameter",
        )
    }
}

fn invalid(message: String, param: &str, code: &str) -> BackendError {
    BackendError::InvalidRequest {
        message,
        param: Some(param.to_owned()),
        code: Some(code.to_owned()),
    }
}

#[cfg(test)]
#[expect(
    clippy::needless_pass_by_value,
    reason = "tests pass `json!` values directly"
)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(content: serde_json::Value) -> ChatCompletionRequest {
        let messages =
            json!([{"role": "system", "content": "s"}, {"role": "user", "content": content}]);
        serde_json::from_value(json!({"model": "m", "messages": messages, "seed": 5})).unwrap()
    }

    fn both() -> Marked {
        let content = json!([
            {"type": "text", "text": "Look: "},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAEC"}},
            {"type": "text", "text": " and hear "},
            {"type": "input_audio", "input_audio": {"data": "AwQ=", "format": "wav"}}
        ]);
        Marked::of(&request(content), 7).unwrap().unwrap()
    }

    fn refusal(content: serde_json::Value) -> (String, String) {
        match Marked::of(&request(content), 7).unwrap_err() {
            BackendError::InvalidRequest { param, code, .. } => (param.unwrap(), code.unwrap()),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn what_is_seen_and_heard_stands_where_it_stood_in_the_message() {
        let marked = both();
        let text = marked.request.messages[1]
            .content
            .as_ref()
            .unwrap()
            .joined_text()
            .into_owned();
        let prompt = format!("<user>{text}<assistant>");
        let parts = marked.parts(&prompt).unwrap();
        let expected = [
            Part::Text("<user>Look: "),
            Part::File(0),
            Part::Text(" and hear "),
            Part::File(1),
            Part::Text("<assistant>"),
        ];
        assert_eq!(parts, expected);
        assert_eq!(marked.files[0].bytes, [0, 1, 2]);
        assert_eq!(
            *marked.files[1],
            MediaFile {
                param: "messages[1].content[3].input_audio.data".to_owned(),
                format: Some("wav".to_owned()),
                bytes: vec![3, 4]
            }
        );
        assert_eq!(marked.request.seed, Some(5));
    }

    #[test]
    fn a_template_that_leaves_one_out_is_an_error_that_names_its_place() {
        let marked = both();
        let text = marked.request.messages[1]
            .content
            .as_ref()
            .unwrap()
            .joined_text()
            .into_owned();
        let (until, _) = text.split_once(" and hear ").unwrap();
        match marked.parts(until).unwrap_err() {
            BackendError::InvalidRequest { param, .. } => {
                assert_eq!(
                    param.as_deref(),
                    Some("messages[1].content[3].input_audio.data")
                );
            }
            other => panic!("{other}"),
        }
    }

    #[test]
    fn what_is_no_base64_is_refused_at_its_place() {
        let image = |url: &str| json!([{"type": "image_url", "image_url": {"url": url}}]);
        for url in [
            "https://example.com/a.png",
            "data:image/png;base64,A",
            "data:image/png;base64,A*==",
        ] {
            let expected = (
                "messages[1].content[0].image_url.url".to_owned(),
                "invalid_image_url".to_owned(),
            );
            assert_eq!(refusal(image(url)), expected, "{url}");
        }
        let sound =
            json!([{"type": "input_audio", "input_audio": {"data": "***", "format": "wav"}}]);
        assert_eq!(
            refusal(sound),
            (
                "messages[1].content[0].input_audio.data".to_owned(),
                "invalid_input_audio".to_owned()
            )
        );
    }

    #[test]
    fn a_request_without_any_is_left_alone() {
        assert!(Marked::of(&request(json!("text")), 7).unwrap().is_none());
        assert!(
            Marked::of(&request(json!([{"type": "text", "text": "text"}])), 7)
                .unwrap()
                .is_none()
        );
    }
}
