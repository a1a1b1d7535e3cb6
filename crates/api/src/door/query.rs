//! The query of a request: names and values, decoded.

use http::Uri;
use percent_encoding::percent_decode_str;

/// The parameters of a query, in order.
#[derive(Debug)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn of(uri: &Uri) -> Self {
        let pairs = uri.query().unwrap_or_default().split('&');
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        };
        Self(pairs.map(pair).collect())
    }

    /// Returns the value of a parameter. An empty value counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(one, _)| one == name)?;
        Some(found.1.as_str()).filter(|value| !value.is_empty())
    }

    /// Returns the values of a list, which clients write as `name=a&name=b` or as
    /// `name[]=a&name[]=b`.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let is_one = move |one: &str| one.strip_suffix("[]").unwrap_or(one) == name;
        let found = self.0.iter().filter(move |(one, _)| is_one(one));
        found.map(|(_, value)| value.as_str())
    }

    /// Returns the entries of a map, which clients write as `name[key]=value`.
    pub(crate) fn map<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().filter_map(move |(one, value)| {
            let key = one.strip_prefix(name)?.strip_prefix('[')?;
            Some((key.strip_suffix(']')?, value.as_str()))
        })
    }
}

fn decoded(text: &str) -> String {
    let text = text.replace('+', " ");
    percent_decode_str(&text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_empty_ones_are_absent() {
        let uri = "/x?a=1&b=&c=%5B%2B%5D+x&d&m%5Bk%201%5D=v&m[k2]=w&i[]=p&i%5B%5D=q&i=r";
        let query = Query::of(&uri.parse().expect("a URI"));
        assert_eq!(query.get("a"), Some("1"));
        assert_eq!(query.get("b").or(query.get("d")).or(query.get("e")), None);
        assert_eq!(query.get("c"), Some("[+] x"));
        let map: Vec<_> = query.map("m").collect();
        assert_eq!(map, [("k 1", "v"), ("k2", "w")]);
        assert_eq!(query.all("i").collect::<Vec<_>>(), ["p", "q", "r"]);
        assert!(Query::of(&"/x".parse().expect("a URI")).get("").is_none());
    }
}
