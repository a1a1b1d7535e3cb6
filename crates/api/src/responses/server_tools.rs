//! A response whose model calls tools that the server runs: those of MCP servers, and
//! `file_search`. The calls are made here, and the model continues with their results, until it
//! answers or calls a tool that the client must run or approve.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt};
use loggia_backend::{
    Backend, BackendError, Call, CallHead, Chunk, Event, Events, Reply, ServerTool, Work,
};
use loggia_wire::Extra;
use loggia_wire::openai::{
    ChatCompletionRequest, ChunkChoice, CompletionUsage, Content, Delta, FinishReason,
    FunctionCall, Message, Role, ToolCall, ToolCallDelta,
};
use serde_json::{Map, Value, json};

use crate::mcp::{McpClient, McpError};
use crate::responses::file_search::{self, Citations, Cited, Passage};
use crate::responses::mcp::{ApprovedCall, Servers};
use crate::responses::tools::{Offered, ToolKind};

/// The maximum number of calls of one response, unless `max_tool_calls` sets a lower limit.
const MOST_CALLS: usize = 64;

/// The text that the model reads instead of a result if it calls too often.
const TOO_MANY: &str = "The limit of tool calls of this response is reached. Answer without tools.";

/// The tools of a response that the server runs.
#[derive(Clone, Debug)]
pub(crate) struct ServerTools {
    pub(crate) servers: Servers,
    /// The tools by the functions that the model calls.
    pub(crate) offered: Offered,
    /// The calls that the client has allowed.
    pub(crate) approved: Vec<ApprovedCall>,
    /// `max_tool_calls`.
    pub(crate) most_calls: Option<usize>,
}

/// Starts a call whose tools the server runs.
pub(crate) async fn start(
    backend: Arc<dyn Backend>,
    call: Call,
    tools: Arc<ServerTools>,
) -> Result<Reply, BackendError> {
    let Work::Chat(chat) = call.work else {
        return backend.start(call).await;
    };
    let mut run = Run {
        client: tools.servers.client().map(Arc::clone),
        backend,
        head: call.head,
        chat,
        queue: VecDeque::new(),
        inner: None,
        round: Round::default(),
        todo: VecDeque::new(),
        making: None,
        is_over: false,
        results: Vec::new(),
        calls: 0,
        next_index: 0,
        usage: None,
        passages: Vec::new(),
        searched: Vec::new(),
        citations: Citations::default(),
        tools,
    };
    for server in run.tools.servers.new_ones() {
        run.queue.push_back(Event::ServerTool(ServerTool::Listed {
            server: server.endpoint.label.clone(),
            tools: server.shown(),
        }));
    }
    run.make_approved_calls().await;
    let mut reply = run.ask().await?;
    run.inner = Some(std::mem::replace(
        &mut reply.events,
        stream::empty().boxed(),
    ));
    reply.events = stream::try_unfold(run, |mut run| async move {
        let next = run.next().await?;
        Ok(next.map(|event| (event, run)))
    })
    .boxed();
    Ok(reply)
}

struct Run {
    backend: Arc<dyn Backend>,
    client: Option<Arc<dyn McpClient>>,
    tools: Arc<ServerTools>,
    head: CallHead,
    chat: Arc<ChatCompletionRequest>,
    /// Events that wait to be read.
    queue: VecDeque<Event>,
    /// The events of the model's answer, until it ends.
    inner: Option<Events>,
    round: Round,
    /// The calls of the last answer that are still to be made.
    todo: VecDeque<PartialCall>,
    /// The call that is made next. The client has received its beginning.
    making: Option<Making>,
    /// Whether the response ends when these calls are made, because the client has to run or
    /// approve another one.
    is_over: bool,
    /// The calls of the last answer that were made, with their results for the model.
    results: Vec<(PartialCall, String)>,
    /// How many calls were made.
    calls: usize,
    /// The index of the next call of a function: they count on over all answers.
    next_index: u32,
    usage: Option<CompletionUsage>,
    /// The passages that were found, which the model may cite by their numbers from 1 on.
    passages: Vec<Passage>,
    /// The range of the passages that each search has found.
    searched: Vec<Range<usize>>,
    citations: Citations,
}

/// One answer of the model.
#[derive(Default)]
struct Round {
    text: String,
    reasoning: String,
    /// The calls by their index in this answer.
    calls: BTreeMap<u32, PartialCall>,
    finish: Option<FinishReason>,
}

/// A call that is made next.
#[derive(Debug)]
enum Making {
    /// A tool of an MCP server is called.
    Mcp {
        call: PartialCall,
        server: String,
        name: String,
    },
    /// A search in vector stores is running.
    Search {
        call: PartialCall,
        queries: Vec<String>,
    },
}

/// The part of a call that has arrived so far.
#[derive(Clone, Debug, Default)]
struct PartialCall {
    id: Option<String>,
    function: String,
    arguments: String,
}

impl Run {
    /// The next event of the response.
    async fn next(&mut self) -> Result<Option<Event>, BackendError> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Ok(Some(event));
            }
            if let Some(call) = self.making.take() {
                let made = self.make(call).await;
                self.results.push(made);
                continue;
            }
            if let Some(call) = self.todo.pop_front() {
                self.begin(call);
                continue;
            }
            if !self.results.is_empty() {
                self.go_on().await?;
                continue;
            }
            let Some(inner) = &mut self.inner else {
                return Ok(None);
            };
            if let Some(event) = inner.next().await.transpose()? {
                self.take(event);
            } else {
                self.inner = None;
                self.end_round();
            }
        }
    }

    /// Asks the model.
    fn ask(&self) -> impl Future<Output = Result<Reply, BackendError>> + Send + use<> {
        let call = Call {
            head: self.head.clone(),
            work: Work::Chat(Arc::clone(&self.chat)),
        };
        let backend = Arc::clone(&self.backend);
        async move { backend.start(call).await }
    }

    fn is_servers(&self, function: &str) -> bool {
        let tool = self.tools.offered.called(function);
        tool.is_some_and(|tool| matches!(tool.kind, ToolKind::Mcp | ToolKind::FileSearch))
    }

    /// Takes an event of the model's. Pieces that the client does not get are left out.
    fn take(&mut self, event: Event) {
        let mut chunk = match event {
            Event::Chunk(chunk) => chunk,
            Event::Usage(usage) => {
                add(&mut self.usage, usage);
                return;
            }
            event => {
                self.queue.push_back(event);
                return;
            }
        };
        for choice in &mut chunk.choices {
            if choice.index != 0 {
                continue;
            }
            let delta = &mut choice.delta;
            self.round
                .text
                .push_str(delta.content.as_deref().unwrap_or_default());
            let reasoning = delta
                .reasoning_content
                .as_ref()
                .or(delta.reasoning.as_ref());
            self.round
                .reasoning
                .push_str(reasoning.map_or("", String::as_str));
            let calls = delta.tool_calls.take().unwrap_or_default();
            let calls: Vec<ToolCallDelta> = calls
                .into_iter()
                .filter_map(|call| self.take_call(call))
                .collect();
            delta.tool_calls = (!calls.is_empty()).then_some(calls);
            self.round.finish = self.round.finish.or(choice.finish_reason.take());
        }
        chunk
            .choices
            .retain(|choice| !choice.delta.is_empty() || choice.logprobs.is_some());
        if !chunk.choices.is_empty() {
            self.tell(chunk);
        }
    }

    /// Sends a chunk to the client. Markers of passages in its text become citations.
    fn tell(&mut self, mut chunk: Chunk) {
        if self.passages.is_empty() {
            self.queue.push_back(Event::Chunk(chunk));
            return;
        }
        let first = chunk.choices.iter_mut().find(|choice| choice.index == 0);
        let text = first.and_then(|choice| choice.delta.content.take());
        let is_left = |choice: &ChunkChoice| !choice.delta.is_empty() || choice.logprobs.is_some();
        let Some(text) = text else {
            self.queue.push_back(Event::Chunk(chunk));
            return;
        };
        // The log-probabilities stay with the first piece of the text.
        let mut logprobs = None;
        for choice in chunk.choices.iter_mut().filter(|choice| choice.index == 0) {
            logprobs = choice.logprobs.take();
        }
        chunk.choices.retain(is_left);
        if !chunk.choices.is_empty() {
            self.queue.push_back(Event::Chunk(chunk));
        }
        for piece in self.citations.push(&text) {
            match piece {
                Cited::Text(text) => {
                    let mut choice = ChunkChoice::delta(0, Delta::content(text));
                    choice.logprobs = logprobs.take();
                    self.queue.push_back(Event::Chunk(Chunk::of(choice)));
                }
                Cited::Passage(number) => self.cite(number),
            }
        }
    }

    /// Tells the client that a passage is cited here. A number that no passage has is left out.
    fn cite(&mut self, number: usize) {
        let passage = number
            .checked_sub(1)
            .and_then(|index| self.passages.get(index));
        if let Some(passage) = passage {
            self.queue.push_back(Event::ServerTool(ServerTool::Cited {
                file_id: passage.file_id.clone(),
                filename: passage.filename.clone(),
            }));
        }
    }

    /// Takes a piece of a call. Returns it if it belongs to a tool that the client runs.
    fn take_call(&mut self, mut piece: ToolCallDelta) -> Option<ToolCallDelta> {
        let call = self.round.calls.entry(piece.index).or_default();
        if call.id.is_none() {
            call.id.clone_from(&piece.id);
        }
        if let Some(function) = &piece.function {
            call.function
                .push_str(function.name.as_deref().unwrap_or_default());
            call.arguments
                .push_str(function.arguments.as_deref().unwrap_or_default());
        }
        let function = call.function.clone();
        if self.is_servers(&function) {
            return None;
        }
        piece.index += self.next_index;
        Some(piece)
    }

    /// The model's answer has ended: makes its calls, or ends the response.
    fn end_round(&mut self) {
        if let Some(held) = self.citations.end() {
            let choice = ChunkChoice::delta(0, Delta::content(held));
            self.queue.push_back(Event::Chunk(Chunk::of(choice)));
        }
        let calls: Vec<PartialCall> = self.round.calls.values().cloned().collect();
        let was_cut = self.round.finish != Some(FinishReason::ToolCalls)
            && self.round.finish != Some(FinishReason::Stop);
        let (own, others): (Vec<PartialCall>, Vec<PartialCall>) = calls
            .into_iter()
            .partition(|call| self.is_servers(&call.function));
        if own.is_empty() || was_cut {
            self.end();
            return;
        }
        self.is_over = !others.is_empty();
        for call in own {
            let tool = self.tools.offered.called(&call.function);
            if tool.is_some_and(|tool| tool.kind == ToolKind::FileSearch) {
                self.todo.push_back(call);
                continue;
            }
            let Some((label, name)) = tool.and_then(|tool| {
                let label = tool.namespace.clone()?;
                Some((label, tool.name.clone()))
            }) else {
                continue;
            };
            let server = self.tools.servers.get(&label);
            if server.is_none_or(|server| server.needs_approval(&name)) {
                self.is_over = true;
                self.queue
                    .push_back(Event::ServerTool(ServerTool::NeedsApproval {
                        server: label,
                        name,
                        arguments: call.arguments,
                    }));
            } else {
                self.todo.push_back(call);
            }
        }
        // Calls that need no approval are made all the same: the next request has their results.
        self.round.finish = Some(FinishReason::ToolCalls);
        if self.todo.is_empty() {
            self.end();
        }
    }

    fn end(&mut self) {
        if let Some(reason) = self.round.finish {
            let finish = ChunkChoice::finish(0, reason);
            self.queue.push_back(Event::Chunk(Chunk::of(finish)));
        }
        if let Some(usage) = self.usage.take() {
            self.queue.push_back(Event::Usage(usage));
        }
    }

    /// Whether no more calls may be made.
    fn has_called_enough(&self) -> bool {
        self.calls >= self.tools.most_calls.unwrap_or(MOST_CALLS).min(MOST_CALLS)
    }

    /// Tells the client of a call that is made next.
    fn begin(&mut self, call: PartialCall) {
        if self.has_called_enough() {
            self.results.push((call, TOO_MANY.to_owned()));
            return;
        }
        let tool = self.tools.offered.called(&call.function);
        if tool.is_some_and(|tool| tool.kind == ToolKind::FileSearch) {
            self.calls += 1;
            let queries = file_search::queries(&call.arguments);
            let begun = ServerTool::SearchBegun {
                queries: queries.clone(),
            };
            self.queue.push_back(Event::ServerTool(begun));
            self.making = Some(Making::Search { call, queries });
            return;
        }
        let Some((server, name)) =
            tool.and_then(|tool| Some((tool.namespace.clone()?, tool.name.clone())))
        else {
            return;
        };
        self.tell_begun(&server, &name, &call.arguments, None);
        self.making = Some(Making::Mcp { call, server, name });
    }

    fn tell_begun(&mut self, server: &str, name: &str, arguments: &str, approval: Option<String>) {
        self.calls += 1;
        self.queue.push_back(Event::ServerTool(ServerTool::Begun {
            server: server.to_owned(),
            name: name.to_owned(),
            arguments: arguments.to_owned(),
            approval,
        }));
    }

    /// Makes a call. Returns its result for the model.
    async fn make(&mut self, making: Making) -> (PartialCall, String) {
        match making {
            Making::Mcp { call, server, name } => {
                let result = self.call(&server, &name, &call.arguments).await;
                let told = self.tell_ended(result);
                (call, told)
            }
            Making::Search { call, queries } => {
                let told = self.search(&queries).await;
                (call, told)
            }
        }
    }

    /// Searches files. Returns the results as a text for the model.
    async fn search(&mut self, queries: &[String]) -> String {
        let tools = Arc::clone(&self.tools);
        let Some(search) = tools.servers.file_search() else {
            return "The search failed: there are no files.".to_owned();
        };
        let (told, results) = match search.search(queries).await {
            Ok(results) => {
                let before = self.passages.len();
                let found = file_search::passages(before + 1, &results);
                let told = file_search::told(&found);
                self.passages.extend(found);
                self.searched.push(before..self.passages.len());
                let shown = search
                    .shows_results
                    .then(|| results.iter().map(file_search::shown));
                (told, Ok(shown.map(Iterator::collect)))
            }
            Err(error) => {
                let message = error.error.message;
                (format!("The search failed: {message}"), Err(message))
            }
        };
        self.queue
            .push_back(Event::ServerTool(ServerTool::SearchEnded { results }));
        told
    }

    /// Halves the results of the search that has found most, for a model whose context they do not
    /// fit. Returns whether there was something to leave out.
    fn shorten_results(&mut self) -> bool {
        let longest = self.searched.iter_mut();
        let longest = longest.max_by_key(|found| found.end - found.start);
        let Some(found) = longest.filter(|found| found.len() > 1) else {
            return false;
        };
        let before = file_search::told(&self.passages[found.clone()]);
        found.end = found.start + found.len() / 2;
        let after = file_search::told(&self.passages[found.clone()]);
        let chat = Arc::make_mut(&mut self.chat);
        let is_it = |message: &&mut Message| {
            message.role == Role::Tool && message.content == Some(Content::Text(before.clone()))
        };
        let Some(message) = chat.messages.iter_mut().find(is_it) else {
            return false;
        };
        message.content = Some(Content::Text(after));
        true
    }

    fn tell_ended(&mut self, result: Result<String, McpError>) -> String {
        let (told, result) = match result {
            Ok(text) => (text.clone(), Ok(text)),
            Err(error) => (format!("The call failed: {error}"), Err(shown(&error))),
        };
        self.queue
            .push_back(Event::ServerTool(ServerTool::Ended { result }));
        told
    }

    fn call(
        &self,
        label: &str,
        name: &str,
        arguments: &str,
    ) -> impl Future<Output = Result<String, McpError>> + Send + use<> {
        let (client, tools) = (self.client.clone(), Arc::clone(&self.tools));
        let (label, name) = (label.to_owned(), name.to_owned());
        let arguments = object(arguments);
        async move {
            let Some((server, client)) = tools.servers.get(&label).zip(client) else {
                return Err(McpError::Protocol {
                    code: -32601,
                    message: format!("the request has no MCP server '{label}'"),
                });
            };
            client.call_tool(&server.endpoint, &name, arguments?).await
        }
    }

    /// Makes the calls that the client has allowed, and puts their results into the chat.
    async fn make_approved_calls(&mut self) {
        for call in self.tools.approved.clone() {
            let ApprovedCall {
                place: _,
                request,
                server,
                name,
                arguments,
            } = call;
            let told = if self.has_called_enough() {
                TOO_MANY.to_owned()
            } else {
                self.tell_begun(&server, &name, &arguments, Some(request.clone()));
                let result = self.call(&server, &name, &arguments).await;
                self.tell_ended(result)
            };
            let chat = Arc::make_mut(&mut self.chat);
            let result = chat.messages.iter_mut().find(|message| {
                message.role == Role::Tool && message.tool_call_id.as_ref() == Some(&request)
            });
            if let Some(message) = result {
                message.content = Some(Content::Text(told));
            }
        }
    }

    /// Gives the model the results of its calls, and asks it again.
    async fn go_on(&mut self) -> Result<(), BackendError> {
        let results = std::mem::take(&mut self.results);
        if self.is_over {
            self.end();
            return Ok(());
        }
        let round = std::mem::take(&mut self.round);
        let last = round.calls.keys().next_back().map_or(0, |last| last + 1);
        self.next_index = self.next_index.saturating_add(last);
        let chat = Arc::make_mut(&mut self.chat);
        let numbered = results.iter().enumerate();
        let calls: Vec<ToolCall> = numbered
            .map(|(index, (call, _))| ToolCall {
                id: id_of(call, self.calls, index),
                kind: "function".to_owned(),
                function: FunctionCall {
                    name: call.function.clone(),
                    arguments: call.arguments.clone(),
                    extra: Extra::new(),
                },
                extra: Extra::new(),
            })
            .collect();
        let told: Vec<Message> = calls
            .iter()
            .zip(results)
            .map(|(call, (_, told))| Message {
                tool_call_id: Some(call.id.clone()),
                ..Message::text(Role::Tool, told)
            })
            .collect();
        chat.messages.push(Message {
            content: (!round.text.is_empty()).then_some(Content::Text(round.text)),
            reasoning_content: (!round.reasoning.is_empty()).then_some(round.reasoning),
            tool_calls: Some(calls),
            ..Message::text(Role::Assistant, "")
        });
        chat.messages.extend(told);
        // The choice was for the first answer: a model that has to call would never end.
        chat.tool_choice = None;
        if self.has_called_enough() {
            let chat = Arc::make_mut(&mut self.chat);
            chat.tools = None;
            chat.parallel_tool_calls = None;
        }
        loop {
            match self.ask().await {
                Err(BackendError::ContextLengthExceeded { .. }) if self.shorten_results() => {}
                reply => {
                    self.inner = Some(reply?.events);
                    return Ok(());
                }
            }
        }
    }
}

/// The arguments of a call.
fn object(arguments: &str) -> Result<Map<String, Value>, McpError> {
    if arguments.trim().is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_str(arguments).map_err(|_| McpError::Protocol {
        code: -32602,
        message: "the arguments are not a JSON object".to_owned(),
    })
}

fn id_of(call: &PartialCall, calls: usize, index: usize) -> String {
    let id = call.id.clone();
    id.unwrap_or_else(|| format!("call_{calls}_{index}"))
}

/// An error as OpenAI's API shows it.
fn shown(error: &McpError) -> Value {
    match error {
        McpError::Http { status, message } => {
            json!({"type": "http_error", "code": status, "message": message})
        }
        McpError::Protocol { code, message } => {
            json!({"type": "mcp_protocol_error", "code": code, "message": message})
        }
        McpError::Tool { message } => {
            json!({"type": "mcp_tool_execution_error", "content": [{"type": "text", "text": message}]})
        }
    }
}

/// Adds the usage of another answer.
pub(crate) fn add(all: &mut Option<CompletionUsage>, more: CompletionUsage) {
    match all {
        Some(all) => sum(all, more),
        None => *all = Some(more),
    }
}

/// Adds the usage of another answer to that of the first.
pub(crate) fn sum(all: &mut CompletionUsage, more: CompletionUsage) {
    // An engine may say any number.
    let add = |count: &mut u64, more: u64| *count = count.saturating_add(more);
    add(&mut all.prompt_tokens, more.prompt_tokens);
    add(&mut all.completion_tokens, more.completion_tokens);
    all.total_tokens = all.prompt_tokens.saturating_add(all.completion_tokens);
    if let Some(more) = more.prompt_tokens_details {
        let details = all.prompt_tokens_details.get_or_insert_default();
        add(&mut details.cached_tokens, more.cached_tokens);
    }
    if let Some(more) = more.completion_tokens_details {
        let details = all.completion_tokens_details.get_or_insert_default();
        add(&mut details.reasoning_tokens, more.reasoning_tokens);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_of_any_size_is_added() {
        let usage = |count: u64| {
            let details = json!({"cached_tokens": count, "reasoning_tokens": count});
            let usage = json!({"prompt_tokens": count, "completion_tokens": count, "total_tokens": count,
                "prompt_tokens_details": details, "completion_tokens_details": details});
            serde_json::from_value::<CompletionUsage>(usage).expect("a usage")
        };
        let mut all = None;
        add(&mut all, usage(u64::MAX));
        add(&mut all, usage(1));
        let all = all.expect("a sum");
        let prompt = all.prompt_tokens_details.expect("its details");
        let completion = all.completion_tokens_details.expect("its details");
        let sums = [
            all.prompt_tokens,
            all.completion_tokens,
            all.total_tokens,
            prompt.cached_tokens,
            completion.reasoning_tokens,
        ];
        assert_eq!(sums, [u64::MAX; 5]);
    }
}
