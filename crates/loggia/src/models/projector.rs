//! Finds the projector (`mmproj`) of a model in the model's folder or in a repository's listing, by
//! names only. The engine checks the contents.

use std::fs;
use std::path::{Path, PathBuf};

use super::filename::{self, FileName};
use super::hub::HubFile;

/// Returns the projector in the folder of a model's file, if it is unambiguous: the folder has one
/// projector, and no other model that it could belong to. If the model is in a folder named after
/// its quantisation, the folder above is searched, too.
pub(crate) fn beside(model: &Path) -> Option<PathBuf> {
    let folder = model.parent()?;
    let own = name_of(model)?;
    if let Some(found) = only_in(folder, &own) {
        return Some(found);
    }
    let of_quant = folder
        .file_name()
        .and_then(|name| name.to_str())
        .is_some_and(filename::is_of_quant);
    only_in(folder.parent().filter(|_| of_quant)?, &own)
}

/// The projectors in a folder without models.
pub(super) fn left_in(folder: &Path) -> Vec<PathBuf> {
    let files = files_in(folder);
    let has_model = files.iter().any(|(_, name)| name.is_model());
    let projectors = files
        .into_iter()
        .filter(|(_, name)| !has_model && name.is_projector());
    projectors.map(|(file, _)| file).collect()
}

/// The projector to download with a model: of several, the one with 16 bits per weight, the usual
/// precision of projectors.
pub(crate) fn of_listing(files: &[HubFile]) -> Option<&HubFile> {
    let named = || {
        files
            .iter()
            .filter_map(|file| Some((file, FileName::parse(&file.path)?)))
    };
    let projectors: Vec<_> = named().filter(|(_, name)| name.is_projector()).collect();
    if let [(only, _)] = projectors[..] {
        return Some(only);
    }
    let of = |quant: &str| {
        let mut found = projectors
            .iter()
            .filter(|(_, name)| name.quant.as_deref() == Some(quant));
        found
            .next()
            .filter(|_| found.next().is_none())
            .map(|(file, _)| *file)
    };
    ["F16", "FP16", "BF16", "Q8_0", "F32"]
        .into_iter()
        .find_map(of)
}

fn only_in(folder: &Path, own: &FileName) -> Option<PathBuf> {
    let files = files_in(folder);
    let is_another = |name: &FileName| name.is_model() && name.unquantised() != own.unquantised();
    let mut projectors = files.iter().filter(|(_, name)| name.is_projector());
    let (only, _) = projectors.next()?;
    let is_sure = projectors.next().is_none() && !files.iter().any(|(_, name)| is_another(name));
    is_sure.then(|| only.clone())
}

fn files_in(folder: &Path) -> Vec<(PathBuf, FileName)> {
    // A path without a folder is in the current one.
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries
        .map(|entry| entry.path())
        .filter(|path| path.is_file());
    files
        .filter_map(|path| name_of(&path).map(|name| (path, name)))
        .collect()
}

fn name_of(file: &Path) -> Option<FileName> {
    FileName::parse(file.file_name()?.to_str()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[&str], model: &str) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let file = folder.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "GGUF").unwrap();
        }
        let found = beside(&folder.path().join(model))?;
        Some(
            found
                .strip_prefix(folder.path())
                .unwrap()
                .to_string_lossy()
                .into_owned(),
        )
    }

    #[test]
    fn the_one_projector_beside_a_model_is_its_own() {
        let projector = Some("mmproj-F16.gguf".to_owned());
        assert_eq!(
            found(&["m-Q4_K_M.gguf", "mmproj-F16.gguf"], "m-Q4_K_M.gguf"),
            projector
        );
        assert_eq!(
            found(
                &["m-Q4_K_M.gguf", "m-Q8_0.gguf", "mmproj-F16.gguf"],
                "m-Q8_0.gguf"
            ),
            projector
        );
        let parts = [
            "Q8_0/m-Q8_0-00001-of-00002.gguf",
            "Q8_0/m-Q8_0-00002-of-00002.gguf",
            "mmproj-F16.gguf",
        ];
        assert_eq!(found(&parts, parts[0]), projector);
        assert_eq!(
            found(&["m.gguf", "m.mmproj-q8_0.gguf"], "m.gguf"),
            Some("m.mmproj-q8_0.gguf".to_owned())
        );
    }

    #[test]
    fn where_there_is_doubt_none_is_taken() {
        assert_eq!(found(&["m.gguf"], "m.gguf"), None);
        assert_eq!(
            found(&["m.gguf", "mmproj-F16.gguf", "mmproj-F32.gguf"], "m.gguf"),
            None
        );
        assert_eq!(
            found(&["m.gguf", "other.gguf", "mmproj-F16.gguf"], "m.gguf"),
            None
        );
        assert_eq!(
            found(&["folder/m.gguf", "mmproj-F16.gguf"], "folder/m.gguf"),
            None
        );
    }

    #[test]
    fn of_a_repositorys_projectors_the_one_with_16_bits_is_fetched() {
        let listing = |paths: &[&str]| -> Vec<HubFile> {
            paths
                .iter()
                .map(|path| HubFile {
                    path: (*path).to_owned(),
                    size: 1,
                    sha256: None,
                })
                .collect()
        };
        let chosen = |paths: &[&str]| of_listing(&listing(paths)).map(|file| file.path.clone());
        assert_eq!(chosen(&["m-Q8_0.gguf"]), None);
        assert_eq!(
            chosen(&["m-Q8_0.gguf", "mmproj-model.gguf"]).as_deref(),
            Some("mmproj-model.gguf")
        );
        let all = [
            "mmproj-BF16.gguf",
            "mmproj-F16.gguf",
            "mmproj-F32.gguf",
            "m.gguf",
        ];
        assert_eq!(chosen(&all).as_deref(), Some("mmproj-F16.gguf"));
        assert_eq!(chosen(&["mmproj-a.gguf", "mmproj-b.gguf"]), None);
    }
}
