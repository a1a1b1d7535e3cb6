//! [`address`]: the pointer that a value of the bindings keeps private.

use std::fmt::Debug;
use std::ptr::{self, NonNull};

/// Reads the pointer that follows `before` in the `Debug` output of a value of the bindings.
pub(super) fn address<T>(of: &impl Debug, before: &str) -> Option<NonNull<T>> {
    let shown = format!("{of:?}");
    let digits = shown.strip_prefix(before)?.strip_prefix("0x")?;
    let end = digits
        .find(|digit: char| !digit.is_ascii_hexdigit())
        .unwrap_or(digits.len());
    let address = usize::from_str_radix(&digits[..end], 16).ok()?;
    NonNull::new(ptr::with_exposed_provenance_mut(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Shown(String);

    impl Debug for Shown {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(&self.0)
        }
    }

    #[test]
    fn a_pointer_is_taken_from_what_names_it_and_from_nothing_else() {
        let number = 7_u32;
        let pointer = &raw const number;
        let shown = |before: &str| format!("{before}{pointer:?}, owned: false }}");
        let found: Option<NonNull<u32>> = address(&Shown(shown("It { it: ")), "It { it: ");
        assert_eq!(
            found.map(|found| found.as_ptr().cast_const()),
            Some(pointer)
        );
        for other in ["It { that: ", "It { it: Some(", ""] {
            assert_eq!(
                address::<u32>(&Shown(shown(other)), "It { it: "),
                None,
                "{other}"
            );
        }
        assert_eq!(
            address::<u32>(&Shown("It { it: 0x0 }".to_owned()), "It { it: "),
            None
        );
    }
}
