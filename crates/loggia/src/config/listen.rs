//! `listen`: the server's address, in all usual forms.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::value::ValueError;

/// The default port.
const PORT: u16 = 11435;

/// The default host: this machine only.
const HOST: &str = "127.0.0.1";

/// A host (an address or a name) and a port. The name is resolved when the server starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listen {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            host: HOST.to_owned(),
            port: PORT,
        }
    }
}

impl FromStr for Listen {
    type Err = ValueError;

    /// Parses `127.0.0.1:8080`, `localhost:8080`, `[::1]:8080`; only a port (`8080`, `:8080`), on
    /// this machine; or only a host (`0.0.0.0`, `::1`).
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong = || ValueError::Listen(text.to_owned());
        let trimmed = text.trim();
        let bare = trimmed
            .strip_prefix("http://")
            .unwrap_or(trimmed)
            .trim_end_matches('/');
        if bare.is_empty() {
            return Err(wrong());
        }
        if bare.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(Self {
                port: bare.parse().map_err(|_| wrong())?,
                ..Self::default()
            });
        }
        let (host, port) = if let Some(rest) = bare.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or_else(wrong)?;
            host.parse::<Ipv6Addr>().map_err(|_| wrong())?;
            (
                host,
                if rest.is_empty() {
                    None
                } else {
                    Some(rest.strip_prefix(':').ok_or_else(wrong)?)
                },
            )
        } else if bare.parse::<Ipv6Addr>().is_ok() {
            (bare, None)
        } else {
            bare.split_once(':')
                .map_or((bare, None), |(host, port)| (host, Some(port)))
        };
        let port = port.map_or(Ok(PORT), |port| port.parse().map_err(|_| wrong()))?;
        Ok(Self {
            host: if host.is_empty() {
                HOST.to_owned()
            } else {
                self::host(host).ok_or_else(wrong)?
            },
            port,
        })
    }
}

/// Checks a host; `*` means every interface.
fn host(text: &str) -> Option<String> {
    let is_plain =
        |char: char| char.is_alphanumeric() || matches!(char, '.' | '-' | '_' | ':' | '%');
    match text {
        "*" => Some("0.0.0.0".to_owned()),
        text => (!text.is_empty() && text.chars().all(is_plain)).then(|| text.to_owned()),
    }
}

/// Shows what can be parsed again; an IPv6 address is in brackets.
impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}

/// `--host`: only the host of [`Listen`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host(pub(crate) String);

impl FromStr for Host {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let text = text.trim();
        let bare = text
            .strip_prefix('[')
            .and_then(|text| text.strip_suffix(']'))
            .unwrap_or(text);
        // A host with a port is for --listen.
        let is_with_port = bare.contains(':') && bare.parse::<Ipv6Addr>().is_err();
        host(bare)
            .filter(|_| !is_with_port)
            .map(Self)
            .ok_or_else(|| ValueError::Host(text.to_owned()))
    }
}

/// `--port`: only the port of [`Listen`]. 0 means any free port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Port(pub(crate) u16);

impl FromStr for Port {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let port = text.trim().parse();
        port.map(Self)
            .map_err(|_| ValueError::Port(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        /// A number is a port.
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "an address in quotes or a port")]
        enum Written {
            Port(u16),
            Text(String),
        }
        match Written::deserialize(input)? {
            Written::Port(port) => Ok(Self {
                port,
                ..Self::default()
            }),
            Written::Text(text) => text.parse().map_err(D::Error::custom),
        }
    }
}

impl Listen {
    /// Resolves the host, IPv4 addresses first: most clients expect `localhost` to be 127.0.0.1.
    pub(crate) async fn addresses(&self) -> std::io::Result<Vec<SocketAddr>> {
        let mut found: Vec<SocketAddr> = tokio::net::lookup_host((self.host.as_str(), self.port))
            .await?
            .collect();
        found.sort_by_key(SocketAddr::is_ipv6);
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_in_every_way_that_people_write_it() {
        for (text, shown) in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("8080", "127.0.0.1:8080"),
            (":8080", "127.0.0.1:8080"),
            ("0.0.0.0", "0.0.0.0:11435"),
            ("*:8080", "0.0.0.0:8080"),
            ("localhost:8080", "localhost:8080"),
            ("localhost", "localhost:11435"),
            ("my-host.example:1", "my-host.example:1"),
            ("[::1]:8080", "[::1]:8080"),
            ("[::]", "[::]:11435"),
            ("::1", "[::1]:11435"),
            ("http://127.0.0.1:8080/", "127.0.0.1:8080"),
            (" 127.0.0.1:0 ", "127.0.0.1:0"),
        ] {
            let listen: Listen = text.parse().unwrap();
            assert_eq!(listen.to_string(), shown, "{text}");
            assert_eq!(shown.parse(), Ok(listen));
        }
    }

    #[test]
    fn what_is_no_address_is_answered_with_examples() {
        for text in [
            "",
            " ",
            "99999",
            "127.0.0.1:",
            "127.0.0.1:port",
            "localhost:99999",
            "[::1",
            "[nothing]:80",
            "a b:80",
            "https://a:80/x",
        ] {
            let error = text.parse::<Listen>().unwrap_err().to_string();
            assert!(
                error.contains("127.0.0.1:8080") && error.contains("0.0.0.0:8080"),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn a_host_comes_without_a_port() {
        let host = |text: &str| text.parse::<Host>().map(|host| host.0).ok();
        assert_eq!(host("0.0.0.0").as_deref(), Some("0.0.0.0"));
        assert_eq!(host("[::]").as_deref(), Some("::"));
        assert_eq!(
            (host("0.0.0.0:80"), host(""), host("a b")),
            (None, None, None)
        );
    }
}
