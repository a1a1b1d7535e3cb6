//! Signatures of reasoning, made and read with the key ring of the server. With them, reasoning that
//! the client does not see comes back in later turns, also to another server with the same keys.

use std::fmt;
use std::sync::Arc;

use loggia_seal::Keys;

/// The purpose of signatures: no other sealed text is accepted as one.
const PURPOSE: &str = "anthropic thinking";

/// The first byte of each kind of sealed text.
const SHOWN: u8 = b's';
const OMITTED: u8 = b'o';

/// Makes signatures for one caller. Without keys, they are empty.
#[derive(Clone, Default)]
pub(crate) struct Signer {
    keys: Option<Arc<Keys>>,
    /// The name of the caller's API key. Nobody else can have a model read the caller's reasoning.
    caller: Option<Arc<str>>,
}

impl Signer {
    pub(crate) fn new(keys: Option<&Arc<Keys>>, caller: Option<Arc<str>>) -> Self {
        let keys = keys.map(Arc::clone);
        Self { keys, caller }
    }

    /// The keys that make the signatures.
    pub(crate) fn keys(&self) -> Option<Arc<Keys>> {
        self.keys.clone()
    }

    fn purpose(&self) -> String {
        match &self.caller {
            Some(caller) => format!("{PURPOSE} of {caller}"),
            None => PURPOSE.to_owned(),
        }
    }

    /// Signs reasoning whose text the client sees and sends again later.
    pub(crate) fn shown(&self) -> String {
        self.sealed(&[SHOWN])
    }

    /// Signs reasoning that the client does not see: the signature contains it.
    pub(crate) fn omitted(&self, text: &str) -> String {
        self.sealed(&[&[OMITTED], text.as_bytes()].concat())
    }

    fn sealed(&self, plain: &[u8]) -> String {
        let keys = self.keys.as_ref();
        keys.map(|keys| keys.seal(&self.purpose(), plain))
            .unwrap_or_default()
    }

    /// Returns the reasoning in a signature. `None` if it contains none, or is of another server.
    pub(crate) fn opened(&self, signature: &str) -> Option<String> {
        let keys = self.keys.as_ref().filter(|_| !signature.is_empty())?;
        let plain = keys.open(&self.purpose(), signature).ok()?;
        let text = plain.strip_prefix(&[OMITTED])?;
        String::from_utf8(text.to_vec()).ok()
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_keys_read_a_signature() {
        let keys = Arc::new(Keys::random());
        let signer = |keys: Keys| Signer::new(Some(&Arc::new(keys)), None);
        let of = |caller: &str| Signer::new(Some(&keys), Some(caller.into()));
        let sealed = of("bob").omitted("Hm.");
        assert_eq!(of("bob").opened(&sealed).as_deref(), Some("Hm."));
        assert_eq!(of("eve").opened(&sealed), None);
        let own = signer(Keys::random());
        let hidden = own.omitted("Hm.");
        assert_eq!(own.opened(&hidden).as_deref(), Some("Hm."));
        assert_eq!(own.opened(&own.shown()), None);
        assert_eq!(signer(Keys::random()).opened(&hidden), None);
        for foreign in ["", "S1", "EqQBCgIYAhIM", &hidden[1..]] {
            assert_eq!(own.opened(foreign), None);
        }
        let none = Signer::default();
        assert_eq!((none.shown(), none.opened(&hidden)), (String::new(), None));
    }
}
