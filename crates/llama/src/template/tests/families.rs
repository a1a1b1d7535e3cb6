//! The original templates of well-known families, compared byte by byte with what `transformers`
//! prints for them: `fixtures/templates`.
//!
//! Templates whose licences do not allow a copy here are read from the folder in
//! `LOGGIA_TEMPLATES`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::*;

#[derive(Deserialize)]
struct Family {
    bos: String,
    eos: String,
    /// The file name of a template that is not in the repository; `None` if it is.
    file: Option<String>,
    /// The conversations in which Loggia shows what the template would omit or refuse.
    #[serde(default)]
    shown_otherwise: Vec<String>,
}

#[derive(Deserialize)]
struct RecordedConversation {
    messages: Vec<Message>,
    #[serde(default)]
    tools: Vec<Tool>,
    effort: Option<String>,
}

#[derive(Deserialize)]
struct Recorded {
    sha256: String,
    renderings: BTreeMap<String, Rendering>,
}

#[derive(Deserialize)]
struct Rendering {
    prompt: Option<String>,
    refused: Option<String>,
}

pub(super) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/templates")
}

fn read<T: for<'a> Deserialize<'a>>(name: &str) -> T {
    serde_json::from_slice(&fs::read(folder().join(name)).unwrap()).unwrap()
}

/// A family's template; `None` if it is not in the repository and no folder is set.
fn source(name: &str, family: &Family) -> Option<String> {
    let path = match &family.file {
        None => folder().join(format!("{name}.jinja")),
        Some(file) => Path::new(&std::env::var_os("LOGGIA_TEMPLATES")?).join(file),
    };
    Some(fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

#[test]
fn each_familys_own_template_prints_what_its_makers_own_tool_does() {
    let families: BTreeMap<String, Family> = read("families.json");
    let conversations: BTreeMap<String, RecordedConversation> = read("conversations.json");
    let mut wrong = Vec::new();
    for (name, family) in &families {
        let Some(source) = source(name, family) else {
            println!("{name}: skipped, its template is not kept here (fixtures/README.md)");
            continue;
        };
        let recorded: Recorded = read(&format!("{name}.json"));
        let digest = Sha256::digest(&source);
        let sha256 = digest
            .iter()
            .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        assert_eq!(
            sha256, recorded.sha256,
            "{name}: another version of the template"
        );
        for (of, rendering) in &recorded.renderings {
            let ours = rendered(&source, family, &conversations[of]);
            let theirs = match (&rendering.prompt, &rendering.refused) {
                (Some(prompt), _) => Ok(prompt.clone()),
                (None, refused) => Err(TemplateError::Refused(refused.clone().unwrap_or_default())),
            };
            let otherwise = family.shown_otherwise.contains(of);
            if (ours == theirs) == otherwise || otherwise && ours.is_err() {
                wrong.push(format!("{name}, {of}: {}", difference(theirs, ours)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn rendered(
    source: &str,
    family: &Family,
    asked: &RecordedConversation,
) -> Result<String, TemplateError> {
    let special = Special {
        bos: family.bos.clone(),
        eos: family.eos.clone(),
    };
    let (messages, tools, effort) = (&asked.messages, &asked.tools, asked.effort.as_deref());
    let now = "2026-03-09T12:00:00Z".parse().unwrap();
    let rendered = Template::new(Some(source), None, special)?.render(&Conversation {
        messages,
        tools,
        effort,
        continues: false,
        variables: &Value::default(),
        now,
    });
    rendered.map(|rendered| rendered.text)
}

/// The first difference between two renderings.
fn difference(
    theirs: Result<String, TemplateError>,
    ours: Result<String, TemplateError>,
) -> String {
    let [theirs, ours] = [theirs, ours].map(|one| one.unwrap_or_else(|error| error.to_string()));
    let same = theirs
        .chars()
        .zip(ours.chars())
        .take_while(|(a, b)| a == b)
        .count();
    let from = |text: &str| {
        text.chars()
            .skip(same.saturating_sub(30))
            .take(130)
            .collect::<String>()
    };
    format!(
        "\n  theirs: …{:?}\n  ours:   …{:?}",
        from(&theirs),
        from(&ours)
    )
}
