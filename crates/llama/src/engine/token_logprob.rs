//! The log-probability of a token in the form of OpenAI's API.

use loggia_wire::openai::{TokenLogprob, TopLogprob};

use crate::model::Model;
use crate::sample::Ranked;

/// Converts log-probabilities to the form of OpenAI's API: a readable text, and the bytes. Special
/// tokens among the alternatives are included as text, because they could not be distinguished
/// otherwise.
pub(super) fn token_logprob(
    model: &Model,
    (chosen, top): (Ranked, Vec<Ranked>),
    bytes: Vec<u8>,
) -> TokenLogprob {
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let alternative = |ranked: Ranked| {
        let mut written = Vec::new();
        if ranked.token == chosen.token {
            written.clone_from(&bytes);
        } else {
            model.append_written(ranked.token, &mut written);
        }
        TopLogprob {
            token: shown(&written),
            logprob: finite(ranked.logprob),
            bytes: Some(written),
        }
    };
    TokenLogprob {
        token: shown(&bytes),
        logprob: finite(chosen.logprob),
        top_logprobs: top.into_iter().map(alternative).collect(),
        bytes: Some(bytes),
    }
}

/// JSON has no infinity. OpenAI writes -9999 for a nearly impossible token.
fn finite(logprob: f32) -> f64 {
    if logprob.is_finite() {
        f64::from(logprob)
    } else {
        -9999.0
    }
}
