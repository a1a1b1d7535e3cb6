//! A loaded model: its file, vocabulary and chat template. Immutable, and shared by the engine and
//! the code that builds prompts.

use std::collections::BTreeSet;
use std::path::Path;

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use loggia_wire::Extra;
use minijinja::Value;

use crate::adapter::Adapter;
use crate::draft::DraftModel;
use crate::error::LoadError;
use crate::facts::ModelFacts;
use crate::fill_in_the_middle::FillInTheMiddle;
use crate::gguf::Gguf;
use crate::grammar::Words;
use crate::options::LlamaOptions;
use crate::syntax::{Begins, Syntax};
use crate::template::{Conversation, Rendered, Special, Template, TemplateError};
use crate::weights::load_weights;
use crate::{Token, adapter, draft, numbers};

/// The model that llama.cpp loaded, and the facts from its header.
pub(crate) struct Model {
    pub(crate) llama: LlamaModel,
    pub(crate) facts: ModelFacts,
    pub(crate) syntax: Syntax,
    /// The adapter that is applied to every context.
    pub(crate) adapter: Option<Adapter>,
    /// The description of the devices that compute the model, for the log.
    pub(crate) devices: String,
    /// The tokens to fill in the middle of a text. `None` if the model was not trained for that.
    pub(crate) fill_in_the_middle: Option<FillInTheMiddle>,
    /// The draft model for speculative decoding.
    pub(crate) draft: Option<DraftModel>,
    template: Template,
    /// The control tokens that are markers of the syntax. Their text is part of the output.
    markers: Vec<Token>,
    /// The length of the longest token, in bytes.
    longest: usize,
}

/// A prompt, and the beginning of an answer to it.
#[derive(Debug)]
pub(crate) struct Prompt {
    pub(crate) tokens: Vec<Token>,
    pub(crate) begins: Begins,
}

impl Model {
    /// Loads a model. It blocks for seconds; do not call it on an async thread.
    pub(crate) fn load(options: &LlamaOptions) -> Result<Self, LoadError> {
        let gguf = Gguf::read(&options.path)?;
        // The header is checked first, so that an invalid file does not cost the loading of
        // gigabytes.
        options.cache_types().check(&gguf)?;
        let lora = options
            .lora
            .as_ref()
            .map(|lora| Ok::<_, LoadError>((lora, adapter::read(lora, &gguf)?)))
            .transpose()?;
        let draft = options.draft.as_ref();
        let draft = draft
            .map(|draft| Ok::<_, LoadError>((draft, draft::read(draft, &gguf)?)))
            .transpose()?;
        let (mut llama, devices) = load_weights(&options.path, options.gpu_layers)?;
        let adapter = lora
            .map(|(lora, header)| Adapter::load(lora, &header, &mut llama))
            .transpose()?;
        let load_draft =
            |(draft, header)| DraftModel::load(draft, &header, options.gpu_layers, &llama);
        let draft = draft.map(load_draft).transpose()?;
        let sources = Sources::of(&gguf, options);
        let template = sources.compile(&llama, &options.path)?;
        let mut facts = ModelFacts::of(&gguf, &options.path, &llama);
        if let Some(adapter) = &adapter {
            facts.identity = format!("{} with {}", facts.identity, adapter.identity);
        }
        let syntax = sources.syntax(&llama);
        let syntax = if template.shows_tools() {
            syntax
        } else {
            syntax.without_tools()
        };
        let markers = syntax
            .marks()
            .filter_map(|mark| single_token(&llama, mark))
            .collect();
        let fill_in_the_middle = FillInTheMiddle::of(&llama);
        let mut model = Self {
            llama,
            facts,
            syntax,
            adapter,
            draft,
            devices,
            fill_in_the_middle,
            template,
            markers,
            longest: 0,
        };
        model.longest = model.longest_token();
        Ok(model)
    }

    /// Renders a conversation as the text that the model continues.
    pub(crate) fn render(
        &self,
        conversation: &Conversation<'_>,
    ) -> Result<Rendered, TemplateError> {
        self.template.render(conversation)
    }

    /// The template variables that a client may set.
    pub(crate) fn template_variables(&self) -> &BTreeSet<String> {
        self.template.variables()
    }

    /// The values of the template variables that a request sets.
    pub(crate) fn template_variables_of(&self, extra: &Extra) -> Value {
        self.template.variables_of(extra)
    }

    /// Tokenizes a rendered conversation.
    pub(crate) fn prompt(&self, text: &str) -> Prompt {
        Prompt {
            tokens: self.tokenize(text),
            begins: self.syntax.begins_after(text),
        }
    }

    /// Whether a text certainly has more than `tokens` tokens. This does not tokenize the text,
    /// which takes seconds for megabytes.
    pub(crate) fn is_longer_for_sure(&self, text: &str, tokens: usize) -> bool {
        // The factor of two is needed because a tokenizer may drop parts of a text.
        text.len() > self.longest.saturating_mul(2).saturating_mul(tokens)
    }

    /// Tokenizes a text whose special tokens are written as text. Adds the token that begins every
    /// text if the model needs it and the text does not have it.
    pub(crate) fn tokenize(&self, text: &str) -> Vec<Token> {
        let mut tokens = self.tokenize_on(text);
        if let Some(bos) = self.begin().filter(|bos| tokens.first() != Some(bos)) {
            tokens.insert(0, bos);
        }
        tokens
    }

    /// Tokenizes a text that follows another one. Its special tokens are written as text.
    pub(crate) fn tokenize_on(&self, text: &str) -> Vec<Token> {
        self.tokens(text, true)
    }

    /// Tokenizes a text as plain text: it contains no special tokens.
    pub(crate) fn tokenize_plain(&self, text: &str) -> Vec<Token> {
        self.tokens(text, false)
    }

    fn tokens(&self, text: &str, special: bool) -> Vec<Token> {
        numbers(self.llama.vocab().tokenize(text.as_bytes(), false, special))
    }

    /// The token that begins every text, if the model needs one.
    pub(crate) fn begin(&self) -> Option<Token> {
        self.first().filter(|_| self.llama.vocab().should_add_bos())
    }

    /// The token that can begin a text, if the model has one.
    pub(crate) fn first(&self) -> Option<Token> {
        Token::try_from(self.llama.vocab().bos().0).ok()
    }

    /// Appends the bytes of a token's text. Control tokens have no text, except for the markers of
    /// the syntax.
    pub(crate) fn append_piece(&self, token: Token, bytes: &mut Vec<u8>) {
        bytes.reserve(32);
        self.llama.vocab().token_to_piece_into(
            LlamaToken(token.cast_signed()),
            bytes,
            self.markers.contains(&token),
            None,
        );
    }

    /// Appends the bytes of a token's text. Special tokens have their text too.
    pub(crate) fn append_written(&self, token: Token, bytes: &mut Vec<u8>) {
        self.llama
            .vocab()
            .token_to_piece_into(LlamaToken(token.cast_signed()), bytes, true, None);
    }

    fn longest_token(&self) -> usize {
        let mut bytes = Vec::new();
        let lengths = (0..Token::try_from(self.facts.vocabulary).unwrap_or(0)).map(|token| {
            bytes.clear();
            self.append_piece(token, &mut bytes);
            bytes.len()
        });
        // Control tokens have no text here, but they do in prompts. No control token is longer than
        // this.
        lengths.max().unwrap_or(0).max(64)
    }

    /// Converts the vocabulary to the form that grammars need. Reads every token.
    pub(crate) fn words(&self) -> Words {
        let tokens = || 0..Token::try_from(self.facts.vocabulary).unwrap_or(0);
        let text = |token| {
            let mut bytes = Vec::new();
            self.append_piece(token, &mut bytes);
            bytes.shrink_to_fit();
            bytes
        };
        let markers = self
            .syntax
            .marks()
            .filter_map(|mark| Some((mark, single_token(&self.llama, mark)?)));
        Words {
            tokens: tokens().map(text).collect(),
            ends: tokens().filter(|&token| self.ends(token)).collect(),
            markers: markers.collect(),
        }
    }

    /// Whether the token ends the model's answer.
    pub(crate) fn ends(&self, token: Token) -> bool {
        self.llama.vocab().is_eog(LlamaToken(token.cast_signed()))
    }
}

/// The chat templates of a model: the default one, and the one for tools, if present.
struct Sources<'a> {
    usual: Option<&'a str>,
    for_tools: Option<&'a str>,
}

impl<'a> Sources<'a> {
    fn of(gguf: &'a Gguf, options: &'a LlamaOptions) -> Self {
        match &options.chat_template {
            Some(own) => Self {
                usual: Some(own),
                for_tools: None,
            },
            None => Self {
                usual: gguf.text("tokenizer.chat_template"),
                for_tools: gguf.text("tokenizer.chat_template.tool_use"),
            },
        }
    }

    fn compile(&self, llama: &LlamaModel, path: &Path) -> Result<Template, LoadError> {
        if self.usual.is_none() {
            tracing::warn!(path = %path.display(), "the file has no chat template; ChatML is used");
        }
        let vocab = llama.vocab();
        let written = |token: LlamaToken| {
            let text = if token.0 < 0 { None } else { vocab.text(token) };
            text.map(|text| text.to_string_lossy().into_owned())
                .unwrap_or_default()
        };
        let special = Special {
            bos: written(vocab.bos()),
            eos: written(vocab.eos()),
        };
        Template::new(self.usual, self.for_tools, special).map_err(|source| LoadError::Template {
            path: path.to_owned(),
            source,
        })
    }

    fn syntax(&self, llama: &LlamaModel) -> Syntax {
        let all: String = self.for_tools.into_iter().chain(self.usual).collect();
        Syntax::of(&all, |mark| single_token(llama, mark).is_some())
    }
}

/// Returns the token of a text, if the text is a single token.
fn single_token(llama: &LlamaModel, text: &str) -> Option<Token> {
    match llama
        .vocab()
        .tokenize(text.as_bytes(), false, true)
        .as_slice()
    {
        [token] => Token::try_from(token.0).ok(),
        _ => None,
    }
}
