//! Tests of the pooled HTTP client against a [`RawEngine`], which sends prepared bytes.

use std::time::Duration;

use crate::raw::{RawEngine, Step, answer, json, piece, stream_end, stream_head};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use loggia_backend::http::{
    Body, Client, Error, Form, FormFile, Limits, RequestBody, TlsFault, Upstream, read,
};
use loggia_backend::{BackendError, Content, Phase};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::{Service, ServiceExt};

const SOON: Duration = Duration::from_millis(60);

fn upstream(url: &str, limits: Limits) -> Upstream {
    Upstream::new(Client::new(limits), url.parse().unwrap(), None)
}

async fn post(upstream: &Upstream, body: &'static str) -> Result<Response<Body>, Error> {
    upstream
        .post_json(
            &upstream.uri("/api/chat"),
            Bytes::from_static(body.as_bytes()),
            "application/json",
            None,
        )
        .await
}

#[tokio::test]
async fn a_path_is_asked_for_at_the_engines_address_with_its_key() {
    let engine = RawEngine::start([json("200 OK", "{}")]).await;
    let base = format!("{}/under/here/", engine.url).parse().unwrap();
    let mut upstream = Upstream::new(Client::default(), base, Some("sk-1".parse().unwrap()));
    let request = Request::post("/api/chat?x=1")
        .header("x-mine", "yes")
        .body(RequestBody::from(Bytes::from_static(b"{}")))
        .unwrap();
    let response = upstream.ready().await.unwrap().call(request).await.unwrap();
    assert_eq!(read(response.into_body(), 10).await.unwrap(), "{}");
    let host = engine.url.strip_prefix("http://").unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        engine.requests(),
        [format!(
            "POST /under/here/api/chat?x=1 HTTP/1.1\r\nx-mine: yes\r\nhost: {host}\r\nauthorization: Bearer sk-1\r\n\
             user-agent: loggia/{version}\r\ncontent-length: 2\r\n\r\n{{}}"
        )]
    );
}

/// A node that is one address of a DNS name.
#[tokio::test]
async fn a_client_for_an_address_connects_to_it_and_names_the_host() {
    let engine = RawEngine::start([json("200 OK", "1")]).await;
    let port = engine.url.rsplit(':').next().unwrap();
    let url = format!("http://gpu.invalid:{port}");
    let client = Client::to_address([127, 0, 0, 1].into(), Limits::default());
    let upstream = Upstream::new(client, url.parse().unwrap(), None);
    let response = post(&upstream, "{}").await.unwrap();
    assert_eq!(read(response.into_body(), 10).await.unwrap(), "1");
    let host = format!("\r\nhost: gpu.invalid:{port}\r\n");
    assert!(engine.requests()[0].contains(&host), "{host}");
}

#[tokio::test]
async fn a_connection_serves_one_request_after_another() {
    let engine = RawEngine::start([
        json("200 OK", "1"),
        json("200 OK", "2"),
        json("200 OK", "3"),
    ])
    .await;
    let upstream = upstream(&engine.url, Limits::default());
    for expected in ["1", "2", "3"] {
        let response = post(&upstream, "{}").await.unwrap();
        assert_eq!(read(response.into_body(), 10).await.unwrap(), expected);
    }
    assert_eq!(engine.connections(), 1);
}

#[tokio::test]
async fn a_pooled_connection_that_was_closed_meanwhile_is_replaced() {
    let mut first = json("200 OK", "1");
    first.push(Step::Close);
    let engine = RawEngine::start([first, json("200 OK", "2")]).await;
    let upstream = upstream(&engine.url, Limits::default());
    let response = post(&upstream, "{}").await.unwrap();
    assert_eq!(read(response.into_body(), 10).await.unwrap(), "1");
    engine.closed().await;
    let response = post(&upstream, "{}").await.unwrap();
    assert_eq!(read(response.into_body(), 10).await.unwrap(), "2");
    assert_eq!(engine.connections(), 2);
}

#[tokio::test]
async fn a_request_that_crosses_the_end_of_its_connection_is_sent_again() {
    let crossed = vec![Step::Close];
    let engine = RawEngine::start([json("200 OK", "1"), crossed, json("200 OK", "2")]).await;
    let upstream = upstream(&engine.url, Limits::default());
    for (asked, expected) in [("{}", "1"), (r#"{"again":1}"#, "2")] {
        let response = post(&upstream, asked).await.unwrap();
        assert_eq!(read(response.into_body(), 10).await.unwrap(), expected);
    }
    let again = r#"{"again":1}"#;
    assert_eq!(engine.bodies(), ["{}", again, again]);
    assert_eq!(engine.connections(), 2);
}

#[tokio::test]
async fn a_request_is_sent_again_once() {
    let engine =
        RawEngine::start([json("200 OK", "1"), vec![Step::Close], vec![Step::Close]]).await;
    let upstream = upstream(&engine.url, Limits::default());
    let response = post(&upstream, "{}").await.unwrap();
    assert_eq!(read(response.into_body(), 10).await.unwrap(), "1");
    let error = post(&upstream, "{}").await.unwrap_err();
    assert!(matches!(error, Error::CutShort(_)), "{error:?}");
    assert_eq!(engine.requests().len(), 3);
}

#[tokio::test]
async fn a_request_whose_connection_ends_later_is_not_sent_again() {
    let engine = RawEngine::start([
        json("200 OK", "1"),
        vec![Step::Pause(Duration::from_millis(700)), Step::Close],
        json("200 OK", "3"),
    ])
    .await;
    let upstream = upstream(&engine.url, Limits::default());
    let response = post(&upstream, "{}").await.unwrap();
    assert_eq!(read(response.into_body(), 10).await.unwrap(), "1");
    let error = post(&upstream, "{}").await.unwrap_err();
    assert!(matches!(error, Error::CutShort(_)), "{error:?}");
    assert_eq!(engine.requests().len(), 2);
}

/// Answers that end as HTTP says, and then a second one. `true`: on the same connection.
#[tokio::test]
async fn a_connection_is_used_again_if_the_end_of_the_answer_is_certain() {
    let send = |text: &str| Step::Send(text.as_bytes().to_vec());
    let cases = [
        (vec![stream_head(), piece("1"), stream_end()], true),
        (
            vec![
                stream_head(),
                send("1;x=y\r\n1\r\n0\r\nx-trailer: 1\r\n\r\n"),
            ],
            true,
        ),
        // Every byte in a packet of its own.
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n1\r\n0\r\n\r\n"
                .split_inclusive(|_| true)
                .flat_map(|byte| [send(byte), Step::Pause(Duration::from_millis(1))])
                .collect(),
            true,
        ),
        (
            vec![send(
                "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1",
            )],
            true,
        ),
        (answer("200 OK", "connection: close\r\n", "1"), false),
        (
            vec![send("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1HTTP")],
            false,
        ),
        (
            vec![send(
                "HTTP/1.1 200 OK\r\ncontent-length: 9\r\ntransfer-encoding: chunked\r\n\r\n1\r\n1\r\n0\r\n\r\n",
            )],
            false,
        ),
        (vec![send("HTTP/1.1 200 OK\r\n\r\n1"), Step::Close], false),
    ];
    for (number, (first, is_used_again)) in cases.into_iter().enumerate() {
        let engine = RawEngine::start([first, json("200 OK", "2")]).await;
        let upstream = upstream(&engine.url, Limits::default());
        for expected in ["1", "2"] {
            let response = post(&upstream, "{}").await.unwrap();
            let body = read(response.into_body(), 10).await.unwrap();
            assert_eq!(body, expected, "case {number}");
        }
        let connections = if is_used_again { 1 } else { 2 };
        assert_eq!(engine.connections(), connections, "case {number}");
    }
}

/// Starts a server that speaks TLS up to the first record: it refuses every TLS greeting, and
/// answers `to_plain` to anything else.
async fn speaks_tls(to_plain: &'static [u8]) -> String {
    const NO_SUCH_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut first = [0; 4096];
                let _ = stream.read(&mut first).await;
                let answer = if first[0] == 22 {
                    &NO_SUCH_NAME
                } else {
                    to_plain
                };
                let _ = stream.write_all(answer).await;
            });
        }
    });
    address.to_string()
}

#[tokio::test]
async fn a_url_with_http_for_a_server_that_speaks_tls_is_said_to_be_that() {
    let a_text =
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/html\r\ncontent-length: 5\r\n\r\n<html";
    for to_plain in [
        a_text.as_bytes(),
        &[21, 3, 3, 0, 2, 2, 10],
        b"",
        b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n",
    ] {
        let address = speaks_tls(to_plain).await;
        let error = post(
            &upstream(&format!("http://{address}"), Limits::default()),
            "{}",
        )
        .await
        .unwrap_err();
        let error = error.into_backend("gpu");
        assert_eq!(
            error,
            BackendError::Tls {
                backend: "gpu".to_owned(),
                fault: TlsFault::AnswersTls
            }
        );
        assert_eq!(
            error.to_string(),
            "the backend `gpu` answers with TLS: change http:// to https:// in its URL"
        );
        assert!(!error.may_try_again());
    }
}

#[tokio::test]
async fn a_url_with_https_for_a_server_without_tls_is_said_to_be_that() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
    });
    let error = post(
        &upstream(&format!("https://{address}"), Limits::default()),
        "{}",
    )
    .await
    .unwrap_err();
    let error = error.into_backend("gpu");
    assert_eq!(
        error,
        BackendError::Tls {
            backend: "gpu".to_owned(),
            fault: TlsFault::AnswersPlain
        }
    );
    assert_eq!(
        error.to_string(),
        "the backend `gpu` answers without TLS: change https:// to http:// in its URL"
    );
}

#[tokio::test]
async fn a_400_that_is_no_json_is_an_answer_where_the_server_wants_no_tls() {
    let refusal = || answer("400 Bad Request", "content-type: text/plain\r\n", "no");
    // The engine does not answer a TLS greeting, which is not a request.
    let engine = RawEngine::start([refusal(), refusal()]).await;
    let upstream = upstream(&engine.url, Limits::default());
    for _ in 0..2 {
        let response = post(&upstream, "{}").await.unwrap();
        assert_eq!(
            (
                response.status().as_u16(),
                &*read(response.into_body(), 10).await.unwrap()
            ),
            (400, &b"no"[..])
        );
    }
}

#[tokio::test]
async fn where_nobody_listens_the_backend_is_unreachable() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = post(&upstream(&url, Limits::default()), "{}")
        .await
        .unwrap_err();
    let error = error.into_backend("gpu");
    assert_eq!(
        error,
        BackendError::Unreachable {
            backend: "gpu".to_owned()
        }
    );
    assert!(error.may_try_again());
}

#[tokio::test]
async fn each_phase_has_its_limit() {
    let quick_headers = Limits {
        headers: SOON,
        ..Limits::default()
    };
    let quick_idle = Limits {
        idle: SOON,
        ..Limits::default()
    };

    let silent = RawEngine::start([vec![Step::Hang]]).await;
    let error = post(&upstream(&silent.url, quick_headers), "{}")
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::TimedOut {
                phase: Phase::Headers,
                after: SOON
            }
        ),
        "{error:?}"
    );

    let head_only = RawEngine::start([vec![stream_head(), Step::Hang]]).await;
    let response = post(
        &upstream(
            &head_only.url,
            Limits {
                headers: Duration::from_millis(400),
                ..quick_idle
            },
        ),
        "{}",
    )
    .await;
    let error = read(response.unwrap().into_body(), 10).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::TimedOut {
                phase: Phase::Headers,
                ..
            }
        ),
        "before the first byte: {error:?}"
    );

    let one_piece = RawEngine::start([vec![stream_head(), piece("1"), Step::Hang]]).await;
    let mut body = post(&upstream(&one_piece.url, quick_idle), "{}")
        .await
        .unwrap()
        .into_body();
    assert_eq!(
        body.frame().await.unwrap().unwrap().into_data().unwrap(),
        "1"
    );
    let error = body.frame().await.unwrap().unwrap_err();
    assert!(
        matches!(
            error,
            Error::TimedOut {
                phase: Phase::Idle,
                after: SOON
            }
        ),
        "{error:?}"
    );
    assert!(body.frame().await.is_none());
    one_piece.closed().await;
    assert_eq!(
        error.into_backend("gpu").to_string(),
        "the backend `gpu` took longer than 0.06 s to send more of an answer"
    );
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_host_that_does_not_take_the_connection_is_given_up() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    // Linux does not answer a connection if the queue of a listener that accepts none is full.
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(SOON, tokio::net::TcpStream::connect(address)).await
    {
        waiting.push(stream);
    }
    let limits = Limits {
        connect: SOON,
        ..Limits::default()
    };
    let error = post(&upstream(&format!("http://{address}"), limits), "{}")
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::TimedOut {
                phase: Phase::Connect,
                after: SOON
            }
        ),
        "{error:?}"
    );
    assert!(error.into_backend("gpu").may_try_again());
}

#[tokio::test]
async fn an_answer_may_last_longer_than_any_silence_in_it() {
    let mut steps = vec![stream_head()];
    for _ in 0..8 {
        steps.extend([piece("."), Step::Pause(Duration::from_millis(150))]);
    }
    steps.push(stream_end());
    let engine = RawEngine::start([steps]).await;
    let limits = Limits {
        idle: Duration::from_secs(1),
        ..Limits::default()
    };
    let response = post(&upstream(&engine.url, limits), "{}").await.unwrap();
    assert_eq!(read(response.into_body(), 10).await.unwrap(), "........");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_cut_short() {
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf".to_vec();
    let endings = [
        vec![Step::Send(half), Step::Close],
        vec![stream_head(), piece("half"), Step::Close],
    ];
    for steps in endings {
        let engine = RawEngine::start([steps]).await;
        let response = post(&upstream(&engine.url, Limits::default()), "{}")
            .await
            .unwrap();
        let error = read(response.into_body(), 100).await.unwrap_err();
        assert_eq!(
            error.into_backend("gpu"),
            BackendError::CutShort {
                backend: "gpu".to_owned()
            }
        );
    }
    let engine = RawEngine::start([vec![Step::Close]]).await;
    let error = post(&upstream(&engine.url, Limits::default()), "{}")
        .await
        .unwrap_err();
    assert_eq!(
        error.into_backend("gpu"),
        BackendError::CutShort {
            backend: "gpu".to_owned()
        }
    );
}

#[tokio::test]
async fn what_is_not_http_is_no_answer() {
    let bad = |what: &str| BackendError::BadAnswer {
        backend: "gpu".to_owned(),
        what: what.to_owned(),
    };
    let engine = RawEngine::start([vec![
        Step::Send(b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec()),
        Step::Hang,
    ]])
    .await;
    let error = post(&upstream(&engine.url, Limits::default()), "{}")
        .await
        .unwrap_err();
    assert_eq!(error.into_backend("gpu"), bad("it is not HTTP"));

    let engine = RawEngine::start([vec![
        stream_head(),
        Step::Send(b"not a length\r\n".to_vec()),
        Step::Hang,
    ]])
    .await;
    let response = post(&upstream(&engine.url, Limits::default()), "{}")
        .await
        .unwrap();
    let error = read(response.into_body(), 100).await.unwrap_err();
    assert_eq!(error.into_backend("gpu"), bad("it is not HTTP"));
}

#[tokio::test]
async fn a_whole_answer_is_read_up_to_a_limit() {
    let pieces = vec![stream_head(), piece("1234"), piece("5678"), stream_end()];
    let engine =
        RawEngine::start([pieces.clone(), pieces, answer("200 OK", "", "123456789")]).await;
    let upstream = upstream(&engine.url, Limits::default());
    let read_one =
        async |limit| read(post(&upstream, "{}").await.unwrap().into_body(), limit).await;
    assert_eq!(read_one(8).await.unwrap(), "12345678");
    assert!(matches!(
        read_one(7).await,
        Err(Error::TooLong { limit: 7 })
    ));
    assert!(matches!(
        read_one(8).await,
        Err(Error::TooLong { limit: 8 })
    ));
}

#[tokio::test]
async fn the_connection_is_closed_when_the_body_is_dropped() {
    let engine = RawEngine::start([vec![stream_head(), piece("1"), Step::Hang]]).await;
    let mut body = post(&upstream(&engine.url, Limits::default()), "{}")
        .await
        .unwrap()
        .into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    engine.closed().await;
}

#[tokio::test]
async fn the_connection_is_closed_when_the_call_is_given_up_before_the_headers() {
    let engine = RawEngine::start([vec![Step::Hang]]).await;
    let upstream = upstream(&engine.url, Limits::default());
    let call = tokio::spawn(async move { post(&upstream, "{}").await.map(|_| ()) });
    while engine.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    call.abort();
    engine.closed().await;
}

/// Returns a form with a file of so many bytes on the disk.
fn form(bytes: usize) -> Form {
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, &vec![b'x'; bytes]).unwrap();
    let content = Content::in_file(file, bytes as u64);
    let file = FormFile {
        field: "file",
        name: "a.wav",
        media_type: "audio/wav",
        content: &content,
    };
    Form::new("1", [("model", "m")], file)
}

async fn send(upstream: &Upstream, form: Form) -> Result<Response<Body>, Error> {
    let uri = upstream.uri("/v1/audio/transcriptions");
    upstream.post_form(&uri, form, "*/*", None).await
}

#[tokio::test]
async fn a_form_is_sent_whole_and_again_if_its_connection_was_closed() {
    let ends = [json("200 OK", "1"), vec![Step::Close]].concat();
    let engine = RawEngine::start([ends, json("200 OK", "2")]).await;
    let upstream = upstream(&engine.url, Limits::default());
    let first = send(&upstream, form(300_000)).await.unwrap();
    assert_eq!(read(first.into_body(), 10).await.unwrap(), "1");
    // The connection of the pool is closed now, which the client may not have seen.
    let second = send(&upstream, form(300_000)).await.unwrap();
    assert_eq!(read(second.into_body(), 10).await.unwrap(), "2");
    for sent in engine.requests() {
        let (head, body) = sent.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("content-type: multipart/form-data; boundary=loggia-1"));
        assert!(head.contains(&format!("content-length: {}", body.len())));
        assert_eq!(body.matches('x').count(), 300_000);
        assert!(body.ends_with("x\r\n--loggia-1--\r\n"));
    }
}

/// An engine may refuse a recording before it has read all of it.
#[tokio::test]
async fn an_answer_before_the_end_of_a_form_is_read() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let engine = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_exact(&mut [0; 1000]).await.unwrap();
        let refusal = b"HTTP/1.1 413 Payload Too Large\r\ncontent-length: 3\r\n\r\nbig";
        stream.write_all(refusal).await.unwrap();
        stream
    });
    let answered = send(&upstream(&url, Limits::default()), form(20 << 20)).await;
    let answered = answered.unwrap();
    assert_eq!(answered.status(), 413);
    assert_eq!(read(answered.into_body(), 10).await.unwrap(), "big");
    drop(engine.await.unwrap());
}
