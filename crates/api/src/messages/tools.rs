//! Tools of every type → functions, which is all that a local model can call; and back, by the name
//! of the function.
//!
//! A tool that the client runs (a shell, an editor, a memory, a computer) is a function with the
//! input that Anthropic defines for its type. Tools that a server runs are left out and listed. A
//! deferred tool is left out until the conversation names it.

use loggia_wire::Extra;
use loggia_wire::anthropic::{MessagesRequest, Tool, ToolChoice};
use loggia_wire::openai::{
    FunctionDefinition, FunctionName, Tool as ChatTool, ToolChoice as ChatChoice,
};
use serde_json::Value;

use crate::ApiError;
use crate::admit::checks::{is_object, missing, not_among, too_long};
use crate::messages::client_tools;
use crate::responses::ignored::Ignored;

/// The maximum length of the name of a tool, and of a function.
const LONGEST_NAME: usize = 128;
const LONGEST_FUNCTION: usize = 64;

/// The number of characters of a long name that its function keeps. A dash and eight digits follow.
const KEPT: usize = LONGEST_FUNCTION - 9;

/// The tools whose functions have another name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offered(Vec<Renamed>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Renamed {
    function: String,
    tool: String,
}

impl Offered {
    /// Returns the client's name of the tool that the model calls so.
    pub(crate) fn tool_of<'a>(&'a self, function: &'a str) -> &'a str {
        let renamed = self.0.iter().find(|renamed| renamed.function == function);
        renamed.map_or(function, |renamed| &renamed.tool)
    }
}

/// Returns the name of the function for a tool: the same, unless it is too long for a function.
pub(crate) fn function_of(tool: &str) -> String {
    if tool.len() <= LONGEST_FUNCTION {
        return tool.to_owned();
    }
    // FNV-1a: the same name has the same function in every request.
    let hash = tool.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    let kept = tool.floor_char_boundary(KEPT);
    format!("{}-{hash:08x}", &tool[..kept])
}

/// The changes to the tools that the messages make.
#[derive(Debug, Default)]
pub(crate) struct ToolChanges {
    /// The names of tools that were found, added or called, in this order.
    pub(crate) named: Vec<String>,
    /// Tools that are defined in the messages, with their place.
    pub(crate) defined: Vec<(String, Tool)>,
    /// The names of tools that were withdrawn.
    pub(crate) removed: Vec<String>,
}

/// The tools of a request as a chat has them.
#[derive(Debug, Default)]
pub(crate) struct Tools {
    pub(crate) offered: Offered,
    pub(crate) functions: Vec<ChatTool>,
    /// The origin of each function.
    pub(crate) places: Vec<String>,
    /// Tools and fields without an effect.
    pub(crate) ignored: Ignored,
}

impl Tools {
    /// Returns the tools that the model sees now.
    ///
    /// # Errors
    /// Returns a 400 about the invalid tool.
    pub(crate) fn of(
        request: &MessagesRequest,
        changes: &ToolChanges,
        most: usize,
    ) -> Result<Self, ApiError> {
        let listed = request.tools.as_deref().unwrap_or_default();
        let all = listed.len() + changes.defined.len();
        if all > most {
            return Err(too_long("tools", most, all));
        }
        let places = (0..listed.len()).map(|index| format!("tools[{index}]"));
        let listed = places.zip(listed);
        let defined = changes.defined.iter();
        let defined = defined.map(|(place, tool)| (place.clone(), tool));
        let all: Vec<(String, &Tool)> = listed.chain(defined).collect();
        // If the request relies on the search of Anthropic's servers, nothing would ever name the
        // deferred tools.
        let searches_here = all.iter().any(|(_, tool)| is_server_search(tool));
        let chosen = request.tool_choice.as_ref();
        let chosen = chosen.and_then(|choice| choice.name.as_deref());
        let place_of = |tool: &Tool| {
            let name = tool.name.as_deref();
            let at = changes
                .named
                .iter()
                .position(|one| Some(one.as_str()) == name);
            at.or_else(|| (name.is_some() && name == chosen).then_some(usize::MAX))
        };
        let mut now = Vec::new();
        let mut later = Vec::new();
        for (place, tool) in all {
            let name = tool.name.as_deref();
            if changes.removed.iter().any(|one| Some(one.as_str()) == name) {
                continue;
            }
            if tool.defer_loading != Some(true) || searches_here {
                now.push((place, tool));
            } else if let Some(at) = place_of(tool) {
                later.push((at, place, tool));
            }
        }
        // Tools that were found go last, so that the prompt before them stays the same.
        later.sort_by_key(|(at, ..)| *at);
        let later = later.into_iter().map(|(_, place, tool)| (place, tool));
        let mut tools = Self::default();
        now.into_iter()
            .chain(later)
            .try_for_each(|(place, tool)| tools.add(&place, tool))?;
        Ok(tools)
    }

    fn add(&mut self, place: &str, tool: &Tool) -> Result<(), ApiError> {
        let kind = tool.kind.as_deref().unwrap_or("custom");
        let definition = match client_tools::definition(kind, tool) {
            Some(definition) => definition,
            None if kind == "custom" || tool.input_schema.is_some() => custom(place, tool)?,
            // Tools that a server runs.
            None => {
                self.ignored.add(format!("tools[].{kind}"));
                return Ok(());
            }
        };
        if let Some(callers) = &tool.allowed_callers
            && !callers.iter().any(|caller| caller == "direct")
        {
            self.ignored.add("tools[].allowed_callers".to_owned());
            return Ok(());
        }
        self.name_extras(kind, tool);
        self.offer(place, tool, definition)
    }

    fn offer(
        &mut self,
        place: &str,
        tool: &Tool,
        mut definition: FunctionDefinition,
    ) -> Result<(), ApiError> {
        let name = checked_name(place, tool)?;
        let function = function_of(name);
        let is_there = |other: &ChatTool| {
            other
                .function
                .as_ref()
                .is_some_and(|other| other.name == function)
        };
        if self.functions.iter().any(is_there) {
            let message = "Tool names must be unique.";
            let param = format!("{place}.name");
            return Err(ApiError::invalid(param, "invalid_value", message));
        }
        if function != name {
            self.offered.0.push(Renamed {
                function: function.clone(),
                tool: name.to_owned(),
            });
        }
        definition.name = function;
        self.functions.push(ChatTool {
            kind: "function".to_owned(),
            function: Some(definition),
            extra: Extra::new(),
        });
        self.places.push(place.to_owned());
        Ok(())
    }

    /// Lists the fields of an offered tool that have no effect.
    fn name_extras(&mut self, kind: &str, tool: &Tool) {
        if tool.cache_control.is_some() {
            self.ignored.add("tools[].cache_control".to_owned());
        }
        for key in tool.extra.keys() {
            if !client_tools::reads(kind, key) {
                self.ignored.add(format!("tools[].{key}"));
            }
        }
    }
}

/// Returns `tool_choice` as a chat has it. `None` if it requires nothing.
pub(crate) fn choice(choice: &ToolChoice) -> Result<Option<ChatChoice>, ApiError> {
    Ok(match choice.kind.as_str() {
        // The default. No tool may be left to choose.
        "auto" => None,
        "any" => Some(ChatChoice::Required),
        "none" => Some(ChatChoice::None),
        "tool" => {
            let name = choice.name.as_deref();
            let name = name.ok_or_else(|| missing("tool_choice.name".to_owned()))?;
            let name = function_of(name);
            Some(ChatChoice::Function(FunctionName { name }))
        }
        other => {
            let known = ["auto", "any", "tool", "none"];
            return Err(not_among("tool_choice.type", other, &known));
        }
    })
}

/// Whether a tool is a search for tools that Anthropic's servers run.
fn is_server_search(tool: &Tool) -> bool {
    let kind = tool.kind.as_deref().unwrap_or_default();
    kind.starts_with("tool_search_tool")
}

/// Returns the name of a tool, which is 1 to 128 letters, digits, underscores and dashes.
fn checked_name<'a>(place: &str, tool: &'a Tool) -> Result<&'a str, ApiError> {
    let param = format!("{place}.name");
    let Some(name) = tool.name.as_deref() else {
        return Err(missing(param));
    };
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(is_letter) {
        return Ok(name);
    }
    let message = format!(
        "Invalid '{param}': it must match the pattern '^[a-zA-Z0-9_-]{{1,{LONGEST_NAME}}}$'."
    );
    Err(ApiError::invalid(param, "invalid_value", message))
}

/// The function of a tool with a schema.
fn custom(place: &str, tool: &Tool) -> Result<FunctionDefinition, ApiError> {
    let param = format!("{place}.input_schema");
    let Some(schema) = &tool.input_schema else {
        return Err(missing(param));
    };
    is_object(&param, Some(schema))?;
    let mut description = tool.description.clone().unwrap_or_default();
    if let Some(Value::Array(examples)) = &tool.input_examples
        && !examples.is_empty()
    {
        let separator = if description.is_empty() { "" } else { "\n\n" };
        description.push_str(separator);
        description.push_str("Examples of its input:");
        for example in examples {
            description.push('\n');
            description.push_str(&example.to_string());
        }
    }
    Ok(FunctionDefinition {
        name: String::new(),
        description: Some(description).filter(|text| !text.is_empty()),
        parameters: Some(schema.clone()),
        exact_parameters: None,
        input_grammar: None,
        stands_for_custom: false,
        strict: tool.strict.filter(|strict| *strict),
        extra: Extra::new(),
    })
}
