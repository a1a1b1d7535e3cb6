//! How the room in a step is divided among prompts. Pure.

/// Gives each of those who want tokens a fair part of the room: nobody gets more than wanted, and what one leaves goes to the others.
/// Where the room cannot be divided evenly, those who came first get the odd tokens.
pub(super) fn share(room: usize, wants: &[usize]) -> Vec<usize> {
    let mut parts = vec![0; wants.len()];
    let mut left = room;
    loop {
        let hungry: Vec<usize> = (0..wants.len()).filter(|&i| parts[i] < wants[i]).collect();
        if hungry.is_empty() || left == 0 {
            return parts;
        }
        let each = (left / hungry.len()).max(1);
        for i in hungry {
            let part = each.min(wants[i] - parts[i]).min(left);
            parts[i] += part;
            left -= part;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_is_shared_evenly() {
        assert_eq!(share(60, &[1000, 1000, 1000]), [20, 20, 20]);
    }

    #[test]
    fn what_a_short_prompt_leaves_goes_to_the_long_ones() {
        assert_eq!(share(60, &[1000, 10, 1000]), [25, 10, 25]);
        assert_eq!(share(64, &[3, 4]), [3, 4]);
    }

    #[test]
    fn the_first_get_what_cannot_be_divided() {
        assert_eq!(share(2, &[5, 5, 5]), [1, 1, 0]);
        assert_eq!(share(7, &[5, 5]), [4, 3]);
    }

    #[test]
    fn nothing_is_given_to_nobody() {
        assert_eq!(share(10, &[]), [0; 0]);
        assert_eq!(share(0, &[4]), [0]);
        assert_eq!(share(10, &[0, 0]), [0, 0]);
    }
}
