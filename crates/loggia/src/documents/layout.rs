//! [`PageText`] puts the glyphs of a page together as text. A PDF has no words and lines, only glyphs
//! and their places, in the order in which they are drawn.

use hayro_interpret::font::{Glyph, GlyphRun};
use hayro_interpret::hayro_cmap::BfString;
use hayro_interpret::kurbo::{Affine, BezPath, Point, Vec2};
use hayro_interpret::{
    BlendMode, ClipPath, Device, DrawMode, DrawProps, Image, ImageDrawProps, SoftMask,
};

/// A gap between two glyphs of one line that is a space, as a part of the font size.
const SPACE: f64 = 0.2;

/// The distances between the baselines of two glyphs that begin a new line, and a new paragraph.
const LINE: f64 = 0.5;
const PARAGRAPH: f64 = 1.75;

/// The text of a page under construction.
pub(super) struct PageText {
    text: String,
    /// The place where the next glyph of the line would be, and the direction of the line with the
    /// length of the font size.
    end: Option<(Point, Vec2)>,
    /// The maximum length of the text. The rest is dropped.
    longest: usize,
}

impl PageText {
    pub(super) fn new(longest: usize) -> Self {
        Self {
            text: String::new(),
            end: None,
            longest,
        }
    }

    pub(super) fn into_text(self) -> String {
        let lines: Vec<&str> = self.text.lines().map(str::trim_end).collect();
        lines.join("\n").trim().to_owned()
    }

    /// Adds a glyph: its text, its place, and its size and direction. The advance is a part of the
    /// font size.
    fn glyph(&mut self, text: &str, place: Point, size: Vec2, advance: f64) {
        if self.text.len() > self.longest {
            return;
        }
        self.separate(place, size);
        self.text.push_str(text);
        self.end = Some((place + size * advance, size));
    }

    /// Adds the space or line break between the last glyph and the next one.
    fn separate(&mut self, place: Point, size: Vec2) {
        let Some((end, last_size)) = self.end else {
            return;
        };
        let length = last_size.hypot().max(size.hypot());
        if !(length.is_finite() && length > 0.0) {
            return;
        }
        let direction = last_size / last_size.hypot().max(f64::MIN_POSITIVE);
        let moved = place - end;
        let along = moved.dot(direction) / length;
        let across = moved.cross(direction).abs() / length;
        if across > PARAGRAPH {
            self.text.push_str("\n\n");
        } else if across > LINE {
            self.text.push('\n');
        } else if !(-1.0..=SPACE).contains(&along) && !self.text.ends_with([' ', '\n']) {
            self.text.push(' ');
        }
    }
}

impl<'a> Device<'a> for PageText {
    fn draw_glyph_run(&mut self, run: &GlyphRun<'_, 'a>, props: DrawProps<'a>, _: &DrawMode) {
        for glyph in run.glyphs() {
            let text = match glyph.as_unicode() {
                Some(BfString::Char(one)) => one.to_string(),
                Some(BfString::String(text)) => text,
                None => continue,
            };
            if text
                .chars()
                .all(|one| one.is_control() || one == '\u{fffd}')
            {
                continue;
            }
            let advance = match &**glyph {
                Glyph::Outline(glyph) => glyph.advance_width(),
                Glyph::Type3(glyph) => glyph.advance_width(),
            };
            // Glyphs have a thousand units for the font size.
            let transform = props.transform * glyph.transform() * Affine::scale(1000.0);
            let place = transform * Point::ORIGIN;
            let size = transform * Point::new(1.0, 0.0) - place;
            let advance = f64::from(advance.unwrap_or(500.0)) / 1000.0;
            self.glyph(&text, place, size, advance);
        }
    }

    fn draw_path(&mut self, _: &BezPath, _: DrawProps<'a>, _: &DrawMode) {}
    fn push_clip_path(&mut self, _: &ClipPath) {}
    fn push_transparency_group(&mut self, _: f32, _: Option<SoftMask<'a>>, _: BlendMode) {}
    fn draw_image(&mut self, _: Image<'a, '_>, _: ImageDrawProps<'a>) {}
    fn pop_clip(&mut self) {}
    fn pop_transparency_group(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds the letters of a text in a row, from a place on.
    fn write(page: &mut PageText, text: &str, x: f64, y: f64) {
        for (letter, at) in text.chars().zip(0..) {
            let place = Point::new(x + 5.0 * f64::from(at), y);
            page.glyph(&letter.to_string(), place, Vec2::new(10.0, 0.0), 0.5);
        }
    }

    #[test]
    fn gaps_become_spaces_and_lines() {
        let mut page = PageText::new(1000);
        write(&mut page, "Hello", 0.0, 100.0);
        write(&mut page, "world", 30.0, 100.0);
        write(&mut page, "next", 0.0, 88.0);
        write(&mut page, "paragraph", 0.0, 60.0);
        assert_eq!(page.into_text(), "Hello world\nnext\n\nparagraph");
    }

    #[test]
    fn glyphs_at_impossible_places_are_text_too() {
        let mut page = PageText::new(1000);
        for place in [f64::NAN, f64::INFINITY, 0.0, f64::MAX, f64::MIN] {
            for size in [f64::NAN, f64::INFINITY, 0.0, f64::MIN_POSITIVE] {
                page.glyph("a", Point::new(place, 0.0), Vec2::new(size, size), f64::NAN);
            }
        }
        assert_eq!(page.into_text().matches('a').count(), 20);
    }

    #[test]
    fn the_length_is_limited() {
        let mut page = PageText::new(3);
        write(&mut page, &"x".repeat(100), 0.0, 0.0);
        assert_eq!(page.into_text(), "xxxx");
    }
}
