//! Checks the header of a LoRA adapter, alone and against its model, so that llama.cpp neither
//! aborts on an assertion nor reads out of bounds.

use std::collections::HashMap;

use super::reader::Value;
use super::tensor::{self, Tensor};
use super::{Gguf, check};

/// The two factors (`lora_a` and `lora_b`) whose product the adapter adds to one tensor of its
/// model.
#[derive(Default)]
struct Pair<'a> {
    a: Option<&'a Tensor>,
    b: Option<&'a Tensor>,
}

/// Checks an adapter's header alone, without its model.
pub(super) fn alone(adapter: &Gguf) -> Result<(), String> {
    if !check::is_adapter(adapter) {
        return Err("its general.type is not \"adapter\"".to_owned());
    }
    match adapter.text("adapter.type") {
        Some("lora") => {}
        Some(other) => {
            return Err(format!(
                "its adapter.type is {other:?}; only LoRA adapters are supported"
            ));
        }
        None => return Err("its adapter.type is missing".to_owned()),
    }
    if adapter
        .arrays
        .contains_key("adapter.alora.invocation_tokens")
    {
        return Err("it is an activated LoRA adapter (aLoRA), which is not supported".to_owned());
    }
    match adapter.values.get("adapter.lora.alpha") {
        None => Ok(()),
        Some(Value::Single(alpha)) if alpha.is_finite() => Ok(()),
        Some(_) => Err("its adapter.lora.alpha is not a number".to_owned()),
    }
}

/// Checks whether an adapter can be applied to a model.
pub(super) fn over(adapter: &Gguf, base: &Gguf) -> Result<(), String> {
    let architecture = |gguf: &Gguf| {
        gguf.text("general.architecture")
            .unwrap_or_default()
            .to_owned()
    };
    let (own, its) = (architecture(adapter), architecture(base));
    if own != its {
        return Err(format!(
            "it was made for the architecture {own:?}, but the model's architecture is {its:?}"
        ));
    }
    let of_base: HashMap<&str, &Tensor> = base
        .tensors
        .iter()
        .map(|tensor| (tensor.name.as_str(), tensor))
        .collect();
    let pairs = pairs(adapter)?;
    if pairs.is_empty() {
        return Err("it changes no tensors".to_owned());
    }
    for (name, pair) in pairs {
        let (Some(a), Some(b)) = (pair.a, pair.b) else {
            return Err(format!(
                "it has only one of the two factors for the tensor {name:?}"
            ));
        };
        let base = of_base
            .get(name)
            .ok_or_else(|| format!("the model has no tensor {name:?}"))?;
        if name == "token_embd.weight" {
            // In such a model, one tensor is used for both input and output. It would need two
            // forms of the change, and llama.cpp has one for each name.
            if !of_base.contains_key("output.weight") {
                return Err(format!(
                    "it changes {name:?}, which this model also uses as its output"
                ));
            }
            // This tensor is a lookup table, so llama.cpp expects the first factor transposed.
            shapes(
                name,
                base.shape,
                [b.shape[1], a.shape[1]],
                a.shape[0] == b.shape[0],
                [a, b],
            )?;
        } else {
            shapes(
                name,
                base.shape,
                [a.shape[0], b.shape[1]],
                a.shape[1] == b.shape[0],
                [a, b],
            )?;
        }
        kinds(name, base, [a, b])?;
    }
    Ok(())
}

/// Whether the adapter has tensors that llama.cpp ignores: changes to norms.
pub(super) fn has_norms(adapter: &Gguf) -> bool {
    adapter.tensors.iter().any(|tensor| is_norm(&tensor.name))
}

fn is_norm(name: &str) -> bool {
    name.ends_with("_norm.weight")
}

fn pairs(adapter: &Gguf) -> Result<HashMap<&str, Pair<'_>>, String> {
    let mut pairs: HashMap<&str, Pair<'_>> = HashMap::new();
    for tensor in &adapter.tensors {
        if let Some(name) = tensor.name.strip_suffix(".lora_a") {
            pairs.entry(name).or_default().a = Some(tensor);
        } else if let Some(name) = tensor.name.strip_suffix(".lora_b") {
            pairs.entry(name).or_default().b = Some(tensor);
        } else if !is_norm(&tensor.name) {
            return Err(format!(
                "its tensor {:?} is not a factor of an adapter",
                tensor.name
            ));
        }
    }
    Ok(pairs)
}

/// Checks that the factors have a common side (the rank) and that their product has the shape of
/// the model's tensor.
fn shapes(
    name: &str,
    base: [u64; 4],
    sides: [u64; 2],
    has_rank: bool,
    halves: [&Tensor; 2],
) -> Result<(), String> {
    if base[1] == 1 {
        return Err(format!("it changes {name:?}, which is not a matrix"));
    }
    let experts = halves.iter().all(|half| half.shape[2..] == base[2..]);
    if sides != base[..2] || !has_rank || !experts {
        let [a, b] = halves.map(|half| half.shape);
        return Err(format!(
            "its factors for {name:?} have the shapes {a:?} and {b:?}, which do not fit the model's shape {base:?}"
        ));
    }
    Ok(())
}

/// Checks the types of the tensors: llama.cpp can multiply by some types only.
fn kinds(name: &str, base: &Tensor, halves: [&Tensor; 2]) -> Result<(), String> {
    if !halves.iter().all(|half| tensor::is_factor(half.kind)) {
        return Err(format!(
            "its factors for {name:?} have a type that llama.cpp cannot multiply by"
        ));
    }
    if base.kind == tensor::NVFP4 {
        return Err(format!(
            "the model's tensor {name:?} has the type NVFP4, to which llama.cpp cannot apply an adapter"
        ));
    }
    Ok(())
}
