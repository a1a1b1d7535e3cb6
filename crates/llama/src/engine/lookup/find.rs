//! Finds earlier occurrences of the end of a text. Pure.

use crate::Token;

/// The number of tokens from which a longer match says no more.
const LONGEST: usize = 32;

/// An earlier place in the text that is like its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// The number of tokens that the earlier place and the end of the text have in common.
    pub(super) matched: usize,
    /// The tokens that followed the earlier place.
    pub(super) tokens: Vec<Token>,
}

/// Finds the earlier place that has most tokens in common with the end of the text (the last one of
/// several), and returns up to `most` tokens that follow it. If they reach the end of the text, they
/// continue as if the text repeated itself.
///
/// The search reads the whole text. Even 100,000 tokens take less time than a hundredth of a step.
pub(super) fn find(text: &[Token], most: usize) -> Option<Found> {
    let (last, before) = text.split_last()?;
    let mut best: Option<(usize, usize)> = None;
    for at in (0..before.len()).rev() {
        if before[at] != *last {
            continue;
        }
        let longer = before[..at].iter().rev().zip(before.iter().rev());
        let more = longer
            .take(LONGEST - 1)
            .take_while(|(earlier, own)| earlier == own)
            .count();
        let matched = 1 + more;
        if best.is_none_or(|(longest, _)| matched > longest) {
            best = Some((matched, at + 1));
        }
        if matched >= LONGEST {
            break;
        }
    }
    let (matched, from) = best?;
    let tokens = text[from..].iter().cycle().take(most).copied().collect();
    Some(Found { matched, tokens })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &[Token], most: usize) -> Option<(usize, Vec<Token>)> {
        find(text, most).map(|found| (found.matched, found.tokens))
    }

    #[test]
    fn what_followed_the_longest_match_is_found_and_the_last_of_equals() {
        let text = [9, 1, 2, 3, 5, 8, 1, 2, 3, 6, 9, 1, 2, 3];
        assert_eq!(found(&text, 2), Some((4, vec![5, 8])));
        let text = [7, 1, 2, 3, 5, 8, 1, 2, 3, 6, 9, 1, 2, 3];
        assert_eq!(found(&text, 2), Some((3, vec![6, 9])));
    }

    #[test]
    fn a_text_that_repeats_itself_goes_on_doing_so() {
        assert_eq!(
            found(&[1, 2, 3, 1, 2, 3], 7),
            Some((3, vec![1, 2, 3, 1, 2, 3, 1]))
        );
        assert_eq!(found(&[5, 5, 5, 5], 3), Some((3, vec![5, 5, 5])));
    }

    #[test]
    fn a_token_that_was_not_there_before_has_no_match() {
        assert_eq!(found(&[4, 2, 9, 5, 2], 2), Some((1, vec![9, 5])));
        assert_eq!(found(&[1, 2, 3], 4), None);
        assert_eq!(found(&[], 4), None);
    }
}
