//! Models in Anthropic's format.

use jiff::Timestamp;
use loggia_wire::anthropic::{ModelInfo, ModelPage};
use loggia_wire::openai::Model;
use serde_json::{Value, json};

use crate::ApiError;
use crate::door::query::Query;
use crate::stored::page::limit;

/// The maximum number of models of a page, and the default.
const MOST: i64 = 1000;
const USUAL: i64 = 20;

/// The lifecycle stage of every model.
const ACTIVE: &str = "active";

/// The facts about a server that every model shows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Offered {
    /// Whether batches of messages are offered.
    pub(crate) batches: bool,
    /// The text of PDFs.
    pub(crate) pdfs: bool,
}

/// Returns the page that a query requests.
///
/// # Errors
/// Returns a 400 for a limit that is not a number from 1 to 1000.
pub(crate) fn page(
    models: &[Model],
    query: &Query,
    offered: Offered,
) -> Result<ModelPage, ApiError> {
    let limit = limit(query, USUAL, 1, MOST)?;
    let at = |name: &str| {
        let id = query.get(name)?;
        Some(models.iter().position(|model| model.id == id))
    };
    let (after, before) = (at("after_id"), at("before_id"));
    // All models are active.
    let mut stages = query.all("lifecycle").peekable();
    let has_active = stages.peek().is_none() || stages.any(|stage| stage == ACTIVE);
    // Nothing follows a model that no longer exists. A list that began again would never end.
    if !has_active || after == Some(None) || before == Some(None) {
        return Ok(ModelPage::default());
    }
    let from = after.flatten().map_or(0, |at| at + 1);
    let to = before.flatten().unwrap_or(models.len());
    let range = if query.get("before_id").is_some() && query.get("after_id").is_none() {
        to.saturating_sub(limit)..to
    } else {
        from..to.max(from).min(from + limit)
    };
    let has_more = if query.get("before_id").is_some() {
        range.start > 0
    } else {
        range.end < models.len()
    };
    let data: Vec<ModelInfo> = models[range]
        .iter()
        .map(|model| of(model, offered))
        .collect();
    Ok(ModelPage {
        has_more,
        first_id: data.first().map(|model| model.id.clone()),
        last_id: data.last().map(|model| model.id.clone()),
        data,
    })
}

/// Returns a model in Anthropic's format.
pub(crate) fn of(model: &Model, offered: Offered) -> ModelInfo {
    let context = model.extra.get("context_length").and_then(Value::as_u64);
    ModelInfo {
        id: model.id.clone(),
        kind: "model".to_owned(),
        display_name: model.id.clone(),
        created_at: time(model.created),
        lifecycle: ACTIVE.to_owned(),
        max_input_tokens: context,
        // An answer can fill the whole context.
        max_tokens: context,
        capabilities: capabilities(model, offered),
    }
}

/// Returns the capabilities of a model. `None` if its backend does not report them.
fn capabilities(model: &Model, offered: Offered) -> Option<Value> {
    let list = model.extra.get("capabilities")?.as_array()?;
    let has = |names: &[&str]| {
        let is_there = list.iter().filter_map(Value::as_str);
        let is_there = is_there.into_iter().any(|one| names.contains(&one));
        json!({ "supported": is_there })
    };
    let no = || json!({"supported": false});
    let yes = || json!({"supported": true});
    let thinks = has(&["thinking"]);
    Some(json!({
        "batch": {"supported": offered.batches},
        "citations": no(),
        "code_execution": no(),
        "compaction": {"supported": true, "summarize": yes()},
        "context_management": {
            "supported": true,
            "clear_thinking_20251015": yes(),
            "clear_tool_uses_20250919": yes(),
            "compact_20260112": yes()
        },
        "effort": {
            "supported": thinks["supported"],
            "low": thinks, "medium": thinks, "high": thinks, "max": thinks, "xhigh": thinks
        },
        "image_input": has(&["vision", "image"]),
        "pdf_input": {"supported": offered.pdfs},
        "server_tools": {"supported": false, "code_execution": no(), "web_search": no()},
        "structured_outputs": yes(),
        "thinking": {
            "supported": thinks["supported"],
            "types": {
                "adaptive": thinks, "enabled": thinks, "disabled": yes(), "between_tools": yes()
            }
        }
    }))
}

/// Returns a Unix time in the format of RFC 3339.
pub(crate) fn time(seconds: u64) -> String {
    let time = i64::try_from(seconds).map(Timestamp::from_second);
    let time = time.ok().and_then(Result::ok);
    time.unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_text() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_795_942_861, "2026-11-29T09:01:01Z"),
            (u64::MAX, "1970-01-01T00:00:00Z"),
        ] {
            assert_eq!(time(seconds), text);
        }
    }

    #[test]
    fn pages_go_forwards_and_backwards() {
        let models = || {
            let model = |id: &str| Model::new(id, 0, "x");
            ["a", "b", "c", "d", "e"].map(model).to_vec()
        };
        for (query, ids, has_more) in [
            ("", "abcde", false),
            ("limit=2", "ab", true),
            ("limit=2&after_id=b", "cd", true),
            ("limit=2&after_id=d", "e", false),
            ("after_id=e", "", false),
            ("limit=2&before_id=d", "bc", true),
            ("limit=2&before_id=b", "a", false),
            ("before_id=a", "", false),
            ("after_id=d&before_id=b", "", true),
            (
                "lifecycle[]=deprecated&lifecycle[]=active&limit=2",
                "ab",
                true,
            ),
            ("lifecycle=retired", "", false),
            ("after_id=gone", "", false),
            ("before_id=gone&limit=2", "", false),
        ] {
            let uri = format!("/v1/models?{query}").parse().expect("a URI");
            let page = page(&models(), &Query::of(&uri), Offered::default()).expect("a page");
            let found: String = page.data.iter().map(|model| model.id.as_str()).collect();
            assert_eq!((found.as_str(), page.has_more), (ids, has_more), "{query}");
        }
        for query in ["limit=0", "limit=1001"] {
            let uri = format!("/v1/models?{query}").parse().expect("a URI");
            assert!(
                page(&models(), &Query::of(&uri), Offered::default()).is_err(),
                "{query}"
            );
        }
    }
}
