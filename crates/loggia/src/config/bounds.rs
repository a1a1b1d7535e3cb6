//! The two tables of bounds on single requests: `[ceilings]` and `[images]`. Each key that is there
//! replaces one default.

use std::num::NonZeroU32;

use bytesize::ByteSize;
use loggia_api::Ceilings;
use loggia_backend::media;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::value::Span;

/// `[ceilings]`: the most that one request may ask for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CeilingsTable {
    choices: Option<usize>,
    messages: Option<usize>,
    prompts: Option<usize>,
    inputs: Option<usize>,
    tools: Option<usize>,
    media: Option<usize>,
    media_bytes: Option<ByteSize>,
    schema_bytes: Option<ByteSize>,
    schema_depth: Option<usize>,
    logit_bias: Option<usize>,
    stop_bytes: Option<ByteSize>,
    answer_tokens: Option<NonZeroU32>,
    whole_time: Option<Span>,
}

impl CeilingsTable {
    pub(super) fn ceilings(&self) -> Ceilings {
        let default = Ceilings::default();
        Ceilings {
            choices: self.choices.unwrap_or(default.choices),
            messages: self.messages.unwrap_or(default.messages),
            prompts: self.prompts.unwrap_or(default.prompts),
            inputs: self.inputs.unwrap_or(default.inputs),
            tools: self.tools.unwrap_or(default.tools),
            media: self.media.unwrap_or(default.media),
            media_bytes: self.media_bytes.map_or(default.media_bytes, bytes),
            schema_bytes: self.schema_bytes.map_or(default.schema_bytes, bytes),
            schema_depth: self.schema_depth.unwrap_or(default.schema_depth),
            logit_bias: self.logit_bias.unwrap_or(default.logit_bias),
            stop_bytes: self.stop_bytes.map_or(default.stop_bytes, bytes),
            answer_tokens: self
                .answer_tokens
                .map(NonZeroU32::get)
                .or(default.answer_tokens),
            // Zero is no limit, as with the heartbeat.
            whole_time: self.whole_time.map_or(default.whole_time, |time| {
                Some(time.0).filter(|time| !time.is_zero())
            }),
        }
    }
}

/// `[images]`: what fetching the images of one request may cost, and where they may come from.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ImagesTable {
    bytes: Option<ByteSize>,
    total_bytes: Option<ByteSize>,
    images: Option<usize>,
    fetches: Option<usize>,
    side_by_side: Option<usize>,
    time: Option<Span>,
    redirects: Option<usize>,
    ports: Option<Vec<u16>>,
    #[serde(deserialize_with = "networks")]
    networks: Option<Vec<media::Network>>,
}

impl ImagesTable {
    pub(super) fn limits(&self) -> media::Limits {
        let default = media::Limits::default();
        media::Limits {
            bytes: self.bytes.map_or(default.bytes, bytes),
            total_bytes: self.total_bytes.map_or(default.total_bytes, bytes),
            images: self.images.unwrap_or(default.images),
            fetches: self.fetches.unwrap_or(default.fetches),
            side_by_side: self.side_by_side.unwrap_or(default.side_by_side),
            time: self.time.map_or(default.time, |time| time.0),
            redirects: self.redirects.unwrap_or(default.redirects),
            ports: self.ports.clone().unwrap_or(default.ports),
            networks: self.networks.clone().unwrap_or(default.networks),
            ..default
        }
    }
}

fn bytes(size: ByteSize) -> usize {
    usize::try_from(size.as_u64()).unwrap_or(usize::MAX)
}

fn networks<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Vec<media::Network>>, D::Error> {
    let texts = Vec::<String>::deserialize(input)?;
    texts
        .iter()
        .map(|text| text.parse().map_err(D::Error::custom))
        .collect::<Result<_, _>>()
        .map(Some)
}
