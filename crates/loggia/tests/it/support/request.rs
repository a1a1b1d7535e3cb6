//! Requests on connections of their own, whose answers can be read while they arrive.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

/// Sends a request, as `POST /v1/responses`; each further header ends with a line break. `Null` is no
/// body.
pub(crate) fn send(
    address: SocketAddr,
    line: &str,
    headers: &str,
    body: &Value,
) -> BufReader<TcpStream> {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let length = body.len();
    let mut connection = TcpStream::connect(address).unwrap();
    write!(
        connection,
        "{line} HTTP/1.1\r\nhost: loggia\r\nconnection: close\r\ncontent-type: application/json\r\n\
         {headers}content-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    BufReader::new(connection)
}

/// The header of an API key.
pub(crate) fn bearer(key: &str) -> String {
    format!("authorization: Bearer {key}\r\n")
}

/// Reads the rest of an answer.
pub(crate) fn rest(mut answer: BufReader<TcpStream>) -> String {
    let mut text = String::new();
    answer.read_to_string(&mut text).unwrap();
    text
}
