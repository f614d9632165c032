//! How much of what a check says is kept.

use std::borrow::Cow;

/// How many bytes of output are kept unless the check says otherwise: enough for a person to see what is wrong,
/// little enough to be held for a hundred thousand checks.
pub const OUTPUT_BYTES_DEFAULT: usize = 4096;

/// The text itself when it fits in `bytes_max`, otherwise its beginning and a note of how much there was.
pub fn captured(text: &str, bytes_max: usize) -> Cow<'_, str> {
    if text.len() <= bytes_max {
        return Cow::Borrowed(text);
    }
    let end = text.floor_char_boundary(bytes_max);
    Cow::Owned(format!("{} ... (captured {} of {} bytes)", &text[..end], end, text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_output_is_cut_between_characters_and_says_so() {
        assert_eq!(captured("all is well", 11), "all is well");
        assert_eq!(captured("ääää", 3), "ä ... (captured 2 of 8 bytes)");
    }
}
