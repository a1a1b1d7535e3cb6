//! Plans which images of a request to fetch and where to insert them. Pure.

use std::collections::HashMap;

use loggia_wire::openai::{ChatCompletionRequest, Content, PartKind};

use super::refusal::Refusal;
use super::target::Target;
use super::{Limits, data_url};
use crate::BackendError;
use crate::data_url::is_data_url;

/// The images to fetch.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) remote: Vec<Remote>,
    /// The number of bytes that remain after the images sent with the request.
    pub(super) bytes_left: usize,
}

/// A URL to fetch once.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) target: Target,
    /// All positions of this URL in the request, at least one.
    pub(super) places: Vec<PartPosition>,
}

/// The position of a part in the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PartPosition {
    message: usize,
    part: usize,
}

impl PartPosition {
    /// Returns the position as the `param` of an error.
    pub(super) fn param(self) -> String {
        format!(
            "messages[{}].content[{}].image_url.url",
            self.message, self.part
        )
    }
}

impl Plan {
    /// Reads the images of a request and checks everything that needs no network.
    pub(super) fn of(
        request: &ChatCompletionRequest,
        limits: &Limits,
    ) -> Result<Self, BackendError> {
        let mut plan = Self {
            remote: Vec::new(),
            bytes_left: limits.total_bytes,
        };
        let mut known = HashMap::new();
        for (place, url) in images(request) {
            let added = plan.add(place, url, &mut known, limits);
            added.map_err(|refusal| refusal.into_backend(place.param(), None))?;
        }
        Ok(plan)
    }

    fn add(
        &mut self,
        place: PartPosition,
        url: &str,
        known: &mut HashMap<Target, usize>,
        limits: &Limits,
    ) -> Result<(), Refusal> {
        if is_data_url(url) {
            return self.count(data_url::size(url)?, limits);
        }
        let target = Target::parse(url, limits)?;
        if let Some(&at) = known.get(&target) {
            self.remote[at].places.push(place);
            return Ok(());
        }
        if self.remote.len() >= limits.fetches {
            return Err(Refusal::TooManyFetches(limits.fetches));
        }
        known.insert(target.clone(), self.remote.len());
        self.remote.push(Remote {
            target,
            places: vec![place],
        });
        Ok(())
    }

    fn count(&mut self, bytes: usize, limits: &Limits) -> Result<(), Refusal> {
        if bytes > limits.bytes {
            return Err(Refusal::TooLarge(limits.bytes));
        }
        let left = self.bytes_left.checked_sub(bytes);
        self.bytes_left = left.ok_or(Refusal::TooLargeTogether(limits.total_bytes))?;
        Ok(())
    }

    /// Inserts `urls`, one per planned fetch, into the request that this plan was made from.
    pub(super) fn put(&self, request: &mut ChatCompletionRequest, urls: &[String]) {
        for (remote, new) in self.remote.iter().zip(urls) {
            for place in &remote.places {
                if let Some(url) = image(request, *place) {
                    url.clone_from(new);
                }
            }
        }
    }
}

/// Returns whether the request contains images.
pub(super) fn has_images(request: &ChatCompletionRequest) -> bool {
    images(request).next().is_some()
}

/// Returns the images of a request, in order.
fn images(request: &ChatCompletionRequest) -> impl Iterator<Item = (PartPosition, &str)> {
    request
        .messages
        .iter()
        .enumerate()
        .flat_map(|(message, sent)| {
            let parts = sent
                .content
                .as_ref()
                .map(Content::parts)
                .unwrap_or_default();
            parts
                .iter()
                .enumerate()
                .filter_map(move |(part, content)| match &content.kind {
                    PartKind::ImageUrl { url, .. } => {
                        Some((PartPosition { message, part }, url.as_str()))
                    }
                    _ => None,
                })
        })
}

fn image(request: &mut ChatCompletionRequest, place: PartPosition) -> Option<&mut String> {
    let Some(Content::Parts(parts)) = &mut request.messages.get_mut(place.message)?.content else {
        return None;
    };
    match &mut parts.get_mut(place.part)?.kind {
        PartKind::ImageUrl { url, .. } => Some(url),
        _ => None,
    }
}
