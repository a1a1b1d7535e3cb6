//! Parses the names of GGUF files: the part of a split model, and the quantisation.
//!
//! Only names are parsed, no files are read. The conventions are those of llama.cpp's tools:
//! `-00001-of-00003` before the extension for parts, and a quantisation such as `Q4_K_M` after `-`
//! or `.`.

/// A parsed name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileName {
    /// The name without `.gguf` and the part number.
    pub(crate) stem: String,
    /// The number of this part and of all parts, if the model is split.
    pub(crate) part: Option<Part>,
    /// The quantisation in upper case, including `UD-`.
    pub(crate) quant: Option<String>,
}

/// A part, as `-00002-of-00003`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) number: u32,
    pub(crate) of: u32,
}

impl FileName {
    /// Parses the last component of a path; `None` if it is not a GGUF file.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let base = name.rsplit('/').next().unwrap_or(name);
        let (stem, ending) = base.rsplit_once('.')?;
        if stem.is_empty() || !ending.eq_ignore_ascii_case("gguf") {
            return None;
        }
        let (stem, part) = match split_suffix(stem) {
            Some((stem, part)) => (stem, Some(part)),
            None => (stem, None),
        };
        Some(FileName {
            stem: stem.to_owned(),
            part,
            quant: quant_of(stem),
        })
    }

    /// Whether this is a model, not a projector or an importance matrix, which are in the same
    /// repositories.
    pub(crate) fn is_model(&self) -> bool {
        let stem = self.stem.to_ascii_lowercase();
        !self.is_projector() && !stem.contains("imatrix") && !stem.starts_with("ggml-vocab")
    }

    /// Whether this is a projector: `mmproj-F16.gguf`, `llava.mmproj-f16.gguf`.
    pub(crate) fn is_projector(&self) -> bool {
        self.stem.to_ascii_lowercase().contains("mmproj")
    }

    /// The name without its quantisation: the same for all quantisations of a model.
    pub(crate) fn unquantised(&self) -> &str {
        let at = self
            .quant
            .as_ref()
            .and_then(|quant| self.stem.to_ascii_uppercase().rfind(quant.as_str()));
        at.and_then(|at| self.stem.get(..at))
            .unwrap_or(&self.stem)
            .trim_end_matches(['-', '.', '_'])
    }
}

/// The names of all parts of the split model that this name belongs to, in order; only the name if
/// it is not split.
pub(crate) fn all_parts(name: &str) -> Vec<String> {
    let Some(FileName {
        part: Some(part), ..
    }) = FileName::parse(name)
    else {
        return vec![name.to_owned()];
    };
    let (Some((before, _)), ending) = (split_at_suffix(name), &name[name.len() - ".gguf".len()..])
    else {
        return vec![name.to_owned()];
    };
    (1..=part.of)
        .map(|number| format!("{before}-{number:05}-of-{:05}{ending}", part.of))
        .collect()
}

/// An upper bound for the number of parts, because names may come from someone else's listing.
const MOST_PARTS: u32 = 1_000;

const SUFFIX: usize = "-00001-of-00003".len();

fn split_at_suffix(name: &str) -> Option<(&str, &str)> {
    let stem = name.rsplit_once('.')?.0;
    stem.is_char_boundary(stem.len().checked_sub(SUFFIX)?)
        .then(|| stem.split_at(stem.len() - SUFFIX))
}

fn split_suffix(stem: &str) -> Option<(&str, Part)> {
    let at = stem.len().checked_sub(SUFFIX)?;
    let (before, suffix) = stem.split_at_checked(at)?;
    let (number, of) = suffix.strip_prefix('-')?.split_once("-of-")?;
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    if before.is_empty() || !digits(number) || !digits(of) {
        return None;
    }
    let part = Part {
        number: number.parse().ok()?,
        of: of.parse().ok()?,
    };
    ((1..=part.of).contains(&part.number) && part.of <= MOST_PARTS).then_some((before, part))
}

fn quant_of(stem: &str) -> Option<String> {
    let words: Vec<String> = stem
        .split(['-', '.'])
        .map(str::to_ascii_uppercase)
        .collect();
    let at = words.iter().rposition(|word| is_quant(word))?;
    let dynamic = at
        .checked_sub(1)
        .is_some_and(|before| words[before] == "UD");
    Some(if dynamic {
        format!("UD-{}", words[at])
    } else {
        words[at].clone()
    })
}

/// Whether a folder is named after a quantisation; parts of large models are in such folders.
pub(crate) fn is_of_quant(folder: &str) -> bool {
    is_quant(&folder.to_ascii_uppercase())
}

/// Whether a text is a quantisation, in upper case: `Q4_K_M`, `IQ2_XXS`, `TQ1_0`, `MXFP4`,
/// `MXFP4_MOE`, `F16`, `BF16`, …
fn is_quant(word: &str) -> bool {
    if matches!(word, "F16" | "FP16" | "BF16" | "F32" | "FP32") || word.starts_with("MXFP4") {
        return true;
    }
    let Some(bits) = ["IQ", "TQ", "Q"]
        .iter()
        .find_map(|family| word.strip_prefix(family))
    else {
        return false;
    };
    let mut rest = bits.chars();
    rest.next().is_some_and(|bit| bit.is_ascii_digit())
        && rest.next() == Some('_')
        && rest.next().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quantisation_is_read_from_the_names_people_use() {
        for (name, quant) in [
            ("SmolLM2-135M-Instruct.Q4_1.gguf", Some("Q4_1")),
            ("smollm2-135m-instruct-q8_0.gguf", Some("Q8_0")),
            ("Llama-3.2-1B-Instruct-Q4_K_M.gguf", Some("Q4_K_M")),
            ("Qwen3-30B-A3B-UD-Q4_K_XL.gguf", Some("UD-Q4_K_XL")),
            ("gpt-oss-20b-mxfp4.gguf", Some("MXFP4")),
            ("model-BF16-00001-of-00002.gguf", Some("BF16")),
            ("model.IQ2_XXS.GGUF", Some("IQ2_XXS")),
            ("Q4_K_M/model-Q4_K_M-00001-of-00002.gguf", Some("Q4_K_M")),
            ("model.gguf", None),
            ("Qwen-Q-star.gguf", None),
        ] {
            assert_eq!(
                FileName::parse(name).unwrap().quant.as_deref(),
                quant,
                "{name}"
            );
        }
    }

    #[test]
    fn a_part_is_numbered_and_leaves_the_stem() {
        let name = FileName::parse("a/big-Q8_0-00002-of-00003.gguf").unwrap();
        assert_eq!(
            (name.stem.as_str(), name.part),
            ("big-Q8_0", Some(Part { number: 2, of: 3 }))
        );
        assert_eq!(
            all_parts("a/big-Q8_0-00002-of-00003.gguf"),
            [
                "a/big-Q8_0-00001-of-00003.gguf",
                "a/big-Q8_0-00002-of-00003.gguf",
                "a/big-Q8_0-00003-of-00003.gguf"
            ]
        );
        assert_eq!(all_parts("a/whole.gguf"), ["a/whole.gguf"]);
    }

    #[test]
    fn numbers_that_make_no_sense_are_part_of_the_name() {
        for name in [
            "m-00004-of-00003.gguf",
            "m-00000-of-00003.gguf",
            "m-00001-of-99999.gguf",
            "-00001-of-00002.gguf",
            "é.gguf",
        ] {
            assert_eq!(FileName::parse(name).unwrap().part, None, "{name}");
        }
    }

    #[test]
    fn what_is_not_a_model_is_told_apart() {
        assert_eq!(FileName::parse("README.md"), None);
        assert_eq!(FileName::parse(".gguf"), None);
        assert!(!FileName::parse("mmproj-model-f16.gguf").unwrap().is_model());
        assert!(!FileName::parse("model.imatrix.gguf").unwrap().is_model());
        assert!(FileName::parse("model-f16.gguf").unwrap().is_model());
    }
}
