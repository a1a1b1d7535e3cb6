//! One or several prompts, as text or token ids: the type of OpenAI's `prompt` and `input`.

use std::fmt;

use serde::Serialize;
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};

/// One or several prompts: a string, an array of strings, an array of token ids, or an array of
/// arrays of token ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Prompt {
    /// One prompt, as text.
    Text(String),
    /// Several prompts, as text. An empty array gives this variant.
    Texts(Vec<String>),
    /// One prompt, as the model's tokens.
    Tokens(Vec<u32>),
    /// Several prompts, as the model's tokens.
    TokenLists(Vec<Vec<u32>>),
}

/// One of the prompts of a [`Prompt`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnePrompt<'a> {
    /// A text.
    Text(&'a str),
    /// Token ids.
    Tokens(&'a [u32]),
}

impl Prompt {
    /// Returns the number of prompts.
    pub fn count(&self) -> usize {
        match self {
            Self::Text(_) | Self::Tokens(_) => 1,
            Self::Texts(texts) => texts.len(),
            Self::TokenLists(lists) => lists.len(),
        }
    }

    /// Returns the prompts, in order.
    pub fn each(&self) -> impl Iterator<Item = OnePrompt<'_>> {
        let (texts, lists): (&[String], &[Vec<u32>]) = match self {
            Self::Text(text) => (std::slice::from_ref(text), &[]),
            Self::Texts(texts) => (texts, &[]),
            Self::Tokens(tokens) => (&[], std::slice::from_ref(tokens)),
            Self::TokenLists(lists) => (&[], lists),
        };
        let texts = texts.iter().map(|text| OnePrompt::Text(text));
        texts.chain(lists.iter().map(|tokens| OnePrompt::Tokens(tokens)))
    }

    /// Returns whether the prompts are token ids.
    pub fn is_tokens(&self) -> bool {
        matches!(self, Self::Tokens(_) | Self::TokenLists(_))
    }
}

impl From<OnePrompt<'_>> for Prompt {
    fn from(one: OnePrompt<'_>) -> Self {
        match one {
            OnePrompt::Text(text) => Self::Text(text.to_owned()),
            OnePrompt::Tokens(tokens) => Self::Tokens(tokens.to_vec()),
        }
    }
}

impl<'de> Deserialize<'de> for Prompt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PromptVisitor;
        impl<'de> Visitor<'de> for PromptVisitor {
            type Value = Prompt;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, an array of strings, an array of token ids or an array of such arrays")
            }
            fn visit_str<E>(self, text: &str) -> Result<Prompt, E> {
                Ok(Prompt::Text(text.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Prompt, A::Error> {
                let mut prompt = match items.next_element()? {
                    None => return Ok(Prompt::Texts(Vec::new())),
                    Some(Item::Text(text)) => Prompt::Texts(vec![text]),
                    Some(Item::Token(token)) => Prompt::Tokens(vec![token]),
                    Some(Item::Tokens(tokens)) => Prompt::TokenLists(vec![tokens]),
                };
                // The remaining items must have the type of the first.
                loop {
                    let is_over = match &mut prompt {
                        Prompt::Texts(texts) => push(texts, items.next_element()?),
                        Prompt::TokenLists(lists) => push(lists, items.next_element()?),
                        Prompt::Tokens(tokens) => push(tokens, items.next_element()?),
                        Prompt::Text(_) => true,
                    };
                    if is_over {
                        return Ok(prompt);
                    }
                }
            }
        }
        deserializer.deserialize_any(PromptVisitor)
    }
}

/// Adds an item. Returns true if `item` is `None`: the array has ended.
fn push<T>(items: &mut Vec<T>, item: Option<T>) -> bool {
    let is_over = item.is_none();
    items.extend(item);
    is_over
}

/// The possible types of an item in an array of prompts.
enum Item {
    Text(String),
    Token(u32),
    Tokens(Vec<u32>),
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ItemVisitor;
        impl<'de> Visitor<'de> for ItemVisitor {
            type Value = Item;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a token id or an array of token ids")
            }
            fn visit_str<E>(self, text: &str) -> Result<Item, E> {
                Ok(Item::Text(text.to_owned()))
            }
            fn visit_u64<E: de::Error>(self, token: u64) -> Result<Item, E> {
                u32::try_from(token)
                    .map(Item::Token)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(token), &self))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Item, A::Error> {
                let mut tokens = Vec::new();
                while let Some(token) = items.next_element()? {
                    tokens.push(token);
                }
                Ok(Item::Tokens(tokens))
            }
        }
        deserializer.deserialize_any(ItemVisitor)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_of_the_four_forms_is_read_and_written_as_it_was() {
        for (form, count) in [
            (json!("a"), 1),
            (json!(["a", "b"]), 2),
            (json!([1, 2, 3]), 1),
            (json!([[1], [2, 3]]), 2),
            (json!([]), 0),
        ] {
            let prompt: Prompt = serde_json::from_value(form.clone()).unwrap();
            assert_eq!(
                (prompt.count(), prompt.each().count()),
                (count, count),
                "{form}"
            );
            assert_eq!(serde_json::to_value(&prompt).unwrap(), form);
        }
    }

    #[test]
    fn what_is_mixed_or_no_token_is_refused() {
        for form in [
            json!(["a", 1]),
            json!([1, "a"]),
            json!([[1], 2]),
            json!([-1]),
            json!([1.5]),
            json!([4_294_967_296_u64]),
            json!(5),
            json!({}),
        ] {
            assert!(
                serde_json::from_value::<Prompt>(form.clone()).is_err(),
                "{form}"
            );
        }
    }
}
