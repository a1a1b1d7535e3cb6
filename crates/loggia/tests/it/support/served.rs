//! A running program that serves embedded models, and a client for it.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;

use serde_json::Value;

use super::request::{rest, send};
use super::{Program, Running};

/// A running program that has loaded the models that it loads at the start.
pub(crate) struct Served {
    pub(crate) running: Running,
    pub(crate) address: SocketAddr,
    program: Option<Program>,
}

impl Served {
    pub(crate) fn start(program: Program, arguments: &[&str]) -> Self {
        Self::start_at(program, "127.0.0.1:0", arguments)
    }

    pub(crate) fn start_at(program: Program, listen: &str, arguments: &[&str]) -> Self {
        let arguments: Vec<&str> = ["serve", "--listen", listen]
            .iter()
            .chain(arguments)
            .copied()
            .collect();
        let mut running = program.start(&arguments);
        let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        let address = first
            .strip_prefix("loggia: listening on http://")
            .expect(&first)
            .parse()
            .unwrap();
        if lines.next().is_none() {
            let log = running.log();
            panic!("it ended: {log}");
        }
        Self {
            running,
            address,
            program: Some(program),
        }
    }

    /// A program that has been started, by the first line of its output.
    pub(crate) fn at(running: Running, first: &str) -> Self {
        let address = first
            .strip_prefix("loggia: listening on http://")
            .expect(first)
            .parse()
            .unwrap();
        Self {
            running,
            address,
            program: None,
        }
    }

    /// Its data folder and environment.
    pub(crate) fn program(&self) -> &Program {
        self.program.as_ref().unwrap()
    }

    /// Ends the program. Returns its data folder and environment, to start it again.
    pub(crate) fn end(self) -> Program {
        drop(self.running);
        self.program.unwrap()
    }

    /// Sends a request. Returns the status, and the body as JSON.
    pub(crate) fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.send(&format!("POST {path}"), "", body)
    }

    pub(crate) fn get(&self, path: &str) -> (u16, Value) {
        self.ask("GET", path, "")
    }

    /// Sends a request without a body; each further header ends with a line break.
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &str) -> (u16, Value) {
        self.send(&format!("{method} {path}"), headers, &Value::Null)
    }

    /// The ids of `GET /v1/models`.
    pub(crate) fn models(&self) -> Vec<String> {
        let (_, list) = self.get("/v1/models");
        list["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|model| model["id"].as_str().unwrap().to_owned())
            .collect()
    }

    fn send(&self, line: &str, headers: &str, body: &Value) -> (u16, Value) {
        let answer = rest(send(self.address, line, headers, body));
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        (status, serde_json::from_str(body).expect(&answer))
    }
}
