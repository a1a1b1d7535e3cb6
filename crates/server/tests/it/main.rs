//! The server from outside: bytes over a socket, and a backend that says what the test tells it to
//! say.

mod answers;
mod browsers;
mod connections;
mod example;
mod health;
mod keys;
mod log;
mod shutdown;
mod stand;
