//! A wrapper for backends that cannot fetch images: it replaces http(s) `image_url`s of a chat with
//! `data:` URLs of the fetched images before the chat starts.
//!
//! A client decides which hosts the server connects to, so the code assumes hostile clients. Each
//! name is resolved once, all of its addresses are checked ([`is_public`]), and the connection goes
//! to a checked address. The same applies to each redirect. The error that a client sees contains
//! only the host that it sent and a reason.
//!
//! Reading order: [`Limits`], `plan` (what to fetch, and where to insert it), `target` (allowed
//! URLs), `address` (allowed addresses), `connect`, `fetch`, `refusal` (all errors),
//! `document` and `webhook` (documents and webhooks, by the same rules).

mod address;
mod connect;
mod data_url;
mod document;
mod fetch;
mod kind;
mod limits;
mod network;
mod plan;
mod refusal;
mod target;
mod webhook;

use std::sync::Arc;

use futures_core::future::BoxFuture;
use futures_util::{StreamExt, TryStreamExt, stream};
use loggia_wire::openai::ChatCompletionRequest;
use tokio::time::Instant;

use crate::{
    Abilities, Ability, Backend, BackendError, Call, CallHead, ChatCall, Reply, TokenCount, Work,
    Wrap,
};
use fetch::{Allowance, Fetcher};
use plan::Plan;

pub use address::is_public;
pub use connect::{Resolve, SystemResolver};
pub use document::DocumentFetcher;
pub use kind::ImageKind;
pub use limits::Limits;
pub use network::{Network, NetworkError};
pub use webhook::WebhookSender;

/// Adds http(s) images to a backend that accepts images but does not fetch them. Requests to other
/// backends pass unchanged.
///
/// Wrap it around [`Emulate`](crate::emulate::Emulate), so that the calls of several choices share
/// the fetched images.
#[derive(Clone)]
pub struct FetchImages {
    inner: Arc<dyn Backend>,
    fetcher: Arc<Fetcher>,
}

impl FetchImages {
    /// Wraps this backend and uses the resolver of the operating system.
    pub fn new(inner: Arc<dyn Backend>, limits: Limits) -> Self {
        Self::resolving(inner, limits, Arc::new(SystemResolver))
    }

    /// Wraps this backend and uses another resolver. Its addresses are checked too.
    pub fn resolving(inner: Arc<dyn Backend>, limits: Limits, resolver: Arc<dyn Resolve>) -> Self {
        Self {
            inner,
            fetcher: Arc::new(Fetcher::new(limits, resolver)),
        }
    }

    async fn chat(
        &self,
        head: CallHead,
        mut request: Arc<ChatCompletionRequest>,
    ) -> Result<Reply, BackendError> {
        self.inline(&mut request).await?;
        let work = Work::Chat(request);
        self.inner.start(Call { head, work }).await
    }

    async fn count(&self, mut call: ChatCall) -> Result<TokenCount, BackendError> {
        self.inline(&mut call.work).await?;
        self.inner.count_tokens(call).await
    }

    /// Fetches the images of a chat, if its backend does not.
    async fn inline(&self, request: &mut Arc<ChatCompletionRequest>) -> Result<(), BackendError> {
        let can = self.inner.abilities(&request.model).await?;
        if !can.has(Ability::Images) || can.has(Ability::RemoteImages) {
            return Ok(());
        }
        let limits = self.fetcher.limits();
        let plan = Plan::of(request, limits)?;
        if plan.remote.is_empty() {
            return Ok(());
        }
        let allowance = Allowance::new(plan.bytes_left, Instant::now() + limits.time);
        let fetches = plan
            .remote
            .iter()
            .map(|remote| self.fetcher.fetch(remote, &allowance));
        // Fetches in the order of the request, so that the client sees the first of several errors.
        let urls: Vec<_> = stream::iter(fetches.collect::<Vec<_>>())
            .buffered(limits.side_by_side.max(1))
            .try_collect()
            .await?;
        plan.put(Arc::make_mut(request), &urls);
        Ok(())
    }
}

impl Wrap for FetchImages {
    fn inner(&self) -> &dyn Backend {
        &*self.inner
    }

    fn abilities<'a>(
        &'a self,
        model: &'a str,
    ) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
        Box::pin(async move {
            let inner = self.inner.abilities(model).await?;
            if !inner.has(Ability::Images) || inner.has(Ability::RemoteImages) {
                return Ok(inner);
            }
            Ok(Arc::new(Abilities {
                can: inner.can.with(Ability::RemoteImages),
                ..Abilities::clone(&inner)
            }))
        })
    }

    fn start(&self, call: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
        let Call { head, work } = call;
        match work {
            Work::Chat(request) if plan::has_images(&request) => Box::pin(self.chat(head, request)),
            work => self.inner.start(Call { head, work }),
        }
    }

    fn count_tokens(&self, call: ChatCall) -> BoxFuture<'_, Result<TokenCount, BackendError>> {
        if plan::has_images(&call.work) {
            Box::pin(self.count(call))
        } else {
            self.inner.count_tokens(call)
        }
    }
}
