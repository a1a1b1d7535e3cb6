//! The process that reads a PDF: the PDF comes over standard input, and its text or its pages leave
//! over standard output. The exit code says why a PDF cannot be read.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::process::ExitCode;

use hayro_interpret::hayro_syntax::{LoadPdfError, Pdf};
use hayro_interpret::kurbo::{Affine, Rect};
use hayro_interpret::{Context, InterpreterCache, interpret_page};

use super::failure::{Failure, LONGEST_TEXT, MOST_PAGES};
use super::layout::PageText;
use super::pages;

/// The limits of the process.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PdfLimits {
    /// The memory that the process may use, in bytes
    #[arg(long, default_value_t = 2 << 30)]
    memory: u64,
    /// The seconds that it may compute
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Writes the pages as images, if there are no more than this number
    #[arg(long)]
    pages: Option<usize>,
}

/// The stack of the thread that reads, for PDFs with deeply nested objects.
const STACK: usize = 32 << 20;

/// Reads a PDF from standard input and writes its text, or its pages, to standard output.
pub(crate) fn run(limits: &PdfLimits) -> anyhow::Result<ExitCode> {
    #[cfg(unix)]
    {
        use rlimit::Resource;
        let PdfLimits {
            memory, seconds, ..
        } = *limits;
        Resource::CPU.set(seconds, seconds)?;
        // macOS does not know this limit.
        let _ = Resource::AS.set(memory, memory);
        let _ = Resource::CORE.set(0, 0);
    }
    let mut pdf = Vec::new();
    std::io::stdin().read_to_end(&mut pdf)?;
    let reading = std::thread::Builder::new().stack_size(STACK);
    let most = limits.pages;
    let reading = reading.spawn(move || {
        let pdf = opened(pdf)?;
        match most {
            Some(most) => pages::of(&pdf, most),
            None => text(&pdf).map(String::into_bytes),
        }
    })?;
    // A panic is a PDF that cannot be read.
    match reading.join().unwrap_or(Err(Failure::Unreadable)) {
        Ok(output) => {
            std::io::stdout().write_all(&output)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(failure) => Ok(ExitCode::from(failure.code())),
    }
}

fn opened(pdf: Vec<u8>) -> Result<Pdf, Failure> {
    Pdf::new(pdf).map_err(|error| match error {
        LoadPdfError::Decryption(_) => Failure::Encrypted,
        LoadPdfError::Invalid => Failure::Unreadable,
    })
}

/// Returns the text of a PDF, each page under its number.
fn text(pdf: &Pdf) -> Result<String, Failure> {
    let pages = pdf.pages();
    if pages.len() > MOST_PAGES {
        return Err(Failure::TooManyPages);
    }
    let settings = pages::settings();
    let cache = InterpreterCache::new();
    let (mut text, mut is_empty) = (String::new(), true);
    for (page, number) in pages.iter().zip(1..) {
        let (width, height) = page.render_dimensions();
        let bounds = Rect::new(0.0, 0.0, width.into(), height.into());
        let mut context = Context::new(
            Affine::IDENTITY,
            bounds,
            &cache,
            page.xref(),
            settings.clone(),
        );
        let mut page_text = PageText::new(LONGEST_TEXT);
        interpret_page(page, &mut context, &mut page_text);
        let page_text = page_text.into_text();
        is_empty &= page_text.is_empty();
        if pages.len() > 1 {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "[Page {number}]");
        }
        text.push_str(&page_text);
        text.push_str("\n\n");
        if text.len() > LONGEST_TEXT {
            return Err(Failure::TooLong);
        }
    }
    if is_empty {
        return Err(Failure::WithoutText);
    }
    text.truncate(text.trim_end().len());
    Ok(text)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn text_of(pdf: Vec<u8>) -> Result<String, Failure> {
        text(&opened(pdf)?)
    }

    /// Returns a PDF whose pages have these contents.
    pub(crate) fn pdf(pages: &[&str]) -> Vec<u8> {
        let kids = (0..pages.len()).map(|page| format!("{} 0 R ", 4 + 2 * page));
        let kids = kids.collect::<Vec<_>>().concat();
        let mut objects = vec![
            "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
            format!("<< /Type /Pages /Kids [{kids}] /Count {} >>", pages.len()),
            "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"
                .to_owned(),
        ];
        for (page, content) in pages.iter().enumerate() {
            let contents = 5 + 2 * page;
            objects.push(format!(
                "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Resources << /Font << /F 3 0 R >> >> /Contents {contents} 0 R >>"
            ));
            objects.push(format!(
                "<< /Length {} >>\nstream\n{content}\nendstream",
                content.len()
            ));
        }
        let (mut file, mut table) = ("%PDF-1.4\n".to_owned(), String::new());
        for (object, number) in objects.iter().zip(1..) {
            let _ = writeln!(table, "{:010} 00000 n ", file.len());
            let _ = write!(file, "{number} 0 obj\n{object}\nendobj\n");
        }
        let (place, count) = (file.len(), objects.len() + 1);
        let _ = write!(
            file,
            "xref\n0 {count}\n0000000000 65535 f \n{table}trailer << /Size {count} /Root 1 0 R >>\nstartxref\n{place}\n%%EOF"
        );
        file.into_bytes()
    }

    fn page(lines: &str) -> String {
        format!("BT /F 12 Tf 72 720 Td {lines} ET")
    }

    #[test]
    fn the_text_of_a_pdf_has_its_words_lines_and_pages() {
        let first = page("(The whale) Tj 0 -14 Td [(is 3) -10 (0) -300 (m long.)] TJ");
        let read = text_of(pdf(&[&first]));
        assert_eq!(read.as_deref(), Ok("The whale\nis 30 m long."));
        let second = page("(It sings.) Tj");
        let read = text_of(pdf(&[&first, &second]));
        let both = "[Page 1]\nThe whale\nis 30 m long.\n\n[Page 2]\nIt sings.";
        assert_eq!(read.as_deref(), Ok(both));
    }

    #[test]
    fn a_pdf_that_cannot_be_read_says_why() {
        let page = page("(a) Tj");
        let many = vec![page.as_str(); MOST_PAGES + 1];
        for (pdf, failure) in [
            (pdf(&["0 0 9 9 re f"]), Failure::WithoutText),
            (pdf(&many), Failure::TooManyPages),
            (b"%PDF-1.4".to_vec(), Failure::Unreadable),
            (Vec::new(), Failure::Unreadable),
        ] {
            assert_eq!(text_of(pdf), Err(failure));
            assert_eq!(Failure::of_code(failure.code().into()), failure);
        }
        // A panic, and a signal as a shell reports it.
        for code in [101, 139] {
            assert_eq!(Failure::of_code(code), Failure::Unreadable);
        }
    }
}
