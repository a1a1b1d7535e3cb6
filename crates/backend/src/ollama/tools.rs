//! Rewrites the parameters of tools to the keywords that Ollama's types keep.
//!
//! Ollama parses a tool into its own types before a model's template sees it. They keep these
//! keywords of a property: `type`, `anyOf`, `items`, `description`, `enum`, `properties` and
//! `required`. Of the parameters as a whole they keep `type`, `$defs`, `items`, `required` and
//! `properties` (`api/types.go` of 0.34.0, `ToolProperty` and `ToolFunctionParameters`). Everything
//! else is dropped silently. So this module expresses other keywords with these where possible, and
//! reports the rest: [`lost_of_tools`].

mod keywords;
mod merge;

use loggia_wire::openai::{ChatCompletionRequest, FunctionDefinition};
use serde_json::{Map, Value, json};

use self::keywords::{is_kept, says_something};
use self::merge::{merge, merge_variants};
use crate::references::inlined;
use crate::tool_calls::calling::Calling;

/// Returns the keywords of the callable tools that Ollama's templates never see, each with its
/// path.
///
/// Returns nothing if the tools are described in a message: for a forced call, or beside a
/// `response_format`.
pub fn lost_of_tools(request: &ChatCompletionRequest) -> Vec<String> {
    if request.must_call() || Calling::needed(request, true).is_some() {
        return Vec::new();
    }
    let callable = request.callable_functions();
    let is_callable =
        |function: &FunctionDefinition| callable.iter().any(|one| one.name == function.name);
    let tools = request
        .tools
        .iter()
        .flatten()
        .enumerate()
        .filter_map(|(index, tool)| {
            let function = tool
                .function
                .as_ref()
                .filter(|function| is_callable(function))?;
            Some((format!("tools[{index}].function.parameters"), function))
        });
    let functions = request.functions.iter().flatten().enumerate();
    let functions =
        functions.map(|(index, function)| (format!("functions[{index}].parameters"), function));
    let all = tools.chain(functions).flat_map(|(param, function)| {
        let lost = function
            .parameters
            .as_ref()
            .map(|parameters| shown(parameters).1)
            .unwrap_or_default();
        lost.into_iter()
            .map(move |place| format!("{param}#{place}"))
    });
    all.collect()
}

/// Returns a function's parameters as they are sent to Ollama, and the paths of the lost keywords.
pub(super) fn shown(parameters: &Value) -> (Value, Vec<String>) {
    let written = inlined(parameters);
    let mut lost: Vec<String> = written
        .left
        .into_iter()
        .map(|place| format!("{place}/$ref"))
        .collect();
    let mut fields = match written.schema {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    put_together(&mut fields, "", &mut lost);
    for alternatives in ["anyOf", "oneOf"] {
        if let Some(Value::Array(variants)) = fields.shift_remove(alternatives) {
            merge_variants(&mut fields, variants, &mut lost);
            lost.push(format!("/{alternatives}"));
        }
    }
    fields.insert("type".to_owned(), json!("object"));
    fields.retain(|keyword, value| {
        let is_kept = matches!(
            keyword.as_str(),
            "type" | "$defs" | "items" | "required" | "properties"
        );
        if !is_kept && says_something(keyword, value) {
            lost.push(format!("/{keyword}"));
        }
        is_kept
    });
    keep_known_forms(&mut fields, "", &mut lost);
    // The type of the parameters as a whole has no default: without properties Ollama would send
    // `null`.
    fields.entry("properties").or_insert_with(|| json!({}));
    (Value::Object(fields), lost)
}

/// Rewrites a property, or one of its alternatives.
fn property(schema: Value, place: &str, lost: &mut Vec<String>) -> Value {
    let mut fields = match schema {
        Value::Object(fields) => fields,
        Value::Bool(false) => {
            lost.push(place.to_owned());
            Map::new()
        }
        _ => Map::new(),
    };
    put_together(&mut fields, place, lost);
    in_its_words(&mut fields, place, lost);
    fields.retain(|keyword, value| {
        if !is_kept(keyword) && says_something(keyword, value) {
            lost.push(format!("{place}/{keyword}"));
        }
        is_kept(keyword)
    });
    keep_known_forms(&mut fields, place, lost);
    Value::Object(fields)
}

/// Merges the schemas of `allOf` into the schema that contains them.
fn put_together(fields: &mut Map<String, Value>, place: &str, lost: &mut Vec<String>) {
    let Some(all) = fields.shift_remove("allOf") else {
        return;
    };
    let Value::Array(all) = all else {
        return lost.push(format!("{place}/allOf"));
    };
    for schema in all {
        let Value::Object(mut schema) = schema else {
            continue;
        };
        put_together(&mut schema, place, lost);
        if !merge(fields, schema) {
            lost.push(format!("{place}/allOf"));
        }
    }
}

/// Expresses `const` and `oneOf` with keywords that Ollama keeps.
fn in_its_words(fields: &mut Map<String, Value>, place: &str, lost: &mut Vec<String>) {
    if let Some(only) = fields.shift_remove("const") {
        fields.insert("enum".to_owned(), json!([only]));
    }
    if let Some(one) = fields.shift_remove("oneOf") {
        if fields.contains_key("anyOf") {
            lost.push(format!("{place}/oneOf"));
        } else {
            fields.insert("anyOf".to_owned(), one);
        }
    }
    if !["type", "anyOf", "enum"]
        .iter()
        .any(|keyword| fields.contains_key(*keyword))
    {
        let plain = [
            ("properties", "object"),
            ("required", "object"),
            ("items", "array"),
        ];
        if let Some((_, kind)) = plain
            .iter()
            .find(|(keyword, _)| fields.contains_key(*keyword))
        {
            fields.insert("type".to_owned(), json!(kind));
        }
    }
}

/// Drops keywords whose value has the wrong type. Ollama would refuse the complete tool.
fn keep_known_forms(fields: &mut Map<String, Value>, place: &str, lost: &mut Vec<String>) {
    let mut known = Map::new();
    for (keyword, value) in std::mem::take(fields) {
        let within = format!("{place}/{keyword}");
        let value = match (keyword.as_str(), value) {
            ("properties", Value::Object(properties)) => {
                Some(Value::Object(each(properties, &within, lost)))
            }
            ("anyOf", Value::Array(variants)) => {
                let variants = variants.into_iter().enumerate();
                Some(
                    variants
                        .map(|(index, schema)| property(schema, &format!("{within}/{index}"), lost))
                        .collect(),
                )
            }
            ("type", kind) if kind.is_string() || is_list_of_strings(&kind) => Some(kind),
            ("required", names) if is_list_of_strings(&names) => Some(names),
            ("enum", values) if values.is_array() => Some(values),
            ("description", text) if text.is_string() => Some(text),
            // The values of these keywords are kept unchanged.
            ("items" | "$defs", any) => Some(any),
            _ => None,
        };
        match value {
            Some(value) => _ = known.insert(keyword, value),
            None => lost.push(within),
        }
    }
    *fields = known;
}

fn each(properties: Map<String, Value>, place: &str, lost: &mut Vec<String>) -> Map<String, Value> {
    let each = properties.into_iter().map(|(name, schema)| {
        let place = format!("{place}/{}", name.replace('~', "~0").replace('/', "~1"));
        let schema = property(schema, &place, lost);
        (name, schema)
    });
    each.collect()
}

fn is_list_of_strings(value: &Value) -> bool {
    value
        .as_array()
        .is_some_and(|items| items.iter().all(Value::is_string))
}

#[cfg(test)]
mod tests;
