//! Any bytes, split anywhere: the lines and events must be the same.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use loggia_wire::frame::{Lines, sse};

const LIMIT: usize = 1 << 12;

fn lines(pieces: &[Bytes]) -> Option<Vec<Bytes>> {
    let (mut lines, mut read) = (Lines::new(LIMIT), Vec::new());
    for piece in pieces {
        lines.push(piece.clone());
        while let Some(line) = lines.next_line().ok()? {
            read.push(line);
        }
    }
    read.extend(lines.finish());
    Some(read)
}

fn events(pieces: &[Bytes]) -> Option<Vec<sse::Event>> {
    let (mut events, mut read) = (sse::Events::new(LIMIT), Vec::new());
    for piece in pieces {
        events.push(piece.clone());
        while let Some(event) = events.next_event().ok()? {
            read.push(event);
        }
    }
    read.extend(events.finish().ok()?);
    Some(read)
}

fuzz_target!(|input: (usize, &[u8])| {
    let (cut, bytes) = input;
    let whole = Bytes::copy_from_slice(bytes);
    let at = cut.checked_rem(whole.len() + 1).unwrap_or(0);
    let pieces = [whole.slice(..at), whole.slice(at..)];
    assert_eq!(lines(&pieces), lines(&[whole.clone()]));
    assert_eq!(events(&pieces), events(&[whole]));
});
