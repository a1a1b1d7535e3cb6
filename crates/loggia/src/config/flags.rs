//! The flags: the settings, and flags that set a part of one.

use std::path::PathBuf;

use super::database::Database;
use super::environment::environment;
use super::listen::{Host, Port};
use super::settings::{ENGINE, Settings};
use super::value::ModelName;
use crate::models::{Source, SourceError};

/// The flags of commands that only need the model folder.
#[expect(
    clippy::doc_markdown,
    reason = "these are help texts: backticks would be shown"
)]
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct StoreFlags {
    /// A TOML file with settings (docs/configuration.md) [env: LOGGIA_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// The folder for models and stored objects
    #[arg(long, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
}

/// The flags of commands that need the store.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct DatabaseFlags {
    #[command(flatten)]
    place: StoreFlags,
    /// The PostgreSQL database that servers share
    #[arg(long, value_name = "URL")]
    store_url: Option<Database>,
}

/// All flags of `serve`.
#[expect(
    clippy::doc_markdown,
    reason = "these are help texts: backticks would be shown"
)]
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Flags {
    /// A TOML file with settings (docs/configuration.md) [env: LOGGIA_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Only the host of --listen
    #[arg(long, value_name = "HOST")]
    pub(super) host: Option<Host>,
    /// Only the port of --listen
    #[arg(long, value_name = "PORT", allow_negative_numbers = true)]
    pub(super) port: Option<Port>,
    /// A downloaded model from Hugging Face, the same as --model hf:OWNER/REPO
    #[arg(long, alias = "hf-repo", value_name = "OWNER/REPO[:QUANT]", help_heading = ENGINE, value_parser = of_hub)]
    hf: Vec<ModelName>,
    #[command(flatten)]
    settings: Settings,
}

impl Flags {
    /// The configuration file, if there is one.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        let of_variable = || environment("LOGGIA_CONFIG").map(PathBuf::from);
        self.config.clone().or_else(of_variable)
    }

    /// Adds models before those of the flags.
    pub(crate) fn with_models(mut self, named: Vec<ModelName>) -> Self {
        if !named.is_empty() {
            self.settings
                .models
                .get_or_insert_default()
                .splice(0..0, named);
        }
        self
    }

    /// The settings that the flags set. An empty text for a list flag means an empty list.
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

impl From<DatabaseFlags> for Flags {
    fn from(DatabaseFlags { place, store_url }: DatabaseFlags) -> Self {
        let mut flags = Self::from(place);
        flags.settings.store_url = store_url;
        flags
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

/// Parses `OWNER/REPO[:QUANT]`.
fn of_hub(text: &str) -> Result<ModelName, SourceError> {
    let name = format!("hf:{}", text.strip_prefix("hf:").unwrap_or(text));
    Source::parse(&name).map(|_| ModelName(name))
}
