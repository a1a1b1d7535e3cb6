//! Blocks → the parts of a chat's message, and the text of a result.

use loggia_wire::Extra;
use loggia_wire::anthropic::{Block, Content};
use loggia_wire::openai::{Content as ChatContent, File, Part, PartKind};
use serde_json::Value;

use crate::ApiError;
use crate::admit::checks::{missing, not_among};
use crate::admit::images;
use crate::admit::parse::{typed, wrong_at};
use crate::documents::check_url;
use crate::responses::ignored::Ignored;

/// The place of the system prompt.
pub(crate) const SYSTEM: &str = "system";

/// Between two blocks of text of a user, which are paragraphs.
const PARAGRAPH: &str = "\n\n";

/// Types of blocks of tools that run on Anthropic's servers, and of other features of these
/// servers. A client sends them if it continues a conversation that began there. They are left out
/// and listed.
const OF_SERVERS: &[&str] = &[
    "redacted_thinking",
    "server_tool_use",
    "web_search_tool_result",
    "web_fetch_tool_result",
    "code_execution_tool_result",
    "bash_code_execution_tool_result",
    "text_editor_code_execution_tool_result",
    "tool_search_tool_result",
    "advisor_tool_result",
    "mcp_tool_use",
    "mcp_tool_result",
    "mcp_tool_listing",
    "container_upload",
    "fallback",
];

/// Returns whether a block belongs to a feature of Anthropic's servers.
pub(crate) fn is_of_servers(kind: &str) -> bool {
    OF_SERVERS.contains(&kind)
}

/// Parses a JSON value that is at `place` as content.
pub(crate) fn content_at(place: &str, value: Value) -> Result<Content, ApiError> {
    typed(value).map_err(|error| wrong_at(place, error))
}

/// Parts of a message under construction. Neighbouring texts are joined.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    parts: Vec<Part>,
    /// Whether texts are joined without a separator: the blocks of an answer are one text.
    is_answer: bool,
}

impl Parts {
    /// The parts of an answer of the model.
    pub(crate) fn of_an_answer() -> Self {
        Self {
            parts: Vec::new(),
            is_answer: true,
        }
    }

    /// Returns whether there is nothing yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Adds a text.
    pub(crate) fn text(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        if let Some(Part {
            kind: PartKind::Text(before),
            ..
        }) = self.parts.last_mut()
        {
            if !self.is_answer {
                before.push_str(PARAGRAPH);
            }
            before.push_str(text);
            return;
        }
        self.parts.push(PartKind::Text(text.to_owned()).into());
    }

    /// Adds parts.
    pub(crate) fn extend(&mut self, parts: impl IntoIterator<Item = Part>) {
        for part in parts {
            match &part.kind {
                PartKind::Text(text) => self.text(text),
                _ => self.parts.push(part),
            }
        }
    }

    /// Returns the content of a chat's message: a single text, or parts.
    pub(crate) fn into_content(mut self) -> ChatContent {
        match self.parts.as_mut_slice() {
            [] => ChatContent::Text(String::new()),
            [
                Part {
                    kind: PartKind::Text(text),
                    ..
                },
            ] => ChatContent::Text(std::mem::take(text)),
            _ => ChatContent::Parts(self.parts),
        }
    }

    /// Splits the parts into the text and everything else.
    pub(crate) fn into_text_and_media(self) -> (String, Vec<Part>) {
        let (texts, media): (Vec<Part>, Vec<Part>) = self
            .parts
            .into_iter()
            .partition(|part| part.as_text().is_some());
        let texts: Vec<&str> = texts.iter().filter_map(Part::as_text).collect();
        (texts.join(PARAGRAPH), media)
    }
}

/// Adds a block that a user's message and a result can contain. Returns the block if it is of
/// another type.
///
/// # Errors
/// Returns a 400 about the invalid field.
pub(crate) fn add(
    parts: &mut Parts,
    place: &str,
    block: Block,
    ignored: &mut Ignored,
) -> Result<Option<Block>, ApiError> {
    match block.kind.as_str() {
        "text" => {
            name_extras(place, &block, ignored);
            let text = block.text.ok_or_else(|| missing(format!("{place}.text")))?;
            parts.text(&text);
        }
        "image" => {
            name_extras(place, &block, ignored);
            parts.extend([image(place, block.source.as_ref())?.into()]);
        }
        "document" => {
            name_extras(place, &block, ignored);
            document(parts, place, block, ignored)?;
        }
        "search_result" => {
            name_extras(place, &block, ignored);
            search_result(parts, place, block)?;
        }
        _ => return Ok(Some(block)),
    }
    Ok(None)
}

/// Lists the fields of a block that have no effect.
pub(crate) fn name_extras(place: &str, block: &Block, ignored: &mut Ignored) {
    let list = if place.starts_with(SYSTEM) {
        "system[]"
    } else {
        "messages[].content[]"
    };
    let mut name = |field: &str| ignored.add(format!("{list}.{field}"));
    if block.cache_control.is_some() {
        name("cache_control");
    }
    let cites = |citations: &Value| citations.get("enabled").is_some_and(|on| on == true);
    if block.citations.as_ref().is_some_and(cites) {
        name("citations");
    }
    for (key, value) in &block.extra {
        // Answers contain `caller`, the origin of a call; it has no effect here.
        if key != "caller" && !value.is_null() {
            name(key);
        }
    }
}

/// Returns the part of an image.
fn image(place: &str, source: Option<&Value>) -> Result<PartKind, ApiError> {
    let place = format!("{place}.source");
    let source = source.ok_or_else(|| missing(place.clone()))?;
    let url = match kind_of(source) {
        "base64" => {
            let url = data_url(&place, source)?;
            images::check_source(&place, needed(&place, source, "media_type")?, &url)?;
            url
        }
        "url" => needed(&place, source, "url")?.to_owned(),
        "file" => return stored_file(&place, source, None),
        other => {
            let known = ["base64", "url", "file"];
            return Err(not_among(format!("{place}.type"), other, &known));
        }
    };
    Ok(PartKind::ImageUrl {
        url,
        detail: None,
        extra: Extra::new(),
    })
}

/// Returns a part that refers to a stored file. The file's content replaces it when the model is
/// known.
fn stored_file(place: &str, source: &Value, name: Option<String>) -> Result<PartKind, ApiError> {
    Ok(PartKind::File(File {
        file_id: Some(needed(place, source, "file_id")?.to_owned()),
        filename: name,
        file_data: None,
        extra: Extra::new(),
    }))
}

/// Adds a document: text as text, anything else as a file.
fn document(
    parts: &mut Parts,
    place: &str,
    block: Block,
    ignored: &mut Ignored,
) -> Result<(), ApiError> {
    let place = format!("{place}.source");
    let source = block.source.ok_or_else(|| missing(place.clone()))?;
    let mut inner = Parts::default();
    match kind_of(&source) {
        "text" => inner.text(needed(&place, &source, "data")?),
        "content" => {
            let place = format!("{place}.content");
            let content = source.get("content").cloned();
            let content = content.ok_or_else(|| missing(place.clone()))?;
            nested(&mut inner, &place, content_at(&place, content)?, ignored)?;
        }
        "base64" | "url" | "file" => {
            let file = file(&place, &source, block.title.clone())?;
            if let Some(context) = &block.context {
                parts.text(context);
            }
            parts.extend([file.into()]);
            return Ok(());
        }
        other => {
            let known = ["base64", "url", "file", "text", "content"];
            return Err(not_among(format!("{place}.type"), other, &known));
        }
    }
    let title = block.title.as_deref().filter(|title| !title.is_empty());
    let title = title.map_or_else(String::new, |title| format!(" title={title:?}"));
    let context = block.context.as_deref().unwrap_or_default();
    parts.text(&format!("<document{title}>"));
    parts.text(context);
    parts.extend(inner.parts);
    parts.text("</document>");
    Ok(())
}

/// Returns the part of a document that is a file.
fn file(place: &str, source: &Value, name: Option<String>) -> Result<PartKind, ApiError> {
    let data = match kind_of(source) {
        "file" => return stored_file(place, source, name),
        "url" => {
            // The document is fetched when the model is known.
            let url = needed(place, source, "url")?;
            check_url(&format!("{place}.url"), url)?;
            url.to_owned()
        }
        _ => data_url(place, source)?,
    };
    Ok(PartKind::File(File {
        file_data: Some(data),
        filename: name,
        file_id: None,
        extra: Extra::new(),
    }))
}

/// Adds the blocks of a document, which are text and images.
fn nested(
    parts: &mut Parts,
    place: &str,
    content: Content,
    ignored: &mut Ignored,
) -> Result<(), ApiError> {
    let blocks = match content {
        Content::Text(text) => {
            parts.text(&text);
            return Ok(());
        }
        Content::Blocks(blocks) => blocks,
    };
    for (at, block) in blocks.into_iter().enumerate() {
        let place = format!("{place}[{at}]");
        if !matches!(block.kind.as_str(), "text" | "image") {
            let param = format!("{place}.type");
            return Err(not_among(param, &block.kind, &["text", "image"]));
        }
        add(parts, &place, block, ignored)?;
    }
    Ok(())
}

fn search_result(parts: &mut Parts, place: &str, block: Block) -> Result<(), ApiError> {
    let source = block.source.as_ref().and_then(Value::as_str);
    let source = source.ok_or_else(|| missing(format!("{place}.source")))?;
    let title = block.title.as_deref().unwrap_or_default();
    let place = format!("{place}.content");
    let content = block.content.ok_or_else(|| missing(place.clone()))?;
    let mut inner = Parts::default();
    nested(
        &mut inner,
        &place,
        content_at(&place, content)?,
        &mut Ignored::default(),
    )?;
    parts.text(&format!(
        "<search_result title={title:?} source={source:?}>"
    ));
    parts.extend(inner.parts);
    parts.text("</search_result>");
    Ok(())
}

/// Returns the text and the media of a result.
///
/// # Errors
/// Returns a 400 about the invalid block.
pub(crate) fn result(
    place: &str,
    block: Block,
    ignored: &mut Ignored,
) -> Result<(String, Vec<Part>), ApiError> {
    name_extras(place, &block, ignored);
    let failed = block.is_error == Some(true);
    let place = format!("{place}.content");
    let mut parts = Parts::default();
    match block.content {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) => parts.text(&text),
        Some(content) => {
            if let Content::Blocks(blocks) = content_at(&place, content)? {
                for (at, block) in blocks.into_iter().enumerate() {
                    result_block(&mut parts, &format!("{place}[{at}]"), block, ignored)?;
                }
            }
        }
    }
    let (text, media) = parts.into_text_and_media();
    // A chat has no field for a failed call, so the text says it.
    let text = match (failed, text.is_empty()) {
        (false, _) => text,
        (true, true) => "Error".to_owned(),
        (true, false) => format!("Error: {text}"),
    };
    Ok((text, media))
}

fn result_block(
    parts: &mut Parts,
    place: &str,
    block: Block,
    ignored: &mut Ignored,
) -> Result<(), ApiError> {
    let Some(block) = add(parts, place, block, ignored)? else {
        return Ok(());
    };
    match block.kind.as_str() {
        "tool_reference" => {
            let name = block.tool_name.as_deref();
            let name = name.ok_or_else(|| missing(format!("{place}.tool_name")))?;
            parts.text(&format!("The tool {name} can be called now."));
        }
        "browser_state" => {
            let state = serde_json::to_string(&block).unwrap_or_default();
            parts.text(&state);
        }
        kind if is_of_servers(kind) => ignored.add(format!("messages[].content[].{kind}")),
        other => {
            let known = [
                "text",
                "image",
                "document",
                "search_result",
                "tool_reference",
            ];
            return Err(not_among(format!("{place}.type"), other, &known));
        }
    }
    Ok(())
}

fn kind_of(source: &Value) -> &str {
    source
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn needed<'a>(place: &str, source: &'a Value, field: &str) -> Result<&'a str, ApiError> {
    let text = source.get(field).and_then(Value::as_str);
    text.ok_or_else(|| missing(format!("{place}.{field}")))
}

fn data_url(place: &str, source: &Value) -> Result<String, ApiError> {
    let media_type = needed(place, source, "media_type")?;
    let data = needed(place, source, "data")?;
    Ok(["data:", media_type, ";base64,", data].concat())
}
