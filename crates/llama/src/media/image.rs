//! Decodes an image to pixels. The decoders are written in Rust, because files from clients are
//! untrusted.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder as _, ImageReader, Limits};

/// The maximum number of pixels of an image: more than the cameras of phones produce.
const MOST_PIXELS: u64 = 64 << 20;
/// The maximum length of a side in pixels.
const LONGEST_SIDE: u32 = 32_768;
/// The maximum ratio of the longer side to the shorter one. Projectors divide by the scaled length
/// of the shorter side.
const MOST_LONGISH: u32 = 200;
/// The maximum memory in bytes of a decoded image, and of a decoder's buffers if the decoder
/// supports a limit: four bytes for each pixel. So an image with 16 bits per channel may have half
/// as many pixels.
const MOST_MEMORY: u64 = 4 * MOST_PIXELS;

const BROKEN: &str = "it is damaged or truncated";

/// The pixels of an upright image: three bytes for each, row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DecodedImage {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) rgb: Vec<u8>,
}

/// Decodes PNG, JPEG, WebP, and the first frame of a GIF. Transparency is dropped, as in the tools
/// with which models are trained. The error is a part of an error message.
pub(crate) fn decode(bytes: &[u8]) -> Result<DecodedImage, String> {
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|_| BROKEN.to_owned())?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(LONGEST_SIDE);
    limits.max_image_height = Some(LONGEST_SIDE);
    limits.max_alloc = Some(MOST_MEMORY);
    reader.limits(limits);
    if reader.format().is_none() {
        return Err("it is not a PNG, JPEG, GIF or WebP image".to_owned());
    }
    let mut decoder = reader.into_decoder().map_err(explain)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MOST_PIXELS {
        return Err(format!(
            "it has {width} × {height} pixels; send one of at most {MOST_PIXELS}"
        ));
    }
    // The decoder's own limits do not include the memory for the decoded image.
    if decoder.total_bytes() > MOST_MEMORY {
        return Err(format!(
            "its {width} × {height} pixels take more than {MOST_MEMORY} bytes"
        ));
    }
    let (short, long) = (width.min(height), width.max(height));
    if short.saturating_mul(MOST_LONGISH) < long {
        return Err(format!(
            "one side is more than {MOST_LONGISH} times as long as the other"
        ));
    }
    // Without a readable orientation, the image is upright.
    let orientation = decoder.orientation().ok();
    let rgb = DynamicImage::from_decoder(decoder)
        .map_err(explain)?
        .into_rgb8();
    let mut image = DynamicImage::ImageRgb8(rgb);
    if let Some(orientation) = orientation {
        image.apply_orientation(orientation);
    }
    let rgb = image.into_rgb8();
    let (width, height) = rgb.dimensions();
    if width == 0 || height == 0 {
        Err(BROKEN.to_owned())
    } else {
        Ok(DecodedImage {
            width,
            height,
            rgb: rgb.into_raw(),
        })
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "`map_err` passes the error by value"
)]
fn explain(error: image::ImageError) -> String {
    match error {
        image::ImageError::Limits(_) => {
            format!("it is larger than {LONGEST_SIDE} pixels on a side")
        }
        image::ImageError::Unsupported(_) => {
            "it is not a PNG, JPEG, GIF or WebP image, or it uses an unsupported feature".to_owned()
        }
        _ => BROKEN.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use image::{ImageFormat, Rgb, RgbImage};

    use super::*;

    fn encoded(format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        RgbImage::from_fn(5, 3, |x, _| Rgb([if x < 2 { 200 } else { 10 }, 20, 30]))
            .write_to(&mut bytes, format)
            .unwrap();
        bytes.into_inner()
    }

    #[test]
    fn every_kind_that_openai_takes_is_decoded() {
        for format in [
            ImageFormat::Png,
            ImageFormat::Jpeg,
            ImageFormat::Gif,
            ImageFormat::WebP,
        ] {
            let image = decode(&encoded(format)).unwrap();
            assert_eq!(
                (image.width, image.height, image.rgb.len()),
                (5, 3, 45),
                "{format:?}"
            );
            assert!(image.rgb[0] > 100 && image.rgb[12] < 100, "{format:?}");
        }
    }

    #[test]
    fn what_is_cut_anywhere_is_an_error_or_a_picture_and_nothing_else() {
        for format in [
            ImageFormat::Png,
            ImageFormat::Jpeg,
            ImageFormat::Gif,
            ImageFormat::WebP,
        ] {
            let whole = encoded(format);
            for length in 0..whole.len() {
                if let Ok(image) = decode(&whole[..length]) {
                    assert_eq!(image.rgb.len(), 45);
                }
            }
        }
        assert_eq!(
            decode(b"<svg/>").unwrap_err(),
            "it is not a PNG, JPEG, GIF or WebP image"
        );
    }

    #[test]
    fn a_small_file_that_claims_a_huge_picture_is_refused_before_it_is_decoded() {
        let error = decode(&claiming(20_000, 20_000, [8, 2])).unwrap_err();
        assert!(error.starts_with("it has 20000 × 20000 pixels"), "{error}");
        let error = decode(&claiming(40_000, 1000, [8, 2])).unwrap_err();
        assert_eq!(error, "it is larger than 32768 pixels on a side");
        // With 16 bits per channel and four channels, each pixel takes twice as much memory.
        let error = decode(&claiming(8000, 8000, [16, 6])).unwrap_err();
        assert!(
            error.starts_with("its 8000 × 8000 pixels take more than"),
            "{error}"
        );
    }

    /// A PNG whose header claims these sides, and this bit depth and color type.
    fn claiming(width: u32, height: u32, pixel: [u8; 2]) -> Vec<u8> {
        let mut png = encoded(ImageFormat::Png);
        png[16..20].copy_from_slice(&width.to_be_bytes());
        png[20..24].copy_from_slice(&height.to_be_bytes());
        png[24..26].copy_from_slice(&pixel);
        let checksum = crc(&png[12..29]);
        png[29..33].copy_from_slice(&checksum.to_be_bytes());
        png
    }

    #[test]
    fn a_picture_is_turned_as_the_camera_was_held() {
        let jpeg = encoded(ImageFormat::Jpeg);
        // EXIF with one entry: orientation 6, which needs a turn of 90 degrees clockwise.
        let mut exif =
            b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0".to_vec();
        let length = u16::try_from(exif.len() + 2).unwrap().to_be_bytes();
        let mut turned = jpeg[..2].to_vec();
        turned.extend([0xff, 0xe1]);
        turned.extend(length);
        turned.append(&mut exif);
        turned.extend(&jpeg[2..]);
        let image = decode(&turned).unwrap();
        assert_eq!((image.width, image.height), (3, 5));
        // The left side is now at the top.
        assert!(image.rgb[0] > 100 && image.rgb[4 * 9] < 100);
    }

    #[test]
    fn a_picture_that_is_next_to_a_line_is_refused() {
        let mut bytes = Cursor::new(Vec::new());
        RgbImage::new(201, 1)
            .write_to(&mut bytes, ImageFormat::Png)
            .unwrap();
        assert_eq!(
            decode(bytes.get_ref()).unwrap_err(),
            "one side is more than 200 times as long as the other"
        );
    }

    /// The checksum of PNG.
    fn crc(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0_u32, |sum, byte| {
            (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
                sum >> 1 ^ if sum & 1 == 1 { 0xedb8_8320 } else { 0 }
            })
        })
    }
}
