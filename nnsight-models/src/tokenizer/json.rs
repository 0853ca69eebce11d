//! JSON as Python's `json.dumps` writes it, which the chat templates' `tojson` is: `{"a": [1, 2]}`, with spaces, and without HTML escapes.

use std::io::{Result, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// How it is written: the arguments of `json.dumps`.
pub struct Python {
    /// Entries on lines of their own, and by how much they are moved in.
    indent: Option<usize>,
    between_entries: String,
    after_keys: String,
    ensure_ascii: bool,
    depth: usize,
    has_entries: bool,
}

impl Python {
    /// With the separators that Python has by default.
    pub fn new(indent: Option<usize>, ensure_ascii: bool) -> Self {
        let between_entries = if indent.is_some() { "," } else { ", " }.to_string();
        Python { indent, between_entries, after_keys: ": ".to_string(), ensure_ascii, depth: 0, has_entries: false }
    }

    /// With separators of its own.
    pub fn separated(self, between_entries: String, after_keys: String) -> Self {
        Python { between_entries, after_keys, ..self }
    }

    /// The text of a value.
    pub fn dump(self, value: &impl Serialize) -> serde_json::Result<String> {
        let mut text = Vec::new();
        value.serialize(&mut Serializer::with_formatter(&mut text, self))?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    fn open<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: &[u8]) -> Result<()> {
        self.depth += 1;
        self.has_entries = false;
        writer.write_all(bracket)
    }

    fn close<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: &[u8]) -> Result<()> {
        self.depth = self.depth.saturating_sub(1);
        if self.has_entries {
            self.new_line(writer)?;
        }
        writer.write_all(bracket)
    }

    fn entry<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> Result<()> {
        if !first {
            writer.write_all(self.between_entries.as_bytes())?;
        }
        self.new_line(writer)
    }

    fn new_line<W: ?Sized + Write>(&self, writer: &mut W) -> Result<()> {
        match self.indent {
            Some(indent) => write!(writer, "\n{:width$}", "", width = indent * self.depth),
            None => Ok(()),
        }
    }
}

impl Formatter for Python {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> Result<()> {
        self.open(writer, b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> Result<()> {
        self.close(writer, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> Result<()> {
        self.entry(writer, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, _: &mut W) -> Result<()> {
        self.has_entries = true;
        Ok(())
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> Result<()> {
        self.open(writer, b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> Result<()> {
        self.close(writer, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> Result<()> {
        self.entry(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> Result<()> {
        writer.write_all(self.after_keys.as_bytes())
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, _: &mut W) -> Result<()> {
        self.has_entries = true;
        Ok(())
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> Result<()> {
        if !self.ensure_ascii {
            return writer.write_all(fragment.as_bytes());
        }
        for character in fragment.chars() {
            match character {
                '\0'..='\x7f' => writer.write_all(&[character as u8])?,
                _ => character.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(writer, "\\u{unit:04x}"))?,
            }
        }
        Ok(())
    }

    /// Python writes `1e+16` and `1e-07` for what Rust writes as `1e16` and `1e-7`.
    fn write_f64<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> Result<()> {
        let text = format!("{value:?}");
        match text.split_once('e') {
            Some((digits, exponent)) => {
                let (sign, size) = exponent.strip_prefix('-').map_or(('+', exponent), |size| ('-', size));
                write!(writer, "{digits}e{sign}{size:0>2}")
            }
            None => writer.write_all(text.as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_written_as_python_writes_them() {
        let value = json!({ "a": [1, 2.0, 1e16, 1.5e-7], "b": {}, "c": [], "d": "é\n<\u{1f642}>", "e": null });
        let plain = Python::new(None, false).dump(&value).unwrap();
        assert_eq!(plain, "{\"a\": [1, 2.0, 1e+16, 1.5e-07], \"b\": {}, \"c\": [], \"d\": \"é\\n<🙂>\", \"e\": null}");
        let ascii = Python::new(None, true).separated(",".into(), ":".into()).dump(&json!({ "d": "é🙂" })).unwrap();
        assert_eq!(ascii, r#"{"d":"\u00e9\ud83d\ude42"}"#);
        let lines = Python::new(Some(2), false).dump(&json!({ "a": [1, [], { "b": 2 }] })).unwrap();
        assert_eq!(lines, "{\n  \"a\": [\n    1,\n    [],\n    {\n      \"b\": 2\n    }\n  ]\n}");
    }
}
