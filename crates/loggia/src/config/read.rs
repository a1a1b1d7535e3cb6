//! Reads settings from the environment and from a file.

use std::path::Path;

use super::environment::Environment;
use super::error::ConfigError;
use super::file_errors::Mistake;
use super::number::Switch;
use super::settings::Settings;

impl Settings {
    /// The settings of the environment.
    pub(super) fn of_environment(env: Environment<'_>) -> Result<Self, ConfigError> {
        let mut settings = Self::of_variables(env)?;
        // An empty list of keys must not disable the keys of the file.
        settings.key = settings.key.filter(|keys| !keys.is_empty());
        settings.checked("the environment")
    }

    /// The settings of a TOML file. Relative paths in it are relative to its folder.
    pub(super) fn of_file(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|cause| ConfigError::Read {
            path: path.to_owned(),
            cause,
        })?;
        let wrong = |Mistake { line, why }| ConfigError::Parse {
            path: path.to_owned(),
            line,
            why,
        };
        let parsed = toml::Deserializer::parse(&text)
            .map_err(|error| wrong(Mistake::of_syntax(&text, &error)))?;
        let settings: Self = serde_path_to_error::deserialize(parsed)
            .map_err(|error| wrong(Mistake::at(&text, &error.path().to_string(), error.inner())))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        settings.beside(folder).checked(&path.display().to_string())
    }

    /// Makes relative paths relative to a folder.
    fn beside(mut self, folder: &Path) -> Self {
        let beside = |named: &Path| folder.join(named);
        for path in [
            &mut self.data_dir,
            &mut self.files_dir,
            &mut self.seal_keys,
            &mut self.tls_cert,
            &mut self.tls_key,
        ] {
            *path = path.as_deref().map(beside);
        }
        for model in self.models.iter_mut().flatten() {
            *model = model.beside(&beside);
        }
        for mmproj in self.mmproj.iter_mut().flatten() {
            mmproj.file = mmproj.file.as_deref().map(beside);
        }
        for lora in self.lora.iter_mut().flatten() {
            lora.base = lora.base.beside(&beside);
            lora.file = lora.file.beside(&beside);
        }
        let models = self.per_model.iter_mut();
        for its in models.flat_map(|models| models.0.values_mut()) {
            its.draft = its.draft.as_ref().map(|draft| draft.beside(&beside));
        }
        self
    }

    /// Checks that a source does not set both `strict` and `lenient`. A source that sets one of
    /// them also turns the other off.
    pub(super) fn checked(mut self, source: &str) -> Result<Self, ConfigError> {
        let both = |strict, lenient| (strict, lenient) == (Some(true), Some(true));
        let on = |switch: Option<Switch>| switch.map(|Switch(is_on)| is_on);
        let fail = |of: &str| Err(ConfigError::StrictAndLenient(format!("{source}{of}")));
        if both(on(self.strict), on(self.lenient)) {
            return fail("");
        }
        let mut models = self.per_model.iter().flat_map(|models| &models.0);
        if let Some((model, _)) = models.find(|(_, its)| both(its.strict, its.lenient)) {
            return fail(&format!(", for the model `{model}`,"));
        }
        let mut keys = self.key.iter().flatten();
        if let Some(key) = keys.find(|key| both(key.strict, key.lenient)) {
            return fail(&format!(", for the key `{}`,", key.name));
        }
        if self.strict.is_some() || self.lenient.is_some() {
            self.strict.get_or_insert(Switch(false));
            self.lenient.get_or_insert(Switch(false));
        }
        Ok(self)
    }
}
