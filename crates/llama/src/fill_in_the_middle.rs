//! The special tokens for a completion with a `suffix`: the model fills in the middle between two
//! texts.

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;

use crate::Token;

/// The fill-in-the-middle tokens of a model: prefix, suffix and middle. llama.cpp finds them by the
/// file's metadata (`tokenizer.ggml.fim_pre_token_id`, …, or the older `prefix_token_id`, …) or by
/// their texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FillInTheMiddle {
    pub(crate) before: Token,
    pub(crate) after: Token,
    pub(crate) between: Token,
}

impl FillInTheMiddle {
    /// Finds the tokens of a model. Returns `None` if the model was not trained to fill in the
    /// middle.
    pub(crate) fn of(llama: &LlamaModel) -> Option<Self> {
        let vocab = llama.vocab();
        let known = |token: LlamaToken| Token::try_from(token.0).ok();
        Some(Self {
            before: known(vocab.fim_pre())?,
            after: known(vocab.fim_suf())?,
            between: known(vocab.fim_mid())?,
        })
    }

    /// Builds the prompt in the order of llama.cpp's server: prefix, suffix, middle.
    pub(crate) fn around(
        self,
        begin: Option<Token>,
        before: &[Token],
        after: &[Token],
    ) -> Vec<Token> {
        let before = [self.before].into_iter().chain(before.iter().copied());
        let after = [self.after].into_iter().chain(after.iter().copied());
        begin
            .into_iter()
            .chain(before)
            .chain(after)
            .chain([self.between])
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_between_comes_last_and_the_token_that_begins_a_text_once() {
        let tokens = FillInTheMiddle {
            before: 91,
            after: 92,
            between: 93,
        };
        assert_eq!(
            tokens.around(Some(1), &[5, 6], &[7, 8]),
            [1, 91, 5, 6, 92, 7, 8, 93]
        );
        assert_eq!(tokens.around(None, &[], &[7]), [91, 92, 7, 93]);
    }
}
