//! Detects whether the arguments of a call are complete.

/// Tracks a JSON object or array piece by piece. It does not validate it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Json {
    depth: u32,
    in_string: bool,
    escaped: bool,
    is_complete: bool,
}

impl Json {
    /// Adds a piece.
    pub(super) fn push(&mut self, text: &str) {
        for byte in text.bytes() {
            if self.is_complete {
                return;
            }
            self.byte(byte);
        }
    }

    /// Returns whether an object or array has been closed.
    pub(super) fn is_complete(self) -> bool {
        self.is_complete
    }

    fn byte(&mut self, byte: u8) {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth = self.depth.saturating_add(1),
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                self.is_complete = self.depth == 0;
            }
            _ => {}
        }
    }
}
