//! Requests that only count the tokens of a prompt: finds the model, asks the backend for the count,
//! writes it. They are admitted as the request that they count would be.

use std::pin::pin;

use bytes::Bytes;
use http::Response;
use loggia_backend::{BackendError, ChatCall, TokenCount};

use crate::admit::{ParsedRequest, admit};
use crate::answer::ended::Outcome;
use crate::answer::headers::{self, name_estimated, name_server, name_truncated};
use crate::answer::ignored::listed;
use crate::fit::{chat, fit};
use crate::generate::respond;
use crate::generated::Generate;
use crate::messages::apply_edits;
use crate::{ApiError, Body, Door};

/// A request whose prompt can be counted.
pub(crate) trait Count: Generate {
    /// The field of the response with the number of tokens, for the header that marks an estimate.
    const FIELD: &'static str;

    /// Returns the tokens that edits have removed from the conversation, if the client asks for
    /// edits.
    fn removed_tokens(&self) -> Option<u64> {
        None
    }

    /// Returns the body of the response.
    fn counted(input_tokens: u64, removed: Option<u64>) -> serde_json::Result<Vec<u8>>;
}

impl Door {
    /// Answers a request to count a prompt that was parsed and checked.
    pub(crate) async fn counted<R: Count>(&self, asked: ParsedRequest<R>) -> Response<Body> {
        let profile = asked.head.profile;
        let refusals = asked.refusals.clone();
        let model = asked.progress.model();
        let mut ignored = String::new();
        let answered = {
            let answering = pin!(self.answer_count(asked, &mut ignored));
            self.in_time(&refusals, answering).await
        };
        respond(answered, profile, &ignored).map(|body| body.about_model(model))
    }

    async fn answer_count<R: Count>(
        &self,
        mut asked: ParsedRequest<R>,
        ignored: &mut String,
    ) -> Result<Response<Body>, ApiError> {
        let mut names = admit(self, &mut asked).await?;
        apply_edits::apply(self, &mut asked).await?;
        let truncated = fit(self, &mut asked, &mut names).await?;
        *ignored = listed(&names);
        let ParsedRequest {
            request,
            head,
            refusals,
            mut progress,
            ..
        } = asked;
        let failed = |error| refusals.refuse(error);
        let removed = request.removed_tokens();
        let work = chat(R::work(request)).map_err(failed)?;
        let count = self.backend.count_tokens(ChatCall { head, work }).await;
        let TokenCount {
            input_tokens,
            is_exact,
            served_by,
        } = count.map_err(failed)?;
        progress.accepted(&served_by);
        let json = R::counted(input_tokens, removed).map_err(|_| {
            failed(BackendError::Engine {
                message: "an answer that cannot be written as JSON".to_owned(),
            })
        })?;
        let ended = progress.end(Outcome::Complete);
        let mut response = headers::json(Body::ending(Bytes::from(json), ended));
        name_server(&mut response, &served_by);
        name_truncated(&mut response, &truncated);
        if !is_exact {
            name_estimated(&mut response, R::FIELD);
        }
        Ok(response)
    }
}
