//! Functions with the fields that OpenAI's API leaves optional, for engines and chat templates that read them without a look whether they are there.

use loggia_wire::openai::{FunctionDefinition, Tool};
use serde_json::{Map, Value, json};

/// Keywords beside which a schema says elsewhere what its properties are.
const ELSEWHERE: [&str; 4] = ["$ref", "allOf", "anyOf", "oneOf"];

/// The function with a description, and with parameters where it has none: those of a function that takes none.
pub fn described(function: &FunctionDefinition) -> FunctionDefinition {
    let mut function = function.clone();
    function.description.get_or_insert_default();
    if function.parameters.as_ref().is_none_or(is_empty) {
        function.parameters = Some(json!({"type": "object", "properties": {}}));
    }
    function
}

/// The same, and its parameters have a `type` and `properties`. For what is shown to a model; as a schema they may allow less than before.
pub fn completed(function: &FunctionDefinition) -> FunctionDefinition {
    let mut function = described(function);
    if let Some(Value::Object(parameters)) = &mut function.parameters
        && !ELSEWHERE.iter().any(|keyword| parameters.contains_key(*keyword))
    {
        parameters.entry("type").or_insert_with(|| "object".into());
        parameters.entry("properties").or_insert_with(|| Map::new().into());
    }
    function
}

/// Tools whose functions are [`described`], or none where all are.
pub(crate) fn described_all(tools: &[Tool]) -> Option<Vec<Tool>> {
    let lacks = |tool: &Tool| {
        let function = tool.function.as_ref();
        function.is_some_and(|it| it.description.is_none() || it.parameters.as_ref().is_none_or(is_empty))
    };
    let describe = |tool: &Tool| Tool { function: tool.function.as_ref().map(described), ..tool.clone() };
    tools.iter().any(lacks).then(|| tools.iter().map(describe).collect())
}

fn is_empty(parameters: &Value) -> bool {
    parameters.as_object().is_some_and(Map::is_empty)
}
