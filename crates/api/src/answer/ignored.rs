//! The value of `x-loggia-ignored`: the names of ignored fields, safe for headers whatever names a
//! client sends.

use std::fmt::Write;

/// The maximum length of the list in bytes. Clients accept 8 to 16 KiB of headers in total.
const LONGEST_LIST: usize = 2048;

/// Formats names as the value of a header. Invisible or non-ASCII characters, commas and percent
/// signs are percent-encoded. Names beyond the limit are counted.
pub(crate) fn listed(names: &[String]) -> String {
    let mut list = String::new();
    for (index, name) in names.iter().enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        if list.len() + separator.len() + name.len() > LONGEST_LIST {
            let _ = write!(list, "{separator}({} more)", names.len() - index);
            break;
        }
        list.push_str(separator);
        push_encoded(&mut list, name);
    }
    list
}

/// Adds further names to such a list.
pub(crate) fn add_listed(list: &mut String, names: &[String]) {
    if !list.is_empty() && !names.is_empty() {
        list.push_str(", ");
    }
    list.push_str(&listed(names));
}

fn push_encoded(list: &mut String, name: &str) {
    if name.is_empty() {
        list.push_str("\"\"");
    }
    for byte in name.bytes() {
        match byte {
            0x21..=0x7e if byte != b',' && byte != b'%' => list.push(char::from(byte)),
            _ => _ = write!(list, "%{byte:02X}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_make_a_header_whatever_they_are() {
        let list = |names: &[&str]| {
            listed(
                &names
                    .iter()
                    .map(|&name| name.to_owned())
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(list(&["user", "messages[].name"]), "user, messages[].name");
        assert_eq!(
            list(&["a\nb", "a, b", "50%", "é", ""]),
            "a%0Ab, a%2C%20b, 50%25, %C3%A9, \"\""
        );
        assert_eq!(list(&["a", &"b".repeat(1 << 20), "c"]), "a, (2 more)");
        assert!(list(&vec!["name"; 5000]).len() < LONGEST_LIST + 20);
        for (before, more, after) in [
            (&["a"][..], &["b"][..], "a, b"),
            (&[], &["b"], "b"),
            (&["a"], &[], "a"),
        ] {
            let mut all = list(before);
            let more: Vec<String> = more.iter().map(|&name| name.to_owned()).collect();
            add_listed(&mut all, &more);
            assert_eq!(all, after);
        }
    }
}
