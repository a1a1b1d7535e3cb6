//! `loggia chat` and `loggia run`: a chat in the terminal, with a running server or with a server
//! of its own.
//!
//! Reading order: this file (the loop), `server` (choosing the server), `input` (parsing a line),
//! `conversation` (requests and answers), `lines` (the keyboard). The chat is a client like any
//! other: it uses the HTTP API.

mod conversation;
mod input;
mod lines;
mod pictures;
mod screen;
mod server;

use tokio::runtime::Handle;

use crate::cli::ChatArgs;
use crate::config::Config;
use conversation::{Conversation, Ending};
use input::{Command, Input};
use lines::Lines;
use screen::{Screen, write};
use server::Server;

const HELP: &str = "\
/model         list the models
/model NAME    go on with another model
/system        show the instructions
/system TEXT   give the model instructions; /system - removes them
/clear         forget the conversation, keep the instructions
/bye           end (Ctrl-D too)
Ctrl-C stops an answer. The path of a PNG, JPEG, GIF or WebP file in a message attaches the picture.";

/// Chats until the input ends. With a prompt, only prints the answer to it.
pub(crate) async fn chat(
    args: &ChatArgs,
    prompt: Option<&str>,
    config: Config,
    runtime: &Handle,
) -> anyhow::Result<()> {
    let (server, model) = Server::find(args, config, runtime).await?;
    let mut chat = Chat {
        server,
        conversation: Conversation::new(model, args.system.clone()),
        lines: Lines::new()?,
    };
    match prompt {
        Some(prompt) => chat.answer(prompt).await,
        None => chat.talk().await,
    }
}

struct Chat {
    server: Server,
    conversation: Conversation,
    lines: Lines,
}

impl Chat {
    async fn talk(&mut self) -> anyhow::Result<()> {
        if self.lines.by_hand() {
            let (place, model) = (self.server.place(), self.conversation.model());
            say(&format!(
                "loggia: {model} at {place}. /help lists the commands, Ctrl-D ends."
            ))?;
        }
        while let Some(line) = self.lines.next().await? {
            if !self.take(&line).await? {
                break;
            }
        }
        Ok(())
    }

    /// Handles a line. Returns false at the end of the chat.
    async fn take(&mut self, line: &str) -> anyhow::Result<bool> {
        match Input::parse(line) {
            Input::Nothing => {}
            Input::Message(text) => self.ask(&text).await,
            Input::Command(Command::Bye) => return Ok(false),
            Input::Command(command) => match self.obey(command).await {
                Ok(Some(text)) => say(&text)?,
                Ok(None) => {}
                Err(error) => complain(&format!("{error:#}")),
            },
            Input::Unknown(command) => complain(&format!(
                "there is no command {command}; /help lists those there are"
            )),
        }
        Ok(true)
    }

    /// Runs a command, and returns what to print.
    async fn obey(&mut self, command: Command) -> anyhow::Result<Option<String>> {
        Ok(match command {
            Command::Help => Some(HELP.to_owned()),
            Command::Models => Some(marked(
                &self.server.models().await?,
                self.conversation.model(),
            )),
            Command::Model(name) => {
                let model = self.server.choose(Some(&name)).await?;
                self.conversation.set_model(model);
                Some(format!("now {}", self.conversation.model()))
            }
            Command::ShowSystem => Some(
                self.conversation
                    .system()
                    .unwrap_or("no instructions")
                    .to_owned(),
            ),
            Command::System(text) => {
                self.conversation.set_system(text);
                None
            }
            Command::Clear => {
                self.conversation.clear();
                None
            }
            Command::Bye => None,
        })
    }

    /// Sends a message and prints the answer as it arrives. An error is printed and leaves the
    /// conversation unchanged.
    async fn ask(&mut self, text: &str) {
        if let Err(error) = self.answer(text).await {
            complain(&format!("{error:#}"));
        }
    }

    /// Sends a message, and prints the answer as it arrives.
    async fn answer(&mut self, text: &str) -> anyhow::Result<()> {
        let (text, pictures) = pictures::attached(text)?;
        let mut screen = Screen::new();
        let ending = self
            .conversation
            .ask(&self.server, &text, &pictures, |piece| screen.show(piece))
            .await;
        screen.end()?;
        match ending? {
            Ending::Whole => {}
            Ending::Stopped => complain("stopped"),
            Ending::Length => complain("the answer was cut: it reached the limit of tokens"),
        }
        Ok(())
    }
}

fn marked(models: &[String], current: &str) -> String {
    let line = |model: &String| format!("{} {model}", if model == current { '*' } else { ' ' });
    models.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn say(text: &str) -> anyhow::Result<()> {
    write(&format!("{text}\n"))
}

fn complain(text: &str) {
    eprintln!("loggia: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_current_model_has_a_star() {
        assert_eq!(marked(&["a".to_owned(), "b".to_owned()], "b"), "  a\n* b");
    }
}
