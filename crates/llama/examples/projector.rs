//! Writes a projector with random weights for the default model: `projector FILE.gguf`. The client
//! suites use it to send images. The model accepts them, although the random weights carry no
//! information about them.

#![expect(clippy::unwrap_used, reason = "this is code shared by tests")]

#[path = "../tests/it/support/gguf.rs"]
mod gguf;
#[path = "../tests/it/support/projector.rs"]
mod projector;

/// The embedding length of the default model.
const MODEL_WIDTH: u64 = 576;

fn main() {
    let file = std::env::args_os().nth(1).expect("which file to write");
    std::fs::write(
        file,
        projector::gguf(projector::Kind::SeesAndHears, MODEL_WIDTH),
    )
    .unwrap();
}
