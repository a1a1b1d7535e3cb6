//! Writes the tokens of many streams, each at its own times: one write for each token, with the
//! streams evenly distributed over the interval.
//!
//! It is a separate thread that sleeps until the next token is due. A timer wheel with whole
//! milliseconds would write tokens of several streams together, and a gateway that wakes once for
//! several tokens needs less CPU than with real engines.

use std::{
    collections::BTreeMap,
    io::Write,
    net::TcpStream,
    sync::mpsc::{Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;

/// A stream whose head has been written.
pub(crate) struct PacedStream {
    socket: TcpStream,
    pieces: std::vec::IntoIter<Bytes>,
    every: Duration,
    beats: u32,
}

impl PacedStream {
    pub(crate) fn new(socket: TcpStream, pieces: Vec<Bytes>, every: Duration, beats: u32) -> Self {
        Self {
            socket,
            pieces: pieces.into_iter(),
            every,
            beats,
        }
    }
}

/// Writes the streams that arrive, and passes each socket to `back` after its last piece.
pub(crate) fn run(streams: &Receiver<PacedStream>, back: impl Fn(TcpStream)) {
    let start = Instant::now();
    let mut due: BTreeMap<(Instant, u32), PacedStream> = BTreeMap::new();
    let mut begun = 0_u32;
    loop {
        let wait = due.first_key_value().map_or(Duration::MAX, |((at, _), _)| {
            at.saturating_duration_since(Instant::now())
        });
        match streams.recv_timeout(wait) {
            Ok(stream) => {
                begun = begun.wrapping_add(1);
                due.insert((first_beat(start, &stream, begun), begun), stream);
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {}
        }
        while due
            .first_key_value()
            .is_some_and(|((at, _), _)| *at <= Instant::now())
        {
            let Some(((at, number), mut stream)) = due.pop_first() else {
                break;
            };
            match step(&mut stream) {
                Step::More => {
                    due.insert((at + stream.every, number), stream);
                }
                Step::Complete => back(stream.socket),
                Step::Gone => {}
            }
        }
        thread::yield_now();
    }
}

enum Step {
    More,
    Complete,
    Gone,
}

fn step(stream: &mut PacedStream) -> Step {
    let Some(piece) = stream.pieces.next() else {
        return Step::Complete;
    };
    match stream.socket.write(&piece) {
        // A token is far smaller than a socket's buffer, so a short write means that the reader has
        // stalled.
        Ok(written) if written == piece.len() => {
            if stream.pieces.len() == 0 {
                Step::Complete
            } else {
                Step::More
            }
        }
        _ => Step::Gone,
    }
}

/// The next time at which this stream is due, relative to `start`: the streams are distributed over
/// its beats.
fn first_beat(start: Instant, stream: &PacedStream, number: u32) -> Instant {
    let place = stream.every / stream.beats * (number % stream.beats);
    let rounds = start.elapsed().as_nanos() / stream.every.as_nanos().max(1) + 1;
    start + stream.every * u32::try_from(rounds).unwrap_or(u32::MAX) + place
}
