use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use loggia_api::{Ended, Outcome};
use loggia_backend::ServedBy;
use loggia_wire::openai::CompletionUsage;

use super::*;

/// A chat with this model that has ended.
struct Chat {
    ended: Ended,
    is_stream: bool,
    is_of_batch: bool,
}

impl Chat {
    fn of(model: &str) -> Self {
        let mut ended = Ended::new(Outcome::Complete);
        ended.model = Some(model.into());
        Self {
            ended,
            is_stream: false,
            is_of_batch: false,
        }
    }

    fn served_by(mut self, backend: &str, model: &str) -> Self {
        self.ended.served_by = Some(ServedBy::new(backend, model));
        self
    }

    fn record(&self, metrics: &Metrics) {
        let opened = Instant::now();
        let mut ended = self.ended.clone();
        let first = opened + Duration::from_millis(200);
        ended.first_token_at = self.is_stream.then_some(first);
        metrics.closed(&Closed {
            id: None,
            trace: None,
            key: None,
            method: &Method::POST,
            route: Some("/v1/chat/completions"),
            status: Some(StatusCode::OK),
            ended: &ended,
            opened,
            took: Duration::from_millis(500),
            is_stream: self.is_stream,
            is_http2: false,
            is_of_batch: self.is_of_batch,
            background: None,
        });
    }
}

/// The value of a series.
fn value(metrics: &Metrics, series: &str) -> Option<f64> {
    let text = metrics.text();
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    line.map(|value| value.trim().parse().unwrap())
}

fn requests(model: &str, backend: &str) -> String {
    format!(
        r#"loggia_requests_total{{backend="{backend}",model="{model}",outcome="complete",route="/v1/chat/completions",status="200"}}"#
    )
}

#[test]
fn requests_are_counted_by_the_model_and_the_backend_that_served_them() {
    let metrics = Metrics::default();
    Chat::of("gpt-4o")
        .served_by("gpu", "qwen3")
        .record(&metrics);
    Chat::of("gpt-4").served_by("gpu", "qwen3").record(&metrics);
    // Now another backend serves the name.
    Chat::of("gpt-4o")
        .served_by("cpu", "qwen3")
        .record(&metrics);
    Chat::of("gpt-4o")
        .served_by("gpu", "qwen3")
        .record(&metrics);
    assert_eq!(value(&metrics, &requests("qwen3", "gpu")), Some(3.0));
    assert_eq!(value(&metrics, &requests("qwen3", "cpu")), Some(1.0));
}

#[test]
fn a_name_that_no_backend_serves_makes_no_series() {
    let metrics = Metrics::default();
    for number in 0..5 {
        Chat::of(&format!("secret-{number}\"\n")).record(&metrics);
    }
    Chat::of("known").served_by("gpu", "m").record(&metrics);
    // A request for a known name that was refused.
    Chat::of("known").record(&metrics);
    assert_eq!(value(&metrics, &requests("other", "")), Some(5.0));
    assert_eq!(value(&metrics, &requests("m", "gpu")), Some(2.0));
    assert!(!metrics.text().contains("secret"));
}

#[test]
fn the_number_of_models_and_of_codes_is_limited() {
    let metrics = Metrics::default();
    for number in 0..400 {
        let name = format!("model-{number}");
        let mut chat = Chat::of(&name).served_by("gpu", &name);
        chat.ended.error = Some(format!("code_{number}").into());
        chat.record(&metrics);
    }
    assert_eq!(value(&metrics, &requests("other", "")), Some(200.0));
    let of_others = r#"loggia_errors_total{code="other",route="/v1/chat/completions"}"#;
    assert_eq!(value(&metrics, of_others), Some(300.0));
    // Known models are still counted by name.
    Chat::of("model-3")
        .served_by("gpu", "model-3")
        .record(&metrics);
    assert_eq!(value(&metrics, &requests("model-3", "gpu")), Some(2.0));
}

#[test]
fn a_code_that_is_no_word_is_not_shown() {
    let metrics = Metrics::default();
    let mut chat = Chat::of("m");
    let long = "x".repeat(65);
    for code in ["the prompt was: secret", "", &long, "model_not_found"] {
        chat.ended.error = Some(code.into());
        chat.record(&metrics);
    }
    let errors = |code| {
        let series =
            format!(r#"loggia_errors_total{{code="{code}",route="/v1/chat/completions"}}"#);
        value(&metrics, &series)
    };
    assert_eq!(errors("other"), Some(3.0));
    assert_eq!(errors("model_not_found"), Some(1.0));
}

#[test]
fn tokens_and_times_are_those_of_the_answers() {
    let metrics = Metrics::default();
    let mut chat = Chat::of("m").served_by("gpu", "m");
    let mut usage = CompletionUsage::new(10, 4);
    usage.prompt_tokens_details = Some(serde_json::from_str(r#"{"cached_tokens":8}"#).unwrap());
    chat.ended.usage = Some(usage);
    chat.ended.waited = Some(Duration::from_millis(30));
    chat.is_stream = true;
    chat.record(&metrics);
    // The first token of this answer arrived with the last one.
    chat.is_stream = false;
    chat.record(&metrics);
    // No client waits for a line of a batch.
    chat.is_of_batch = true;
    chat.record(&metrics);
    let of_model = |name: &str| value(&metrics, &format!(r#"{name}{{backend="gpu",model="m"}}"#));
    assert_eq!(of_model("loggia_prompt_tokens_total"), Some(30.0));
    assert_eq!(of_model("loggia_cached_prompt_tokens_total"), Some(24.0));
    assert_eq!(of_model("loggia_completion_tokens_total"), Some(12.0));
    assert_eq!(of_model("loggia_prompt_cache_hits_total"), Some(3.0));
    assert_eq!(of_model("loggia_queue_wait_seconds_count"), Some(2.0));
    assert_eq!(
        of_model("loggia_time_to_first_token_seconds_count"),
        Some(1.0)
    );
    assert_eq!(
        of_model("loggia_time_to_first_token_seconds_sum"),
        Some(0.2)
    );
    let each = of_model("loggia_time_per_output_token_seconds_sum").unwrap();
    assert!((each - 0.1).abs() < 1e-9, "{each}");
}

#[test]
fn readings_with_labels_are_read_for_each_scrape() {
    let metrics = Metrics::default();
    let gauge = InFlight::default();
    let read = gauge.clone();
    metrics.read_with(move || {
        let count = super::gauge("loggia_test", "A test.", &read);
        vec![
            count.clone().with("model", "a \"b\""),
            count.with("model", "c"),
            Reading::new("loggia_test", "Without the label.", 7.0),
            Reading::new("loggia_test_total", "A counter.", 9.0),
        ]
    });
    let _entered = gauge.enter();
    let text = metrics.text();
    assert!(
        text.contains("# TYPE loggia_test gauge\nloggia_test{model=\"a \\\"b\\\"\"} 1\n"),
        "{text}"
    );
    assert!(
        text.contains("# TYPE loggia_test_total counter\nloggia_test_total 9\n"),
        "{text}"
    );
    assert!(!text.contains("loggia_test 7"), "{text}");
}
