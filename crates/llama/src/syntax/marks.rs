//! Finds markers in a text that arrives in pieces, so that a piece may end inside a marker.

/// Finds the first marker in a text. Returns its start and the marker.
pub(super) fn first<'a>(
    text: &str,
    marks: impl Iterator<Item = &'a str>,
) -> Option<(usize, &'a str)> {
    marks
        .filter_map(|mark| text.find(mark).map(|start| (start, mark)))
        .min_by_key(|&(start, _)| start)
}

/// The length of the longest suffix of a text that may be the beginning of a marker.
pub(super) fn possible<'a>(text: &str, marks: impl Iterator<Item = &'a str>) -> usize {
    let longest = |mark: &str| {
        let most = text.len().min(mark.len().saturating_sub(1));
        (1..=most)
            .rev()
            .find(|&length| text.as_bytes().ends_with(&mark.as_bytes()[..length]))
            .unwrap_or(0)
    };
    marks.map(longest).max().unwrap_or(0)
}

/// Whether a text is a proper prefix of a marker.
pub(super) fn begins(text: &str, mark: &str) -> bool {
    text.len() < mark.len() && mark.starts_with(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_marker_counts_and_an_end_may_be_one() {
        let marks = ["<tool>", "<think>"];
        assert_eq!(
            first("a <think> <tool>", marks.into_iter()),
            Some((2, "<think>"))
        );
        assert_eq!(possible("a <t", marks.into_iter()), 2);
        assert_eq!(possible("a <tool>", marks.into_iter()), 0);
        assert_eq!(possible("１｜", ["｜>"].into_iter()), 3);
    }
}
