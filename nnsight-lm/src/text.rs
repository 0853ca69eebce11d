//! The text of tokens that come one by one.

use nnsight_core::Result;

use crate::Vocabulary;

/// The text of tokens that come one by one, of which each is read a few times, however many come.
#[derive(Debug, Default)]
pub(crate) struct Text {
    text: String,
    /// Tokens `start..end` are read together with what comes next: what a token reads as may depend on those before it.
    start: usize,
    /// How many tokens the text has.
    end: usize,
}

impl Text {
    /// Reads what has come since the last time. Returns whether the text has one of some texts now.
    ///
    /// # Errors
    /// If there is no tokenizer.
    pub fn reads_stop(&mut self, tokens: &[u32], stops: &[String], vocabulary: &dyn Vocabulary) -> Result<bool> {
        let Some(longest) = stops.iter().map(String::len).max() else { return Ok(false) };
        let (before, now) = (vocabulary.decode(&tokens[self.start..self.end])?, vocabulary.decode(&tokens[self.start..])?);
        let Some(new) = now.strip_prefix(before.as_str()) else {
            // Tokens that read otherwise beside what comes after them.
            (self.start, self.end, self.text) = (0, tokens.len(), vocabulary.decode(tokens)?);
            return Ok(stops.iter().any(|stop| self.text.contains(stop.as_str())));
        };
        let known = self.text.len();
        self.text.push_str(new);
        let mut from = known.saturating_sub(longest);
        while !self.text.is_char_boundary(from) {
            from -= 1;
        }
        let found = stops.iter().any(|stop| self.text[from..].contains(stop.as_str()));
        match new.ends_with('\u{fffd}') {
            // The rest of a character may come.
            true => self.text.truncate(known),
            false if new.is_empty() => {}
            false => (self.start, self.end) = (self.end, tokens.len()),
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens are bytes; the first loses a space before it.
    struct Bytes;
    impl Vocabulary for Bytes {
        fn eos_token_ids(&self) -> &[u32] {
            &[]
        }
        fn decode(&self, tokens: &[u32]) -> Result<String> {
            let text = String::from_utf8_lossy(&tokens.iter().map(|&token| token as u8).collect::<Vec<_>>()).into_owned();
            Ok(text.strip_prefix(' ').map(str::to_string).unwrap_or(text))
        }
    }

    #[test]
    fn a_text_is_found_when_its_last_token_comes() {
        let whole = " größer, als der Stop und mehr".as_bytes().iter().map(|&byte| u32::from(byte)).collect::<Vec<_>>();
        for stop in ["ö", "größer", "r, a", " der St", "Stop", "mehr", "fehlt"] {
            let (mut text, stops) = (Text::default(), [stop.to_string()]);
            let found = (1..=whole.len()).find(|&count| text.reads_stop(&whole[..count], &stops, &Bytes).unwrap());
            let expected = (1..=whole.len()).find(|&count| Bytes.decode(&whole[..count]).unwrap().contains(stop));
            assert_eq!(found, expected, "{stop}");
        }
    }

    #[test]
    fn each_token_is_read_a_few_times() {
        struct Counting(std::sync::atomic::AtomicUsize);
        impl Vocabulary for Counting {
            fn eos_token_ids(&self) -> &[u32] {
                &[]
            }
            fn decode(&self, tokens: &[u32]) -> Result<String> {
                self.0.fetch_add(tokens.len(), std::sync::atomic::Ordering::Relaxed);
                Ok("x".repeat(tokens.len()))
            }
        }
        let (vocabulary, tokens) = (Counting(0.into()), vec![7; 1000]);
        let (mut text, stops) = (Text::default(), ["stop".to_string()]);
        assert!(!(1..=1000).any(|count| text.reads_stop(&tokens[..count], &stops, &vocabulary).unwrap()));
        assert!(vocabulary.0.into_inner() < 5000);
    }
}
