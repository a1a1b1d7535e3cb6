//! Kinds of tokens that the limits of a value depend on, by the tokens' text. Pure.

/// The maximum number of brackets that a token opens, except for the "lengthy" tokens.
pub(super) const BRACKETS: usize = 8;

/// The maximum number of consecutive digits in a token, except for the "lengthy" tokens.
const DIGITS: usize = 18;

/// Whether a number may continue with this text.
pub(super) fn continues_a_number(text: &[u8]) -> bool {
    text.first()
        .is_some_and(|first| first.is_ascii_digit() || b".eE+-".contains(first))
}

/// Whether a text alone may exceed a limit, at the beginning of a value.
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
