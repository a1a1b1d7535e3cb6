//! Parses the streamed output of a model in the syntax of its family: separates reasoning from the
//! answer, and calls from text.
//!
//! Reading order: `parsed` (the output), `family` (the families of syntaxes), `recognize` (which
//! syntax a chat template has), `offered` (the functions that may be called), `reader` (the
//! parser), `region` (the part of a text with calls), `object` and `xml` (the two forms of a call),
//! `json` (one value, character by character), `calls` (the part of a call that has been released),
//! `marks` (markers, which may be split anywhere); for the reverse, `call_form` (how a call is
//! written) and `grammar_facts` (what a grammar needs to know about a syntax).
//!
//! Pure: no tokens, no clock, and no OpenAI types except the offered tools. No model output causes
//! an error here: anything that is not a call is text.

mod call_form;
mod calls;
mod family;
mod grammar_facts;
mod json;
mod marks;
mod object;
mod offered;
mod parsed;
mod reader;
mod recognize;
mod region;
mod xml;

pub(crate) use self::{
    call_form::CallForm,
    calls::CallRelease,
    grammar_facts::{Trigger, Watch},
    offered::Offered,
    parsed::Parsed,
    reader::Reader,
    recognize::{Begins, Syntax, Tags},
};

#[cfg(test)]
mod tests;
