//! A loaded model: its file, its vocabulary, its chat template. Immutable, and shared by the engine and whoever makes prompts.

use std::path::Path;
use std::sync::OnceLock;

use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::{LogOptions, send_logs_to_tracing};

use crate::error::LoadError;
use crate::gguf::Gguf;
use crate::options::LlamaOptions;
use crate::template::{Conversation, Special, Template, TemplateError};
use crate::{Token, processor};

/// The model that llama.cpp loaded, and what its header says.
pub(crate) struct Model {
    pub(crate) llama: LlamaModel,
    pub(crate) facts: Facts,
    template: Template,
}

/// What does not change while the model is loaded.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) architecture: String,
    pub(crate) vocabulary: usize,
    pub(crate) trained_context: u32,
    pub(crate) parameters: u64,
    pub(crate) file_bytes: u64,
    /// Stands for the weights in a fingerprint.
    pub(crate) identity: String,
    /// Whether a sequence can be cut anywhere. Recurrent and hybrid models keep one state, not one for each token.
    pub(crate) can_roll_back: bool,
}

impl Model {
    /// Loads a file: seconds of work, and not for an async thread.
    pub(crate) fn load(options: &LlamaOptions) -> Result<Self, LoadError> {
        processor::check()?;
        let gguf = Gguf::read(&options.path)?;
        let params = LlamaModelParams::default();
        let params = match options.gpu_layers {
            Some(layers) => params.with_n_gpu_layers(layers),
            None => params,
        };
        let refused = |_| LoadError::Refused { path: options.path.clone() };
        let llama = LlamaModel::load_from_file(backend(), &options.path, &params).map_err(refused)?;
        let template = template(&gguf, &llama, &options.path)?;
        let facts = facts(&gguf, &llama);
        Ok(Self { llama, facts, template })
    }

    /// The tokens of a conversation, up to where the answer begins.
    pub(crate) fn prompt(&self, conversation: &Conversation<'_>) -> Result<Vec<Token>, TemplateError> {
        Ok(self.tokenize(&self.template.render(conversation)?))
    }

    /// The tokens of a text in which special tokens are written out, with the one that begins every text where the model wants
    /// it and the text does not have it.
    pub(crate) fn tokenize(&self, text: &str) -> Vec<Token> {
        let vocab = self.llama.vocab();
        let mut tokens: Vec<Token> =
            vocab.tokenize(text.as_bytes(), false, true).into_iter().map(|token| token.0.cast_unsigned()).collect();
        if vocab.should_add_bos()
            && let Ok(bos) = Token::try_from(vocab.bos().0)
            && tokens.first() != Some(&bos)
        {
            tokens.insert(0, bos);
        }
        tokens
    }

    /// Appends the bytes of a token's text; control tokens have none.
    pub(crate) fn append_piece(&self, token: Token, bytes: &mut Vec<u8>) {
        bytes.reserve(32);
        self.llama.vocab().token_to_piece_into(LlamaToken(token.cast_signed()), bytes, false, None);
    }

    /// Whether the model says with this token that it has finished.
    pub(crate) fn ends(&self, token: Token) -> bool {
        self.llama.vocab().is_eog(LlamaToken(token.cast_signed()))
    }
}

/// llama.cpp's global state, made once and kept to the end of the process; its log goes to `tracing` from then on.
pub(crate) fn backend() -> &'static LlamaBackend {
    static BACKEND: OnceLock<LlamaBackend> = OnceLock::new();
    BACKEND.get_or_init(|| {
        send_logs_to_tracing(LogOptions::default());
        // It fails only where it has been made before, and this is the one place that makes it.
        LlamaBackend::init().unwrap_or(LlamaBackend {})
    })
}

fn template(gguf: &Gguf, llama: &LlamaModel, path: &Path) -> Result<Template, LoadError> {
    let usual = gguf.text("tokenizer.chat_template");
    if usual.is_none() {
        tracing::warn!(path = %path.display(), "the file has no chat template; ChatML is used");
    }
    let vocab = llama.vocab();
    let written = |token: LlamaToken| {
        let text = if token.0 < 0 { None } else { vocab.text(token) };
        text.map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let special = Special { bos: written(vocab.bos()), eos: written(vocab.eos()) };
    Template::new(usual, gguf.text("tokenizer.chat_template.tool_use"), special)
        .map_err(|source| LoadError::Template { path: path.to_owned(), source })
}

fn facts(gguf: &Gguf, llama: &LlamaModel) -> Facts {
    Facts {
        architecture: gguf.text("general.architecture").unwrap_or_default().to_owned(),
        vocabulary: usize::try_from(llama.n_vocab()).unwrap_or(0),
        trained_context: gguf
            .of_architecture("context_length")
            .and_then(|length| u32::try_from(length).ok())
            .unwrap_or(u32::MAX),
        parameters: llama.n_params(),
        file_bytes: gguf.size(),
        identity: gguf.identity(),
        can_roll_back: !(llama.is_recurrent() || llama.is_hybrid()),
    }
}
