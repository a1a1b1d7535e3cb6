//! Writes a projector with weights drawn by lot, for the default model: with it the suites of
//! clients show pictures to a model that sees nothing in them, but sees. `projector FILE.gguf`

#![expect(clippy::unwrap_used, reason = "what the tests share is test code")]

#[path = "../tests/it/support/gguf.rs"]
mod gguf;
#[path = "../tests/it/support/projector.rs"]
mod projector;

/// Numbers of the default model's embeddings.
const MODEL_WIDTH: u64 = 576;

fn main() {
    let file = std::env::args_os().nth(1).expect("which file to write");
    std::fs::write(
        file,
        projector::gguf(projector::Kind::SeesAndHears, MODEL_WIDTH),
    )
    .unwrap();
}
