//! Small files made by hand, each broken in one place.

use super::*;

/// A GGUF file of one tensor, as bytes, to be changed.
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
            ("general.architecture", [8_u32.to_le_bytes().to_vec(), text("llama")].concat()),
            ("llama.block_count", number(1)),
            ("llama.embedding_length", number(32)),
            ("llama.context_length", number(512)),
            ("llama.attention.head_count", number(4)),
            ("tokenizer.ggml.tokens", texts(&["a", "b"])),
            ("tokenizer.ggml.eos_token_id", number(1)),
        ];
        let keys = keys.map(|(key, value)| (key.to_owned(), value)).to_vec();
        Self { keys, shape: vec![32, 2], kind: 0, offset: 0, data: 256 }
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
        assert!(read(&bytes[..length]).is_err(), "a file of {length} bytes was taken");
    }
}

#[test]
fn lengths_that_no_file_can_have_are_refused() {
    let sound = Sample::new().bytes();
    for position in 8..sound.len() - 320 {
        let mut bytes = sound.clone();
        bytes[position..position + 8].copy_from_slice(&u64::MAX.to_le_bytes());
        // Wherever the eight bytes fall, the file is read to an end without a panic and without gigabytes being asked for.
        let _ = read(&bytes);
    }
}

#[test]
fn a_tensor_that_lies_past_the_end_is_refused() {
    let error = Sample { offset: 64, ..Sample::new() }.read().unwrap_err();
    assert!(error.contains("it is cut short"), "{error}");
}

#[test]
fn a_tensor_whose_size_overflows_is_refused() {
    let error = Sample { shape: vec![1 << 40, 1 << 40], ..Sample::new() }.read().unwrap_err();
    assert!(error.contains("has the shape"), "{error}");
}

#[test]
fn a_tensor_of_no_rows_or_of_an_unknown_type_is_refused() {
    assert!(Sample { shape: vec![0, 2], ..Sample::new() }.read().is_err());
    assert!(Sample { kind: 4, ..Sample::new() }.read().is_err());
    assert!(Sample { shape: vec![31, 2], kind: 2, ..Sample::new() }.read().is_err());
}

#[test]
fn a_vocabulary_that_llama_cpp_would_end_the_process_over_is_refused() {
    let error = Sample::new().with("tokenizer.ggml.tokens", texts(&["a", "a"])).read().unwrap_err();
    assert!(error.contains("two of its tokens are the same"), "{error}");
    let error = Sample::new().with("tokenizer.ggml.eos_token_id", number(2)).read().unwrap_err();
    assert!(error.contains("eos_token_id is 2"), "{error}");
}

#[test]
fn heads_that_do_not_divide_are_refused() {
    assert!(Sample::new().with("llama.attention.head_count_kv", number(3)).read().is_err());
    assert!(Sample::new().with("llama.embedding_length", number(0)).read().is_err());
}

#[test]
fn something_else_than_gguf_is_named_as_such() {
    let error = read(b"<html>404</html>").unwrap_err();
    assert!(error.contains("does not begin with `GGUF`") && error.contains("fetch it again"), "{error}");
}

#[test]
fn another_file_has_another_identity() {
    let (one, two) = (Sample::new(), Sample::new().with("llama.context_length", number(1024)));
    assert_eq!(one.read().unwrap().identity(), one.read().unwrap().identity());
    assert_ne!(one.read().unwrap().identity(), two.read().unwrap().identity());
}
