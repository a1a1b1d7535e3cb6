//! Which nodes each backend should have: those of the configuration and those that operators added,
//! without those that operators drained or removed.

use std::fmt;

use loggia_api::store::NodeWish;
use loggia_backend::http::{BaseUrl, Key};

use super::{Server, Spec, State};
use crate::config::{Config, Url};

/// The API of the servers of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ollama,
    OpenAi,
}

/// A backend in the configuration.
pub(super) struct Planned {
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) sources: Vec<Source>,
}

/// A server in the configuration.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) base: BaseUrl,
    key: Option<Key>,
    /// Whether each address of its host is a node.
    pub(super) by_dns: bool,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by_dns = if self.by_dns { "dns+" } else { "" };
        write!(f, "{by_dns}{}", self.base)
    }
}

impl Source {
    fn new(url: &Url, key: Option<Key>) -> Self {
        Self {
            base: url.base.clone(),
            key,
            by_dns: url.by_dns,
        }
    }
}

impl Planned {
    /// Returns the backends of a configuration: Ollama servers, then OpenAI engines, in the order of
    /// the first server of each name.
    pub(super) fn of(config: &Config) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        let mut add = |kind, name: String, source| {
            let mut before = all.iter_mut();
            match before.find(|planned| planned.kind == kind && planned.name == name) {
                Some(planned) => planned.sources.push(source),
                None => all.push(Self {
                    kind,
                    name,
                    sources: vec![source],
                }),
            }
        };
        for (at, server) in config.ollama.iter().enumerate() {
            let name = match &server.name {
                Some(name) => name.clone(),
                None if at == 0 => "ollama".to_owned(),
                None => format!("ollama-{}", at + 1),
            };
            add(Kind::Ollama, name, Source::new(&server.url, None));
        }
        for engine in config.openai.iter() {
            let key = engine.key.as_ref().map(|secret| secret.0.clone());
            let source = Source::new(&engine.url, key);
            add(Kind::OpenAi, engine.name.clone(), source);
        }
        all
    }
}

impl Kind {
    /// Returns the location of a node with this URL, or the text itself if it is none, like that of
    /// an address of a DNS name.
    pub(super) fn place(self, text: &str) -> String {
        let url = text.parse::<Url>();
        url.map_or_else(|_| text.to_owned(), |url| self.url(url).to_string())
    }

    /// Returns the name of this API in OpenTelemetry's conventions.
    pub(super) fn provider(self) -> &'static str {
        match self {
            Self::Ollama => "ollama",
            Self::OpenAi => "openai",
        }
    }

    pub(super) fn url(self, url: Url) -> Url {
        match self {
            Self::Ollama => url.of_ollama(),
            Self::OpenAi => url.of_openai(),
        }
    }
}

/// The nodes of a configuration, for commands without a server: backends and locations.
pub(crate) fn nodes_of(config: &Config) -> Vec<(String, String)> {
    let planned = Planned::of(config).into_iter();
    let nodes = planned.flat_map(|Planned { name, sources, .. }| {
        sources
            .into_iter()
            .map(move |source| (name.clone(), source.to_string()))
    });
    nodes.collect()
}

/// Returns the location of a node by the URL that an operator writes.
pub(crate) fn node_place(config: &Config, backend: &str, url: &str) -> String {
    let planned = Planned::of(config).into_iter();
    let mut kinds = planned.filter(|planned| planned.name == backend);
    let kind = kinds.next().map_or(Kind::OpenAi, |planned| planned.kind);
    kind.place(url)
}

impl State {
    /// Returns the nodes of a backend that the configuration has.
    pub(super) fn configured(&self, server: &Server) -> Vec<Spec> {
        let limits = self.settings.limits;
        let mut all = Vec::new();
        for Source { base, key, by_dns } in &server.sources {
            let spec = |place, address| Spec {
                place,
                base: base.clone(),
                address,
                key: key.clone(),
                limits,
            };
            if *by_dns {
                let addresses = self.names.addresses(base.host_name()).iter();
                all.extend(
                    addresses.map(|address| spec(format!("{base} ({address})"), Some(*address))),
                );
            } else {
                all.push(spec(base.to_string(), None));
            }
        }
        all
    }

    /// Returns the nodes of a backend that should get requests.
    pub(super) fn wanted(&self, server: &Server) -> Vec<Spec> {
        let mut wanted = self.configured(server);
        for wish in &self.wishes {
            if wish.backend != server.name {
                continue;
            }
            let place = server.kind.place(&wish.place);
            let at = wanted.iter().position(|spec| spec.place == place);
            match (wish.wish, at) {
                (NodeWish::Drained | NodeWish::Removed, Some(at)) => {
                    wanted.remove(at);
                }
                (NodeWish::Added, None) => wanted.extend(self.added(server, &place)),
                _ => {}
            }
        }
        wanted
    }

    /// Returns a node that an operator added. It has the API key of the first one of the
    /// configuration.
    fn added(&self, server: &Server, place: &str) -> Option<Spec> {
        let url: Url = place.parse().ok()?;
        (!url.by_dns).then(|| Spec {
            place: place.to_owned(),
            base: url.base,
            address: None,
            key: server.sources.first().and_then(|first| first.key.clone()),
            limits: self.settings.limits,
        })
    }
}
