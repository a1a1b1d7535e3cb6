//! Tools: their definitions, `tool_choice`, and tool calls.

use std::fmt;

use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Value, json};

use super::FunctionDefinition;
use super::format::none_unknown;
use crate::Extra;
use crate::json_text::StringOrJson;
use crate::object::{Key, keep, object, words};

/// An entry of `tools`.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// `function`, or another type (`custom`, `web_search`, `mcp`, …). All fields of another type
    /// are in `extra`.
    pub kind: String,
    /// The function, if `type` is `function`.
    pub function: Option<FunctionDefinition>,
    /// Unknown fields, or the fields of a tool of another type.
    pub extra: Extra,
}

impl<'de> Deserialize<'de> for Tool {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ToolVisitor;
        impl<'de> Visitor<'de> for ToolVisitor {
            type Value = Tool;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tool, A::Error> {
                let (mut kind, mut function, mut extra) = (None::<String>, None, Extra::new());
                while let Some(Key(key)) = map.next_key()? {
                    match &*key {
                        "type" if kind.is_some() => return Err(A::Error::duplicate_field("type")),
                        "type" => kind = Some(map.next_value()?),
                        "function" if function.is_some() => {
                            return Err(A::Error::duplicate_field("function"));
                        }
                        // A tool of another type can have any value here. Clients write the type
                        // first.
                        "function" if kind.as_deref().is_none_or(|kind| kind == "function") => {
                            function = map.next_value()?;
                        }
                        _ => keep(&mut extra, key.into_owned(), map.next_value()?)?,
                    }
                }
                let kind = kind.ok_or_else(|| A::Error::missing_field("type"))?;
                Ok(Tool {
                    kind,
                    function,
                    extra,
                })
            }
        }
        deserializer.deserialize_map(ToolVisitor)
    }
}

impl Serialize for Tool {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", &self.kind)?;
        if let Some(function) = &self.function {
            map.serialize_entry("function", function)?;
        }
        for (key, value) in &self.extra {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

/// A tool call of the model.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolCall {
    /// The id of the call, which the `tool` message with the result repeats.
    pub id: String,
    /// `function`, or `custom` for a tool that takes free text.
    pub kind: String,
    /// The function and its arguments. The free text of a `custom` call is its only argument,
    /// `input`.
    pub function: FunctionCall,
    /// Fields that this type does not know: extensions of OpenAI's API, or newer fields.
    pub extra: Extra,
}

/// The type of a call of a tool that takes free text.
const CUSTOM: &str = "custom";

/// The name of the argument that holds the free text of a `custom` call.
const CUSTOM_INPUT: &str = "input";

object! {
    /// A tool call, before its type is known.
    struct AnyCall {
        required id: String = "id",
        required kind: String = "type",
        optional function: FunctionCall = "function",
        optional custom: CustomCall = "custom",
    }
}

object! {
    /// `custom` of a tool call.
    struct CustomCall {
        required name: String = "name",
        required input: String = "input",
    }
}

impl<'de> Deserialize<'de> for ToolCall {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let AnyCall {
            id,
            kind,
            function,
            custom,
            mut extra,
        } = AnyCall::deserialize(deserializer)?;
        match (function, custom) {
            (
                None,
                Some(CustomCall {
                    name,
                    input,
                    extra: within,
                }),
            ) if kind == CUSTOM => {
                let arguments = json!({ CUSTOM_INPUT: input }).to_string();
                Ok(Self {
                    id,
                    kind,
                    function: FunctionCall {
                        name,
                        arguments,
                        extra: within,
                    },
                    extra,
                })
            }
            (Some(function), custom) => {
                let custom = custom
                    .map(serde_json::to_value)
                    .transpose()
                    .map_err(D::Error::custom)?;
                extra.extend(custom.map(|custom| (CUSTOM.to_owned(), custom)));
                Ok(Self {
                    id,
                    kind,
                    function,
                    extra,
                })
            }
            (None, _) if kind == "function" || kind == CUSTOM => {
                Err(D::Error::missing_field(if kind == CUSTOM {
                    CUSTOM
                } else {
                    "function"
                }))
            }
            // A call of another type stores its function elsewhere.
            (None, _) => Err(D::Error::custom(format_args!(
                "unknown type `{kind}`, expected `function`"
            ))),
        }
    }
}

impl ToolCall {
    /// Returns whether this is a call of a `custom` tool, which takes free text.
    pub fn is_custom(&self) -> bool {
        self.kind == CUSTOM
    }

    /// Turns a `custom` call into the call of a function whose only argument is the free text.
    pub fn as_function(&mut self) {
        "function".clone_into(&mut self.kind);
    }

    /// Turns the call of a function into a `custom` call with this free text.
    pub fn as_custom(&mut self, input: &str) {
        CUSTOM.clone_into(&mut self.kind);
        self.function.arguments = json!({ CUSTOM_INPUT: input }).to_string();
    }

    /// Returns the free text if this is a call of a `custom` tool.
    pub fn custom_input(&self) -> Option<String> {
        if !self.is_custom() {
            return None;
        }
        let arguments: Value = serde_json::from_str(&self.function.arguments).ok()?;
        arguments.get(CUSTOM_INPUT)?.as_str().map(str::to_owned)
    }
}

impl Serialize for ToolCall {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry("type", &self.kind)?;
        match self.custom_input() {
            Some(input) => {
                let (name, extra) = (self.function.name.clone(), self.function.extra.clone());
                map.serialize_entry(CUSTOM, &CustomCall { name, input, extra })?;
            }
            None => map.serialize_entry("function", &self.function)?,
        }
        for (key, value) in &self.extra {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

/// The name and arguments of a called function.
#[derive(Clone, Debug, PartialEq)]
pub struct FunctionCall {
    /// The name of the function.
    pub name: String,
    /// The arguments: JSON, as a string. If a client sends an object, this is its text; if absent,
    /// this is empty.
    pub arguments: String,
    /// Fields that this type does not know: extensions of OpenAI's API, or newer fields.
    pub extra: Extra,
}

object! {
    /// A called function, as clients send it.
    struct AnyFunctionCall {
        required name: String = "name",
        optional arguments: StringOrJson = "arguments",
    }
}

impl<'de> Deserialize<'de> for FunctionCall {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let AnyFunctionCall {
            name,
            arguments,
            extra,
        } = AnyFunctionCall::deserialize(deserializer)?;
        Ok(Self {
            name,
            arguments: arguments.unwrap_or_default().0,
            extra,
        })
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

/// `tool_choice`: whether the model may or must call tools, and which.
#[derive(Clone, Debug, PartialEq)]
pub enum ToolChoice {
    /// `"none"`: the model must not call tools.
    None,
    /// `"auto"`: the model decides.
    Auto,
    /// `"required"`: the model must call at least one tool.
    Required,
    /// `{"type": "function", "function": {"name": …}}`: the model must call this function.
    Function(FunctionName),
    /// `{"type": "allowed_tools", …}`: the model may use only some of the tools.
    Allowed {
        /// Whether the model must call one of the tools.
        mode: ToolMode,
        /// The names of the allowed functions.
        functions: Vec<FunctionName>,
        /// The allowed tools of other types, unchanged.
        others: Vec<Value>,
    },
    /// A tool of another type (`{"type": "custom", …}`, `{"type": "web_search"}`), unchanged.
    Other(Value),
}

words! {
    /// The `mode` of `allowed_tools`.
    pub enum ToolMode {
        /// The model decides.
        Auto = "auto",
        /// The model must call at least one tool.
        Required = "required",
    }
}

/// A function's name, in the format of `tool_choice`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct FunctionName {
    /// The name of the function.
    pub name: String,
}

words! {
    enum Word {
        None = "none",
        Auto = "auto",
        Required = "required",
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
        required kind: String = "type",
        optional function: AnyName = "function",
    }
}

object! {
    struct AnyAllowed {
        required mode: ToolMode = "mode",
        required tools: Vec<NamedTool> = "tools",
    }
}

object! {
    /// A `tool_choice`, before its type is known.
    struct AnyChoice {
        required kind: String = "type",
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
        let (own, misplaced) = match self.kind.as_str() {
            "function" => (
                "function",
                self.allowed_tools.as_ref().map(|_| "allowed_tools"),
            ),
            "allowed_tools" => ("allowed_tools", self.function.as_ref().map(|_| "function")),
            _ => {
                return serde_json::to_value(self)
                    .map(ToolChoice::Other)
                    .map_err(E::custom);
            }
        };
        none_unknown(&self.extra, "", &["type", "function", "allowed_tools"])?;
        if let Some(field) = misplaced {
            return Err(E::unknown_field(field, &[]));
        }
        match (self.function, self.allowed_tools) {
            (Some(function), _) => function.known("function.").map(ToolChoice::Function),
            (None, Some(allowed)) => allowed.known(),
            (None, None) => Err(E::missing_field(own)),
        }
    }
}

impl AnyAllowed {
    fn known<E: Error>(self) -> Result<ToolChoice, E> {
        none_unknown(&self.extra, "allowed_tools.", &["mode", "tools"])?;
        let (mut functions, mut others) = (Vec::new(), Vec::new());
        for (index, tool) in self.tools.into_iter().enumerate() {
            if tool.kind != "function" {
                others.push(serde_json::to_value(tool).map_err(E::custom)?);
                continue;
            }
            let place = format!("allowed_tools.tools[{index}].");
            none_unknown(&tool.extra, &place, &["type", "function"])?;
            let function = tool.function.ok_or_else(|| E::missing_field("function"))?;
            functions.push(function.known(&format!("{place}function."))?);
        }
        Ok(ToolChoice::Allowed {
            mode: self.mode,
            functions,
            others,
        })
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
            Self::Other(choice) => choice.serialize(serializer),
            Self::Allowed {
                mode,
                functions,
                others,
            } => {
                let tools: Vec<Value> = functions
                    .iter()
                    .map(function)
                    .chain(others.iter().cloned())
                    .collect();
                json!({"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}})
                    .serialize(serializer)
            }
        }
    }
}
