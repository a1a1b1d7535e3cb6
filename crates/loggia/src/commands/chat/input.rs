//! Parses the lines of a chat.

/// A parsed line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Input {
    Nothing,
    /// A message for the model.
    Message(String),
    Command(Command),
    /// A command that does not exist.
    Unknown(String),
}

/// A command of the chat.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    Help,
    Models,
    Model(String),
    ShowSystem,
    /// `None` removes the instructions.
    System(Option<String>),
    Clear,
    Bye,
}

impl Input {
    /// A line that begins with `/` and a word is a command, unless that word has a second slash:
    /// then it is a path.
    pub(super) fn parse(line: &str) -> Self {
        let line = line.trim();
        if line.is_empty() {
            return Self::Nothing;
        }
        let Some(rest) = line.strip_prefix('/') else {
            return Self::Message(line.to_owned());
        };
        let (word, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        if word.is_empty() || word.contains(['/', '.']) {
            return Self::Message(line.to_owned());
        }
        let rest = Some(rest.trim()).filter(|rest| !rest.is_empty());
        Self::Command(match (word, rest) {
            ("help" | "?", _) => Command::Help,
            ("model" | "models", None) => Command::Models,
            ("model", Some(name)) => Command::Model(name.to_owned()),
            ("system", None) => Command::ShowSystem,
            ("system", Some("-")) => Command::System(None),
            ("system", Some(text)) => Command::System(Some(text.to_owned())),
            ("clear" | "new", None) => Command::Clear,
            ("bye" | "exit" | "quit", None) => Command::Bye,
            _ => return Self::Unknown(format!("/{word}")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_message_or_a_command() {
        let message = |text: &str| Input::Message(text.to_owned());
        assert_eq!(Input::parse("  hello \n"), message("hello"));
        assert_eq!(Input::parse(" \n"), Input::Nothing);
        assert_eq!(Input::parse("/model"), Input::Command(Command::Models));
        assert_eq!(
            Input::parse("/model a:b "),
            Input::Command(Command::Model("a:b".to_owned()))
        );
        assert_eq!(
            Input::parse("/system Be brief."),
            Input::Command(Command::System(Some("Be brief.".to_owned())))
        );
        assert_eq!(
            Input::parse("/system -"),
            Input::Command(Command::System(None))
        );
        assert_eq!(Input::parse("/quit"), Input::Command(Command::Bye));
        assert_eq!(
            Input::parse("/modell x"),
            Input::Unknown("/modell".to_owned())
        );
    }

    #[test]
    fn a_path_at_the_beginning_is_no_command() {
        for line in ["/home/me/cat.png what is this?", "/cat.png", "/ is a slash"] {
            assert_eq!(Input::parse(line), Input::Message(line.to_owned()));
        }
    }
}
