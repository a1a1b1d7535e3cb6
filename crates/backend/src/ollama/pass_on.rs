//! Passes requests of Ollama's own API on, and reads the number of tokens in the answers.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use futures_core::Stream;
use http::header::CONTENT_TYPE;
use http_body::Body;
use loggia_wire::frame::Lines;
use loggia_wire::openai::CompletionUsage;
use serde::Deserialize;
use tower::BoxError;

use super::client::{Ollama, OllamaService};
use super::error::transport_error;
use super::events::LINE_LIMIT;
use super::transport::{post, to_json};
use crate::ollama_api::is_of_lines;
use crate::{BackendError, OllamaCall, OllamaPiece, OllamaReply, OllamaRequest, ServedBy};

impl<S, B> Ollama<S, B>
where
    S: OllamaService<B>,
    B: From<Bytes> + Send + 'static,
{
    /// Sends the request with the headers of Loggia alone, and returns the answer as it arrives.
    pub(super) async fn pass_on(&self, call: OllamaCall) -> Result<OllamaReply, BackendError> {
        let OllamaRequest {
            route,
            model,
            mut fields,
        } = call.work;
        let model = model.unwrap_or_default();
        if let Some(field) = route.model_field() {
            fields.insert(field.to_owned(), model.as_str().into());
        }
        let body = to_json(&fields, &self.name)?;
        let mut request = post(route.path(), body, Some(&call.head));
        *request.method_mut() = route.method();
        let response = self.send(request).await?;
        if route.changes_models() {
            self.known.forget(&model);
        }
        if !response.status().is_success() {
            return Err(self.refused(response, &model).await);
        }
        let media_type = response.headers().get(CONTENT_TYPE);
        let media_type = media_type.and_then(|value| value.to_str().ok());
        let media_type = media_type.unwrap_or("application/json").to_owned();
        let is_stream = is_of_lines(&media_type);
        let backend = Arc::clone(&self.name);
        Ok(OllamaReply {
            served_by: ServedBy::new(&self.name, &model),
            media_type,
            pieces: Box::pin(Pieces::new(response.into_body(), is_stream, backend)),
        })
    }
}

/// The pieces of an answer: of a stream, whole lines, so that an error can follow as a line of its
/// own.
struct Pieces<R> {
    /// The body. `None` after its end.
    body: Option<Pin<Box<R>>>,
    is_stream: bool,
    /// `None` after a line of a whole answer that is too long to be read for its number of tokens.
    lines: Option<Lines>,
    usage: Option<CompletionUsage>,
    backend: Arc<str>,
}

impl<R> Pieces<R> {
    fn new(body: R, is_stream: bool, backend: Arc<str>) -> Self {
        Self {
            body: Some(Box::pin(body)),
            is_stream,
            lines: Some(Lines::new(LINE_LIMIT)),
            usage: None,
            backend,
        }
    }

    /// Reads bytes that arrived. Returns those to pass on.
    fn read(&mut self, bytes: Bytes) -> Result<Bytes, BackendError> {
        let mut whole_lines = BytesMut::new();
        let Some(lines) = &mut self.lines else {
            return Ok(bytes);
        };
        lines.push(bytes.clone());
        loop {
            match lines.next_line() {
                Ok(Some(line)) => {
                    self.usage = usage_of(&line).or(self.usage.take());
                    whole_lines.extend_from_slice(&line);
                    whole_lines.extend_from_slice(b"\n");
                }
                Ok(None) if self.is_stream => return Ok(whole_lines.freeze()),
                Ok(None) => return Ok(bytes),
                Err(error) if self.is_stream => {
                    return Err(BackendError::BadAnswer {
                        backend: self.backend.to_string(),
                        what: error.to_string(),
                    });
                }
                Err(_too_long) => {
                    self.lines = None;
                    return Ok(bytes);
                }
            }
        }
    }

    /// Reads the end. Returns the rest to pass on.
    fn finish(&mut self) -> Option<Bytes> {
        let last = self.lines.as_mut().and_then(Lines::finish)?;
        self.usage = usage_of(&last).or(self.usage.take());
        self.is_stream.then_some(last)
    }
}

impl<R> Stream for Pieces<R>
where
    R: Body<Data: Buf, Error: Into<BoxError>>,
{
    type Item = Result<OllamaPiece, BackendError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(usage) = this.usage.take() {
                return Poll::Ready(Some(Ok(OllamaPiece::Usage(usage))));
            }
            let Some(body) = &mut this.body else {
                return Poll::Ready(None);
            };
            let read = match ready!(body.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(mut data) => this.read(data.copy_to_bytes(data.remaining())),
                    Err(_trailers) => continue,
                },
                Some(Err(error)) => Err(transport_error(error.into(), &this.backend)),
                None => {
                    this.body = None;
                    Ok(this.finish().unwrap_or_default())
                }
            };
            match read {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Poll::Ready(Some(Ok(OllamaPiece::Bytes(bytes)))),
                Err(error) => {
                    this.body = None;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}

/// Returns the number of tokens that a line tells. The last line of an answer does.
fn usage_of(line: &[u8]) -> Option<CompletionUsage> {
    #[derive(Deserialize)]
    struct Counts {
        prompt_eval_count: Option<u64>,
        eval_count: Option<u64>,
    }
    let counts: Counts = serde_json::from_slice(line).ok()?;
    if counts.prompt_eval_count.is_none() && counts.eval_count.is_none() {
        return None;
    }
    let prompt = counts.prompt_eval_count.unwrap_or_default();
    Some(CompletionUsage::new(
        prompt,
        counts.eval_count.unwrap_or_default(),
    ))
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, StreamExt as _};
    use http_body_util::StreamBody;

    use super::*;

    fn pieces_of(is_stream: bool, packets: &[&'static str]) -> Vec<OllamaPiece> {
        let packets = packets.iter().copied().map(Bytes::from);
        let frames = packets.map(|packet| Ok::<_, std::io::Error>(http_body::Frame::data(packet)));
        let frames: Vec<_> = frames.collect();
        let body = StreamBody::new(futures_util::stream::iter(frames));
        let pieces = Pieces::new(body, is_stream, "ollama".into());
        let pieces = pieces.map(|piece| piece.unwrap()).collect::<Vec<_>>();
        pieces.now_or_never().unwrap()
    }

    fn bytes(text: &'static str) -> OllamaPiece {
        OllamaPiece::Bytes(text.into())
    }

    #[test]
    fn a_stream_is_passed_on_line_by_line_and_its_last_line_tells_the_tokens() {
        let packets = [
            "{\"done\":false}\n{\"done\":tr",
            "ue,\"prompt_eval_count\":3,",
            "\"eval_count\":2}\n",
        ];
        let expected = [
            bytes("{\"done\":false}\n"),
            bytes("{\"done\":true,\"prompt_eval_count\":3,\"eval_count\":2}\n"),
            OllamaPiece::Usage(CompletionUsage::new(3, 2)),
        ];
        assert_eq!(pieces_of(true, &packets), expected);
        let last = pieces_of(true, &["{\"a\":1}\n{\"a\"", ":2}"]);
        assert_eq!(last, [bytes("{\"a\":1}\n"), bytes("{\"a\":2}")]);
    }

    #[test]
    fn a_whole_answer_is_passed_on_as_it_arrives_and_tells_the_tokens_too() {
        let packets = ["{\"embeddings\":[],\n \"prompt", "_eval_count\":7}"];
        let [first, second] = packets.map(bytes);
        assert_eq!(pieces_of(false, &packets), [first, second]);
        let packets = ["{\"embeddings\":[],\"prompt", "_eval_count\":7}"];
        let [first, second] = packets.map(bytes);
        let usage = OllamaPiece::Usage(CompletionUsage::new(7, 0));
        assert_eq!(pieces_of(false, &packets), [first, second, usage]);
    }

    #[test]
    fn a_line_that_is_too_long_ends_a_stream_and_not_a_whole_answer() {
        let long = || Bytes::from(vec![b'x'; LINE_LIMIT + 1]);
        let pieces = |is_stream| Pieces::new((), is_stream, "ollama".into()).read(long());
        assert!(matches!(pieces(true), Err(BackendError::BadAnswer { .. })));
        assert_eq!(pieces(false), Ok(long()));
    }
}
