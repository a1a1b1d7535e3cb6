//! Tests of the server over sockets, with a backend that the tests control.

mod answers;
mod background;
mod batches;
mod browsers;
mod connections;
mod console;
mod example;
mod health;
mod http2;
mod keys;
mod live_keys;
mod log;
mod metrics;
mod ollama_api;
mod prompt_backend;
mod shutdown;
mod test_server;
mod traces;
mod websocket;
