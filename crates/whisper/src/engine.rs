//! [`Engine`]: a loaded model, with what turns its tokens into texts and times.

use crate::model::Model;
use crate::sound::Spectrum;
use crate::tokens::Tokens;

/// A loaded model, ready to transcribe.
pub(crate) struct Engine {
    pub(crate) model: Model,
    pub(crate) tokens: Tokens,
    pub(crate) spectrum: Spectrum,
    pub(crate) alignment_heads: Vec<(usize, usize)>,
}
