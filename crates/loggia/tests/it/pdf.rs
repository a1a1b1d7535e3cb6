//! `loggia read-pdf`, the process that reads a PDF for the server: its limits hold, and every PDF ends
//! as a text or as an error.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The exit codes of a text and of each error that the server has words for.
const CODES: [i32; 6] = [0, 10, 11, 12, 13, 14];
const UNREADABLE: i32 = 10;

/// More than the 20 s that the server waits, on a machine that does other things too.
const LONGEST: Duration = Duration::from_mins(2);

fn start(arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_loggia"))
        .arg("read-pdf")
        .args(arguments)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Gives a process a PDF. Returns how it ended, and its output.
fn read(mut child: Child, pdf: &[u8]) -> (ExitStatus, String) {
    let mut input = child.stdin.take().unwrap();
    let mut output = child.stdout.take().unwrap();
    let pdf = pdf.to_vec();
    // The process may end before it has read everything.
    let writing = std::thread::spawn(move || {
        let _ = input.write_all(&pdf);
    });
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        output.read_to_string(&mut text).map(|_| text)
    });
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > LONGEST {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("the process did not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    writing.join().unwrap();
    (status, reading.join().unwrap().unwrap())
}

/// A PDF whose pages have these contents.
fn pdf(pages: &[String]) -> Vec<u8> {
    let kids: Vec<String> = (0..pages.len())
        .map(|page| format!("{} 0 R", 4 + 2 * page))
        .collect();
    let mut objects = vec![
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        format!(
            "<< /Type /Pages /Kids [{}] /Count {} >>",
            kids.join(" "),
            pages.len()
        ),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"
            .to_owned(),
    ];
    for (page, content) in pages.iter().enumerate() {
        let contents = 5 + 2 * page;
        objects.push(format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Resources << /Font << /F 3 0 R >> >> /Contents {contents} 0 R >>"
        ));
        objects.push(format!(
            "<< /Length {} >>\nstream\n{content}\nendstream",
            content.len()
        ));
    }
    let (mut file, mut table) = ("%PDF-1.4\n".to_owned(), String::new());
    for (number, object) in (1..).zip(&objects) {
        writeln!(table, "{:010} 00000 n ", file.len()).unwrap();
        write!(file, "{number} 0 obj\n{object}\nendobj\n").unwrap();
    }
    let (place, count) = (file.len(), objects.len() + 1);
    write!(
        file,
        "xref\n0 {count}\n0000000000 65535 f \n{table}trailer << /Size {count} /Root 1 0 R >>\nstartxref\n{place}\n%%EOF"
    )
    .unwrap();
    file.into_bytes()
}

/// A page with these lines.
fn page(lines: &[&str]) -> String {
    let lines: Vec<String> = lines
        .iter()
        .map(|line| format!("({line}) Tj 0 -14 Td "))
        .collect();
    let lines = lines.concat();
    format!("BT /F 12 Tf 72 720 Td {lines}ET")
}

/// Returns a value of a file of `/proc` about a process, once it has one that is expected.
fn once(child: &Child, file: &str, line: &str, is_expected: impl Fn(&str) -> bool) -> String {
    let path = format!("/proc/{}/{file}", child.id());
    let begun = Instant::now();
    loop {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let found = text.lines().find_map(|each| each.strip_prefix(line));
        let found = found
            .unwrap_or_default()
            .split_whitespace()
            .next()
            .unwrap_or_default();
        if is_expected(found) {
            return found.to_owned();
        }
        assert!(begun.elapsed() < LONGEST, "{path} has no such {line}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_process_limits_its_memory_and_its_time_itself() {
    let mut child = start(&[]);
    let two_gib = (2_u64 << 30).to_string();
    once(&child, "limits", "Max address space", |found| {
        found == two_gib
    });
    once(&child, "limits", "Max cpu time", |found| found == "20");
    once(&child, "limits", "Max core file size", |found| found == "0");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_process_without_memory_ends() {
    // The memory that the process has before it reads anything.
    let mut child = start(&["--memory", "2000000000"]);
    once(&child, "limits", "Max address space", |found| {
        found == "2000000000"
    });
    let kilobytes = once(&child, "status", "VmSize:", |found| !found.is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    let before = kilobytes.parse::<u64>().unwrap() << 10;

    let content = vec![b' '; 150 << 20];
    let (status, text) = read(start(&[]), &content);
    assert_eq!((status.code(), text.as_str()), (Some(UNREADABLE), ""));
    let less = (before + (64 << 20)).to_string();
    let (status, text) = read(start(&["--memory", &less]), &content);
    assert!(
        !status.success() && status.code() != Some(UNREADABLE),
        "{status}"
    );
    assert_eq!(text, "");
}

#[test]
fn a_process_that_computes_too_long_is_ended_by_the_system() {
    let short = pdf(&[page(&["The whale", "is 30 m long."])]);
    let (status, text) = read(start(&["--seconds", "5"]), &short);
    assert_eq!(
        (status.code(), text.as_str()),
        (Some(0), "The whale\nis 30 m long.")
    );
    // Almost as much text as there may be.
    let line = "x".repeat(100);
    let long = pdf(&vec![page(&vec![line.as_str(); 120]); 600]);
    let (status, text) = read(start(&["--seconds", "1"]), &long);
    assert!(status.signal().is_some(), "{status}");
    assert_eq!(text, "");
}

/// Numbers that are the same in every run.
struct Numbers(u64);

impl Numbers {
    /// Returns a number below `end`.
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end.max(1) as u64).unwrap()
    }
}

/// Changes a few bytes of a PDF.
fn mutate(pdf: &mut Vec<u8>, numbers: &mut Numbers) {
    for _ in 0..=numbers.below(6) {
        let at = numbers.below(pdf.len());
        let end = (at + 1 + numbers.below(40)).min(pdf.len());
        match numbers.below(5) {
            0 => pdf[at] ^= 1 << numbers.below(8),
            1 => drop(pdf.drain(at..end)),
            2 => {
                let copy = pdf[at..end].to_vec();
                let place = numbers.below(pdf.len());
                pdf.splice(place..place, copy);
            }
            3 => {
                let digit = b'0' + u8::try_from(numbers.below(10)).unwrap();
                let digits = pdf.iter_mut().filter(|byte| byte.is_ascii_digit());
                let digits: Vec<&mut u8> = digits.collect();
                let place = numbers.below(digits.len());
                digits
                    .into_iter()
                    .nth(place)
                    .into_iter()
                    .for_each(|byte| *byte = digit);
            }
            _ => pdf.truncate(end.max(pdf.len() / 2)),
        }
    }
}

#[test]
fn a_pdf_with_changed_bytes_ends_as_a_text_or_an_error() {
    let valid = pdf(&[page(&["The whale", "is 30 m long."]), page(&["It sings."])]);
    let (status, _) = read(start(&[]), &valid);
    assert_eq!(status.code(), Some(0));
    let mut numbers = Numbers(0x5eed_0f10_991a);
    let mut texts = 0;
    for round in 0..60 {
        let mut changed = valid.clone();
        mutate(&mut changed, &mut numbers);
        let (status, text) = read(start(&[]), &changed);
        // A signal, for example after a full stack, is an error too.
        let is_known = status.code().is_none_or(|code| CODES.contains(&code));
        assert!(is_known, "round {round}: {status}");
        assert_eq!(
            status.success(),
            !text.is_empty(),
            "round {round}: {status}"
        );
        texts += usize::from(status.success());
    }
    assert!((1..60).contains(&texts), "{texts} of 60 still had a text");
}
