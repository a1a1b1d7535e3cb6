//! Renders the pages of a PDF as JPEG images, for models that see. Only PDFs without text are shown in
//! this way, so an image is as large as a scan needs to be read.
//!
//! The images leave the process one after the other, each after its length in four bytes.

use bytes::{Buf as _, Bytes};
use hayro::vello_cpu::color::palette::css::WHITE;
use hayro::{PixmapSettings, RenderCache, RenderSettings, render};
use hayro_interpret::hayro_syntax::Pdf;
use hayro_interpret::hayro_syntax::page::Page;
use hayro_interpret::{InterpreterSettings, RenderContent};
use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;

use super::failure::Failure;

/// The length of an image's longer side, in pixels: what Anthropic's API makes of larger images.
const LONGER_SIDE: f32 = 1568.0;

/// How many pixels a point may have at most, so that a tiny page stays small.
const MOST_PIXELS_OF_A_POINT: f32 = 4.0;

/// The quality of the images, of 100.
const QUALITY: u8 = 80;

/// The largest output, in bytes.
pub(super) const LARGEST_OUTPUT: usize = 32 << 20;

/// Returns the images of all pages.
pub(super) fn of(pdf: &Pdf, most: usize) -> Result<Vec<u8>, Failure> {
    let pages = pdf.pages();
    if pages.is_empty() {
        return Err(Failure::Unreadable);
    }
    if pages.len() > most {
        return Err(Failure::TooManyImages);
    }
    let mut output = Vec::new();
    for page in pages.iter() {
        let image = jpeg(page).ok_or(Failure::Unreadable)?;
        let length = u32::try_from(image.len()).map_err(|_| Failure::TooLarge)?;
        output.extend(length.to_le_bytes());
        output.extend(image);
        if output.len() > LARGEST_OUTPUT {
            return Err(Failure::TooLarge);
        }
    }
    Ok(output)
}

/// Returns the image of a page. `None` for a page without a size.
fn jpeg(page: &Page<'_>) -> Option<Vec<u8>> {
    let (width, height) = page.render_dimensions();
    let longer = width.max(height);
    let shorter = width.min(height);
    if !(longer.is_finite() && shorter > 0.0) {
        return None;
    }
    let scale = (LONGER_SIDE / longer).min(MOST_PIXELS_OF_A_POINT);
    let size = PixmapSettings {
        // A side has one pixel at least.
        x_scale: scale.max(1.0 / width),
        y_scale: scale.max(1.0 / height),
        bg_color: WHITE,
    };
    // A cache of its own, because the images of earlier pages would stay in memory.
    let cache = RenderCache::new();
    let pixels = render(page, &cache, &settings(), &RenderSettings::default(), &size);
    let (width, height) = (pixels.width(), pixels.height());
    let opaque = pixels.data_as_u8_slice().chunks_exact(4);
    let rgb: Vec<u8> = opaque
        .flat_map(|pixel| [pixel[0], pixel[1], pixel[2]])
        .collect();
    let mut image = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut image, QUALITY);
    let (width, height) = (u32::from(width), u32::from(height));
    let written = encoder.encode(&rgb, width, height, ExtendedColorType::Rgb8);
    written.ok().map(|()| image)
}

/// Reads the output of the process. Returns `None` if it is cut or empty.
pub(super) fn read(mut output: Bytes) -> Option<Vec<Bytes>> {
    let mut images = Vec::new();
    while output.has_remaining() {
        let length = usize::try_from(output.try_get_u32_le().ok()?).ok()?;
        if length > output.len() {
            return None;
        }
        images.push(output.split_to(length));
    }
    (!images.is_empty()).then_some(images)
}

/// The parts of a page that are read and shown.
pub(super) fn settings() -> InterpreterSettings {
    InterpreterSettings {
        render_content: RenderContent::PAGE | RenderContent::ANNOTATIONS,
        ..InterpreterSettings::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::pdf::tests::pdf;

    #[test]
    fn a_page_without_text_is_an_image_of_what_it_draws() {
        let black = "0 0 600 400 re f";
        let red = "1 0 0 rg 0 0 600 800 re f";
        let pdf = Pdf::new(pdf(&[black, red])).expect("a PDF");
        assert_eq!(of(&pdf, 1), Err(Failure::TooManyImages));
        let images = read(of(&pdf, 2).expect("images").into()).expect("images");
        let images: Vec<_> = images
            .iter()
            .map(|image| image::load_from_memory(image).expect("a JPEG").into_rgb8())
            .collect();
        assert_eq!(images.len(), 2);
        assert_eq!(images[0].dimensions(), (1176, 1568));
        let near = |page: usize, y: u32, color: [u8; 3]| {
            let found = images[page].get_pixel(500, y).0;
            found.iter().zip(color).all(|(a, b)| a.abs_diff(b) < 20)
        };
        // The origin of a page is at the bottom.
        assert!(near(0, 100, [255; 3]) && near(0, 1500, [0; 3]));
        assert!(near(1, 100, [255, 0, 0]) && near(1, 1500, [255, 0, 0]));
    }

    #[test]
    fn an_output_that_is_cut_is_not_read() {
        let whole = [&2_u32.to_le_bytes()[..], b"ab", &1_u32.to_le_bytes(), b"c"].concat();
        let images = read(whole.clone().into());
        assert_eq!(images, Some(vec![Bytes::from("ab"), Bytes::from("c")]));
        for end in [0, 3, 5, 8, 10] {
            assert_eq!(read(whole[..end].to_vec().into()), None, "{end}");
        }
    }
}
