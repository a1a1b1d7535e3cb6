//! Divides the tokens that a step has room for among the prompts. Pure.

/// The number of prompt tokens that is efficient to compute together. llama.cpp's attention works
/// in tiles of 64 rows, and one more row is computed together with the tokens of the running
/// answers.
pub(super) const QUANTUM: usize = 65;

/// Gives each prompt a share of `room` tokens. Each prompt first gets a quantum, in order, or less
/// if it needs less; then another one, as long as there is room. `wants` has the number of tokens
/// that each prompt needs.
pub(super) fn share(room: usize, wants: &[usize]) -> Vec<usize> {
    let mut parts = vec![0; wants.len()];
    let mut left = room;
    loop {
        let before = left;
        for (part, &want) in parts.iter_mut().zip(wants) {
            let more = QUANTUM.min(want - *part).min(left);
            *part += more;
            left -= more;
        }
        if left == before {
            return parts;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_get_a_quantum_each_until_the_room_is_used() {
        assert_eq!(share(100, &[1000, 1000, 1000]), [65, 35, 0]);
        assert_eq!(
            share(256, &[40, 40, 40, 40, 40, 40, 40, 40]),
            [40, 40, 40, 40, 40, 40, 16, 0]
        );
    }

    #[test]
    fn what_is_left_is_given_in_quanta_again() {
        assert_eq!(share(256, &[1000]), [256]);
        assert_eq!(share(256, &[1000, 10, 1000]), [130, 10, 116]);
        assert_eq!(share(64, &[3, 4]), [3, 4]);
    }

    #[test]
    fn nothing_is_given_to_nobody() {
        assert_eq!(share(10, &[]), [0; 0]);
        assert_eq!(share(0, &[4]), [0]);
        assert_eq!(share(10, &[0, 0]), [0, 0]);
    }
}
