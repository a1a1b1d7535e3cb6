//! A configuration as a TOML file that would make it, each line with who set it. Keys are never
//! shown, only whether there is one.

use std::fmt::{self, Display};
use std::time::Duration;

use loggia_api::{Ceilings, Strictness};
use loggia_backend::media;

use super::{Config, Lora, Origin, PerModel, Set};

/// Prints a configuration.
pub(crate) struct Shown<'a>(pub(crate) &'a Config);

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = self.0;
        Line::of("listen", &config.listen, |listen| text(listen)).fmt(f)?;
        Line::of("data_dir", &config.data_dir, |folder| {
            text(folder.display())
        })
        .fmt(f)?;
        Line::of("strict", &config.strictness, |it| {
            (*it == Strictness::Strict).to_string()
        })
        .fmt(f)?;
        Line::of("lenient", &config.strictness, |it| {
            (*it == Strictness::Lenient).to_string()
        })
        .fmt(f)?;
        Line::of("sampling_profile", &config.sampling_profile, |profile| {
            text(profile)
        })
        .fmt(f)?;
        Line::of("models", &config.models, |models| {
            list(models.iter().map(|model| &model.0))
        })
        .fmt(f)?;
        Line::optional(
            "context",
            &config.context,
            "what the model was trained for, at most 4096",
        )
        .fmt(f)?;
        Line::of("parallel", &config.parallel, ToString::to_string).fmt(f)?;
        Line::optional("threads", &config.threads, "the machine's cores").fmt(f)?;
        Line::optional(
            "gpu_layers",
            &config.gpu_layers,
            "all, where there is a GPU",
        )
        .fmt(f)?;
        match &*config.memory {
            Some(memory) => {
                let memory = size(usize::try_from(memory.as_u64()).unwrap_or(usize::MAX));
                Line::new("memory", memory, config.memory.from).fmt(f)?;
            }
            None => Line::open(
                "memory",
                "what is available at the start",
                config.memory.from,
            )
            .fmt(f)?,
        }
        Line::of("keep_alive", &config.keep_alive, |keep| text(keep)).fmt(f)?;
        Line::of("ollama", &config.ollama, |urls| list(urls)).fmt(f)?;
        match &*config.cors_origins {
            Some(origins) => {
                Line::new("cors_origins", list(origins), config.cors_origins.from).fmt(f)?;
            }
            None => Line::open(
                "cors_origins",
                "the pages of this machine",
                config.cors_origins.from,
            )
            .fmt(f)?,
        }
        Line::of("body_limit", &config.body_limit, |limit| {
            size(usize::try_from(limit.as_u64()).unwrap_or(usize::MAX))
        })
        .fmt(f)?;
        Line::optional("workers", &config.workers, "one for every two cores").fmt(f)?;
        Line::of(
            "max_connections",
            &config.max_connections,
            ToString::to_string,
        )
        .fmt(f)?;
        for (key, span) in [
            ("head_timeout", &config.head_timeout),
            ("body_timeout", &config.body_timeout),
            ("connect_timeout", &config.connect_timeout),
            ("headers_timeout", &config.headers_timeout),
            ("idle_timeout", &config.idle_timeout),
            ("stall_timeout", &config.stall_timeout),
            ("heartbeat_after", &config.heartbeat_after),
            ("heartbeat_every", &config.heartbeat_every),
            ("ready_timeout", &config.ready_timeout),
            ("shutdown_timeout", &config.shutdown_timeout),
        ] {
            Line::of(key, span, time).fmt(f)?;
        }
        tables(config, f)
    }
}

/// TOML wants tables after all plain keys.
fn tables(config: &Config, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for engine in &*config.openai {
        writeln!(f, "\n[[openai]]  # {}", config.openai.from)?;
        writeln!(
            f,
            "name = {}\nurl = {}",
            text(&engine.name),
            text(&engine.url)
        )?;
        match &engine.key {
            Some(_) => writeln!(f, "# key: one is set")?,
            None => writeln!(
                f,
                "# key: none; {} or `key` in the file would set one",
                engine.key_variable()
            )?,
        }
    }
    for Lora {
        name,
        base,
        file,
        scale,
    } in &*config.lora
    {
        writeln!(f, "\n[lora.{}]  # {}", text(name), config.lora.from)?;
        writeln!(
            f,
            "base = {}\nfile = {}\nscale = {scale:?}",
            text(&base.0),
            text(&file.0)
        )?;
    }
    // Without a model's name it is no line of a table; the flag that it comes from is in the way of
    // a file anyhow.
    if config.mmproj.iter().any(|mmproj| mmproj.model.is_some()) {
        writeln!(f, "\n[mmproj]  # {}", config.mmproj.from)?;
    }
    for mmproj in &*config.mmproj {
        match &mmproj.model {
            Some(model) => writeln!(f, "{} = {}", text(model), text(mmproj))?,
            None => writeln!(
                f,
                "# mmproj: {mmproj}, of the one model  # {}",
                config.mmproj.from
            )?,
        }
    }
    for key in &*config.key {
        writeln!(f, "\n[[key]]  # {}", config.key.from)?;
        writeln!(
            f,
            "name = {}\n# key: one is set; {} holds it, or `key` or `sha256` in the file",
            text(&key.name),
            key.variable()
        )?;
        flags(f, key.strict, key.lenient)?;
        if let Some(models) = &key.models {
            writeln!(f, "models = {}", list(models))?;
        }
        if key.may_delete_models {
            writeln!(f, "may_delete_models = true")?;
        }
    }
    if !config.aliases.is_empty() {
        writeln!(f, "\n[aliases]  # {}", config.aliases.from)?;
    }
    for alias in &*config.aliases {
        writeln!(f, "{} = {}", text(alias.from()), text(alias.to()))?;
    }
    ceilings(&config.ceilings, f)?;
    images(&config.images, f)?;
    for (model, settings) in &*config.per_model {
        writeln!(
            f,
            "\n[per_model.{}]  # {}",
            text(model),
            config.per_model.from
        )?;
        if let Some(profile) = settings.sampling_profile {
            writeln!(f, "sampling_profile = {}", text(profile))?;
        }
        flags(f, settings.strict, settings.lenient)?;
        drafting(f, settings)?;
        if !settings.options.is_empty() {
            writeln!(
                f,
                "options = {}",
                toml::Value::from(settings.options.clone())
            )?;
        }
    }
    Ok(())
}

fn flags(f: &mut fmt::Formatter<'_>, strict: Option<bool>, lenient: Option<bool>) -> fmt::Result {
    for (key, value) in [("strict", strict), ("lenient", lenient)] {
        if let Some(value) = value {
            writeln!(f, "{key} = {value}")?;
        }
    }
    Ok(())
}

fn drafting(f: &mut fmt::Formatter<'_>, its: &PerModel) -> fmt::Result {
    if let Some(draft) = &its.draft {
        writeln!(f, "draft = {}", text(&draft.0))?;
    }
    if let Some(tokens) = its.draft_tokens {
        writeln!(f, "draft_tokens = {tokens}")?;
    }
    if let Some(always) = its.draft_always {
        writeln!(f, "draft_always = {always}")?;
    }
    Ok(())
}

fn ceilings(set: &Set<Ceilings>, f: &mut impl fmt::Write) -> fmt::Result {
    let Ceilings {
        choices,
        messages,
        prompts,
        inputs,
        tools,
        media,
        schema_depth,
        logit_bias,
        ..
    } = &set.value;
    writeln!(f, "\n[ceilings]  # {}", set.from)?;
    writeln!(
        f,
        "choices = {choices}\nmessages = {messages}\nprompts = {prompts}\ninputs = {inputs}\ntools = {tools}\nmedia = {media}"
    )?;
    writeln!(
        f,
        "media_bytes = {}\nschema_bytes = {}",
        size(set.media_bytes),
        size(set.schema_bytes)
    )?;
    writeln!(
        f,
        "schema_depth = {schema_depth}\nlogit_bias = {logit_bias}\nstop_bytes = {}",
        size(set.stop_bytes)
    )?;
    match set.answer_tokens {
        Some(tokens) => writeln!(f, "answer_tokens = {tokens}")?,
        None => writeln!(f, "# answer_tokens: the model's context is the limit")?,
    }
    writeln!(
        f,
        "whole_time = {}",
        time(&set.whole_time.unwrap_or_default())
    )
}

fn images(set: &Set<media::Limits>, f: &mut impl fmt::Write) -> fmt::Result {
    let media::Limits {
        images,
        fetches,
        side_by_side,
        redirects,
        ports,
        networks,
        ..
    } = &set.value;
    writeln!(f, "\n[images]  # {}", set.from)?;
    writeln!(
        f,
        "bytes = {}\ntotal_bytes = {}\nimages = {images}",
        size(set.bytes),
        size(set.total_bytes)
    )?;
    writeln!(
        f,
        "fetches = {fetches}\nside_by_side = {side_by_side}\ntime = {}",
        time(&set.time)
    )?;
    writeln!(
        f,
        "redirects = {redirects}\nports = {ports:?}\nnetworks = {}",
        list(networks)
    )
}

/// A line of `[ceilings]` or `[images]`, as it is where nobody sets it: an example for error
/// messages.
pub(super) fn bound(table: &str, key: &str) -> Option<String> {
    // Those that are not there, or empty, where nobody sets them.
    match key {
        "answer_tokens" if table == "ceilings" => return Some("answer_tokens = 4096".to_owned()),
        "networks" if table == "images" => return Some(r#"networks = ["10.1.2.0/24"]"#.to_owned()),
        _ => {}
    }
    let mut default = String::new();
    let _ = match table {
        "ceilings" => ceilings(&of_nobody(), &mut default),
        "images" => images(&of_nobody(), &mut default),
        _ => Ok(()),
    };
    let start = format!("{key} = ");
    default
        .lines()
        .find(|line| line.starts_with(&start))
        .map(str::to_owned)
}

fn of_nobody<T: Default>() -> Set<T> {
    Set {
        value: T::default(),
        from: Origin::Default,
    }
}

/// One setting: `key = value   # origin`.
struct Line {
    line: String,
    from: Origin,
}

impl Line {
    fn new(key: &str, value: impl Display, from: Origin) -> Self {
        Line {
            line: format!("{key} = {value}"),
            from,
        }
    }

    /// A setting without a value has no line in TOML, only a remark.
    fn open(key: &str, meaning: &str, from: Origin) -> Self {
        Line {
            line: format!("# {key}: {meaning}"),
            from,
        }
    }

    fn of<T>(key: &str, set: &Set<T>, write: impl Fn(&T) -> String) -> Self {
        Line::new(key, write(&set.value), set.from)
    }

    fn optional<T: Display>(key: &str, set: &Set<Option<T>>, otherwise: &str) -> Self {
        match &set.value {
            Some(value) => Line::new(key, value, set.from),
            None => Line::open(key, otherwise, set.from),
        }
    }
}

impl Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:40}  # {}", self.line, self.from)
    }
}

fn time(span: &Duration) -> String {
    text(humantime::format_duration(*span))
}

/// Where mebibytes or kibibytes say it exactly, they do.
fn size(bytes: usize) -> String {
    match bytes {
        0 => text("0B"),
        bytes if bytes % (1 << 20) == 0 => text(format_args!("{}MiB", bytes >> 20)),
        bytes if bytes % (1 << 10) == 0 => text(format_args!("{}KiB", bytes >> 10)),
        bytes => text(format_args!("{bytes}B")),
    }
}

fn text(value: impl Display) -> String {
    toml::Value::String(value.to_string()).to_string()
}

fn list<T: Display>(values: impl IntoIterator<Item = T>) -> String {
    format!(
        "[{}]",
        values.into_iter().map(text).collect::<Vec<_>>().join(", ")
    )
}
