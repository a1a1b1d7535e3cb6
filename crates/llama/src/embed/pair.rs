//! How a reranking model reads a query and a document: as one input, in the form that llama.cpp's
//! server writes.

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token_type::LlamaTokenAttr;

use crate::gguf::Gguf;
use crate::{Token, numbers};

/// The form of an input with a query and a document.
#[derive(Debug, PartialEq)]
pub(super) enum PairForm {
    /// Tokens of the vocabulary around and between both texts.
    Marked {
        before: Option<Token>,
        between: Vec<Token>,
        after: Option<Token>,
    },
    /// A template with places for both texts.
    Template(Vec<Piece>),
}

/// A part of a template, which is tokenized separately: no token of a text extends over it.
#[derive(Debug, PartialEq)]
pub(super) enum Piece {
    Control(Token),
    Text(Vec<Part>),
}

#[derive(Debug, PartialEq)]
pub(super) enum Part {
    Literal(String),
    Query,
    Document,
}

/// Makes the tokens of an input of a query and this document.
pub(super) type WithDocument<'a> = Box<dyn Fn(&str) -> Vec<Token> + 'a>;

impl PairForm {
    /// The form that a model was trained for. The error is a part of an error message.
    pub(super) fn of(gguf: &Gguf, llama: &LlamaModel) -> Result<Self, String> {
        match gguf.text("tokenizer.chat_template.rerank") {
            Some(template) => of_template(template, llama),
            None => marked(llama),
        }
    }

    /// Prepares a query, to be combined with documents. Text that looks like a control token is text.
    pub(super) fn with_query<'a>(
        &'a self,
        llama: &'a LlamaModel,
        query: &'a str,
    ) -> WithDocument<'a> {
        match self {
            Self::Marked {
                before,
                between,
                after,
            } => {
                let query = plain(llama, query);
                let start: Vec<Token> = before
                    .iter()
                    .chain(&query)
                    .chain(between)
                    .copied()
                    .collect();
                Box::new(move |document| {
                    let document = plain(llama, document);
                    start
                        .iter()
                        .copied()
                        .chain(document)
                        .chain(*after)
                        .collect()
                })
            }
            Self::Template(pieces) => Box::new(move |document| {
                let tokens = pieces.iter().map(|piece| match piece {
                    Piece::Control(token) => vec![*token],
                    Piece::Text(parts) => plain(llama, &filled(parts, query, document)),
                });
                tokens.flatten().collect()
            }),
        }
    }
}

/// `[BOS] query [EOS] [SEP] document [EOS]`, each token only if the vocabulary says that texts get
/// it. SEP stands in for a missing EOS.
fn marked(llama: &LlamaModel) -> Result<PairForm, String> {
    let vocab = llama.vocab();
    let wanted = |name: &str, is_wanted: bool, token: LlamaToken| match Token::try_from(token.0) {
        _ if !is_wanted => Ok(None),
        Ok(token) => Ok(Some(token)),
        Err(_) => Err(format!(
            "it is a reranking model whose vocabulary has no {name} token"
        )),
    };
    let end = if vocab.eos().0 < 0 {
        vocab.sep()
    } else {
        vocab.eos()
    };
    let end = wanted("EOS or SEP", vocab.should_add_eos(), end)?;
    let separator = wanted("SEP", vocab.should_add_sep(), vocab.sep())?;
    let between: Vec<Token> = end.into_iter().chain(separator).collect();
    if between.is_empty() {
        return Err(
            "it is a reranking model, but its header states neither a template `rerank` nor a token between query and document"
                .to_owned(),
        );
    }
    Ok(PairForm::Marked {
        before: wanted("BOS", vocab.should_add_bos(), vocab.bos())?,
        between,
        after: end,
    })
}

/// Splits a template at its control tokens and its places. llama.cpp also tokenizes the text between
/// two control tokens separately.
fn of_template(template: &str, llama: &LlamaModel) -> Result<PairForm, String> {
    for place in [QUERY, DOCUMENT] {
        match template.matches(place).count() {
            0 => return Err(format!("its template `rerank` has no {place}")),
            1..=MOST_PLACES => {}
            _ => return Err(format!("its template `rerank` has {place} too often")),
        }
    }
    let vocab = llama.vocab();
    let is_control = |token: LlamaToken| {
        let attributes = vocab.attr(token);
        attributes.contains(LlamaTokenAttr::Control) || attributes.contains(LlamaTokenAttr::Unknown)
    };
    let mut pieces = Vec::new();
    let mut rest = template;
    for token in vocab.tokenize(template.as_bytes(), false, true) {
        let text = vocab.text(token).and_then(|text| text.to_str().ok());
        if let (Some(text), Ok(number)) = (text, Token::try_from(token.0))
            && is_control(token)
            && let Some((before, after)) = rest.split_once(text)
        {
            push_text(&mut pieces, before);
            pieces.push(Piece::Control(number));
            rest = after;
        }
    }
    push_text(&mut pieces, rest);
    Ok(PairForm::Template(pieces))
}

const QUERY: &str = "{query}";
const DOCUMENT: &str = "{document}";
/// How often a template may have a place: each one is as long as a client's text.
const MOST_PLACES: usize = 4;

fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    if !text.is_empty() {
        pieces.push(Piece::Text(parts(text)));
    }
}

/// Splits the text of a template at its places.
fn parts(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let places = [(QUERY, Part::Query), (DOCUMENT, Part::Document)];
        let found = places
            .into_iter()
            .filter_map(|(place, part)| Some((rest.find(place)?, place, part)))
            .min_by_key(|(at, ..)| *at);
        let literal = found.as_ref().map_or(rest.len(), |(at, ..)| *at);
        if literal > 0 {
            parts.push(Part::Literal(rest[..literal].to_owned()));
        }
        let Some((at, place, part)) = found else {
            return parts;
        };
        parts.push(part);
        rest = &rest[at + place.len()..];
    }
}

fn filled(parts: &[Part], query: &str, document: &str) -> String {
    let texts = parts.iter().map(|part| match part {
        Part::Literal(text) => text,
        Part::Query => query,
        Part::Document => document,
    });
    texts.collect()
}

/// The tokens of a text without the tokens that begin or end an input.
fn plain(llama: &LlamaModel, text: &str) -> Vec<Token> {
    numbers(llama.vocab().tokenize(text.as_bytes(), false, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_places_of_a_template_are_filled_once_and_what_a_text_says_stays_text() {
        let parts = parts("<Query>: {query}\n{document}{query}{other}");
        assert_eq!(
            filled(&parts, "{document}", "a {query}"),
            "<Query>: {document}\na {query}{document}{other}"
        );
        assert_eq!(super::parts("{query}"), [Part::Query]);
        assert_eq!(super::parts(""), []);
    }
}
