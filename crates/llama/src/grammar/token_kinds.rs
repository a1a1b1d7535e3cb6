//! Classifies tokens by their text, for the limits in `ends`. Pure.

/// The maximum number of brackets that a token opens. A token with more is "lengthy".
pub(super) const BRACKETS: usize = 8;

/// The maximum number of consecutive digits in a token. A token with more is "lengthy".
const DIGITS: usize = 18;

/// Whether this text may continue a number.
pub(super) fn continues_a_number(text: &[u8]) -> bool {
    text.first()
        .is_some_and(|first| first.is_ascii_digit() || b".eE+-".contains(first))
}

/// Whether a token is "lengthy": its text alone may exceed a limit, even at the beginning of a
/// value.
pub(super) fn is_lengthy(text: &[u8]) -> bool {
    let digits = text
        .split(|byte| !byte.is_ascii_digit())
        .map(<[u8]>::len)
        .max();
    let brackets = text
        .iter()
        .filter(|byte| matches!(byte, b'[' | b'{'))
        .count();
    digits.is_some_and(|digits| digits > DIGITS) || brackets > BRACKETS
}
