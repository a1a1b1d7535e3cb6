//! Checks the head of a reranking model: the tensors that turn a pooled vector into a score.
//!
//! Without a head, llama.cpp would return the first number of the vector as the score, and with a
//! head of a wrong type or size it would end the process.

use super::Gguf;
use super::tensor::{self, F32, Tensor};

/// A layer of the width of the vector, and its norm.
const HIDDEN: [&str; 3] = ["cls.weight", "cls.bias", NORM];
const NORM: &str = "cls.norm.weight";
/// The layer that makes the outputs.
const OUTPUT: [&str; 2] = ["cls.output.weight", "cls.output.bias"];

/// The head that llama.cpp applies in an architecture.
struct Head {
    /// The tensors that keep the width of the vector. They are optional.
    hidden: &'static [&'static str],
    /// The matrix that makes the outputs, and its bias, which is optional.
    output: &'static [&'static str],
    /// Whether the outputs become probabilities. The score is the first one.
    softmax: bool,
}

impl Head {
    /// Returns `None` if llama.cpp loads no head for this architecture.
    fn of(architecture: &str) -> Option<Self> {
        let (hidden, output): (&[_], &[_]) = match architecture {
            "bert" | "neo-bert" | "modern-bert" => (&HIDDEN, &OUTPUT),
            // Its only layer makes the score.
            "jina-bert-v2" => (&[], &HIDDEN[..2]),
            "qwen3" | "qwen3vl" => (&[], &OUTPUT[..1]),
            _ => return None,
        };
        Some(Self {
            hidden,
            output,
            softmax: architecture.starts_with("qwen3"),
        })
    }
}

/// Checks the head of a model whose pooling is `rank`. The error is a part of an error message.
pub(super) fn check(gguf: &Gguf) -> Result<(), String> {
    let architecture = gguf.text("general.architecture").unwrap_or_default();
    let head = Head::of(architecture).ok_or_else(|| {
        format!(
            "its pooling is `rank`, but llama.cpp has no reranking for its architecture, `{architecture}`"
        )
    })?;
    let weight = head.output[0];
    if !gguf.tensors.iter().any(|tensor| tensor.name == weight) {
        return Err(format!(
            "it is a reranking model (its pooling is `rank`) without a head: the tensor {weight:?} is missing"
        ));
    }
    let outputs = outputs(gguf, architecture);
    if head.softmax && outputs < 2 {
        return Err(format!(
            "it is a reranking model whose scores would all be 1: its {architecture}.classifier.output_labels needs two entries or more"
        ));
    }
    let width = gguf.of_architecture("embedding_length").unwrap_or(0);
    for tensor in &gguf.tensors {
        let name = tensor.name.as_str();
        if head.hidden.contains(&name) {
            of_head(tensor, width, width)?;
        } else if head.output.contains(&name) {
            of_head(tensor, width, outputs)?;
        }
    }
    Ok(())
}

/// The number of outputs of the head.
fn outputs(gguf: &Gguf, architecture: &str) -> u64 {
    let labels = gguf.array_length(&format!("{architecture}.classifier.output_labels"));
    labels.filter(|&labels| labels > 0).unwrap_or(1)
}

/// Checks the shape and the type of a tensor that makes `rows` numbers from `width`.
fn of_head(tensor: &Tensor, width: u64, rows: u64) -> Result<(), String> {
    let name = &tensor.name;
    let is_matrix = name.ends_with("weight") && name != NORM;
    let shape = if is_matrix {
        [width, rows, 1, 1]
    } else {
        [rows, 1, 1, 1]
    };
    if tensor.shape != shape {
        return Err(format!(
            "the tensor {name:?} of its head has the shape {:?} instead of {shape:?}",
            tensor.shape
        ));
    }
    let fits = if is_matrix {
        tensor::is_matrix(tensor.kind)
    } else {
        tensor.kind == F32
    };
    if fits {
        Ok(())
    } else {
        Err(format!(
            "the tensor {name:?} of its head has the type {}, which llama.cpp cannot compute with",
            tensor.kind
        ))
    }
}
