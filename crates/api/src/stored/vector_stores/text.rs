//! The text of a file, by its content: plain text, Markdown, JSON and code as they are, HTML without
//! its tags.

use super::embed::Failure;

/// The tags that separate words. Other tags do not interrupt a word.
const BLOCKS: &[&str] = &[
    "p",
    "br",
    "div",
    "li",
    "ul",
    "ol",
    "tr",
    "td",
    "th",
    "table",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "section",
    "article",
    "header",
    "footer",
    "title",
    "option",
    "pre",
    "blockquote",
    "hr",
];

/// The elements whose content is no text.
const HIDDEN: &[&str] = &["script", "style", "template", "noscript", "svg"];

/// Returns whether a file is a PDF.
pub(super) fn is_pdf(bytes: &[u8]) -> bool {
    bytes.starts_with(b"%PDF-")
}

/// Returns the text of a file that is no PDF.
///
/// # Errors
/// `unsupported_file` if it is not text, `invalid_file` if it has no text.
pub(super) fn of_file(bytes: &[u8], name: &str) -> Result<String, Failure> {
    let text = decoded(bytes).ok_or_else(|| {
        let what = if is_pdf(bytes) { "a PDF" } else { "not text" };
        Failure::unsupported(format!(
            "The file is {what}. This server reads plain text, Markdown, JSON, HTML and code."
        ))
    })?;
    let text = if is_html(&text, name) {
        without_tags(&text)
    } else {
        text
    };
    if text.trim().is_empty() {
        return Err(Failure::invalid("The file has no text.".to_owned()));
    }
    Ok(text)
}

/// Returns bytes as text: UTF-8, or UTF-16 with its mark at the beginning.
fn decoded(bytes: &[u8]) -> Option<String> {
    let wide = |bytes: &[u8], number: fn([u8; 2]) -> u16| {
        let (pairs, rest) = bytes.as_chunks();
        let numbers = pairs.iter().map(|pair| number(*pair));
        let text: Result<String, _> = char::decode_utf16(numbers).collect();
        text.ok().filter(|_| rest.is_empty())
    };
    let text = match bytes {
        [0xff, 0xfe, rest @ ..] => wide(rest, u16::from_le_bytes)?,
        [0xfe, 0xff, rest @ ..] => wide(rest, u16::from_be_bytes)?,
        [0xef, 0xbb, 0xbf, rest @ ..] => str::from_utf8(rest).ok()?.to_owned(),
        _ => str::from_utf8(bytes).ok()?.to_owned(),
    };
    (!is_pdf(text.as_bytes()) && !text.contains('\0')).then_some(text)
}

fn is_html(text: &str, name: &str) -> bool {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension);
    let is_named = |known: &&str| extension.is_some_and(|one| one.eq_ignore_ascii_case(known));
    if ["html", "htm", "xhtml"].iter().any(is_named) {
        return true;
    }
    let start = text.trim_start().as_bytes();
    let begins = |with: &str| {
        let start = start.get(..with.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(with.as_bytes()))
    };
    begins("<!doctype html") || begins("<html")
}

/// Returns the text of a page. It is for searching, so the structure is not kept.
fn without_tags(html: &str) -> String {
    let mut text = String::with_capacity(html.len() / 2);
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        push_text(&mut text, &rest[..at]);
        rest = &rest[at..];
        if let Some(comment) = rest.strip_prefix("<!--") {
            rest = comment.split_once("-->").map_or("", |(_, after)| after);
            continue;
        }
        let inner = &rest[1..];
        let is_tag =
            inner.starts_with(|one: char| one.is_ascii_alphabetic() || one == '/' || one == '!');
        if !is_tag {
            text.push('<');
            rest = inner;
            continue;
        }
        let (tag, after) = inner.split_once('>').unwrap_or((inner, ""));
        rest = after;
        let name = tag.trim_start_matches('/');
        let end = name.find(|one: char| !one.is_ascii_alphanumeric());
        let name = name[..end.unwrap_or(name.len())].to_ascii_lowercase();
        if HIDDEN.contains(&name.as_str()) && !tag.starts_with('/') && !tag.ends_with('/') {
            rest = after_element(rest, &name);
        } else if BLOCKS.contains(&name.as_str()) && !text.ends_with('\n') {
            text.push('\n');
        }
    }
    push_text(&mut text, rest);
    text
}

/// Returns the text after the end of an element.
fn after_element<'a>(rest: &'a str, name: &str) -> &'a str {
    let mut after = rest;
    while let Some(at) = after.find("</") {
        after = &after[at + 2..];
        let found = after.get(..name.len());
        if found.is_some_and(|found| found.eq_ignore_ascii_case(name)) {
            return after.split_once('>').map_or("", |(_, after)| after);
        }
    }
    ""
}

/// Adds text of a page: white space is one space, and entities become their characters.
fn push_text(text: &mut String, html: &str) {
    let mut rest = html;
    while let Some(one) = rest.chars().next() {
        rest = &rest[one.len_utf8()..];
        if one.is_whitespace() {
            if !text.ends_with([' ', '\n']) {
                text.push(' ');
            }
        } else if let Some((entity, after)) = (one == '&').then(|| entity(rest)).flatten() {
            text.push(entity);
            rest = after;
        } else {
            text.push(one);
        }
    }
}

/// Reads an entity whose `&` was read. Returns the rest after it.
fn entity(rest: &str) -> Option<(char, &str)> {
    let end = rest.bytes().take(10).position(|byte| byte == b';')?;
    let (name, after) = (&rest[..end], &rest[end + 1..]);
    let one = match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => ' ',
        _ => {
            let number = name.strip_prefix('#')?;
            let hexadecimal = number.strip_prefix(['x', 'X']);
            let number = hexadecimal.map_or_else(
                || number.parse().ok(),
                |number| u32::from_str_radix(number, 16).ok(),
            );
            char::from_u32(number?).filter(|one| *one != '\0')?
        }
    };
    Some((one, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_any_encoding_is_read() {
        let wide = |order: fn(u16) -> [u8; 2], mark: u16| {
            let units = std::iter::once(mark).chain("é 😀".encode_utf16());
            units.flat_map(order).collect::<Vec<u8>>()
        };
        for bytes in [
            "é 😀".as_bytes().to_vec(),
            [b"\xef\xbb\xbf", "é 😀".as_bytes()].concat(),
            wide(u16::to_le_bytes, 0xfeff),
            wide(u16::to_be_bytes, 0xfeff),
        ] {
            assert_eq!(of_file(&bytes, "a.txt").ok().as_deref(), Some("é 😀"));
        }
    }

    #[test]
    fn a_page_is_read_without_its_tags() {
        let page = "<!DOCTYPE html><html><head><title>A &amp; B</title><style>p { color: red }</style>\
            <script>if (1 < 2) { alert(\"</b>\") }</script></head><body><!-- no <b>text</b> -->\
            <p class=\"x\">One\n   two</p><p>3 < 4 &#x41;&#66;&nbsp;&unknown; &</p><br/>end</body>";
        let text = of_file(page.as_bytes(), "a.bin").expect("a text");
        assert_eq!(text, "\nA & B\nOne two\n3 < 4 AB &unknown; &\nend");
        for broken in [
            "<p",
            "<script>never",
            "<!-- never",
            "<",
            "a<b",
            "&#x110000;",
            "&#0;",
            "</",
        ] {
            // The result does not matter; parsing must not panic.
            let _ = of_file(broken.as_bytes(), "a.html");
        }
        // A text that only mentions tags is not a page.
        assert_eq!(of_file(b"a <b> c", "a.md").ok().as_deref(), Some("a <b> c"));
    }

    #[test]
    fn what_is_no_text_is_unsupported_and_what_has_none_is_invalid() {
        for bytes in [
            &b"%PDF-1.7 text"[..],
            b"\x89PNG\r\n\x1a\n",
            b"a\0b",
            b"\xff\xfe\x00",
            b"PK\x03\x04\xff",
        ] {
            let failure = of_file(bytes, "a.txt").expect_err("no text");
            assert_eq!(failure.code(), "unsupported_file");
        }
        for bytes in [&b""[..], b" \n\t", b"<html><p></p></html>"] {
            let failure = of_file(bytes, "a.txt").expect_err("no text");
            assert_eq!(failure.code(), "invalid_file");
        }
    }
}
