//! Whether a payload is well formed, for types with `VALIDATE yes`, and how many records it has.
//!
//! JSON is RFC 8259: UTF-8, one value, nesting as deep as it likes (what is skipped is skipped without recursion). CSV is RFC
//! 4180, read as leniently as spreadsheets write it: any line ends, blank lines, a byte order mark, quotes inside of unquoted
//! fields, any charset. What is wrong is a quote that stays open, which swallows the rest of the file, and rows of unlike length.

use std::cell::RefCell;
use std::fmt;

use csv_core::{ReadRecordResult, Reader};
use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};

use crate::{Error, Result};

/// The number of records, if the format is one that is known here (in any case); [`Error::BadFormat`] says what is wrong.
///
/// JSON: the elements of an array at the top, else one. CSV: the rows after the first.
pub fn validate(format: &[u8], payload: &[u8]) -> Result<Option<u64>> {
    if format.eq_ignore_ascii_case(b"json") {
        json(payload).map(Some)
    } else if format.eq_ignore_ascii_case(b"csv") {
        csv(payload).map(Some)
    } else {
        Ok(None)
    }
}

fn json(payload: &[u8]) -> Result<u64> {
    let text = std::str::from_utf8(payload)
        .map_err(|error| Error::bad_format(format!("json: not UTF-8 at byte {}", error.valid_up_to())))?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let is_array = text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('[');
    let counted =
        if is_array { reader.deserialize_seq(Elements) } else { IgnoredAny::deserialize(&mut reader).map(|_| 1) };
    counted
        .and_then(|records| reader.end().map(|()| records))
        .map_err(|error| Error::bad_format(format!("json: {error}")))
}

/// Counts the elements of an array, keeping none.
struct Elements;

impl<'de> Visitor<'de> for Elements {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> std::result::Result<u64, A::Error> {
        let mut count = 0;
        while elements.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(count)
    }
}

thread_local! {
    /// Making a reader takes 16 µs, as much as reading 16 KiB; resetting it takes nothing. (A clone of one does not work.)
    static READER: RefCell<Reader> = RefCell::new(Reader::new());
}

fn csv(payload: &[u8]) -> Result<u64> {
    READER.with_borrow_mut(|reader| {
        reader.reset();
        csv_by(reader, payload)
    })
}

/// The reader would end an open quote at the end of the payload. So it gets one more line end: a quote that is open swallows
/// that, and a row then comes out at the end all the same; otherwise there is nothing left.
fn csv_by(reader: &mut Reader, payload: &[u8]) -> Result<u64> {
    let mut rows = Rows { reader, fields: 0, width: None, count: 0 };
    rows.read(payload)?;
    rows.read(b"\n")?;
    let row = rows.count + 1;
    match rows.reader.read_record(b"", &mut [0; 8], &mut [0; 8]).0 {
        ReadRecordResult::End => Ok(rows.count.saturating_sub(1)),
        _ => Err(Error::bad_format(format!("csv: row {row} has a quote that is not closed"))),
    }
}

struct Rows<'a> {
    reader: &'a mut Reader,
    /// Those of the present row that are complete.
    fields: u64,
    /// How many fields the first row has.
    width: Option<u64>,
    count: u64,
}

impl Rows<'_> {
    fn read(&mut self, mut input: &[u8]) -> Result<()> {
        // What fields hold is thrown away whenever the buffer is full.
        let (mut text, mut ends) = ([0; 4096], [0; 64]);
        // Reading nothing would mean the end.
        while !input.is_empty() {
            let (result, read, _, fields) = self.reader.read_record(input, &mut text, &mut ends);
            input = input.get(read..).unwrap_or_default();
            self.fields += fields as u64;
            if result == ReadRecordResult::Record {
                self.end_row()?;
            }
        }
        Ok(())
    }

    fn end_row(&mut self) -> Result<()> {
        self.count += 1;
        let fields = std::mem::take(&mut self.fields);
        let width = *self.width.get_or_insert(fields);
        if fields == width {
            return Ok(());
        }
        let row = self.count;
        Err(Error::bad_format(format!("csv: row {row} has not {width} fields, as the first, but {fields}")))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::*;

    fn json_of(payload: &[u8]) -> Option<u64> {
        validate(b"Json", payload).ok().map(Option::unwrap)
    }

    fn csv_of(payload: &[u8]) -> Option<u64> {
        validate(b"CSV", payload).ok().map(Option::unwrap)
    }

    #[test]
    fn json_is_one_value() {
        let cases: [(&[u8], Option<u64>); 40] = [
            (b"[]", Some(0)),
            (b" \t\r\n[ ] ", Some(0)),
            (b"[1,\"a\",null,{\"b\":[1,2]},[3,4]]", Some(5)),
            (b"{}", Some(1)),
            (b"{\"a\":[1,2,3],\"a\":2}", Some(1)),
            (b"null", Some(1)),
            (b"true", Some(1)),
            (b"-0.5e+7", Some(1)),
            (b"1e999", Some(1)),
            (b"[1e999]", Some(1)),
            (b"\"text\"", Some(1)),
            ("\"ü\\u00fc\\ud83d\\ude00\"".as_bytes(), Some(1)),
            (b"\"\\ud800\"", Some(1)),
            (b"[\"\\ud800\"]", Some(1)),
            (b"123456789012345678901234567890", Some(1)),
            (b"", None),
            (b" ", None),
            (b"[", None),
            (b"[1", None),
            (b"[1,]", None),
            (b"[,1]", None),
            (b"[1 2]", None),
            (b"[] []", None),
            (b"[]x", None),
            (b"{\"a\":1,}", None),
            (b"{\"a\"}", None),
            (b"{a:1}", None),
            (b"{1:1}", None),
            (b"{\"a\":1", None),
            (b"'a'", None),
            (b"\"a", None),
            (b"\"\n\"", None),
            (b"\"\\x\"", None),
            (b"01", None),
            (b"1.", None),
            (b"+1", None),
            (b"NaN", None),
            (b"tru", None),
            (b"\xef\xbb\xbf[]", None),
            (b"[\"\xff\"]", None),
        ];
        for (payload, expected) in cases {
            assert_eq!(json_of(payload), expected, "{}", payload.escape_ascii());
        }
    }

    #[test]
    fn json_may_be_nested_however_deeply() {
        let depth = 1_000_000;
        let arrays = [b"[".repeat(depth), b"]".repeat(depth)].concat();
        assert_eq!(json_of(&arrays), Some(1));
        let objects = [b"{\"a\":".repeat(depth), b"1".to_vec(), b"}".repeat(depth)].concat();
        assert_eq!(json_of(&objects), Some(1));
        assert_eq!(json_of(&arrays[..2 * depth - 1]), None);
        assert_eq!(json_of(&b"[".repeat(depth)), None);
    }

    #[test]
    fn csv_is_rows_of_one_length() {
        let cases: [(&[u8], Option<u64>); 28] = [
            (b"", Some(0)),
            (b"\n", Some(0)),
            (b"a,b", Some(0)),
            (b"a,b\n", Some(0)),
            (b"a,b\r\n", Some(0)),
            (b"a,b\n1,2", Some(1)),
            (b"a,b\n1,2\n", Some(1)),
            (b"a,b\r\n1,2\r\n3,4\r\n", Some(2)),
            (b"a,b\r1,2\r", Some(1)),
            (b"\xef\xbb\xbfa,b\n1,2\n", Some(1)),
            (b"\xef\xbb\xbf\"a\",b\n1,2\n", Some(1)),
            (b"a,b\n\n1,2\n\n\n", Some(1)),
            (b"a,b\n,\n", Some(1)),
            (b"a\n\"\"\n", Some(1)),
            (b"a,b\n\"1\n2\",\"3,4\"\n", Some(1)),
            (b"a,b\n\"say \"\"no\"\"\",2\n", Some(1)),
            (b"a,b\n\"1\r\n2\",\"\"\"\"", Some(1)),
            (b"a,b\n5\" wide,2\n", Some(1)),
            (b"a,b\n\xff\xfe,\0\n", Some(1)),
            (b"a,b\n1\n", None),
            (b"a,b\n1,2,3\n", None),
            (b"a,b\n1,2\n3,4,", None),
            (b"a\n1,2", None),
            (b"a,b\n1,\"2", None),
            (b"a,b\n1,\"2\n", None),
            (b"a,b\n1,\"2\n3,4\n", None),
            (b"\"", None),
            (b"a,b\n1,\"2\"\"", None),
        ];
        for (payload, expected) in cases {
            assert_eq!(csv_of(payload), expected, "{}", payload.escape_ascii());
        }
    }

    /// More fields, and longer ones, than any buffer of the reader.
    #[test]
    fn csv_of_any_shape() {
        for fields in [1, 63, 64, 65, 128, 1000] {
            for length in [1, 63, 4095, 4096, 4097, 10_000] {
                let row = vec!["x".repeat(length); fields].join(",") + "\n";
                assert_eq!(csv_of(row.repeat(3).as_bytes()), Some(2), "{fields} {length}");
                assert_eq!(csv_of(format!("{row}{row}y,{row}").as_bytes()), None, "{fields} {length}");
                assert_eq!(csv_of(format!("{row}\"{row}").as_bytes()), None, "{fields} {length}");
            }
        }
    }

    #[test]
    fn other_formats_are_not_looked_at() {
        for format in [&b"xml"[..], b"", b"jsonl", b"csv2", b"\xff"] {
            assert_eq!(validate(format, b"[\"\xff"), Ok(None));
        }
    }

    #[test]
    fn errors_say_what_is_wrong_and_where() {
        let said = |format: &[u8], payload: &[u8]| validate(format, payload).unwrap_err().reply().into_owned();
        assert_eq!(said(b"json", b"[1,\n2,]"), "BADFORMAT json: trailing comma at line 2 column 3");
        assert_eq!(said(b"json", b"[\"\xff\"]"), "BADFORMAT json: not UTF-8 at byte 2");
        assert_eq!(said(b"csv", b"a,b\n1,2\n3\n"), "BADFORMAT csv: row 3 has not 2 fields, as the first, but 1");
        assert_eq!(said(b"csv", b"a,b\n1,\"2\n3,4\n"), "BADFORMAT csv: row 2 has a quote that is not closed");
    }
}
