//! Numbers, sizes and switches.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use bytesize::ByteSize;
use serde::Deserialize;

use super::value::ValueError;

/// A whole number from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Count(pub(super) NonZeroU32);

impl Count {
    /// Converts a number of the program, clamped to the range.
    pub(super) fn of(number: usize) -> Self {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        Self(NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN))
    }

    pub(crate) fn get(self) -> u32 {
        self.0.get()
    }
}

impl FromStr for Count {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let number = text.trim().parse();
        number
            .map(Self)
            .map_err(|_| ValueError::Count(text.to_owned()))
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A number of layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Layers(pub(crate) u32);

impl FromStr for Layers {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let number = text.trim().parse();
        number
            .map(Self)
            .map_err(|_| ValueError::Number(text.to_owned()))
    }
}

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Size(pub(super) ByteSize);

impl Size {
    pub(super) fn of(length: usize) -> Self {
        Self(ByteSize::b(length as u64))
    }

    pub(crate) fn bytes(self) -> u64 {
        self.0.as_u64()
    }

    /// Returns the size as a `usize`, clamped to its range.
    pub(crate) fn length(self) -> usize {
        usize::try_from(self.bytes()).unwrap_or(usize::MAX)
    }
}

impl FromStr for Size {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let size = text.trim().parse();
        size.map(Self)
            .map_err(|_| ValueError::Size(text.to_owned()))
    }
}

/// Writes the size in mebibytes or kibibytes, if that is exact.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bytes() {
            0 => f.write_str("0B"),
            bytes if bytes % (1 << 20) == 0 => write!(f, "{}MiB", bytes >> 20),
            bytes if bytes % (1 << 10) == 0 => write!(f, "{}KiB", bytes >> 10),
            bytes => write!(f, "{bytes}B"),
        }
    }
}

/// A setting that is on or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Switch(pub(crate) bool);

impl FromStr for Switch {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(Self(true)),
            "false" | "0" | "no" | "off" => Ok(Self(false)),
            _ => Err(ValueError::Switch(text.to_owned())),
        }
    }
}

impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_or_answered_with_what_is_wanted() {
        assert_eq!("4".parse(), Ok(Count(NonZeroU32::new(4).unwrap())));
        assert_eq!("0".parse(), Ok(Layers(0)));
        assert_eq!("12GiB".parse::<Size>().unwrap().bytes(), 12 << 30);
        assert_eq!(" Yes ".parse(), Ok(Switch(true)));
        let refused = |said: ValueError| said.to_string();
        assert!(refused("0".parse::<Count>().unwrap_err()).contains("a whole number from 1"));
        assert!(refused("-1".parse::<Layers>().unwrap_err()).contains("a whole number"));
        assert!(refused("big".parse::<Size>().unwrap_err()).contains("32MiB"));
        assert!(refused("maybe".parse::<Switch>().unwrap_err()).contains("true nor false"));
    }

    #[test]
    fn a_size_is_shown_exactly() {
        let shown = |bytes| Size(ByteSize::b(bytes)).to_string();
        assert_eq!(
            [shown(0), shown(32 << 20), shown(1536 << 10), shown(1000)],
            ["0B", "32MiB", "1536KiB", "1000B"]
        );
    }
}
