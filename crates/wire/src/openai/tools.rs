//! Tools: what may be called, whether it must be, and the calls themselves.

use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::{Serialize, Serializer};
use serde::{Deserialize as DeriveDeserialize, Serialize as DeriveSerialize};
use serde_json::{Value, json};

use crate::object::object;

object! {
    /// One entry of `tools`.
    pub struct Tool {
        /// `function`, or OpenAI's `custom`.
        required kind: String = "type",
        /// The function, where `type` is `function`.
        optional function: FunctionDefinition = "function",
    }
}

object! {
    /// A function that the model may call.
    pub struct FunctionDefinition {
        /// What the call names.
        required name: String = "name",
        /// What it does, for the model.
        optional description: String = "description",
        /// A JSON schema of its arguments.
        optional parameters: Value = "parameters",
        /// Whether the arguments must keep to the schema.
        optional strict: bool = "strict",
    }
}

object! {
    /// A call that the model made.
    pub struct ToolCall {
        /// What the tool message that answers it names.
        required id: String = "id",
        /// `function`.
        required kind: String = "type",
        /// What was called, and with what.
        required function: FunctionCall = "function",
    }
}

object! {
    /// The called function's name and its arguments.
    pub struct FunctionCall {
        /// The function's name.
        required name: String = "name",
        /// JSON, as a string.
        required arguments: String = "arguments",
    }
}

/// `tool_choice`.
#[derive(Clone, Debug, PartialEq)]
pub enum ToolChoice {
    /// `"none"`: no call.
    None,
    /// `"auto"`: the model decides.
    Auto,
    /// `"required"`: at least one call.
    Required,
    /// `{"type": "function", "function": {"name": …}}`: this one.
    Function(FunctionName),
    /// `{"type": "allowed_tools", …}`: only some of the tools.
    Allowed {
        /// Whether one of them must be called.
        mode: ToolMode,
        /// Their names.
        functions: Vec<FunctionName>,
    },
}

/// The `mode` of `allowed_tools`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, DeriveSerialize, DeriveDeserialize)]
#[serde(rename_all = "lowercase")]
pub enum ToolMode {
    /// The model decides.
    Auto,
    /// At least one call.
    Required,
}

/// A function's name, as `tool_choice` wraps it.
#[derive(Clone, Debug, PartialEq, Eq, DeriveSerialize, DeriveDeserialize)]
pub struct FunctionName {
    /// The function's name.
    pub name: String,
}

impl<'de> Deserialize<'de> for ToolChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        if let Some(word) = value.as_str() {
            return match word {
                "none" => Ok(Self::None),
                "auto" => Ok(Self::Auto),
                "required" => Ok(Self::Required),
                other => Err(D::Error::unknown_variant(other, &["none", "auto", "required"])),
            };
        }
        match value.get("type").and_then(Value::as_str) {
            Some("function") => function_name::<D::Error>(&value).map(Self::Function),
            Some("allowed_tools") => allowed_tools(value.get("allowed_tools").unwrap_or(&Value::Null)),
            Some(other) => Err(D::Error::unknown_variant(other, &["function", "allowed_tools"])),
            None => Err(D::Error::custom("expected \"none\", \"auto\", \"required\" or an object with a type")),
        }
    }
}

fn function_name<E: Error>(tool: &Value) -> Result<FunctionName, E> {
    let name = tool.get("function").and_then(|function| function.get("name")).and_then(Value::as_str);
    name.map(|name| FunctionName { name: name.to_owned() }).ok_or_else(|| E::missing_field("function.name"))
}

fn allowed_tools<E: Error>(allowed: &Value) -> Result<ToolChoice, E> {
    let mode = match allowed.get("mode").and_then(Value::as_str) {
        Some("auto") => ToolMode::Auto,
        Some("required") => ToolMode::Required,
        Some(other) => return Err(E::unknown_variant(other, &["auto", "required"])),
        None => return Err(E::missing_field("allowed_tools.mode")),
    };
    let tools =
        allowed.get("tools").and_then(Value::as_array).ok_or_else(|| E::missing_field("allowed_tools.tools"))?;
    let functions = tools.iter().map(function_name).collect::<Result<_, E>>()?;
    Ok(ToolChoice::Allowed { mode, functions })
}

impl Serialize for ToolChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let function = |name: &FunctionName| json!({"type": "function", "function": name});
        match self {
            Self::None => serializer.serialize_str("none"),
            Self::Auto => serializer.serialize_str("auto"),
            Self::Required => serializer.serialize_str("required"),
            Self::Function(name) => function(name).serialize(serializer),
            Self::Allowed { mode, functions } => {
                let tools: Vec<Value> = functions.iter().map(function).collect();
                json!({"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}).serialize(serializer)
            }
        }
    }
}
