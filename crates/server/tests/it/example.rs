//! `examples/your_own_backend.rs`, run.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

#[path = "../../../../examples/your_own_backend.rs"]
#[allow(dead_code, reason = "its main function")]
mod your_own_backend;

async fn ask(stream: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let server = tokio::spawn(your_own_backend::serve(listener));
    let body = format!(
        r#"{{"model":"mirror","stream":{stream},"messages":[{{"role":"user","content":"first second"}}]}}"#
    );
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut connection = TcpStream::connect(address).await.expect("a server");
    let sent = connection.write_all(request.as_bytes()).await;
    sent.expect("the request is sent");
    let mut answer = String::new();
    let read = connection.read_to_string(&mut answer).await;
    read.expect("an answer");
    server.abort();
    answer
}

#[tokio::test]
async fn a_backend_of_thirty_lines_is_served_as_openais_api() {
    let whole = ask(false).await;
    assert!(whole.starts_with("HTTP/1.1 200"), "{whole}");
    assert!(whole.contains(r#""content":"second first ""#), "{whole}");
    assert!(whole.contains(r#""finish_reason":"stop""#), "{whole}");
    assert!(whole.contains(r#""total_tokens":4"#), "{whole}");
    let streamed = ask(true).await;
    assert!(
        streamed.contains(r#""delta":{"role":"assistant","content":"second "}"#),
        "{streamed}"
    );
    assert!(streamed.contains("data: [DONE]"), "{streamed}");
}
