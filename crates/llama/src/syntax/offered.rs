//! The functions that a request offers to the model.

use loggia_wire::openai::Tool;
use serde_json::Value;

/// The functions that may be called, with the schemas of their arguments.
#[derive(Debug, Default)]
pub(crate) struct Offered(Vec<(String, Value)>);

impl Offered {
    pub(crate) fn of(tools: &[Tool]) -> Self {
        let functions = tools.iter().filter_map(|tool| tool.function.as_ref());
        Self(
            functions
                .map(|function| {
                    (
                        function.name.clone(),
                        function.parameters.clone().unwrap_or_default(),
                    )
                })
                .collect(),
        )
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(function, _)| function == name)
    }

    /// The schema of one argument.
    pub(super) fn property(&self, function: &str, argument: &str) -> Option<&Value> {
        let schema = self
            .0
            .iter()
            .find(|(name, _)| name == function)
            .map(|(_, schema)| schema)?;
        schema.get("properties")?.get(argument)
    }
}
