//! Chooses the files of a repository to download.
//!
//! A choice is one model: a file, or all parts of a split one. If the request is ambiguous, the
//! error lists the candidates.

use super::filename::{self, FileName};
use super::hub::HubFile;

/// The default quantisation: the usual balance of size and quality.
pub(crate) const USUAL: &str = "Q4_K_M";

/// Why no files were chosen.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChooseError {
    #[error("there is no GGUF model in this repository; look for one whose name ends in -GGUF")]
    NoModel,
    #[error("the repository has no `{asked}`; there {}", list(.there))]
    NotThere { asked: String, there: Vec<String> },
    #[error("`{asked}` is ambiguous; write the name of one of these files: {}", .candidates.join(", "))]
    Ambiguous {
        asked: String,
        candidates: Vec<String>,
    },
    #[error("there is no {USUAL}; add another quantisation after a colon: there {}", list(.there))]
    NoneNamed { there: Vec<String> },
    #[error("part `{0}` of this model is missing from the repository")]
    PartMissing(String),
}

fn list(there: &[String]) -> String {
    if there.len() == 1 {
        format!("is {}", there[0])
    } else {
        format!("are {}", there.join(", "))
    }
}

/// The files to download, in the order of their parts.
pub(crate) fn choose<'a>(
    files: &'a [HubFile],
    pick: Option<&str>,
) -> Result<Vec<&'a HubFile>, ChooseError> {
    let models = models(files);
    if models.is_empty() {
        return Err(ChooseError::NoModel);
    }
    let first = match pick {
        Some(pick) if pick.to_ascii_lowercase().ends_with(".gguf") => by_file(&models, pick)?,
        Some(pick) => by_quant(&models, pick)?,
        None => by_default(&models)?,
    };
    filename::all_parts(&first.path)
        .into_iter()
        .map(|part| {
            files
                .iter()
                .find(|file| file.path == part)
                .ok_or(ChooseError::PartMissing(part))
        })
        .collect()
}

/// The models of a listing; a split one by its first part.
fn models(files: &[HubFile]) -> Vec<(&HubFile, FileName)> {
    let named = files
        .iter()
        .filter_map(|file| Some((file, FileName::parse(&file.path)?)));
    named
        .filter(|(_, name)| name.is_model() && name.part.is_none_or(|part| part.number == 1))
        .collect()
}

fn by_file<'a>(models: &[(&'a HubFile, FileName)], pick: &str) -> Result<&'a HubFile, ChooseError> {
    // A request may name any part of a split model, and may omit the folder.
    let wanted = filename::all_parts(pick).swap_remove(0);
    let exact = models.iter().find(|(file, _)| file.path == wanted);
    if let Some((file, _)) = exact {
        return Ok(file);
    }
    let base = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    only(
        models.iter().filter(|(file, _)| base(&file.path) == wanted),
        pick,
        || models.iter().map(|(file, _)| file.path.clone()).collect(),
    )
}

fn by_quant<'a>(
    models: &[(&'a HubFile, FileName)],
    pick: &str,
) -> Result<&'a HubFile, ChooseError> {
    let asked = pick.to_ascii_uppercase();
    let exact = |quant: &str| quant == asked;
    let without_prefix = |quant: &str| quant.strip_prefix("UD-") == Some(&asked);
    let having = |test: &dyn Fn(&str) -> bool| {
        models
            .iter()
            .filter(|(_, name)| name.quant.as_deref().is_some_and(test))
            .collect::<Vec<_>>()
    };
    let mut found = having(&exact);
    if found.is_empty() {
        found = having(&without_prefix);
    }
    only(found.into_iter(), pick, || choices(models))
}

fn by_default<'a>(models: &[(&'a HubFile, FileName)]) -> Result<&'a HubFile, ChooseError> {
    if let [(only, _)] = models {
        return Ok(only);
    }
    match by_quant(models, USUAL) {
        Err(ChooseError::NotThere { there, .. }) => Err(ChooseError::NoneNamed { there }),
        other => other,
    }
}

fn only<'a: 'b, 'b>(
    mut found: impl Iterator<Item = &'b (&'a HubFile, FileName)>,
    asked: &str,
    there: impl FnOnce() -> Vec<String>,
) -> Result<&'a HubFile, ChooseError> {
    match (found.next(), found.next()) {
        (Some((file, _)), None) => Ok(file),
        (Some((first, _)), Some((second, _))) => {
            let rest = found.map(|(file, _)| file.path.clone());
            let candidates = [first.path.clone(), second.path.clone()]
                .into_iter()
                .chain(rest)
                .collect();
            Err(ChooseError::Ambiguous {
                asked: asked.to_owned(),
                candidates,
            })
        }
        (None, _) => Err(ChooseError::NotThere {
            asked: asked.to_owned(),
            there: there(),
        }),
    }
}

/// Returns the names that a request can contain: quantisations, and the names of files without one.
fn choices(models: &[(&HubFile, FileName)]) -> Vec<String> {
    let mut choices: Vec<String> = models
        .iter()
        .map(|(file, name)| name.quant.clone().unwrap_or_else(|| file.path.clone()))
        .collect();
    choices.sort();
    choices.dedup();
    choices
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(paths: &[&str]) -> Vec<HubFile> {
        paths
            .iter()
            .map(|path| HubFile {
                path: (*path).to_owned(),
                size: 1,
                sha256: None,
            })
            .collect()
    }

    fn chosen(paths: &[&str], pick: Option<&str>) -> Result<Vec<String>, ChooseError> {
        choose(&files(paths), pick)
            .map(|files| files.into_iter().map(|file| file.path.clone()).collect())
    }

    const REPO: &[&str] = &[
        "README.md",
        "mmproj-F16.gguf",
        "m-Q4_K_M.gguf",
        "m-Q8_0.gguf",
        "m-UD-Q2_K_XL.gguf",
        "m-UD-Q8_0.gguf",
    ];

    #[test]
    fn a_quantisation_is_found_whatever_its_case() {
        assert_eq!(chosen(REPO, Some("q4_k_m")).unwrap(), ["m-Q4_K_M.gguf"]);
        assert_eq!(
            chosen(REPO, Some("Q2_K_XL")).unwrap(),
            ["m-UD-Q2_K_XL.gguf"]
        );
        // The plain quantisation is chosen, although the name of the dynamic one (`UD-`) has the
        // same end.
        assert_eq!(chosen(REPO, Some("Q8_0")).unwrap(), ["m-Q8_0.gguf"]);
    }

    #[test]
    fn without_a_quantisation_the_usual_one_is_taken_or_the_only_one() {
        assert_eq!(chosen(REPO, None).unwrap(), ["m-Q4_K_M.gguf"]);
        assert_eq!(
            chosen(&["m-Q8_0.gguf", "mmproj.gguf"], None).unwrap(),
            ["m-Q8_0.gguf"]
        );
        let error = chosen(&["m-Q8_0.gguf", "m-F16.gguf"], None)
            .unwrap_err()
            .to_string();
        assert!(error.ends_with("there are F16, Q8_0"), "{error}");
    }

    #[test]
    fn doubt_is_an_error_that_lists_the_choices() {
        let error = chosen(&["a-Q8_0.gguf", "b-Q8_0.gguf"], Some("Q8_0")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`Q8_0` is ambiguous; write the name of one of these files: a-Q8_0.gguf, b-Q8_0.gguf"
        );
        let error = chosen(REPO, Some("Q3_K_M")).unwrap_err().to_string();
        assert_eq!(
            error,
            "the repository has no `Q3_K_M`; there are Q4_K_M, Q8_0, UD-Q2_K_XL, UD-Q8_0"
        );
    }

    #[test]
    fn a_split_model_is_all_of_its_parts() {
        let repo = [
            "Q8_0/m-Q8_0-00002-of-00002.gguf",
            "Q8_0/m-Q8_0-00001-of-00002.gguf",
        ];
        let both = [
            "Q8_0/m-Q8_0-00001-of-00002.gguf",
            "Q8_0/m-Q8_0-00002-of-00002.gguf",
        ];
        assert_eq!(chosen(&repo, Some("Q8_0")).unwrap(), both);
        assert_eq!(
            chosen(&repo, Some("m-Q8_0-00002-of-00002.gguf")).unwrap(),
            both
        );
        assert_eq!(
            chosen(&repo[1..], None).unwrap_err(),
            ChooseError::PartMissing("Q8_0/m-Q8_0-00002-of-00002.gguf".to_owned())
        );
    }

    #[test]
    fn a_repository_without_a_model_says_so() {
        assert_eq!(
            chosen(&["README.md", "mmproj-F16.gguf"], None),
            Err(ChooseError::NoModel)
        );
    }
}
