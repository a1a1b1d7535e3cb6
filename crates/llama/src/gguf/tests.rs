//! Small handmade GGUF files, each with one fault.

use super::*;

/// The bytes of a GGUF file with one tensor, to be modified.
struct Sample {
    keys: Vec<(String, Vec<u8>)>,
    shape: Vec<u64>,
    kind: u32,
    offset: u64,
    data: usize,
}

impl Sample {
    fn new() -> Self {
        let number = |value: u32| [4_u32.to_le_bytes(), value.to_le_bytes()].concat();
        let keys = [
            (
                "general.architecture",
                [8_u32.to_le_bytes().to_vec(), text("llama")].concat(),
            ),
            ("llama.block_count", number(1)),
            ("llama.embedding_length", number(32)),
            ("llama.context_length", number(512)),
            ("llama.attention.head_count", number(4)),
            ("tokenizer.ggml.tokens", texts(&["a", "b"])),
            ("tokenizer.ggml.eos_token_id", number(1)),
        ];
        let keys = keys.map(|(key, value)| (key.to_owned(), value)).to_vec();
        Self {
            keys,
            shape: vec![32, 2],
            kind: 0,
            offset: 0,
            data: 256,
        }
    }

    fn with(mut self, key: &str, value: Vec<u8>) -> Self {
        self.keys.retain(|(name, _)| name != key);
        self.keys.push((key.to_owned(), value));
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3_u32.to_le_bytes());
        bytes.extend(1_u64.to_le_bytes());
        bytes.extend((self.keys.len() as u64).to_le_bytes());
        for (key, value) in &self.keys {
            bytes.extend(text(key));
            bytes.extend(value);
        }
        bytes.extend(text("token_embd.weight"));
        bytes.extend(u32::try_from(self.shape.len()).unwrap().to_le_bytes());
        for length in &self.shape {
            bytes.extend(length.to_le_bytes());
        }
        bytes.extend(self.kind.to_le_bytes());
        bytes.extend(self.offset.to_le_bytes());
        bytes.resize(bytes.len().next_multiple_of(32) + self.data, 0);
        bytes
    }

    fn read(&self) -> Result<Gguf, String> {
        read(&self.bytes())
    }
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

fn texts(all: &[&str]) -> Vec<u8> {
    let mut bytes = [9_u32.to_le_bytes(), 8_u32.to_le_bytes()].concat();
    bytes.extend((all.len() as u64).to_le_bytes());
    for one in all {
        bytes.extend(text(one));
    }
    bytes
}

fn number(value: u32) -> Vec<u8> {
    [4_u32.to_le_bytes(), value.to_le_bytes()].concat()
}

fn read(bytes: &[u8]) -> Result<Gguf, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sample.gguf");
    std::fs::write(&path, bytes).unwrap();
    Gguf::read(&path).map_err(|error| error.to_string())
}

#[test]
fn a_sound_header_tells_what_it_holds() {
    let gguf = Sample::new().read().unwrap();
    assert_eq!(gguf.text("general.architecture"), Some("llama"));
    assert_eq!(gguf.of_architecture("context_length"), Some(512));
    assert_eq!(gguf.array_length("tokenizer.ggml.tokens"), Some(2));
}

#[test]
fn a_file_that_ends_early_is_refused_wherever_it_ends() {
    let bytes = Sample::new().bytes();
    for length in 0..bytes.len() {
        assert!(
            read(&bytes[..length]).is_err(),
            "a file of {length} bytes was taken"
        );
    }
}

#[test]
fn lengths_that_no_file_can_have_are_refused() {
    let sound = Sample::new().bytes();
    for position in 8..sound.len() - 320 {
        let mut bytes = sound.clone();
        bytes[position..position + 8].copy_from_slice(&u64::MAX.to_le_bytes());
        // Wherever these eight bytes are written, the file must be read without a panic and without
        // an allocation of gigabytes.
        let _ = read(&bytes);
    }
}

#[test]
fn a_tensor_that_lies_past_the_end_is_refused() {
    let error = Sample {
        offset: 64,
        ..Sample::new()
    }
    .read()
    .unwrap_err();
    assert!(error.contains("it is truncated"), "{error}");
}

#[test]
fn a_tensor_whose_size_overflows_is_refused() {
    let error = Sample {
        shape: vec![1 << 40, 1 << 40],
        ..Sample::new()
    }
    .read()
    .unwrap_err();
    assert!(error.contains("has the invalid shape"), "{error}");
}

#[test]
fn a_tensor_of_no_rows_or_of_an_unknown_type_is_refused() {
    assert!(
        Sample {
            shape: vec![0, 2],
            ..Sample::new()
        }
        .read()
        .is_err()
    );
    assert!(
        Sample {
            kind: 4,
            ..Sample::new()
        }
        .read()
        .is_err()
    );
    assert!(
        Sample {
            shape: vec![31, 2],
            kind: 2,
            ..Sample::new()
        }
        .read()
        .is_err()
    );
}

#[test]
fn a_vocabulary_that_llama_cpp_would_end_the_process_over_is_refused() {
    let error = Sample::new()
        .with("tokenizer.ggml.tokens", texts(&["a", "a"]))
        .read()
        .unwrap_err();
    assert!(
        error.contains("two tokens of its vocabulary are equal"),
        "{error}"
    );
    let error = Sample::new()
        .with("tokenizer.ggml.eos_token_id", number(2))
        .read()
        .unwrap_err();
    assert!(error.contains("eos_token_id is 2"), "{error}");
}

#[test]
fn heads_that_do_not_divide_are_refused() {
    assert!(
        Sample::new()
            .with("llama.attention.head_count_kv", number(3))
            .read()
            .is_err()
    );
    assert!(
        Sample::new()
            .with("llama.embedding_length", number(0))
            .read()
            .is_err()
    );
}

#[test]
fn something_else_than_gguf_is_named_as_such() {
    let error = read(b"<html>404</html>").unwrap_err();
    assert!(
        error.contains("does not begin with `GGUF`") && error.contains("download it again"),
        "{error}"
    );
}

/// An adapter for `Sample`, whose only matrix has two rows of 32 values: the bytes of F32 factors
/// of rank 1, to be modified.
struct SampleAdapter {
    keys: Vec<(&'static str, Vec<u8>)>,
    tensors: Vec<(&'static str, Vec<u64>, u32)>,
}

impl SampleAdapter {
    fn new() -> Self {
        let said = |value: &str| [8_u32.to_le_bytes().to_vec(), text(value)].concat();
        let keys = vec![
            ("general.type", said("adapter")),
            ("general.architecture", said("llama")),
            ("adapter.type", said("lora")),
            (
                "adapter.lora.alpha",
                [6_u32.to_le_bytes(), 2_f32.to_le_bytes()].concat(),
            ),
        ];
        let (a, b) = ("output.weight.lora_a", "output.weight.lora_b");
        Self {
            keys,
            tensors: vec![(a, vec![32, 1], 0), (b, vec![1, 2], 0)],
        }
    }

    fn with(mut self, key: &'static str, value: Vec<u8>) -> Self {
        self.keys.retain(|(name, _)| *name != key);
        self.keys.push((key, value));
        self
    }

    fn having(mut self, tensors: &[(&'static str, &[u64], u32)]) -> Self {
        self.tensors = tensors
            .iter()
            .map(|&(name, shape, kind)| (name, shape.to_vec(), kind))
            .collect();
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3_u32.to_le_bytes());
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.keys.len() as u64).to_le_bytes());
        for (key, value) in &self.keys {
            bytes.extend([text(key), value.clone()].concat());
        }
        for (at, (name, shape, kind)) in (0_u64..).zip(&self.tensors) {
            bytes.extend(text(name));
            bytes.extend(u32::try_from(shape.len()).unwrap().to_le_bytes());
            bytes.extend(shape.iter().flat_map(|length| length.to_le_bytes()));
            bytes.extend(kind.to_le_bytes());
            bytes.extend((at * 512).to_le_bytes());
        }
        bytes.resize(
            bytes.len().next_multiple_of(32) + 512 * self.tensors.len(),
            0,
        );
        bytes
    }

    /// Reads the file as an adapter for a model of `Sample`'s shape, whose matrix is called
    /// `output.weight`.
    fn read(&self) -> Result<Gguf, String> {
        let mut base = Sample::new().read().unwrap();
        base.tensors[0].name = "output.weight".to_owned();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("adapter.gguf");
        std::fs::write(&path, self.bytes()).unwrap();
        Gguf::read_adapter(&path, &base).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn is_refused_for(&self, why: &str) {
        let error = self.read().unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn an_adapter_that_goes_with_its_model_is_taken() {
    SampleAdapter::new().read().unwrap();
    let with_norm = [
        ("output.weight.lora_a", &[32, 1][..], 0),
        ("output.weight.lora_b", &[1, 2], 0),
    ];
    let with_norm = [&with_norm[..], &[("blk.0.attn_norm.weight", &[32], 0)]].concat();
    assert!(
        SampleAdapter::new()
            .having(&with_norm)
            .read()
            .unwrap()
            .has_norms()
    );
}

#[test]
fn an_adapter_is_no_model_and_a_model_no_adapter() {
    let error = read(&SampleAdapter::new().bytes()).unwrap_err();
    assert!(
        error.contains("it is an adapter and not a model"),
        "{error}"
    );
    SampleAdapter::new()
        .with("general.type", number(1))
        .is_refused_for("its general.type is not \"adapter\"");
}

#[test]
fn an_adapter_whose_header_llama_cpp_would_end_the_process_over_is_refused() {
    let said = |value: &str| [8_u32.to_le_bytes().to_vec(), text(value)].concat();
    let new = SampleAdapter::new;
    new()
        .with("adapter.lora.alpha", number(1))
        .is_refused_for("its adapter.lora.alpha is not a number");
    new()
        .with("adapter.type", number(1))
        .is_refused_for("its adapter.type is missing");
    new()
        .with("adapter.type", said("loha"))
        .is_refused_for("its adapter.type is \"loha\"");
    let tokens = [
        9_u32.to_le_bytes(),
        4_u32.to_le_bytes(),
        0_u32.to_le_bytes(),
        [0; 4],
    ]
    .concat();
    new()
        .with("adapter.alora.invocation_tokens", tokens)
        .is_refused_for("aLoRA");
}

#[test]
fn an_adapter_for_another_model_is_refused_with_what_does_not_go_together() {
    let said = |value: &str| [8_u32.to_le_bytes().to_vec(), text(value)].concat();
    let (a, b) = ("output.weight.lora_a", "output.weight.lora_b");
    let new = SampleAdapter::new;
    new()
        .with("general.architecture", said("qwen2"))
        .is_refused_for("made for the architecture \"qwen2\"");
    new().having(&[]).is_refused_for("it changes no tensors");
    new()
        .having(&[(a, &[32, 1], 0)])
        .is_refused_for("only one of the two factors");
    new()
        .having(&[("other.lora_a", &[32, 1], 0), ("other.lora_b", &[1, 2], 0)])
        .is_refused_for("no tensor \"other\"");
    new()
        .having(&[("what", &[32], 0)])
        .is_refused_for("is not a factor of an adapter");
    for (of_a, of_b) in [([64, 1], [1, 2]), ([32, 1], [1, 4]), ([32, 2], [1, 2])] {
        new()
            .having(&[(a, &of_a, 0), (b, &of_b, 0)])
            .is_refused_for("do not fit the model's shape [32, 2, 1, 1]");
    }
    new()
        .having(&[(a, &[32, 1, 2], 0), (b, &[1, 2, 2], 0)])
        .is_refused_for("its factors for");
    // Type 26 is a 32-bit integer, which cannot be a factor.
    new()
        .having(&[(a, &[32, 1], 26), (b, &[1, 2], 0)])
        .is_refused_for("a type that llama.cpp cannot multiply by");
}

#[test]
fn an_adapter_for_the_tokens_lies_the_other_way_round_and_needs_an_output_of_its_own() {
    let mut base = Sample::new().read().unwrap();
    let halves = [
        ("token_embd.weight.lora_a", &[1, 2][..], 0),
        ("token_embd.weight.lora_b", &[1, 32], 0),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adapter.gguf");
    std::fs::write(&path, SampleAdapter::new().having(&halves).bytes()).unwrap();
    let error = Gguf::read_adapter(&path, &base).unwrap_err().to_string();
    assert!(
        error.contains("which this model also uses as its output"),
        "{error}"
    );
    base.tensors.push(Tensor {
        name: "output.weight".to_owned(),
        ..base.tensors[0].clone()
    });
    Gguf::read_adapter(&path, &base).unwrap();
}

#[test]
fn another_file_has_another_identity() {
    let (one, two) = (
        Sample::new(),
        Sample::new().with("llama.context_length", number(1024)),
    );
    assert_eq!(
        one.read().unwrap().identity(),
        one.read().unwrap().identity()
    );
    assert_ne!(
        one.read().unwrap().identity(),
        two.read().unwrap().identity()
    );
}
