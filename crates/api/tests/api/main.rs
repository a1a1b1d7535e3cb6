//! OpenAI's API from outside: bytes in, bytes out, over services that speak Ollama.

mod call_or_answer;
mod callers;
mod completions;
mod context;
mod deletion;
mod earlier_calls;
mod embeddings;
mod engine_options;
mod fields;
mod heartbeats;
mod misplaced;
mod odd;
mod older_functions;
mod ollama_answers;
mod original;
mod packed;
mod reasoning;
mod responses;
mod retry_after;
mod spec;
mod stored;
mod streaming;
mod support;
mod thoughts;
mod told;
mod words;
