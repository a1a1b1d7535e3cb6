//! `loggia batch run`: makes the requests of a file, without a server. The answers are appended to
//! a file as they come, so that an interrupted run continues where it ended.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::pin::pin;

use anyhow::Context as _;
use futures_util::{StreamExt as _, stream};
use indicatif::{ProgressBar, ProgressStyle};
use loggia_api::{AnsweredLine, Door};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use tokio::runtime::Handle;

use super::serve::{backend, configured_backends, policy};
use crate::cli::BatchArgs;
use crate::config::Config;

const STYLE: &str = "{bar:30} {pos}/{len} requests, {per_sec}, {eta} left {msg}";

/// How a run ended.
pub(crate) enum Ended {
    /// All requests were answered.
    Answered,
    /// Some were refused, or could not be made.
    WithErrors,
    /// The user stopped the run.
    Interrupted,
}

/// Makes the requests of a file that have no answer yet.
pub(crate) async fn run(
    args: &BatchArgs,
    config: &Config,
    runtime: &Handle,
) -> anyhow::Result<Ended> {
    let input = Input::read(&args.file)?;
    let mut outputs = Outputs::open(args)?;
    let backends = configured_backends(config, None, config.names_no_backend(), runtime).await?;
    let door = Door::new(backend(&backends.roster, config), policy(config));
    let load = backends.load;
    runtime.spawn(async move {
        if let Err(error) = load.await {
            eprintln!("loggia: {error:#}");
        }
    });
    let to_do = input.to_do(|id| outputs.has(id));
    let bar = progress_bar(input.requests, to_do.len() as u64);
    let lines = Lines::of(&args.file, to_do)?;
    let door = &door;
    let parallel = config.lines_at_once();
    let made = stream::iter(lines).map(|line| async move {
        let line = line.context("the file with the requests cannot be read")?;
        anyhow::Ok(door.answer_batch_line(line.into()).await)
    });
    let mut made = made.buffer_unordered(parallel);
    // One future for the whole run, which is asked first: a new one in each round would miss a
    // signal that comes between two rounds.
    let mut interrupted = pin!(tokio::signal::ctrl_c());
    loop {
        let next = tokio::select! {
            biased;
            _ = &mut interrupted => {
                bar.abandon();
                eprintln!("loggia: stopped; run the same command again to go on");
                return Ok(Ended::Interrupted);
            }
            next = made.next() => next,
        };
        let Some(line) = next.transpose()? else { break };
        outputs.append(&line)?;
        if !line.is_answer {
            bar.set_message(format!("({} failed)", outputs.failed));
        }
        bar.inc(1);
    }
    bar.finish();
    outputs.end(input.requests)
}

/// A progress bar for `requests` requests, of which `to_do` are still to do.
fn progress_bar(requests: u64, to_do: u64) -> ProgressBar {
    let bar = ProgressBar::new(requests);
    // The template is a constant that a test parses.
    if let Ok(style) = ProgressStyle::with_template(STYLE) {
        bar.set_style(style);
    }
    bar.set_position(requests - to_do);
    bar.reset_eta();
    bar
}

/// The two files that a run appends to.
struct Outputs {
    answers: Answers,
    errors: Answers,
    /// The number of requests in the file with the errors.
    failed: usize,
}

impl Outputs {
    fn open(args: &BatchArgs) -> anyhow::Result<Self> {
        let answers = beside(&args.file, args.output.as_deref(), "output");
        let errors = beside(&args.file, args.errors.as_deref(), "errors");
        if answers == errors {
            anyhow::bail!(
                "--output and --errors name the same file; choose another one for the errors"
            );
        }
        let (answers, errors) = (Answers::open(answers)?, Answers::open(errors)?);
        Ok(Self {
            failed: errors.ids.len(),
            answers,
            errors,
        })
    }

    /// Whether an earlier run made the request with this id.
    fn has(&self, id: &str) -> bool {
        self.answers.ids.contains(id) || self.errors.ids.contains(id)
    }

    fn append(&mut self, line: &AnsweredLine) -> anyhow::Result<()> {
        if line.is_answer {
            return self.answers.append(&line.json);
        }
        self.failed += 1;
        self.errors.append(&line.json)
    }

    /// Closes the files, and prints where they are.
    fn end(self, requests: u64) -> anyhow::Result<Ended> {
        self.answers.end()?;
        self.errors.end()?;
        let (failed, answers) = (self.failed, self.answers.path.display());
        eprintln!("loggia: {requests} requests, {failed} failed; the answers are in {answers}");
        if failed == 0 {
            return Ok(Ended::Answered);
        }
        eprintln!("loggia: the errors are in {}", self.errors.path.display());
        Ok(Ended::WithErrors)
    }
}

/// The path of a file with answers: the one of the flag, else beside the input.
fn beside(input: &Path, flag: Option<&Path>, name: &str) -> PathBuf {
    let beside = || input.with_extension(format!("{name}.jsonl"));
    flag.map_or_else(beside, Path::to_owned)
}

#[derive(Deserialize)]
struct Id {
    custom_id: Option<String>,
}

/// The id of a line. `None` if it has none, or is not JSON.
fn id_of(line: &[u8]) -> Option<String> {
    serde_json::from_slice::<Id>(line).ok()?.custom_id
}

/// The requests of the input.
struct Input {
    /// The ids of the lines that are not empty, by their numbers.
    ids: Vec<(u64, Option<String>)>,
    requests: u64,
}

impl Input {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let mut ids = Vec::new();
        let mut seen = HashSet::new();
        for (number, line) in (0..).zip(each_line(path)?) {
            let line = line.with_context(|| format!("cannot read {}", path.display()))?;
            if line.trim_ascii().is_empty() {
                continue;
            }
            let id = id_of(&line);
            if let Some(id) = &id
                && !seen.insert(id.clone())
            {
                anyhow::bail!(
                    "line {} of {}: the custom_id {id} is that of another line; give each request its own",
                    number + 1,
                    path.display()
                );
            }
            ids.push((number, id));
        }
        let requests = ids.len() as u64;
        Ok(Self { ids, requests })
    }

    /// The numbers of the lines that are not done. Those without an id are never done.
    fn to_do(&self, is_done: impl Fn(&str) -> bool) -> Vec<u64> {
        let lines = self.ids.iter();
        let to_do = lines.filter(|(_, id)| !id.as_deref().is_some_and(&is_done));
        to_do.map(|(number, _)| *number).collect()
    }
}

type EachLine = std::io::Split<BufReader<File>>;

fn each_line(path: &Path) -> anyhow::Result<EachLine> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    Ok(BufReader::new(file).split(b'\n'))
}

/// The lines of a file with these numbers.
struct Lines {
    lines: std::iter::Enumerate<EachLine>,
    wanted: std::vec::IntoIter<u64>,
}

impl Lines {
    fn of(path: &Path, wanted: Vec<u64>) -> anyhow::Result<Self> {
        Ok(Self {
            lines: each_line(path)?.enumerate(),
            wanted: wanted.into_iter(),
        })
    }
}

impl Iterator for Lines {
    type Item = std::io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        let wanted = self.wanted.next()?;
        let lines = self.lines.by_ref();
        lines.find_map(|(number, line)| (number as u64 == wanted).then_some(line))
    }
}

/// A file with answers, made when the first one is appended.
struct Answers {
    path: PathBuf,
    file: Option<File>,
    /// The ids of the requests that were answered before.
    ids: HashSet<String>,
}

/// A line that an earlier run left. The input has no `response`.
#[derive(Deserialize)]
struct Left {
    custom_id: Value,
    #[serde(rename = "response")]
    _response: IgnoredAny,
}

/// How each line of a run begins.
const BEGIN: &[u8] = br#"{"id":"batch_req_"#;

/// Whether a line without an end may be from an interrupted run.
fn is_half(line: &[u8]) -> bool {
    line.starts_with(BEGIN) || BEGIN.starts_with(line)
}

impl Answers {
    /// Reads the answers of an interrupted run. An incomplete last line and errors without an id
    /// are removed; their requests are made again.
    ///
    /// # Errors
    ///
    /// Refuses a file with anything else, and leaves it unchanged.
    fn open(path: PathBuf) -> anyhow::Result<Self> {
        let mut ids = HashSet::new();
        if path.exists() {
            let text =
                fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let mut kept = Vec::with_capacity(text.len());
            for (number, line) in (1..).zip(text.split_inclusive(|byte| *byte == b'\n')) {
                let left = serde_json::from_slice::<Left>(line);
                match left.map(|left| left.custom_id) {
                    Ok(Value::String(id)) if line.ends_with(b"\n") => {
                        ids.insert(id);
                        kept.extend_from_slice(line);
                    }
                    Ok(_) => {}
                    Err(_) if !line.ends_with(b"\n") && is_half(line) => {}
                    Err(_) => anyhow::bail!(
                        "line {number} of {} is not from an earlier run; choose another file with --output or --errors",
                        path.display()
                    ),
                }
            }
            if kept.len() < text.len() {
                replace(&path, &kept)?;
            }
        }
        Ok(Self {
            path,
            file: None,
            ids,
        })
    }

    fn append(&mut self, line: &str) -> anyhow::Result<()> {
        let failed = || format!("cannot write {}", self.path.display());
        let file = if let Some(file) = &mut self.file {
            file
        } else {
            let mut options = File::options();
            let file = options.create(true).append(true).open(&self.path);
            self.file.insert(file.with_context(failed)?)
        };
        // One write, so that an interrupted run leaves whole lines.
        file.write_all(format!("{line}\n").as_bytes())
            .with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn end(&self) -> anyhow::Result<()> {
        let failed = || format!("cannot write {}", self.path.display());
        self.file
            .as_ref()
            .map_or(Ok(()), |file| file.sync_all().with_context(failed))
    }
}

/// Replaces a file by another content, or leaves it as it is.
fn replace(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let mut staged = path.as_os_str().to_owned();
    staged.push(".part");
    fs::write(&staged, content).with_context(failed)?;
    fs::rename(&staged, path).with_context(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_interrupted_run_left_is_read_and_half_a_line_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        let left =
            |id: &str| format!("{{\"id\":\"batch_req_1\",\"custom_id\":{id},\"response\":null}}\n");
        let whole = left("\"a\"") + &left("\"b\"");
        let half = &left("\"c\"")[..20];
        fs::write(&path, format!("{}{whole}{half}", left("null"))).unwrap();
        let mut answers = Answers::open(path.clone()).unwrap();
        assert_eq!(answers.ids, ["a", "b"].map(str::to_owned).into());
        assert_eq!(fs::read_to_string(&path).unwrap(), whole);
        answers.append(left("\"c\"").trim_end()).unwrap();
        answers.end().unwrap();
        assert_eq!(Answers::open(path).unwrap().ids.len(), 3);
    }

    #[test]
    fn a_file_that_is_not_from_an_earlier_run_is_refused_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("other");
        let request = "{\"custom_id\":\"a\",\"method\":\"POST\"}";
        for other in [
            "notes\n",
            "notes",
            request,
            &format!("{request}\n{request}"),
        ] {
            fs::write(&path, other).unwrap();
            let error = Answers::open(path.clone()).err().unwrap().to_string();
            assert!(error.starts_with("line 1 of "), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), other);
        }
    }

    #[test]
    fn lines_that_are_done_are_left_out_and_ids_are_unique() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in.jsonl");
        fs::write(
            &path,
            "{\"custom_id\":\"a\"}\n\nbroken\n{\"custom_id\":\"b\"}",
        )
        .unwrap();
        let input = Input::read(&path).unwrap();
        assert_eq!(input.requests, 3);
        let to_do = input.to_do(|id| id == "a");
        assert_eq!(to_do, [2, 3]);
        let lines: Vec<_> = Lines::of(&path, to_do)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(
            lines,
            [b"broken".to_vec(), b"{\"custom_id\":\"b\"}".to_vec()]
        );
        fs::write(&path, "{\"custom_id\":\"a\"}\n{\"custom_id\":\"a\"}").unwrap();
        let error = Input::read(&path).err().unwrap().to_string();
        assert!(error.starts_with("line 2 of "), "{error}");
    }

    #[test]
    fn the_bar_can_be_drawn() {
        assert!(ProgressStyle::with_template(STYLE).is_ok());
        let paths = ["a.jsonl", "b/c"].map(|path| beside(Path::new(path), None, "output"));
        assert_eq!(
            paths,
            ["a.output.jsonl", "b/c.output.jsonl"].map(PathBuf::from)
        );
    }
}
