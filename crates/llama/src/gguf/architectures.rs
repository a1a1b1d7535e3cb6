//! The architectures that this version of llama.cpp knows, by the names in GGUF headers. A header
//! is accepted or refused by its name, before anything is loaded.
//!
//! `scripts/check-architectures` compares these lists with llama.cpp's source, and a test compares
//! `docs/architectures.md` with them.

use super::pooling::ENCODERS;

/// Architectures that generate text, or make embeddings if the header states a pooling.
pub(super) const TEXT: [&str; 131] = [
    "afmoe",
    "apertus",
    "arcee",
    "arctic",
    "arwkv7",
    "baichuan",
    "bailingmoe",
    "bailingmoe2",
    "bailingmoe3",
    "bitnet",
    "bloom",
    "chameleon",
    "chatglm",
    "clef",
    "codeshell",
    "cogvlm",
    "cohere2",
    "cohere2moe",
    "command-r",
    "dbrx",
    "deci",
    "deepseek",
    "deepseek2",
    "deepseek2-ocr",
    "deepseek32",
    "deepseek4",
    "dots1",
    "dots3note",
    "ernie4_5",
    "ernie4_5-moe",
    "exaone",
    "exaone-moe",
    "exaone4",
    "falcon",
    "falcon-h1",
    "gemma",
    "gemma2",
    "gemma3",
    "gemma3n",
    "gemma4",
    "glm-dsa",
    "glm4",
    "glm4moe",
    "glm5-next",
    "gpt-oss",
    "gpt2",
    "gptneox",
    "granite",
    "granite_swa",
    "granitehybrid",
    "granitemoe",
    "graniteswitch",
    "grok",
    "grovemoe",
    "hrm_text",
    "hunyuan-dense",
    "hunyuan-moe",
    "hunyuan_vl",
    "hy_v3",
    "hy_v4",
    "internlm2",
    "jais",
    "jais2",
    "jamba",
    "kimi-k3",
    "kimi-linear",
    "laguna",
    "lfm2",
    "lfm2moe",
    "llama",
    "llama-embed",
    "llama4",
    "maincoder",
    "mamba",
    "mamba2",
    "maple",
    "mellum",
    "mimo2",
    "minicpm",
    "minicpm3",
    "minimax-01",
    "minimax-m2",
    "minimax-m3",
    "mistral3",
    "mistral4",
    "mpt",
    "muse-glimmer",
    "nanbeige",
    "nemotron",
    "nemotron_h",
    "nemotron_h_moe",
    "olmo",
    "olmo2",
    "olmoe",
    "openelm",
    "orion",
    "paddleocr",
    "pangu-embedded",
    "phi2",
    "phi3",
    "phimoe",
    "plamo",
    "plamo2",
    "plamo3",
    "plm",
    "qwen",
    "qwen2",
    "qwen2moe",
    "qwen2vl",
    "qwen3",
    "qwen35",
    "qwen35moe",
    "qwen3moe",
    "qwen3next",
    "qwen3vl",
    "qwen3vlmoe",
    "qwen4exp",
    "refact",
    "rwkv6",
    "rwkv6qwen2",
    "rwkv7",
    "seed_oss",
    "smallthinker",
    "smollm3",
    "spark2_5",
    "stablelm",
    "starcoder",
    "starcoder2",
    "step35",
    "talkie",
    "xverse",
];

/// Architectures that llama.cpp knows but that cannot serve requests here, and why.
pub(super) const REFUSED: [(&str, &str); 14] = [
    ("clip", "it is a projector; give it to a model by `mmproj`"),
    ("gptj", "llama.cpp lists it, but cannot compute it"),
    ("t5", ENCODER_DECODER),
    (
        "t5encoder",
        "it is an encoder whose vectors need another model",
    ),
    ("dream", DIFFUSION),
    ("llada", DIFFUSION),
    ("llada-moe", DIFFUSION),
    ("rnd1", DIFFUSION),
    ("eagle3", HEADS),
    ("dflash", HEADS),
    ("gemma4-assistant", HEADS),
    ("qwen3tts", SPEECH),
    ("pockettts", SPEECH),
    ("wavtokenizer-dec", SPEECH),
];

const ENCODER_DECODER: &str =
    "it is an encoder-decoder, which reads a prompt in another way than the engine does";
const DIFFUSION: &str = "it is a diffusion model, which does not write token by token";
const HEADS: &str = "it drafts for one certain model and cannot be served by itself";
const SPEECH: &str = "it makes sounds, not text";

/// Checks that the architecture can serve requests. The error is a part of an error message.
pub(super) fn check(architecture: &str) -> Result<(), String> {
    if TEXT.contains(&architecture) || ENCODERS.contains(&architecture) {
        return Ok(());
    }
    match REFUSED.iter().find(|(name, _)| *name == architecture) {
        Some((_, why)) => Err(format!(
            "its architecture, `{architecture}`, is not supported: {why}"
        )),
        None => Err(format!(
            "its architecture, `{architecture}`, is unknown to this version of llama.cpp; docs/architectures.md lists those that it knows"
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const PAGE: &str = include_str!("../../../../docs/architectures.md");

    #[test]
    fn an_architecture_is_accepted_or_refused_by_its_name() {
        for name in TEXT.iter().chain(&ENCODERS) {
            assert_eq!(check(name), Ok(()));
        }
        for (name, why) in REFUSED {
            assert!(check(name).unwrap_err().ends_with(why), "{name}");
        }
        let unknown = check("gpt9").unwrap_err();
        assert!(unknown.starts_with("its architecture, `gpt9`, is unknown"));
    }

    #[test]
    fn the_page_lists_each_architecture_once_where_it_belongs() {
        let names = |heading: &str| -> Vec<&str> {
            let part = PAGE.split("\n## ").find(|part| part.starts_with(heading));
            let words = part.unwrap().split('`').skip(1).step_by(2);
            words.filter(|word| !word.contains(' ')).collect()
        };
        let set = |names: &[&'static str]| names.iter().copied().collect::<BTreeSet<_>>();
        assert_eq!(
            names("Text").into_iter().collect::<BTreeSet<_>>(),
            set(&TEXT)
        );
        let embeddings: BTreeSet<_> = names("Embeddings").into_iter().collect();
        assert_eq!(embeddings, set(&ENCODERS));
        let refused = PAGE.split("\n## Refused").nth(1).unwrap();
        for (name, why) in REFUSED {
            assert!(refused.contains(&format!("| `{name}` | {why} |")), "{name}");
        }
        let all = TEXT.len() + ENCODERS.len() + REFUSED.len();
        assert_eq!(set(&TEXT).len() + embeddings.len() + REFUSED.len(), all);
    }
}
