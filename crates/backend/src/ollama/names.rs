//! Compares model names as Ollama does: `[host/][namespace/]model[:tag]`, case-insensitive, with a
//! default for each part but the model.

/// The defaults for omitted parts.
const HOST: &str = "registry.ollama.ai";
const NAMESPACE: &str = "library";
const TAG: &str = "latest";

/// A parsed model name.
#[derive(Clone, Copy)]
struct Name<'a> {
    host: &'a str,
    namespace: &'a str,
    model: &'a str,
    tag: &'a str,
}

impl<'a> Name<'a> {
    fn read(name: &'a str) -> Self {
        let after_the_slash = name.rfind('/').map_or(0, |slash| slash + 1);
        let (path, tag) = match name[after_the_slash..].rfind(':') {
            Some(colon) => (
                &name[..after_the_slash + colon],
                &name[after_the_slash + colon + 1..],
            ),
            None => (name, TAG),
        };
        let (rest, model) = path
            .rsplit_once('/')
            .map_or((None, path), |(rest, model)| (Some(rest), model));
        let (host, namespace) = match rest.map(|rest| rest.rsplit_once('/')) {
            None => (HOST, NAMESPACE),
            Some(None) => (HOST, rest.unwrap_or(NAMESPACE)),
            Some(Some((host, namespace))) => (
                host.split_once("://").map_or(host, |(_, host)| host),
                namespace,
            ),
        };
        Self {
            host,
            namespace,
            model,
            tag,
        }
    }

    fn parts(self) -> [&'a str; 4] {
        [self.model, self.tag, self.namespace, self.host]
    }
}

/// Returns whether both names refer to the same model.
pub(super) fn are_same(one: &str, other: &str) -> bool {
    let (one, other) = (Name::read(one).parts(), Name::read(other).parts());
    one.iter()
        .zip(other)
        .all(|(one, other)| one.eq_ignore_ascii_case(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_in_any_case_and_with_or_without_their_defaults() {
        for (one, other) in [
            ("coder:latest", "Coder"),
            ("coder:latest", "coder:LATEST"),
            ("coder:latest", "library/coder"),
            ("coder:latest", "registry.ollama.ai/library/coder:latest"),
            ("coder:latest", "https://registry.ollama.ai/library/Coder"),
            ("me/coder:7b", "Me/Coder:7B"),
            (
                "hub.example/Owner/Repo-GGUF:Q4_K_M",
                "hub.example/owner/repo-gguf:q4_k_m",
            ),
            ("hub.example:5000/o/m:latest", "hub.example:5000/o/m"),
        ] {
            assert!(
                are_same(one, other) && are_same(other, one),
                "{one} {other}"
            );
        }
        for (one, other) in [
            ("coder:latest", "coder:7b"),
            ("coder:latest", "me/coder"),
            ("me/coder:latest", "other.host/me/coder"),
            ("coder", "code"),
            ("coder", ""),
            ("straße", "STRASSE"),
            ("a:b", "a:b:c"),
        ] {
            assert!(!are_same(one, other), "{one} {other}");
        }
    }
}
