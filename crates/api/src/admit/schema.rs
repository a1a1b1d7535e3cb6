//! Handles keywords of JSON schemas that the engine cannot enforce: they are listed as ignored, or
//! refused if the client relies on them.
//!
//! [`loggia_backend::schema`] knows what each engine enforces. This module selects the schemas that
//! constrain an answer, and decides the consequence of a fault.

use loggia_backend::schema::{SchemaFault, SchemaFaultKind, arguments, faults};
use loggia_backend::{Abilities, Ability, SchemaEngine};
use loggia_wire::openai::{ChatCompletionRequest, FunctionDefinition, ResponseFormat, ToolChoice};
use serde_json::Value;

use crate::{ApiError, Strictness};

/// The field that contains a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    Answer,
    /// A tool, by its index in `tools`.
    Tool(usize),
    /// A function, by its index in `functions`.
    Function(usize),
}

impl Holder {
    fn param(self) -> String {
        match self {
            Self::Answer => "response_format.json_schema.schema".to_owned(),
            Self::Tool(index) => format!("tools[{index}].function.parameters"),
            Self::Function(index) => format!("functions[{index}].parameters"),
        }
    }

    /// Returns the name of the part that is dropped if its schema is refused.
    fn name(self) -> String {
        match self {
            Self::Answer => "response_format".to_owned(),
            Self::Tool(index) => format!("tools[{index}]"),
            Self::Function(index) => format!("functions[{index}]"),
        }
    }

    fn refusal(self, fault: &SchemaFault) -> ApiError {
        let place = if fault.place.is_empty() {
            "its root".to_owned()
        } else {
            pointer(fault)
        };
        let (param, keyword) = (self.param(), &fault.keyword);
        let wrong = match fault.kind {
            SchemaFaultKind::Unenforced => format!(
                "the engine of this model cannot enforce '{keyword}' at {place}. Leave the keyword out or set 'strict' to false, and check the answer yourself."
            ),
            SchemaFaultKind::Malformed => {
                format!("the value of '{keyword}' at {place} is not valid in JSON Schema.")
            }
            SchemaFaultKind::Impossible => {
                format!(
                    "no value can match '{keyword}' at {place} together with the keywords beside it."
                )
            }
            SchemaFaultKind::LeadsNowhere => {
                format!("'{keyword}' at {place} refers to a place that is not in the schema.")
            }
        };
        let message = format!("Invalid schema for '{param}': {wrong}");
        ApiError::invalid(param, "invalid_json_schema", message)
    }

    /// Returns a keyword as `x-loggia-ignored` lists it.
    fn keyword(self, fault: &SchemaFault) -> String {
        format!("{}#{}/{}", self.param(), pointer(fault), fault.keyword)
    }
}

fn pointer(fault: &SchemaFault) -> String {
    fault
        .place
        .iter()
        .flat_map(|part| ["/", part.as_str()])
        .collect()
}

/// A schema of a request.
struct Schema {
    holder: Holder,
    faults: Vec<SchemaFault>,
    /// Whether the answer, or a call of this function, must match it.
    is_held: bool,
    is_strict: bool,
}

impl Schema {
    /// Returns the fault for which the schema is refused, if any.
    fn refused(&self, strictness: Strictness) -> Option<&SchemaFault> {
        let is_protected = self.is_held && (self.is_strict || strictness == Strictness::Strict);
        let is_refused =
            |fault: &&SchemaFault| fault.kind != SchemaFaultKind::Unenforced || is_protected;
        self.faults
            .iter()
            .find(is_refused)
            .filter(|_| strictness != Strictness::Lenient)
    }
}

/// Compares the schemas of a request with what the engine can enforce. Returns the names of what is
/// ignored: keywords, and tools that are dropped because their schema cannot be enforced while
/// others can.
///
/// # Errors
/// Fails if a schema is refused and nothing is left without it.
pub(crate) fn settle(
    request: &mut ChatCompletionRequest,
    can: &Abilities,
    strictness: Strictness,
) -> Result<Vec<String>, ApiError> {
    let engine = can.schemas;
    if engine == SchemaEngine::Own {
        return Ok(Vec::new());
    }
    let schemas = schemas(request, can);
    let mut left_out = Vec::new();
    for schema in &schemas {
        if let Some(fault) = schema.refused(strictness) {
            let refusal = schema.holder.refusal(fault);
            if schema.holder == Holder::Answer
                || strictness == Strictness::Strict
                || is_wanted(request, schema.holder)
            {
                return Err(refusal);
            }
            left_out.push((schema.holder, refusal));
        }
    }
    leave_out(
        request,
        &left_out
            .iter()
            .map(|(holder, _)| *holder)
            .collect::<Vec<_>>(),
    );
    if request.callable_functions().is_empty()
        && request.functions.as_ref().is_none_or(Vec::is_empty)
        && let Some((_, refusal)) = left_out.into_iter().next()
    {
        return Err(refusal);
    }
    Ok(schemas
        .iter()
        .flat_map(|schema| named(schema, strictness))
        .collect())
}

/// Returns the ignored parts of a schema.
fn named(schema: &Schema, strictness: Strictness) -> Vec<String> {
    if schema.refused(strictness).is_some() {
        return vec![schema.holder.name()];
    }
    if !schema.is_held {
        return Vec::new();
    }
    schema
        .faults
        .iter()
        .map(|fault| schema.holder.keyword(fault))
        .collect()
}

/// Returns the schemas that the engine reads: that of `response_format`, those of forced functions,
/// and those of `strict` functions if the engine enforces them. llama-server reads those of all
/// tools.
fn schemas(request: &ChatCompletionRequest, can: &Abilities) -> Vec<Schema> {
    let engine = can.schemas;
    let strict_holds = can.has(Ability::StrictTools);
    let reads_all = strict_holds && engine == SchemaEngine::LlamaCpp;
    let mut schemas = Vec::new();
    if let Some(ResponseFormat::JsonSchema(format)) = &request.response_format
        && let Some(schema) = &format.schema
    {
        let is_strict = format.strict == Some(true);
        schemas.push(Schema {
            holder: Holder::Answer,
            faults: faults(schema, engine),
            is_held: true,
            is_strict,
        });
    }
    let of_function = |holder: Holder, function: &FunctionDefinition, must: bool| {
        let is_strict = function.strict == Some(true);
        let is_held = must || is_strict && strict_holds;
        let mut faults = if is_held || reads_all {
            faults(&arguments(function), engine)
        } else {
            Vec::new()
        };
        if !is_held {
            faults.retain(|fault| fault.kind != SchemaFaultKind::Unenforced);
        }
        Schema {
            holder,
            faults,
            is_held,
            is_strict,
        }
    };
    let (must, callable) = (request.must_call(), request.callable_functions());
    for (index, tool) in request.tools.iter().flatten().enumerate() {
        if let Some(function) = &tool.function
            && callable.iter().any(|one| std::ptr::eq(*one, function))
        {
            schemas.push(of_function(Holder::Tool(index), function, must));
        }
    }
    let (word, named) = match &request.function_call {
        Some(Value::String(word)) => (word.as_str(), None),
        call => (
            "auto",
            call.as_ref().and_then(|call| call.get("name")?.as_str()),
        ),
    };
    for (index, function) in request.functions.iter().flatten().enumerate() {
        if named.map_or(word != "none", |name| name == function.name) {
            schemas.push(of_function(
                Holder::Function(index),
                function,
                named.is_some(),
            ));
        }
    }
    schemas
}

/// Returns whether the client requires a call of exactly this function.
fn is_wanted(request: &ChatCompletionRequest, holder: Holder) -> bool {
    match holder {
        Holder::Answer => true,
        Holder::Tool(_) => matches!(request.tool_choice, Some(ToolChoice::Function(_))),
        Holder::Function(_) => request.function_call.as_ref().is_some_and(Value::is_object),
    }
}

fn leave_out(request: &mut ChatCompletionRequest, holders: &[Holder]) {
    if holders.is_empty() {
        return;
    }
    let mut index = 0..;
    if let Some(tools) = &mut request.tools {
        tools.retain(|_| !holders.contains(&Holder::Tool(index.next().unwrap_or_default())));
    }
    let mut index = 0..;
    if let Some(functions) = &mut request.functions {
        functions
            .retain(|_| !holders.contains(&Holder::Function(index.next().unwrap_or_default())));
    }
}
