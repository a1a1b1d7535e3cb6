//! Keys and values in fewer bits: less memory, an answer, and states that are not mixed up.

use std::path::Path;

use crate::support::family::{self, Family};
use crate::support::{ask, call, long_text, model, open};
use loggia_llama::{CacheDisk, CacheType, Forecast, LlamaOptions};
use serde_json::json;

const ALL: [CacheType; 3] = [CacheType::F16, CacheType::Q8_0, CacheType::Q4_0];

#[test]
fn a_type_with_fewer_bits_needs_less_memory() {
    let cache = |keys, values| {
        let mut options = LlamaOptions::new(model(), "m");
        options.cache_type_k = keys;
        options.cache_type_v = values;
        Forecast::of(&options).unwrap().cache
    };
    let [f16, q8, q4] = ALL.map(|of| cache(of, of));
    // 32 numbers take 64, 34 and 18 bytes.
    assert_eq!((q8, q4), (f16 / 64 * 34, f16 / 64 * 18));
    let mixed = cache(CacheType::Q8_0, CacheType::Q4_0);
    assert_eq!(mixed, f16 / 128 * (34 + 18));
}

#[tokio::test]
async fn a_cached_state_is_used_by_engines_with_its_types_only() {
    let folder = tempfile::tempdir().unwrap();
    let mut texts = Vec::new();
    for (keys, values) in [
        (CacheType::F16, CacheType::F16),
        (CacheType::Q8_0, CacheType::Q8_0),
        (CacheType::Q8_0, CacheType::Q4_0),
        (CacheType::F16, CacheType::Q4_0),
    ] {
        // An engine with another cache type finds nothing; the same engine then finds the prompt
        // that it has read.
        for expected in [false, true] {
            let llama = open(|options| with_types(options, keys, values, folder.path()));
            let text = long_text("What is the capital of France? Answer in one word.", 200);
            let asked = call(&text, json!({"temperature": 0, "max_tokens": 8}));
            let whole = ask(&llama, asked).await;
            assert_eq!(whole.error, None);
            assert_eq!(
                whole.cached() > 150,
                expected,
                "{keys} {values} {:?}",
                whole.usage()
            );
            texts.push(whole.text);
        }
    }
    // A restored state gives the same answer.
    for pair in texts.chunks(2) {
        assert_eq!(pair[0], pair[1]);
    }
}

fn with_types(options: &mut LlamaOptions, keys: CacheType, values: CacheType, folder: &Path) {
    options.parallel = 1;
    options.cache_type_k = keys;
    options.cache_type_v = values;
    options.cache_disk = Some(CacheDisk {
        folder: folder.to_owned(),
        bytes: 256 << 20,
    });
}

#[test]
fn a_model_that_cannot_have_a_type_is_refused_with_the_settings_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("family.gguf");
    std::fs::write(&path, family::gguf(Family::SlidingWindow)).unwrap();
    let refused = |change: fn(&mut LlamaOptions)| {
        let mut options = LlamaOptions::new(&path, "family");
        change(&mut options);
        let loaded = loggia_llama::open(&options).err().unwrap();
        let forecast = Forecast::of(&options).unwrap_err().to_string();
        assert_eq!(loaded.to_string(), forecast);
        forecast
    };
    assert_eq!(
        refused(|options| options.cache_type_k = CacheType::Q8_0),
        "cache_type_k = q8_0 cannot be used with this model: its heads have 16 numbers, which cannot be divided into blocks of 32; use f16"
    );
    let values = refused(|options| options.cache_type_v = CacheType::Q4_0);
    assert!(values.starts_with("cache_type_v = q4_0 cannot"), "{values}");
    // A model without keys and values has nothing to refuse.
    std::fs::write(&path, family::gguf(Family::Recurrent)).unwrap();
    let mut options = LlamaOptions::new(&path, "family");
    options.cache_type_k = CacheType::Q4_0;
    assert!(Forecast::of(&options).is_ok());
}
