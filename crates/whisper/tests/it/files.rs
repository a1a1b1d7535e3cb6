//! Other files of the same model, and damaged ones.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use candle_core::quantized::{GgmlDType, QTensor, gguf_file};
use candle_core::{DType, Device, Tensor};

use loggia_whisper::{Files, Whisper, WhisperOptions};
use serde_json::Value;

use super::{answer, call, folder, open, speech};

fn weights() -> BTreeMap<String, Tensor> {
    let all = candle_core::safetensors::load(folder().join("model.safetensors"), &Device::Cpu);
    let all = all.unwrap().into_iter();
    all.map(|(name, tensor)| (name, tensor.to_dtype(DType::F32).unwrap()))
        .collect()
}

/// The type that whisper.cpp's quantizer gives a tensor.
fn dtype(tensor: &Tensor, of_matrices: GgmlDType) -> GgmlDType {
    let is_matrix = tensor.rank() == 2 && tensor.dims().iter().all(|size| size.is_multiple_of(32));
    if is_matrix {
        of_matrices
    } else {
        GgmlDType::F32
    }
}

/// Rewrites the model in whisper.cpp's format.
fn ggml(of_matrices: GgmlDType, kind: u32) -> Vec<u8> {
    let mut file = Vec::new();
    let numbers = |file: &mut Vec<u8>, numbers: &[u32]| {
        for number in numbers {
            file.extend_from_slice(&number.to_le_bytes());
        }
    };
    numbers(
        &mut file,
        &[
            0x6767_6d6c,
            51_864,
            1500,
            384,
            6,
            4,
            448,
            384,
            6,
            4,
            80,
            1,
            80,
            201,
        ],
    );
    file.resize(file.len() + 80 * 201 * 4, 0);
    let tokenizer: Value =
        serde_json::from_slice(&fs::read(folder().join("tokenizer.json")).unwrap()).unwrap();
    let words = tokenizer["model"]["vocab"].as_object().unwrap();
    let by_id: BTreeMap<u64, &String> = words
        .iter()
        .map(|(word, id)| (id.as_u64().unwrap(), word))
        .collect();
    numbers(&mut file, &[50_256]);
    for word in (0..50_256).map(|id| by_id[&id]) {
        let bytes = bytes_of(word);
        numbers(&mut file, &[u32::try_from(bytes.len()).unwrap()]);
        file.extend(bytes);
    }
    for (name, tensor) in weights() {
        let name = name_at_openai(&name);
        let dtype = dtype(&tensor, of_matrices);
        let dims: Vec<u32> = tensor
            .dims()
            .iter()
            .rev()
            .map(|size| u32::try_from(*size).unwrap())
            .collect();
        let is_column = name.contains("conv") && name.ends_with("bias");
        let dims = if is_column { vec![1, dims[0]] } else { dims };
        let kind = if dtype == GgmlDType::F32 { 0 } else { kind };
        let count = |length: usize| u32::try_from(length).unwrap();
        numbers(&mut file, &[count(dims.len()), count(name.len()), kind]);
        numbers(&mut file, &dims);
        file.extend_from_slice(name.as_bytes());
        let written = QTensor::quantize(&tensor, dtype).unwrap();
        file.extend_from_slice(&written.data().unwrap());
    }
    file
}

/// The bytes that a word of `tokenizer.json` stands for.
fn bytes_of(word: &str) -> Vec<u8> {
    let plain = |byte: &u8| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let others: Vec<u8> = (0..=255).filter(|byte| !plain(byte)).collect();
    let byte = |letter: char| match u32::from(letter) {
        code @ 0..256 => u8::try_from(code).unwrap(),
        code => others[code as usize - 256],
    };
    word.chars().map(byte).collect()
}

fn name_at_openai(name: &str) -> String {
    let name = name.strip_prefix("model.").unwrap();
    let renamed = [
        ("embed_positions.weight", "positional_embedding"),
        ("embed_tokens", "token_embedding"),
        ("self_attn_layer_norm", "attn_ln"),
        ("encoder_attn_layer_norm", "cross_attn_ln"),
        ("final_layer_norm", "mlp_ln"),
        ("encoder.layer_norm", "encoder.ln_post"),
        ("decoder.layer_norm", "decoder.ln"),
        ("self_attn", "attn"),
        ("encoder_attn", "cross_attn"),
        ("q_proj", "query"),
        ("k_proj", "key"),
        ("v_proj", "value"),
        ("out_proj", "out"),
        ("fc1", "mlp.0"),
        ("fc2", "mlp.2"),
        ("layers", "blocks"),
    ];
    renamed
        .iter()
        .fold(name.to_owned(), |name, (from, to)| name.replace(from, to))
}

async fn text_by(path: &Path) -> String {
    let whisper = open(Files::recognize(path).expect("a Whisper model"));
    answer(&whisper, call(speech(), &[("response_format", "text")]))
        .await
        .unwrap()
}

#[tokio::test]
async fn files_of_whisper_cpp_and_gguf_files_are_read() {
    let place = tempfile::tempdir().unwrap();
    for (dtype, kind) in [
        (GgmlDType::F16, 1),
        (GgmlDType::Q5_0, 6),
        (GgmlDType::Q8_0, 8),
    ] {
        let file = place.path().join(format!("ggml-{kind}.bin"));
        fs::write(&file, ggml(dtype, kind)).unwrap();
        let text = text_by(&file).await;
        assert!(
            text.contains("fellow Americans") && text.contains("country"),
            "{dtype:?}: {text}"
        );
        let memory = Files::recognize(&file).unwrap().memory().unwrap();
        assert!(
            (140 << 20..160 << 20).contains(&memory.weights),
            "{memory:?}"
        );
    }
    let beside = place.path().join("folder");
    fs::create_dir(&beside).unwrap();
    for name in ["config.json", "tokenizer.json"] {
        fs::copy(folder().join(name), beside.join(name)).unwrap();
    }
    let tensors = weights();
    let quantized: Vec<(&String, QTensor)> = tensors
        .iter()
        .map(|(name, tensor)| {
            (
                name,
                QTensor::quantize(tensor, dtype(tensor, GgmlDType::Q8_0)).unwrap(),
            )
        })
        .collect();
    let named: Vec<(&str, &QTensor)> = quantized
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor))
        .collect();
    let mut file = fs::File::create(beside.join("model-q80.gguf")).unwrap();
    gguf_file::write(&mut file, &[], &named).unwrap();
    let text = text_by(&beside).await;
    assert!(text.contains("fellow Americans"), "{text}");
}

#[test]
fn damaged_files_are_errors_that_name_the_file() {
    let place = tempfile::tempdir().unwrap();
    let whole = ggml(GgmlDType::Q8_0, 8);
    let file = place.path().join("ggml.bin");
    for length in [4, 60, 70_000, 700_000, whole.len() - 1] {
        fs::write(&file, &whole[..length]).unwrap();
        match Files::recognize(&file) {
            None => assert!(length < 70_000, "{length}"),
            Some(files) => {
                let error = files.memory().unwrap_err().to_string();
                assert!(error.contains("ggml.bin"), "{length}: {error}");
            }
        }
    }
    let damaged = place.path().join("folder");
    fs::create_dir(&damaged).unwrap();
    let name = |name: &str| damaged.join(name);
    fs::copy(folder().join("config.json"), name("config.json")).unwrap();
    let files = Files::recognize(&damaged).unwrap();
    let refused = |part: &str| {
        let options = WhisperOptions {
            name: "m".to_owned(),
            files: files.clone(),
            longest: Duration::from_mins(1),
        };
        let error = Whisper::open(&options).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    refused("tokenizer.json or vocab.json");
    fs::copy(folder().join("tokenizer.json"), name("tokenizer.json")).unwrap();
    refused("model.safetensors");
    let weights = fs::read(folder().join("model.safetensors")).unwrap();
    for (content, part) in [
        (&weights[..4], "cannot read"),
        (&weights[..1000], "safetensors"),
        (&weights[..weights.len() - 1], "cut short"),
        (b"\x02\0\0\0\0\0\0\0{}", "has no tensor"),
        (
            b"\xff\xff\xff\xff\xff\xff\xff\xff{}",
            "not a safetensors file",
        ),
    ] {
        fs::write(name("model.safetensors"), content).unwrap();
        refused(part);
    }
    for (from, to) in [
        ("\"d_model\": 384", "\"d_model\": 0"),
        ("\"vocab_size\": 51864", "\"vocab_size\": 99999999999"),
        ("\"encoder_layers\": 4", "\"encoder_layers\": 4000"),
    ] {
        let config = fs::read_to_string(folder().join("config.json")).unwrap();
        assert!(config.contains(from));
        fs::write(name("config.json"), config.replace(from, to)).unwrap();
        refused("no Whisper model has these sizes");
    }
    fs::write(name("config.json"), r#"{"model_type": "llama"}"#).unwrap();
    assert_eq!(Files::recognize(&damaged), None);
}
