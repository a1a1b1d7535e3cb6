//! Whisper models, recognized by their files: the embedded engine loads them in processes of their own.

#[cfg(feature = "whisper")]
pub(crate) use loggia_whisper::Files;

/// The files of a Whisper model, in a build without Whisper: there are none.
#[cfg(not(feature = "whisper"))]
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Files {}

#[cfg(not(feature = "whisper"))]
impl Files {
    pub(crate) fn recognize(_: &std::path::Path) -> Option<Self> {
        None
    }
}
