//! Chooses the inputs of the next batch in turns, one from each request, so that a request with two
//! thousand inputs does not delay a request with one.
//!
//! Pure: it takes lengths and returns indexes.

/// An input in a batch: the index of its request, and its index in that request.
pub(super) type BatchInput = (usize, usize);

/// Fills a batch of at most `room` tokens and `most` inputs. `requests` has the lengths of the
/// remaining inputs of each request, in order. The first request has the next turn, and its first
/// input always fits.
pub(super) fn fill(requests: &[&[usize]], room: usize, most: usize) -> Vec<BatchInput> {
    let mut places = Vec::new();
    let mut left = room;
    let mut next = vec![0; requests.len()];
    loop {
        let before = places.len();
        for (request, lengths) in requests.iter().enumerate() {
            let Some(&length) = lengths.get(next[request]) else {
                continue;
            };
            if length <= left && places.len() < most {
                places.push((request, next[request]));
                left -= length;
                next[request] += 1;
            }
        }
        if places.len() == before {
            return places;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_an_input_in_the_batch_before_anybody_has_two() {
        assert_eq!(
            fill(&[&[2, 2, 2], &[3], &[1, 1]], 100, 100),
            [(0, 0), (1, 0), (2, 0), (0, 1), (2, 1), (0, 2)]
        );
        assert_eq!(fill(&[&[2; 9], &[3]], 100, 3), [(0, 0), (1, 0), (0, 1)]);
    }

    #[test]
    fn what_does_not_fit_waits_and_the_order_within_a_request_stays() {
        assert_eq!(fill(&[&[6], &[6, 1], &[4]], 10, 9), [(0, 0), (2, 0)]);
        assert_eq!(fill(&[&[10], &[1]], 10, 9), [(0, 0)]);
        assert_eq!(fill(&[], 10, 9), []);
    }
}
