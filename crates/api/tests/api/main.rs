//! OpenAI's API from outside: bytes in, bytes out, over services that speak Ollama.

mod context;
mod fields;
mod odd;
mod original;
mod spec;
mod streaming;
mod support;
