//! What the formats hold.

use serde_json::Value;

use super::{WHISPER, WORDS, answer, call, samples, speech, wav};

fn float(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

#[tokio::test]
async fn a_segment_has_all_fields_and_words_are_where_they_are_spoken() {
    let fields = [
        ("response_format", "verbose_json"),
        ("timestamp_granularities[]", "word"),
        ("timestamp_granularities[]", "segment"),
    ];
    let json = answer(&WHISPER, call(speech(), &fields)).await.unwrap();
    let verbose: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(verbose["text"], WORDS);
    assert_eq!(
        (&verbose["language"], &verbose["usage"]["seconds"]),
        (&"english".into(), &11.0.into())
    );
    assert!((float(&verbose["duration"]) - 11.0).abs() < 0.01);
    let segment = &verbose["segments"][0];
    assert!(
        float(&segment["no_speech_prob"]) < 0.1 && float(&segment["avg_logprob"]) > -0.5,
        "{segment}"
    );
    // The speaker pauses once, and the model makes a segment of each part.
    let segments = verbose["segments"].as_array().unwrap();
    let last = segments.last().unwrap();
    assert!(
        float(&last["end"]) > 9.0 && float(&last["end"]) < 11.01,
        "{last}"
    );
    for pair in segments.windows(2) {
        assert!(
            float(&pair[0]["end"]) <= float(&pair[1]["start"]),
            "{pair:?}"
        );
    }
    let words = verbose["words"].as_array().unwrap();
    let spelt: Vec<&str> = words
        .iter()
        .map(|word| word["word"].as_str().unwrap())
        .collect();
    assert_eq!(spelt.join(" "), WORDS);
    // By ear: "country" is first said at 5.9 s, "ask what" begins at 8.1 s.
    let begins = |place: usize| float(&words[place]["start"]);
    assert!((begins(9) - 5.9).abs() < 0.5, "{words:?}");
    assert!((begins(14) - 8.1).abs() < 0.5, "{words:?}");
    for pair in words.windows(2) {
        assert!(
            float(&pair[0]["end"]) <= float(&pair[1]["start"]) + 0.001,
            "{pair:?}"
        );
    }
}

#[tokio::test]
async fn a_stream_has_a_piece_for_each_segment_and_counts_tokens() {
    let twice = [samples(), samples()].concat();
    let fields = [("stream", "true"), ("include[]", "logprobs")];
    let events = answer(&WHISPER, call(wav(16_000, 1, &twice), &fields))
        .await
        .unwrap();
    let events = events
        .split("\n\n")
        .filter_map(|event| event.strip_prefix("data: "));
    let events: Vec<Value> = events
        .map(|event| serde_json::from_str(event).unwrap())
        .collect();
    let (done, deltas) = events.split_last().unwrap();
    assert!(deltas.len() >= 2, "{deltas:?}");
    let joined: String = deltas
        .iter()
        .map(|delta| delta["delta"].as_str().unwrap())
        .collect();
    assert_eq!(done["text"], joined.trim());
    // The text repeats itself, so tokens are chosen by chance, and not every word is right.
    assert!(joined.matches("country").count() >= 3, "{joined}");
    assert!(done["usage"]["output_tokens"].as_u64().unwrap() > 40);
    let logprobs = done["logprobs"].as_array().unwrap();
    assert!(
        logprobs.iter().all(
            |one| float(&one["logprob"]) <= 0.0 && !one["bytes"].as_array().unwrap().is_empty()
        )
    );
    let first = deltas[0]["logprobs"][0]["token"].as_str().unwrap();
    assert_eq!(first.to_lowercase(), " and");
}

#[tokio::test]
async fn a_prompt_changes_the_spelling() {
    let with_prompt = [
        (
            "prompt",
            "AND SO MY FELLOW AMERICANS, WE WRITE EVERYTHING IN CAPITALS.",
        ),
        ("response_format", "text"),
    ];
    let capitals = answer(&WHISPER, call(speech(), &with_prompt))
        .await
        .unwrap();
    assert!(capitals.contains("AMERICANS"), "{capitals}");
}
