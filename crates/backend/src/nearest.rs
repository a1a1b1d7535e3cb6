//! "Did you mean …?": finds the name that is most similar to a mistyped one.

/// The maximum length of compared names. Names from clients may be longer, and the comparison takes
/// quadratic time.
const LONGEST: usize = 100;

/// The maximum number of candidates.
const MOST: usize = 1000;

/// The minimum similarity of a suggestion.
const ALIKE: f64 = 0.7;

/// Returns the candidate that is most similar to `asked`, if it is similar enough. For names of
/// models, settings and commands.
///
/// Differences in case, or between `-`, `_`, `.`, `:` and `/`, count little. So do a missing prefix
/// before a slash (owner), a missing suffix after a colon (tag), and a missing end.
///
/// ```
/// let models = ["smollm2:135m", "llama3.2:3b"];
/// assert_eq!(loggia_backend::nearest("smolm2", models), Some("smollm2:135m"));
/// assert_eq!(loggia_backend::nearest("llama3", models), Some("llama3.2:3b"));
/// assert_eq!(loggia_backend::nearest("gpt-4o", models), None);
/// ```
pub fn nearest<'a>(asked: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if asked.is_empty() || asked.len() > LONGEST {
        return None;
    }
    let candidates = candidates
        .into_iter()
        .take(MOST)
        .filter(|candidate| candidate.len() <= LONGEST);
    let alike = candidates
        .map(|candidate| (likeness(asked, candidate), candidate))
        .filter(|(like, _)| *like >= ALIKE);
    // The first of equally similar candidates wins.
    let best = alike.reduce(|best, next| if next.0 > best.0 { next } else { best });
    best.map(|(_, candidate)| candidate)
}

fn likeness(asked: &str, candidate: &str) -> f64 {
    let (asked, candidate) = (plain(asked), plain(candidate));
    let (own, its_own) = (without_owner(&asked), without_owner(&candidate));
    let family = |name: &str| name.split(':').next().unwrap_or_default().to_owned();
    // Each omitted part makes the candidate somewhat less likely.
    [
        of_texts(&asked, &candidate),
        0.98 * of_texts(own, its_own),
        0.85 * of_texts(own, &family(its_own)),
        0.8 * of_texts(&family(own), &family(its_own)),
    ]
    .into_iter()
    .fold(0.0, f64::max)
}

/// Returns the name in lower case with one separator, except for the slash after an owner and the
/// colon before a tag.
fn plain(name: &str) -> String {
    name.chars()
        .map(|char| {
            if matches!(char, '_' | '.' | ' ') {
                '-'
            } else {
                char.to_ascii_lowercase()
            }
        })
        .collect()
}

fn without_owner(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

fn of_texts(one: &str, other: &str) -> f64 {
    let (short, long) = if one.len() <= other.len() {
        (one, other)
    } else {
        (other, one)
    };
    // A prefix is likely to mean the name; the longer it is, the more likely.
    if short.len() >= 3 && long.starts_with(short) {
        #[expect(clippy::cast_precision_loss, reason = "names are short")]
        return 0.8 + 0.2 * short.len() as f64 / long.len() as f64;
    }
    strsim::normalized_damerau_levenshtein(one, other)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODELS: [&str; 7] = [
        "smollm2:135m",
        "smollm2:360m",
        "qwen3:4b",
        "qwen3:0.6b",
        "llama3.2:3b",
        "bartowski/Qwen2.5-7B-Instruct-GGUF:Q8_0",
        "gpt-oss:20b",
    ];

    #[test]
    fn what_people_mistype_is_found() {
        for (asked, meant) in [
            ("smolm2:135m", "smollm2:135m"),
            ("smollm2-135m", "smollm2:135m"),
            ("SmolLM2", "smollm2:135m"),
            ("smollm:360m", "smollm2:360m"),
            ("llama3", "llama3.2:3b"),
            ("llama3.1:8b", "llama3.2:3b"),
            ("qwen3", "qwen3:4b"),
            ("qwen3:06b", "qwen3:0.6b"),
            (
                "qwen2.5-7b-instruct",
                "bartowski/Qwen2.5-7B-Instruct-GGUF:Q8_0",
            ),
            ("openai/gpt-oss-20b", "gpt-oss:20b"),
        ] {
            assert_eq!(nearest(asked, MODELS), Some(meant), "{asked}");
        }
    }

    #[test]
    fn what_is_like_nothing_is_not_guessed() {
        for asked in [
            "",
            "a",
            "gpt-4o",
            "mistral",
            "claude-opus",
            "text-embedding-3-small",
            "nope",
            &"smollm2".repeat(20),
        ] {
            assert_eq!(nearest(asked, MODELS), None, "{asked}");
        }
    }
}
