//! `POST /v1/embeddings`: parses the request, finds the model, calls the backend, writes the
//! answer.

use std::pin::pin;

use bytes::{Buf, Bytes};
use http::{Request, Response};
use loggia_backend::{BackendError, EmbeddingCall, Embeddings};
use loggia_wire::openai::{
    CompletionUsage, Embedding, EmbeddingList, EmbeddingRequest, EmbeddingUsage, EncodingFormat,
    Vector,
};

use crate::admit::ask::Parse;
use crate::admit::{ParsedRequest, admit};
use crate::answer::ended::{Outcome, Progress};
use crate::answer::headers::{self, name_server};
use crate::answer::ignored::listed;
use crate::door::meter::Tokens;
use crate::door::read;
use crate::generate::respond;
use crate::{ApiError, Body, Door};

impl Door {
    /// `POST /v1/embeddings`.
    pub(crate) async fn embeddings<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data: Buf, Error: std::fmt::Display> + Send,
    {
        let (parts, body) = request.into_parts();
        let read = read::json_body(&parts.headers, body, &self.policy).await;
        let parsed = read.and_then(|bytes| EmbeddingRequest::parse(&bytes, &self.policy));
        let (request, profile) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => return self.refuse(error),
        };
        let asked = ParsedRequest::new(self, parts, request, profile);
        let refusals = asked.refusals.clone();
        let model = asked.progress.model();
        let mut ignored = String::new();
        let answered = {
            let answering = pin!(self.embed(asked, &mut ignored));
            self.in_time(&refusals, answering).await
        };
        respond(answered, profile, &ignored).map(|body| body.about_model(model))
    }

    async fn embed(
        &self,
        mut asked: ParsedRequest<EmbeddingRequest>,
        ignored: &mut String,
    ) -> Result<Response<Body>, ApiError> {
        *ignored = listed(&admit(self, &mut asked).await?);
        let ParsedRequest {
            request,
            head,
            refusals,
            mut progress,
            report,
            ..
        } = asked;
        let failed = |error| refusals.refuse(error);
        let model = request.model.clone();
        let format = request.encoding_format.unwrap_or(EncodingFormat::Float);
        let call = EmbeddingCall {
            head,
            work: request,
        };
        let tokens = || Tokens {
            prompt: call.estimated_prompt_tokens(),
            answer: Some(0),
        };
        if let Some(entering) = self.enter(&call.head, &model, &tokens, report.as_ref()) {
            progress.hold(entering.await?);
        }
        let made = self.backend.embed(call).await.map_err(failed)?;
        progress.accepted(&made.served_by);
        progress.has_begun();
        response(made, model, format, progress).map_err(failed)
    }
}

/// Returns the response, with the model name that the client sent.
fn response(
    made: Embeddings,
    model: String,
    format: EncodingFormat,
    mut progress: Progress,
) -> Result<Response<Body>, BackendError> {
    let Embeddings {
        served_by,
        vectors,
        prompt_tokens,
    } = made;
    let embedding = |(index, numbers)| Embedding {
        object: "embedding".to_owned(),
        index,
        embedding: Vector::new(numbers, format),
    };
    let list = EmbeddingList {
        object: "list".to_owned(),
        data: vectors.into_iter().enumerate().map(embedding).collect(),
        model,
        usage: EmbeddingUsage {
            prompt_tokens,
            total_tokens: prompt_tokens,
        },
    };
    let json = serde_json::to_vec(&list).map(Bytes::from);
    let json = json.map_err(|_| BackendError::Engine {
        message: "an answer that cannot be written as JSON".to_owned(),
    })?;
    progress.cost(CompletionUsage::new(prompt_tokens, 0));
    let mut response = headers::json(Body::ending(json, progress.end(Outcome::Complete)));
    name_server(&mut response, &served_by);
    Ok(response)
}
