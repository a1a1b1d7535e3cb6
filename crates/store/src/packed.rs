//! Many items in one value of a row. [`Sql::packed_items`](crate::sql::Sql::packed_items) makes it.
//!
//! SQLite runs in a thread of its own, which sends each row as a message and wakes the reader for it.
//! That takes longer than reading the row.

/// An item as it is stored. The order of the items is that of their objects, sides and places.
#[derive(Debug, PartialEq)]
pub(crate) struct PackedItem<'a> {
    /// How many objects away its object is in a chain.
    pub(crate) steps: i64,
    pub(crate) side: i64,
    pub(crate) seq: i64,
    pub(crate) is_sealed: bool,
    pub(crate) id: &'a [u8],
    pub(crate) body: &'a [u8],
}

impl<'a> PackedItem<'a> {
    /// Reads all items of a value. `None` if it is damaged.
    pub(crate) fn all(mut packed: &'a [u8]) -> Option<Vec<Self>> {
        let mut items = Vec::new();
        while !packed.is_empty() {
            let item;
            (item, packed) = Self::first(packed)?;
            items.push(item);
        }
        Some(items)
    }

    /// Reads the first item. Returns it and the rest.
    fn first(packed: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let end = packed.iter().position(|byte| *byte == b'\n')?;
        let (head, rest) = (str::from_utf8(&packed[..end]).ok()?, &packed[end + 1..]);
        let mut numbers = head.split(' ').map(str::parse::<i64>);
        let mut next = || numbers.next()?.ok();
        let (steps, side, seq, is_sealed) = (next()?, next()?, next()?, next()? != 0);
        let (id, body) = (
            usize::try_from(next()?).ok()?,
            usize::try_from(next()?).ok()?,
        );
        let (id, rest) = rest.split_at_checked(id)?;
        let (body, rest) = rest.split_at_checked(body)?;
        let item = Self {
            steps,
            side,
            seq,
            is_sealed,
            id,
            body,
        };
        Some((item, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_bodies_may_have_any_bytes() {
        let packed = b"3 1 -7 0 4 5\na\n 1b\0\n 20 0 9 1 0 0\n";
        let expected = vec![
            PackedItem {
                steps: 3,
                side: 1,
                seq: -7,
                is_sealed: false,
                id: b"a\n 1",
                body: b"b\0\n 2",
            },
            PackedItem {
                steps: 0,
                side: 0,
                seq: 9,
                is_sealed: true,
                id: b"",
                body: b"",
            },
        ];
        assert_eq!(PackedItem::all(packed), Some(expected));
        assert_eq!(PackedItem::all(b""), Some(Vec::new()));
    }

    #[test]
    fn a_value_that_is_cut_anywhere_or_has_no_numbers_is_damaged() {
        let packed = b"0 1 2 0 3 4\nidsbody";
        assert!(PackedItem::all(packed).is_some());
        for end in 1..packed.len() {
            assert_eq!(PackedItem::all(&packed[..end]), None, "cut at {end}");
        }
        for damaged in ["0 1 2 0 3\nids", "0 1 2 0 -3 4\nidsbody", "0 1 x 0 0 0\n"] {
            assert_eq!(PackedItem::all(damaged.as_bytes()), None, "{damaged}");
        }
    }
}
