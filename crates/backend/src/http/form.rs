//! [`Form`]: a `multipart/form-data` body with one file.

use std::io;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use http::HeaderValue;

use crate::Content;

/// A form with one file, which is its last field. Clones share the file.
#[derive(Clone, Debug)]
pub struct Form {
    boundary: String,
    before: Bytes,
    file: Content,
    after: Bytes,
}

/// The file of a form.
#[derive(Clone, Copy, Debug)]
pub struct FormFile<'a> {
    /// The name of the field.
    pub field: &'a str,
    /// The name of the file.
    pub name: &'a str,
    /// The media type.
    pub media_type: &'a str,
    /// The content.
    pub content: &'a Content,
}

impl Form {
    /// Creates a form. `boundary` must not occur in the fields or the file. To ensure that,
    /// `unique` is an unguessable text of letters and digits.
    pub fn new<'a>(
        unique: &str,
        fields: impl IntoIterator<Item = (&'a str, &'a str)>,
        file: FormFile<'_>,
    ) -> Self {
        let boundary = format!("loggia-{unique}");
        let mut before = BytesMut::new();
        for (name, value) in fields {
            begin(&mut before, &boundary, name);
            before.put_slice(b"\r\n\r\n");
            before.put_slice(value.as_bytes());
            before.put_slice(b"\r\n");
        }
        begin(&mut before, &boundary, file.field);
        before.put_slice(b"; filename=\"");
        put_quoted(&mut before, file.name);
        before.put_slice(b"\"\r\nContent-Type: ");
        before.put_slice(file.media_type.as_bytes());
        before.put_slice(b"\r\n\r\n");
        Self {
            before: before.freeze(),
            file: file.content.clone(),
            after: format!("\r\n--{boundary}--\r\n").into(),
            boundary,
        }
    }

    /// Returns the value of the header `content-type`.
    pub(super) fn content_type(&self) -> Option<HeaderValue> {
        HeaderValue::try_from(format!("multipart/form-data; boundary={}", self.boundary)).ok()
    }

    pub(super) fn length(&self) -> u64 {
        self.before.len() as u64 + self.file.length() + self.after.len() as u64
    }

    pub(super) fn pieces(&self) -> BoxStream<'static, io::Result<Bytes>> {
        let whole = |bytes: &Bytes| stream::once(std::future::ready(Ok(bytes.clone())));
        let (before, after) = (whole(&self.before), whole(&self.after));
        before.chain(self.file.pieces()).chain(after).boxed()
    }
}

/// Writes the beginning of a field, up to its name.
fn begin(out: &mut BytesMut, boundary: &str, name: &str) {
    out.put_slice(b"--");
    out.put_slice(boundary.as_bytes());
    out.put_slice(b"\r\nContent-Disposition: form-data; name=\"");
    put_quoted(out, name);
    out.put_slice(b"\"");
}

/// Writes a name as browsers do: quotes and line breaks would end it.
fn put_quoted(out: &mut BytesMut, name: &str) {
    for byte in name.bytes() {
        match byte {
            b'"' => out.put_slice(b"%22"),
            b'\r' => out.put_slice(b"%0D"),
            b'\n' => out.put_slice(b"%0A"),
            byte => out.put_u8(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_cannot_break_out_of_its_header() {
        let file = FormFile {
            field: "file",
            name: "a\"\r\nX-Evil: 1.wav",
            media_type: "audio/wav",
            content: &Bytes::from_static(b"RIFF").into(),
        };
        let form = Form::new("u", [("pro\"mpt", "two\r\nlines")], file);
        let mut whole = Vec::new();
        let mut pieces = form.pieces();
        while let Some(piece) = pieces.next().await {
            whole.extend_from_slice(&piece.unwrap());
        }
        assert_eq!(whole.len() as u64, form.length());
        let expected = "--loggia-u\r\nContent-Disposition: form-data; name=\"pro%22mpt\"\r\n\r\ntwo\r\nlines\r\n\
                        --loggia-u\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a%22%0D%0AX-Evil: 1.wav\"\r\n\
                        Content-Type: audio/wav\r\n\r\nRIFF\r\n--loggia-u--\r\n";
        assert_eq!(String::from_utf8(whole).unwrap(), expected);
    }
}
