//! `loggia completions` and `loggia man`: the command line for shells and for `man`.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use clap_complete::Shell;

use crate::cli::Cli;

/// The name of the program that the completions are for.
const PROGRAM: &str = "loggia";

/// Returns the completions of a shell.
pub(super) fn completions(shell: Shell) -> anyhow::Result<String> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::with_sources(), PROGRAM, &mut script);
    String::from_utf8(script).context("the completions are not text")
}

/// Writes a page for the program and for each command into a folder. Returns the paths, one per
/// line.
pub(super) fn write_pages(folder: &Path) -> anyhow::Result<String> {
    let cannot = || format!("cannot write the manual into {}", folder.display());
    fs::create_dir_all(folder).with_context(cannot)?;
    // `help` would be a command with a page for each of the others.
    let mut command = Cli::with_sources()
        .disable_help_subcommand(true)
        .mut_subcommands(|command| command.disable_help_subcommand(true));
    // Gives each command its whole name, such as `loggia-batch-run`.
    command.build();
    clap_mangen::generate_to(command, folder).with_context(cannot)?;
    let mut pages = Vec::new();
    for entry in fs::read_dir(folder).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        let is_ours = |name: &str| name.starts_with(PROGRAM) && name.ends_with(".1");
        if path
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(is_ours)
        {
            pages.push(path.display().to_string());
        }
    }
    pages.sort();
    Ok(pages.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn every_shell_completes_the_commands() {
        for shell in Shell::value_variants() {
            let script = completions(*shell).unwrap();
            for said in ["serve", "pull", "--listen"] {
                // In some places, Elvish and PowerShell name flags without their dashes.
                let said = said.trim_start_matches('-');
                assert!(script.contains(said), "{shell}: {said}");
            }
        }
    }

    #[test]
    fn the_manual_has_a_page_for_each_command_with_its_flags() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("man1");
        let written = write_pages(&inside).unwrap();
        let page = |name: &str| fs::read_to_string(inside.join(name)).unwrap();
        assert_eq!(
            written.lines().count(),
            fs::read_dir(&inside).unwrap().count()
        );
        for name in ["loggia.1", "loggia-batch.1", "loggia-batch-run.1"] {
            assert!(written.contains(name), "{written}");
        }
        for name in ["loggia-engine", "help"] {
            assert!(!written.contains(name), "{written}");
        }
        let serve = page("loggia-serve.1");
        assert!(serve.contains("LOGGIA_LISTEN"), "{serve}");
    }
}
