//! Input lines: from the keyboard, with editing and history; or from a pipe or file, one message
//! per line.

use std::io::{BufRead as _, IsTerminal as _};

use anyhow::Context as _;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

const PROMPT: &str = "> ";

/// The source of lines. The history is only in memory, not in a file.
pub(super) enum Lines {
    Keyboard(Box<DefaultEditor>),
    Pipe,
    /// The editor is in use on another thread.
    Away,
}

impl Lines {
    pub(super) fn new() -> anyhow::Result<Self> {
        if !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
            return Ok(Self::Pipe);
        }
        Ok(Self::Keyboard(Box::new(
            DefaultEditor::new().context("cannot read this terminal")?,
        )))
    }

    /// Whether the input is a keyboard.
    pub(super) fn by_hand(&self) -> bool {
        !matches!(self, Self::Pipe)
    }

    /// The next line; `None` at the end of the input. Ctrl-C clears the line.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<String>> {
        let lines = std::mem::replace(self, Self::Away);
        // Reading blocks, and the other tasks of this thread must continue.
        let (lines, read) = tokio::task::spawn_blocking(move || lines.read())
            .await
            .context("cannot read a line")?;
        *self = lines;
        read
    }

    fn read(self) -> (Self, anyhow::Result<Option<String>>) {
        match self {
            Self::Keyboard(mut editor) => {
                let read = typed(&mut editor);
                (Self::Keyboard(editor), read)
            }
            other => (other, piped()),
        }
    }
}

fn typed(editor: &mut DefaultEditor) -> anyhow::Result<Option<String>> {
    loop {
        match editor.readline(PROMPT) {
            Ok(line) => {
                editor
                    .add_history_entry(&line)
                    .context("cannot add the line to the history")?;
                return Ok(Some(line));
            }
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => return Ok(None),
            Err(error) => return Err(error).context("cannot read a line"),
        }
    }
}

fn piped() -> anyhow::Result<Option<String>> {
    let mut line = String::new();
    let read = std::io::stdin()
        .lock()
        .read_line(&mut line)
        .context("cannot read a line from standard input")?;
    Ok((read > 0).then_some(line))
}
