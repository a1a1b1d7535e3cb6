//! What flags say: the settings, and what a flag alone can say of them.

use std::path::PathBuf;

use super::listen::{Host, Port};
use super::settings::{ENGINE, Settings};
use super::value::ModelName;
use crate::models::{Source, SourceError};

/// Where the configuration and the models are.
#[expect(
    clippy::doc_markdown,
    reason = "these are help texts: backticks would be shown"
)]
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct StoreFlags {
    /// A TOML file with settings (docs/configuration.md) [env: LOGGIA_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// The folder that holds the models
    #[arg(long, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
}

/// Everything that flags say.
#[expect(
    clippy::doc_markdown,
    reason = "these are help texts: backticks would be shown"
)]
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Flags {
    /// A TOML file with settings (docs/configuration.md) [env: LOGGIA_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// The host of --listen alone
    #[arg(long, value_name = "HOST")]
    pub(super) host: Option<Host>,
    /// The port of --listen alone
    #[arg(long, value_name = "PORT", allow_negative_numbers = true)]
    pub(super) port: Option<Port>,
    /// A model that was pulled from Hugging Face, as --model hf:OWNER/REPO names it
    #[arg(long, alias = "hf-repo", value_name = "OWNER/REPO[:QUANT]", help_heading = ENGINE, value_parser = of_hub)]
    hf: Vec<ModelName>,
    #[command(flatten)]
    settings: Settings,
}

impl Flags {
    /// The same with models that are named without a flag, before the others.
    pub(crate) fn with_models(mut self, named: Vec<ModelName>) -> Self {
        if !named.is_empty() {
            self.settings
                .models
                .get_or_insert_default()
                .splice(0..0, named);
        }
        self
    }

    /// What the flags say of the settings. A flag with an empty text says that a list is empty.
    pub(super) fn settings(&self) -> Settings {
        let mut settings = self.settings.clone();
        if !self.hf.is_empty() {
            let models = settings.models.get_or_insert_default();
            models.extend(self.hf.iter().cloned());
        }
        if let Some(origins) = &mut settings.cors_origins {
            origins.retain(|origin| !origin.is_empty());
        }
        settings
    }
}

impl From<StoreFlags> for Flags {
    fn from(StoreFlags { config, data_dir }: StoreFlags) -> Self {
        let settings = Settings {
            data_dir,
            ..Settings::default()
        };
        Self {
            config,
            settings,
            ..Self::default()
        }
    }
}

/// `OWNER/REPO[:QUANT]` as a model's name.
fn of_hub(text: &str) -> Result<ModelName, SourceError> {
    let name = format!("hf:{}", text.strip_prefix("hf:").unwrap_or(text));
    Source::parse(&name).map(|_| ModelName(name))
}
