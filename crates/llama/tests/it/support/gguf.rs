//! Writes GGUF files for tests: the format, and random weights. The tests of the program use it
//! too.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "this is code shared by tests, and each test file uses some of it"
)]

/// A metadata key and its encoded value.
pub(crate) type Entry = (String, Vec<u8>);

/// A tensor's name and its dimensions.
pub(crate) type Shape = (String, Vec<u64>);

/// GGUF's numbers for the tensor types that the tests write: 32-bit and 16-bit floats.
pub(crate) const F32: u32 = 0;
pub(crate) const F16: u32 = 1;

/// The bytes of a file with these tensors of 32-bit floats. `weight` is called for each of a
/// tensor's weights.
pub(crate) fn file(
    metadata: &[(impl AsRef<str>, Vec<u8>)],
    tensors: &[Shape],
    mut weight: impl FnMut(&str) -> f32,
) -> Vec<u8> {
    of_types(
        metadata,
        tensors,
        |_| F32,
        |file, name| file.extend(weight(name).to_le_bytes()),
    )
}

/// The bytes of a file with tensors of several types, which depend on their names. `put` writes a
/// weight.
pub(crate) fn of_types(
    metadata: &[(impl AsRef<str>, Vec<u8>)],
    tensors: &[Shape],
    type_of: impl Fn(&str) -> u32,
    mut put: impl FnMut(&mut Vec<u8>, &str),
) -> Vec<u8> {
    let mut file = Vec::from(*b"GGUF");
    file.extend(3_u32.to_le_bytes());
    file.extend((tensors.len() as u64).to_le_bytes());
    file.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        put_text(&mut file, key.as_ref());
        file.extend(value);
    }
    let count = |shape: &[u64]| shape.iter().product::<u64>();
    let mut offset = 0;
    for (name, shape) in tensors {
        put_text(&mut file, name);
        file.extend(u32::try_from(shape.len()).unwrap().to_le_bytes());
        for side in shape {
            file.extend(side.to_le_bytes());
        }
        file.extend(type_of(name).to_le_bytes());
        file.extend(u64::to_le_bytes(offset));
        let width = if type_of(name) == F16 { 2 } else { 4 };
        offset += (count(shape) * width).next_multiple_of(32);
    }
    file.resize(file.len().next_multiple_of(32), 0);
    for (name, shape) in tensors {
        for _ in 0..count(shape) {
            put(&mut file, name);
        }
        file.resize(file.len().next_multiple_of(32), 0);
    }
    file
}

/// Pseudorandom numbers from -0.5 to 0.5, which are the same each time.
pub(crate) fn lots(mut lot: u64) -> impl FnMut() -> f32 {
    move || {
        lot = lot
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        f32::from(lot.to_be_bytes()[0]) / 256.0 - 0.498
    }
}

/// A vocabulary of the 256 bytes after three tokens: unknown, beginning and end.
pub(crate) fn of_bytes() -> Vec<Entry> {
    let special = ["<unk>", "<s>", "</s>"].map(str::to_owned);
    let tokens: Vec<String> = special
        .into_iter()
        .chain((0..256).map(|byte| format!("<0x{byte:02X}>")))
        .collect();
    let mut texts = Vec::new();
    for token in &tokens {
        put_text(&mut texts, token);
    }
    // Unknown, control, control, then bytes.
    let types = [2_i32, 3, 3]
        .into_iter()
        .chain([6; 256])
        .flat_map(i32::to_le_bytes)
        .collect();
    let entries = [
        ("tokenizer.ggml.model", text("llama")),
        ("tokenizer.ggml.tokens", array(8, tokens.len(), texts)),
        (
            "tokenizer.ggml.scores",
            array(6, tokens.len(), vec![0; 4 * tokens.len()]),
        ),
        ("tokenizer.ggml.token_type", array(5, tokens.len(), types)),
        ("tokenizer.ggml.bos_token_id", number(1)),
        ("tokenizer.ggml.eos_token_id", number(2)),
    ];
    entries.map(|(key, value)| (key.to_owned(), value)).into()
}

/// The size of the vocabulary of [`of_bytes`].
pub(crate) const BYTES: u64 = 3 + 256;

pub(crate) fn value(kind: u32, bytes: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], bytes].concat()
}

pub(crate) fn number(number: u32) -> Vec<u8> {
    value(4, &number.to_le_bytes())
}

pub(crate) fn float(number: f32) -> Vec<u8> {
    value(6, &number.to_le_bytes())
}

pub(crate) fn text(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_text(&mut bytes, text);
    value(8, &bytes)
}

pub(crate) fn array(kind: u32, count: usize, elements: Vec<u8>) -> Vec<u8> {
    let head = [&kind.to_le_bytes()[..], &(count as u64).to_le_bytes()].concat();
    value(9, &[head, elements].concat())
}

pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// Where a part of a file is.
pub(crate) fn position(file: &[u8], part: &[u8]) -> usize {
    let found = file.windows(part.len()).position(|window| window == part);
    found.unwrap()
}
