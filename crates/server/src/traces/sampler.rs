//! [`Sampler`]: which requests have spans.

use loggia_backend::Trace;
use opentelemetry::trace::{SpanKind, TraceId};
use opentelemetry_sdk::trace::{SamplingDecision, ShouldSample as _};
use thiserror::Error;

/// Decides which requests have spans, by the names of `OTEL_TRACES_SAMPLER`.
#[derive(Clone, Debug)]
pub struct Sampler {
    /// Whether a request that is part of a trace has spans if and only if its sender records them.
    follows_sender: bool,
    others: opentelemetry_sdk::trace::Sampler,
}

/// The value of `OTEL_TRACES_SAMPLER` or `OTEL_TRACES_SAMPLER_ARG` is invalid.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadSampler {
    /// The name.
    #[error(
        "OTEL_TRACES_SAMPLER is `{0}`; it may be always_on, always_off, traceidratio, parentbased_always_on, parentbased_always_off or parentbased_traceidratio"
    )]
    Name(String),
    /// The part of requests.
    #[error("OTEL_TRACES_SAMPLER_ARG is `{0}`; it must be a number from 0 to 1, as 0.1")]
    Ratio(String),
}

/// Requests have spans if their sender records them, or if they are part of no trace.
impl Default for Sampler {
    fn default() -> Self {
        Self {
            follows_sender: true,
            others: opentelemetry_sdk::trace::Sampler::AlwaysOn,
        }
    }
}

impl Sampler {
    /// Returns the sampler with this name. `argument` is for those with a ratio, whose default is 1.
    ///
    /// # Errors
    /// Fails if there is no such sampler, or if the argument is no number from 0 to 1.
    pub fn named(name: &str, argument: Option<&str>) -> Result<Self, BadSampler> {
        use opentelemetry_sdk::trace::Sampler as Of;
        let base = name.strip_prefix("parentbased_");
        let others = match base.unwrap_or(name) {
            "always_on" => Of::AlwaysOn,
            "always_off" => Of::AlwaysOff,
            "traceidratio" => Of::TraceIdRatioBased(argument.map_or(Ok(1.0), ratio)?),
            _ => return Err(BadSampler::Name(name.to_owned())),
        };
        Ok(Self {
            follows_sender: base.is_some(),
            others,
        })
    }

    /// Returns whether a request has spans. `sender` is the trace that it says it is part of.
    pub(super) fn samples(&self, sender: Option<&Trace>, id: TraceId) -> bool {
        match sender {
            Some(sender) if self.follows_sender => sender.is_sampled(),
            _ => {
                let kind = &SpanKind::Server;
                let result = self.others.should_sample(None, id, "", kind, &[], &[]);
                result.decision == SamplingDecision::RecordAndSample
            }
        }
    }
}

fn ratio(text: &str) -> Result<f64, BadSampler> {
    let ratio = text.trim().parse().ok();
    let ratio = ratio.filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or_else(|| BadSampler::Ratio(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn sender(flags: &str) -> Trace {
        let parent = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", parent.parse().expect("a value"));
        *Trace::of(&headers).expect("a trace")
    }

    /// What a sampler decides for a sender that records, one that does not, and for none.
    fn decided(name: &str, argument: Option<&str>) -> [bool; 3] {
        let sampler = Sampler::named(name, argument).expect("a sampler");
        let id = TraceId::from(7);
        [
            sampler.samples(Some(&sender("01")), id),
            sampler.samples(Some(&sender("00")), id),
            sampler.samples(None, id),
        ]
    }

    #[test]
    fn each_name_of_opentelemetry_decides_as_it_says() {
        assert_eq!(decided("always_on", None), [true; 3]);
        assert_eq!(decided("always_off", None), [false; 3]);
        assert_eq!(decided("traceidratio", None), [true; 3]);
        assert_eq!(decided("traceidratio", Some("0")), [false; 3]);
        assert_eq!(decided("parentbased_always_on", None), [true, false, true]);
        assert_eq!(
            decided("parentbased_always_off", None),
            [true, false, false]
        );
        let ratio = decided("parentbased_traceidratio", Some("0.0"));
        assert_eq!(ratio, [true, false, false]);
    }

    #[test]
    fn a_ratio_samples_that_part_of_the_traces() {
        let sampler = Sampler::named("traceidratio", Some("0.25")).expect("a sampler");
        // Ids are spread evenly over all numbers.
        let ids = (0..1000_u128).map(|number| TraceId::from(number * (u128::MAX / 1000)));
        let count = ids.filter(|id| sampler.samples(None, *id)).count();
        assert!((200..300).contains(&count), "{count}");
    }

    #[test]
    fn other_names_and_numbers_are_refused() {
        let name = Sampler::named("jaeger_remote", None).map(|_| ());
        assert_eq!(name, Err(BadSampler::Name("jaeger_remote".to_owned())));
        for wrong in ["", "2", "-0.1", "NaN", "half"] {
            let ratio = Sampler::named("traceidratio", Some(wrong)).map(|_| ());
            assert_eq!(ratio, Err(BadSampler::Ratio(wrong.to_owned())));
        }
    }
}
