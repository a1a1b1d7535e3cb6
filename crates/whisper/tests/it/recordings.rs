//! Recordings of all kinds.

use loggia_backend::BackendError;
use serde_json::Value;

use super::{WHISPER, answer, call, repository, samples, silence, speech, text, wav};

#[tokio::test]
async fn a_recording_is_understood_in_each_format_that_is_read() {
    let samples = samples();
    let third: Vec<i16> = samples.iter().step_by(2).copied().collect();
    let mp3 = std::fs::read(repository().join("fixtures/speech/jfk.mp3")).unwrap();
    for (name, file) in [
        ("16 kHz", speech()),
        ("8 kHz, two channels", wav(8_000, 2, &third)),
        ("MP3", mp3),
    ] {
        let text = text(file).await.unwrap();
        assert!(
            text.contains("fellow Americans") && text.contains("country"),
            "{name}: {text}"
        );
    }
}

#[tokio::test]
async fn silence_is_empty_text_and_so_is_noise() {
    assert_eq!(text(silence(16_000)).await.unwrap(), "");
    let json = answer(
        &WHISPER,
        call(silence(40_000), &[("response_format", "verbose_json")]),
    )
    .await
    .unwrap();
    assert!(json.contains(r#""segments":[]"#), "{json}");
    let srt = answer(
        &WHISPER,
        call(silence(40_000), &[("response_format", "srt")]),
    )
    .await
    .unwrap();
    assert_eq!(srt, "");
}

#[tokio::test]
async fn a_long_recording_is_heard_in_windows_and_its_times_go_on() {
    // A pause of 25 s, so that the second part lies in the second window.
    let mut long = samples();
    long.extend(std::iter::repeat_n(0, 25 * 16_000));
    long.extend(samples());
    let fields = [("response_format", "verbose_json")];
    let json = answer(&WHISPER, call(wav(16_000, 1, &long), &fields))
        .await
        .unwrap();
    let verbose: Value = serde_json::from_str(&json).unwrap();
    let text = verbose["text"].as_str().unwrap();
    assert_eq!(text.matches("fellow Americans").count(), 2, "{text}");
    let segments = verbose["segments"].as_array().unwrap();
    let second = segments
        .iter()
        .rfind(|one| one["text"].as_str().unwrap().contains("Americans"));
    let time = |name: &str| second.unwrap()[name].as_f64().unwrap();
    assert!(
        (30.0..38.0).contains(&time("start")) && time("end") > 43.0,
        "{json}"
    );
    let ids: Vec<u64> = segments
        .iter()
        .map(|one| one["id"].as_u64().unwrap())
        .collect();
    assert_eq!(ids, (0..ids.len() as u64).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_cannot_be_heard_is_refused() {
    let mut ogg = b"OggS".to_vec();
    ogg.resize(5000, 7);
    let mut broken = speech();
    broken.truncate(30);
    for (file, code, part) in [
        (ogg, "unsupported_format", "Ogg (Opus or Vorbis)"),
        (
            b"no sound at all".to_vec(),
            "unsupported_format",
            "WAV (PCM",
        ),
        (broken, "invalid_file", "not a valid WAV file"),
        (silence(1_000), "invalid_file", "shorter than 0.1 seconds"),
        (
            silence(16_000 * 121),
            "invalid_file",
            "longer than 2 minutes",
        ),
        (
            [b"ID3\x04\0\0\0\0\0\0".to_vec(), vec![0; 4000]].concat(),
            "invalid_file",
            "not a valid MP3 file",
        ),
    ] {
        match text(file).await.unwrap_err() {
            BackendError::InvalidRequest {
                message,
                param,
                code: found,
            } => {
                assert_eq!(
                    (param.as_deref(), found.as_deref()),
                    (Some("file"), Some(code)),
                    "{message}"
                );
                assert!(message.contains(part), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_head_that_does_not_know_the_length_is_no_obstacle() {
    let mut file = speech();
    let at = file.windows(4).position(|bytes| bytes == b"data").unwrap() + 4;
    for length in [u32::MAX, 0x7FFF_F000] {
        file[at..at + 4].copy_from_slice(&length.to_le_bytes());
        let text = text(file.clone()).await.unwrap();
        assert!(text.contains("fellow Americans"), "{length:x}: {text}");
    }
}
