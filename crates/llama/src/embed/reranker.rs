//! A reranking model as a [`Backend`].

use std::sync::Arc;

use futures_core::future::BoxFuture;
use loggia_backend::{
    Abilities, Ability, AbilitySet, Backend, BackendError, Call, Reply, Rerank, RerankCall,
    Reranked,
};
use loggia_wire::openai::Model as ModelCard;
use serde_json::json;

use super::pair::PairForm;
use super::pooled::{Pooled, pooling_of};
use crate::Token;
use crate::blocking::run_by_size;
use crate::error::LoadError;
use crate::gguf::{Gguf, Pooling};
use crate::options::LlamaOptions;

/// The maximum number of tokens of the pairs that are computed at once. The query is a part of each
/// pair, so all pairs of a request could need hundreds of megabytes.
const GROUP: usize = 1 << 18;

/// The embedded backend of a reranking model: one whose pooling is `rank`. Its scores are those of
/// llama.cpp's server: the first output of the model's head, which for most models is a logit.
#[derive(Debug)]
pub struct LlamaReranker {
    pooled: Pooled,
    form: Arc<PairForm>,
}

impl LlamaReranker {
    /// Loads a model and starts an engine for it. It blocks for seconds; call it on a thread that
    /// may block.
    pub fn open(options: &LlamaOptions) -> Result<Self, LoadError> {
        let gguf = Gguf::read(&options.path)?;
        let ranks = |pooling| pooling == Pooling::Rank;
        let pooling = pooling_of(options, &gguf, ranks, "it is not a reranking model")?;
        let can = AbilitySet::default().without(Ability::Chat);
        let mut pooled = Pooled::open(options, &gguf, pooling, can)?;
        pooled.describe("capabilities", json!(["rerank"]));
        let form = PairForm::of(&gguf, &pooled.model.llama);
        let form = form.map_err(LoadError::kind(&options.path))?;
        Ok(Self {
            pooled,
            form: Arc::new(form),
        })
    }

    /// Tokenizes the documents from this index on, as many as are computed at once. The first call
    /// checks and counts the others too.
    async fn group(&self, asked: &Arc<Rerank>, from: usize) -> Result<Group, BackendError> {
        let texts = asked.documents.iter().map(String::len).sum::<usize>();
        let queries = asked.query.len().saturating_mul(asked.documents.len());
        let (model, form) = (Arc::clone(&self.pooled.model), Arc::clone(&self.form));
        let asked = Arc::clone(asked);
        let tokenize = move || grouped(model.pairs(&form, &asked, from)?, GROUP, from == 0);
        run_by_size(texts.saturating_add(queries), "the documents", tokenize).await
    }

    async fn scores(&self, asked: Rerank) -> Result<Reranked, BackendError> {
        self.pooled.check_name(&asked.model)?;
        let place = self.pooled.place()?;
        let asked = Arc::new(asked);
        let (mut outputs, mut prompt_tokens) = (Vec::new(), 0);
        while outputs.len() < asked.documents.len() {
            let group = self.group(&asked, outputs.len()).await?;
            if outputs.is_empty() {
                prompt_tokens = group.tokens as u64;
            }
            outputs.extend(self.pooled.compute(place.clone(), group.pairs).await?);
        }
        let score = |output: &Vec<f32>| output.first().copied().filter(|score| score.is_finite());
        let scores = outputs.iter().map(|output| score(output).map(f64::from));
        let served_by = self.pooled.served_by.clone();
        let scores = scores.collect::<Option<Vec<f64>>>();
        let scores = scores.ok_or_else(|| BackendError::BadAnswer {
            backend: served_by.backend.to_string(),
            what: "a score is not a number".to_owned(),
        })?;
        Ok(Reranked {
            served_by,
            scores,
            prompt_tokens,
        })
    }
}

/// Inputs that are computed at once.
#[derive(Debug, PartialEq)]
struct Group {
    pairs: Vec<Vec<Token>>,
    /// The number of tokens of all pairs that were read, also of those that are not in the group.
    tokens: usize,
}

/// Takes pairs of `most` tokens, but at least one. Reads the others too if `reads_all`.
fn grouped(
    pairs: impl Iterator<Item = Result<Vec<Token>, BackendError>>,
    most: usize,
    reads_all: bool,
) -> Result<Group, BackendError> {
    let mut group = Group {
        pairs: Vec::new(),
        tokens: 0,
    };
    for pair in pairs {
        let pair = pair?;
        group.tokens += pair.len();
        if group.tokens <= most || group.pairs.is_empty() {
            group.pairs.push(pair);
        } else if !reads_all {
            break;
        }
    }
    Ok(group)
}

impl Backend for LlamaReranker {
    fn abilities<'a>(
        &'a self,
        model: &'a str,
    ) -> BoxFuture<'a, Result<Arc<Abilities>, BackendError>> {
        let known = self.pooled.check_name(model);
        Box::pin(std::future::ready(
            known.map(|()| Arc::clone(&self.pooled.abilities)),
        ))
    }

    fn start(&self, call: Call) -> BoxFuture<'_, Result<Reply, BackendError>> {
        Box::pin(std::future::ready(Err(call.work.unsupported())))
    }

    fn rerank(&self, call: RerankCall) -> BoxFuture<'_, Result<Option<Reranked>, BackendError>> {
        Box::pin(async move { self.scores(call.work).await.map(Some) })
    }

    fn models(&self) -> BoxFuture<'_, Result<Vec<ModelCard>, BackendError>> {
        Box::pin(std::future::ready(Ok(self.pooled.models())))
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), BackendError>> {
        Box::pin(std::future::ready(self.pooled.ready()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_few_tokens_and_the_first_one_reads_all_documents() {
        let pair = |length: usize| Ok(vec![0; length]);
        let group = |lengths: &[usize], reads_all| {
            let pairs = lengths.iter().copied().map(pair);
            let group = grouped(pairs, 10, reads_all).unwrap();
            (group.pairs.len(), group.tokens)
        };
        assert_eq!(group(&[4, 6, 1, 1], true), (2, 12));
        assert_eq!(group(&[4, 6, 1, 1], false), (2, 11));
        assert_eq!(group(&[11, 1], true), (1, 12));
        assert_eq!(group(&[4, 4], false), (2, 8));
        let too_long = BackendError::InputTooLong {
            index: Some(3),
            tokens: Some(9),
            most: Some(8),
        };
        let pairs = || [pair(11), pair(1), Err(too_long.clone())].into_iter();
        assert_eq!(grouped(pairs(), 10, true), Err(too_long.clone()));
    }
}
