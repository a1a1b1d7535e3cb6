//! [`Trace`]: the trace that a client's request belongs to, as its headers say (W3C Trace Context).
//! Engines get the same headers, so that their spans are part of the trace.

use http::{HeaderMap, HeaderName, HeaderValue};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The longest `tracestate` that must be passed on.
const LONGEST_STATE: usize = 512;

/// The trace that a request belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    parent: HeaderValue,
    state: Option<HeaderValue>,
}

impl Trace {
    /// Reads the headers of a request. Returns `None` without a valid `traceparent`. Boxed, because
    /// most requests have none.
    pub fn of(headers: &HeaderMap) -> Option<Box<Self>> {
        let mut parents = headers.get_all(TRACEPARENT).iter();
        let parent = parents.next()?;
        if parents.next().is_some() || !is_traceparent(parent.as_bytes()) {
            return None;
        }
        let state = headers.get(TRACESTATE);
        let state = state.filter(|state| state.len() <= LONGEST_STATE);
        Some(Box::new(Self {
            parent: parent.clone(),
            state: state.cloned(),
        }))
    }

    /// Returns the id of the trace, in hexadecimal.
    pub fn trace_id(&self) -> &str {
        self.part(3, 35)
    }

    /// Returns the id of the span that the request is a part of, in hexadecimal.
    pub fn span_id(&self) -> &str {
        self.part(36, 52)
    }

    /// Returns whether the sender records the trace.
    pub fn is_sampled(&self) -> bool {
        u8::from_str_radix(self.part(53, 55), 16).is_ok_and(|flags| flags & 1 == 1)
    }

    /// A part of the parent, whose form was checked.
    fn part(&self, from: usize, to: usize) -> &str {
        let parent = self.parent.to_str().ok();
        parent.and_then(|parent| parent.get(from..to)).unwrap_or("")
    }

    /// Returns the same trace with another parent: the value of a `traceparent`. `None` if that is
    /// invalid.
    pub fn below(&self, parent: HeaderValue) -> Option<Box<Self>> {
        is_traceparent(parent.as_bytes()).then(|| {
            Box::new(Self {
                parent,
                state: self.state.clone(),
            })
        })
    }

    /// Adds the headers to a request.
    pub(crate) fn add_to(&self, headers: &mut HeaderMap) {
        headers.insert(TRACEPARENT, self.parent.clone());
        if let Some(state) = &self.state {
            headers.insert(TRACESTATE, state.clone());
        }
    }
}

/// Whether a value is `00-{trace}-{span}-{flags}` in lowercase hex digits, with ids that are not
/// zero.
fn is_traceparent(value: &[u8]) -> bool {
    let mut parts = value.split(|byte| *byte == b'-');
    let mut has_part = |length: usize, may_be_zero: bool| {
        parts.next().is_some_and(|part| {
            let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            part.len() == length
                && part.iter().all(is_hex)
                && (may_be_zero || part.iter().any(|byte| *byte != b'0'))
        })
    };
    let is_well = value.starts_with(b"00-")
        && has_part(2, true)
        && has_part(32, false)
        && has_part(16, false)
        && has_part(2, true);
    is_well && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn trace(headers: &[(HeaderName, &str)]) -> Option<Box<Trace>> {
        let mut all = HeaderMap::new();
        for (name, value) in headers {
            all.append(name, value.parse().unwrap());
        }
        Trace::of(&all)
    }

    #[test]
    fn a_valid_traceparent_and_its_state_are_passed_on() {
        let found = trace(&[(TRACEPARENT, PARENT), (TRACESTATE, "a=1")]).unwrap();
        let mut headers = HeaderMap::new();
        found.add_to(&mut headers);
        assert_eq!(headers[TRACEPARENT], PARENT);
        assert_eq!(headers[TRACESTATE], "a=1");
        let long = "a=".to_owned() + &"1".repeat(511);
        let found = trace(&[(TRACEPARENT, PARENT), (TRACESTATE, &long)]).unwrap();
        assert_eq!(found.state, None);
    }

    #[test]
    fn the_parts_of_a_traceparent_are_read() {
        let sampled = trace(&[(TRACEPARENT, PARENT), (TRACESTATE, "a=1")]).unwrap();
        assert_eq!(sampled.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(sampled.span_id(), "00f067aa0ba902b7");
        assert!(sampled.is_sampled());
        let other = "00-4bf92f3577b34da6a3ce929d0e0e4736-1111111111111111-02";
        let below = sampled.below(HeaderValue::from_static(other)).unwrap();
        assert_eq!(below.span_id(), "1111111111111111");
        assert!(!below.is_sampled());
        assert_eq!(below.state, sampled.state);
        assert_eq!(sampled.below(HeaderValue::from_static("x")), None);
    }

    #[test]
    fn anything_else_is_no_trace() {
        assert_eq!(trace(&[(TRACESTATE, "a=1")]), None);
        assert_eq!(trace(&[(TRACEPARENT, PARENT), (TRACEPARENT, PARENT)]), None);
        let upper = PARENT.to_uppercase();
        let longer = format!("{PARENT}-00");
        for wrong in [
            "",
            "secret words",
            &PARENT[..54],
            &*longer,
            &*upper,
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        ] {
            assert_eq!(trace(&[(TRACEPARENT, wrong)]), None, "{wrong}");
        }
    }
}
