//! OpenAI's API from outside: bytes in, bytes out, over services that speak Ollama.

mod allowed_values;
mod call_or_answer;
mod callers;
mod completions;
mod content_encoding;
mod context;
mod deletion;
mod earlier_calls;
mod embeddings;
mod engine_options;
mod fields;
mod heartbeats;
mod misplaced;
mod older_functions;
mod ollama_answers;
mod original;
mod reasoning;
mod reasoning_in_text;
mod responses;
mod retry_after;
mod spec;
mod stored;
mod streaming;
mod support;
mod tools_in_prompt;
mod unusual_requests;
