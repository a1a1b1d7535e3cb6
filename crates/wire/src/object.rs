//! `object!` declares a struct for a JSON object that keeps unknown fields in `extra`.
//!
//! It replaces `#[serde(flatten)]`, which buffers the whole object before it reads a field. That
//! costs time in streams, and loses the path of an invalid field, which an error needs for its
//! `param`.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde_json::Value;
use serde_json::map::Entry;

use crate::Once;
use crate::once::twice;

/// A key of a JSON object, borrowed from the input if possible.
pub(crate) struct Key<'de>(pub(crate) Cow<'de, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(key)))
            }
            fn visit_str<E>(self, key: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

/// Adds an unknown field to `extra`.
pub(crate) fn keep<E: Error>(
    extra: &mut crate::Extra,
    key: String,
    value: Once<Value>,
) -> Result<(), E> {
    match extra.entry(key) {
        Entry::Vacant(place) => _ = place.insert(value.0),
        Entry::Occupied(place) => return Err(twice(place.key())),
    }
    Ok(())
}

/// Declares a struct for a JSON object, with a public field `extra` for unknown fields.
///
/// A duplicate field is an error, because one of the two values would be lost. Each field is one of
/// these:
///
/// - `required`: must be present, always written
/// - `optional`: an `Option`; absent and `null` are the same, `None` is not written
/// - `free`: as `optional`, and a [`Once`], because the client chooses the names inside it
/// - `nullable`: an `Option`; `None` is written as `null`
macro_rules! object {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $( $(#[$field_meta:meta])* $kind:ident $field:ident : $type:ty = $key:literal ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        $vis struct $name {
            $( $(#[$field_meta])* pub $field: $crate::object::object!(@type $kind $type), )*
            /// Fields that this type does not know: extensions of OpenAI's API, or newer fields.
            pub extra: $crate::Extra,
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct ObjectVisitor;
                impl<'de> serde::de::Visitor<'de> for ObjectVisitor {
                    type Value = $name;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("an object")
                    }
                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<$name, A::Error> {
                        $( let mut $field: Option<$type> = None; )*
                        let mut extra = $crate::Extra::new();
                        while let Some($crate::object::Key(key)) = map.next_key()? {
                            match &*key {
                                $( $key => {
                                    if $field.is_some() {
                                        return Err(serde::de::Error::duplicate_field($key));
                                    }
                                    $field = $crate::object::object!(@read $kind map $type);
                                } )*
                                _ => $crate::object::keep(&mut extra, key.into_owned(), map.next_value()?)?,
                            }
                        }
                        Ok($name { $( $field: $crate::object::object!(@found $kind $field $key), )* extra })
                    }
                }
                deserializer.deserialize_map(ObjectVisitor)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap;
                let mut map = serializer.serialize_map(None)?;
                $( $crate::object::object!(@write $kind self map $field $key); )*
                for (key, value) in &self.extra {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    };
    (@type required $type:ty) => { $type };
    (@type $kind:ident $type:ty) => { Option<$type> };
    (@read required $map:ident $type:ty) => { Some($map.next_value()?) };
    (@read free $map:ident $type:ty) => { $map.next_value::<Option<$crate::Once<$type>>>()?.map(|value| value.0) };
    (@read $kind:ident $map:ident $type:ty) => { $map.next_value()? };
    (@found required $field:ident $key:literal) => { $field.ok_or_else(|| serde::de::Error::missing_field($key))? };
    (@found $kind:ident $field:ident $key:literal) => { $field };
    (@write optional $self:ident $map:ident $field:ident $key:literal) => {
        if let Some(value) = &$self.$field {
            $map.serialize_entry($key, value)?;
        }
    };
    (@write free $self:ident $map:ident $field:ident $key:literal) => {
        $crate::object::object!(@write optional $self $map $field $key);
    };
    (@write $kind:ident $self:ident $map:ident $field:ident $key:literal) => {
        $map.serialize_entry($key, &$self.$field)?;
    };
}

pub(crate) use object;

/// Declares an enum whose variants are JSON strings. A value that is not a string gives a type
/// error; a derived `Deserialize` would report a syntax error.
macro_rules! words {
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident {
            $( $(#[$variant_meta:meta])* $variant:ident = $word:literal ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $vis enum $name {
            $( $(#[$variant_meta])* $variant, )*
        }

        impl $name {
            /// The name in JSON.
            $vis fn as_str(self) -> &'static str {
                match self {
                    $( Self::$variant => $word, )*
                }
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct WordVisitor;
                impl serde::de::Visitor<'_> for WordVisitor {
                    type Value = $name;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("a string")
                    }
                    fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<$name, E> {
                        match word {
                            $( $word => Ok($name::$variant), )*
                            other => Err(E::unknown_variant(other, &[$( $word ),*])),
                        }
                    }
                }
                deserializer.deserialize_str(WordVisitor)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

pub(crate) use words;
