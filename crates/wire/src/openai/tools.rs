//! Tools: what may be called, whether it must be, and the calls themselves.

use std::fmt;

use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Value, json};

use super::format::none_unknown;
use crate::Extra;
use crate::json_text::StringOrJson;
use crate::object::{object, words};

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
        free parameters: Value = "parameters",
        /// Whether the arguments must keep to the schema.
        optional strict: bool = "strict",
    }
}

/// A call that the model made.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolCall {
    /// What the tool message that answers it names.
    pub id: String,
    /// `function`.
    pub kind: String,
    /// What was called, and with what.
    pub function: FunctionCall,
    /// Fields that OpenAI's API does not have, or that came later than this type.
    pub extra: Extra,
}

object! {
    /// A call before its type is known.
    struct AnyCall {
        required id: String = "id",
        required kind: String = "type",
        optional function: FunctionCall = "function",
    }
}

impl<'de> Deserialize<'de> for ToolCall {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let AnyCall { id, kind, function, extra } = AnyCall::deserialize(deserializer)?;
        match function {
            Some(function) => Ok(Self { id, kind, function, extra }),
            None if kind == "function" => Err(D::Error::missing_field("function")),
            // One of another type has what it calls elsewhere.
            None => Err(D::Error::custom(format_args!("unknown type `{kind}`, expected `function`"))),
        }
    }
}

impl Serialize for ToolCall {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry("type", &self.kind)?;
        map.serialize_entry("function", &self.function)?;
        for (key, value) in &self.extra {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

/// The called function's name and its arguments.
#[derive(Clone, Debug, PartialEq)]
pub struct FunctionCall {
    /// The function's name.
    pub name: String,
    /// JSON, as a string. What a client sends as an object is its text here, and what it leaves out is empty.
    pub arguments: String,
    /// Fields that OpenAI's API does not have, or that came later than this type.
    pub extra: Extra,
}

object! {
    /// A called function as clients send it.
    struct AnyFunctionCall {
        required name: String = "name",
        optional arguments: StringOrJson = "arguments",
    }
}

impl<'de> Deserialize<'de> for FunctionCall {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let AnyFunctionCall { name, arguments, extra } = AnyFunctionCall::deserialize(deserializer)?;
        Ok(Self { name, arguments: arguments.unwrap_or_default().0, extra })
    }
}

impl Serialize for FunctionCall {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("arguments", &self.arguments)?;
        for (key, value) in &self.extra {
            map.serialize_entry(key, value)?;
        }
        map.end()
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

words! {
    /// The `mode` of `allowed_tools`.
    pub enum ToolMode {
        /// The model decides.
        Auto = "auto",
        /// At least one call.
        Required = "required",
    }
}

/// A function's name, as `tool_choice` wraps it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct FunctionName {
    /// The function's name.
    pub name: String,
}

words! {
    enum Word {
        None = "none",
        Auto = "auto",
        Required = "required",
    }
}

words! {
    enum ChoiceKind {
        Function = "function",
        AllowedTools = "allowed_tools",
    }
}

words! {
    enum NamedKind {
        Function = "function",
    }
}

object! {
    struct AnyName {
        required name: String = "name",
    }
}

object! {
    /// An entry of `allowed_tools.tools`.
    struct NamedTool {
        required kind: NamedKind = "type",
        required function: AnyName = "function",
    }
}

object! {
    struct AnyAllowed {
        required mode: ToolMode = "mode",
        required tools: Vec<NamedTool> = "tools",
    }
}

object! {
    /// A choice before its type is known.
    struct AnyChoice {
        required kind: ChoiceKind = "type",
        optional function: AnyName = "function",
        optional allowed_tools: AnyAllowed = "allowed_tools",
    }
}

impl<'de> Deserialize<'de> for ToolChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ChoiceVisitor;
        impl<'de> Visitor<'de> for ChoiceVisitor {
            type Value = ToolChoice;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"none\", \"auto\", \"required\" or an object")
            }
            fn visit_str<E: Error>(self, word: &str) -> Result<ToolChoice, E> {
                Word::deserialize(StrDeserializer::new(word)).map(|word| match word {
                    Word::None => ToolChoice::None,
                    Word::Auto => ToolChoice::Auto,
                    Word::Required => ToolChoice::Required,
                })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ToolChoice, A::Error> {
                AnyChoice::deserialize(MapAccessDeserializer::new(map)).and_then(AnyChoice::known)
            }
        }
        deserializer.deserialize_any(ChoiceVisitor)
    }
}

impl AnyChoice {
    fn known<E: Error>(self) -> Result<ToolChoice, E> {
        none_unknown(&self.extra, "", &["type", "function", "allowed_tools"])?;
        let misplaced = match self.kind {
            ChoiceKind::Function => self.allowed_tools.is_some().then_some("allowed_tools"),
            ChoiceKind::AllowedTools => self.function.is_some().then_some("function"),
        };
        if let Some(field) = misplaced {
            return Err(E::unknown_field(field, &[]));
        }
        match self.kind {
            ChoiceKind::Function => {
                self.function.ok_or_else(|| E::missing_field("function"))?.known("function.").map(ToolChoice::Function)
            }
            ChoiceKind::AllowedTools => {
                let allowed = self.allowed_tools.ok_or_else(|| E::missing_field("allowed_tools"))?;
                none_unknown(&allowed.extra, "allowed_tools.", &["mode", "tools"])?;
                let functions = allowed.tools.into_iter().enumerate().map(|(index, tool)| {
                    let place = format!("allowed_tools.tools[{index}].");
                    none_unknown(&tool.extra, &place, &["type", "function"])?;
                    tool.function.known(&format!("{place}function."))
                });
                Ok(ToolChoice::Allowed { mode: allowed.mode, functions: functions.collect::<Result<_, E>>()? })
            }
        }
    }
}

impl AnyName {
    fn known<E: Error>(self, place: &str) -> Result<FunctionName, E> {
        none_unknown(&self.extra, place, &["name"])?;
        Ok(FunctionName { name: self.name })
    }
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
