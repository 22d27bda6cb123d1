//! What a producer produces.

use std::io;

use bytes::Bytes;
use serde::Serialize;
use serde_json::ser::Formatter;

use crate::error::{Error, Result};
use crate::table;
use crate::words::name;

/// A payload and what only its producer knows of it. Bytes and texts are exports without further ado.
///
/// ```
/// use expcache_client::Export;
///
/// #[derive(serde::Serialize)]
/// struct Trip { from: &'static str, to: &'static str }
///
/// let trips = [Trip { from: "A", to: "B" }];
/// let export = Export::csv(&trips)?.tag("driver:9");
/// assert_eq!(export.payload(), "from,to\nA,B\n");
/// # Ok::<(), expcache_client::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Export {
    pub(crate) payload: Bytes,
    pub(crate) format: Option<Bytes>,
    pub(crate) records: Option<u64>,
    pub(crate) meta: Option<Bytes>,
    pub(crate) tags: Vec<Bytes>,
}

impl Export {
    /// Any bytes.
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self { payload: payload.into(), ..Self::default() }
    }

    /// A value as JSON. The elements of an array are counted as records; anything else is one.
    pub fn json(value: &(impl Serialize + ?Sized)) -> Result<Self> {
        let (mut payload, mut counting) = (Vec::new(), Counting::default());
        let mut serializer = serde_json::Serializer::with_formatter(&mut payload, &mut counting);
        value.serialize(&mut serializer).map_err(Error::payload)?;
        let count = counting.records(&payload);
        Ok(Self::new(payload).format("json").records(count))
    }

    /// Records as CSV with a header, which the fields' names of the first make. They are structs or maps; tuples and rows have no
    /// names, and their columns are called `column1`, `column2` … They are counted. Where there may be none of them, nobody knows
    /// the names: then use [`Export::csv_with_header`].
    pub fn csv<T: Serialize>(records: impl IntoIterator<Item = T>) -> Result<Self> {
        Self::table(None, records)
    }

    /// Records as CSV under these names, in their order, also if there are no records. What structs and maps have stands under its
    /// name, the elements of tuples and rows in their order; a name of which a record has nothing is left empty.
    ///
    /// ```
    /// use expcache_client::Export;
    ///
    /// let export = Export::csv_with_header(["id", "km"], [(1, 2.5), (2, 7.0)])?;
    /// assert_eq!(export.payload(), "id,km\n1,2.5\n2,7.0\n");
    /// let export = Export::csv_with_header(["id", "km"], Vec::<(u64, f64)>::new())?;
    /// assert_eq!(export.payload(), "id,km\n");
    /// # Ok::<(), expcache_client::Error>(())
    /// ```
    pub fn csv_with_header<N, T>(
        names: impl IntoIterator<Item = N>,
        records: impl IntoIterator<Item = T>,
    ) -> Result<Self>
    where
        N: Into<String>,
        T: Serialize,
    {
        Self::table(Some(names.into_iter().map(Into::into).collect()), records)
    }

    fn table<T: Serialize>(header: Option<Vec<String>>, records: impl IntoIterator<Item = T>) -> Result<Self> {
        let (payload, count) = table::write(header, records)?;
        Ok(Self::new(payload).format("csv").records(count))
    }

    /// What the payload is; else the request says.
    #[must_use]
    pub fn format(mut self, format: impl AsRef<[u8]>) -> Self {
        self.format = Some(name(format));
        self
    }

    /// How many records it has.
    #[must_use]
    pub fn records(mut self, count: u64) -> Self {
        self.records = Some(count);
        self
    }

    /// A JSON object to keep beside it; else the request says.
    #[must_use]
    pub fn meta(mut self, json: impl AsRef<[u8]>) -> Self {
        self.meta = Some(name(json));
        self
    }

    /// A tag that is known only now, beside those of the request.
    #[must_use]
    pub fn tag(mut self, tag: impl AsRef<[u8]>) -> Self {
        self.tags.push(name(tag));
        self
    }

    /// Tags that are known only now.
    #[must_use]
    pub fn tags<T: AsRef<[u8]>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags.extend(tags.into_iter().map(name));
        self
    }

    /// The payload.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }
}

impl From<Bytes> for Export {
    fn from(payload: Bytes) -> Self {
        Self::new(payload)
    }
}

impl From<Vec<u8>> for Export {
    fn from(payload: Vec<u8>) -> Self {
        Self::new(payload)
    }
}

impl From<String> for Export {
    fn from(payload: String) -> Self {
        Self::new(payload)
    }
}

impl From<&'static str> for Export {
    fn from(payload: &'static str) -> Self {
        Self::new(payload)
    }
}

/// Counts the elements of the array at the top, as they are written.
#[derive(Default)]
struct Counting {
    depth: usize,
    elements: u64,
}

impl Counting {
    /// Of a payload that was written so.
    fn records(&self, payload: &[u8]) -> u64 {
        if payload.first() == Some(&b'[') { self.elements } else { 1 }
    }
}

impl Formatter for &mut Counting {
    fn begin_array<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth += 1;
        writer.write_all(b"[")
    }

    fn end_array<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth -= 1;
        writer.write_all(b"]")
    }

    fn begin_array_value<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.elements += u64::from(self.depth == 1);
        if first { Ok(()) } else { writer.write_all(b",") }
    }

    fn begin_object<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth += 1;
        writer.write_all(b"{")
    }

    fn end_object<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth -= 1;
        writer.write_all(b"}")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::{BTreeMap, HashMap};

    use super::*;
    use crate::how::{How, Stored};
    use crate::served::{CachedEntry, Served};

    #[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize)]
    struct Trip {
        id: u64,
        km: Option<f64>,
    }

    fn served(export: Export) -> Served {
        let entry = std::sync::Arc::new(CachedEntry::new(export.payload));
        let (age, stored) = (std::time::Duration::ZERO, Stored::Yes);
        Served { entry, how: How::Produced, near: false, age, ttl_ms: None, stored }
    }

    fn text(export: &Export) -> &str {
        std::str::from_utf8(&export.payload).unwrap()
    }

    #[test]
    fn records_of_json_are_counted() {
        let (none, nested) = (Vec::<u8>::new(), (vec![1, 2], [vec![3]], BTreeMap::from([("a", [1, 2])])));
        for (export, expected) in [
            (Export::json(&none), 0),
            (Export::json(&[1, 2, 3]), 3),
            (Export::json(&nested), 3),
            (Export::json(&BTreeMap::from([("a", [1, 2])])), 1),
            (Export::json("text"), 1),
        ] {
            let export = export.unwrap();
            assert_eq!(export.records, Some(expected), "{}", text(&export));
            assert_eq!(expcache_core::validate::validate(b"json", &export.payload).unwrap(), Some(expected));
        }
        assert_eq!(text(&Export::json(&nested).unwrap()), serde_json::to_string(&nested).unwrap());
    }

    #[test]
    fn what_was_written_as_csv_can_be_read_back() {
        let trips = vec![Trip { id: 1, km: Some(2.5) }, Trip { id: 2, km: None }];
        assert_eq!(served(Export::csv(&trips).unwrap()).csv::<Trip>().unwrap(), trips);
        let tuples = vec![(1u64, "a, b".to_owned()), (2, "c".to_owned())];
        assert_eq!(served(Export::csv(&tuples).unwrap()).csv::<(u64, String)>().unwrap(), tuples);
        let rows = vec![vec!["1".to_owned(), "x".to_owned()], vec!["2".to_owned(), "y".to_owned()]];
        assert_eq!(served(Export::csv(&rows).unwrap()).csv::<Vec<String>>().unwrap(), rows);
        let maps: Vec<HashMap<String, u64>> = vec![[("b".into(), 1), ("a".into(), 2)].into(), [("a".into(), 3)].into()];
        let export = Export::csv(&maps).unwrap();
        assert_eq!((text(&export), export.records), ("a,b\n2,1\n3,\n", Some(2)));
    }

    #[test]
    fn there_is_a_header_without_records() {
        let export = Export::csv_with_header(["id", "km"], Vec::<Trip>::new()).unwrap();
        assert_eq!((text(&export), export.records), ("id,km\n", Some(0)));
        assert_eq!(served(export).csv::<Trip>().unwrap(), []);
    }

    #[test]
    fn a_header_orders_the_columns() {
        let trips = [Trip { id: 1, km: Some(2.5) }];
        assert_eq!(text(&Export::csv_with_header(["km", "note", "id"], &trips).unwrap()), "km,note,id\n2.5,,1\n");
        assert_eq!(text(&Export::csv_with_header(["a", "b"], [[1, 2]]).unwrap()), "a,b\n1,2\n");
        assert!(Export::csv_with_header(["id"], &trips).is_err(), "`km` would be lost");
        assert!(Export::csv_with_header(["a"], [[1, 2]]).is_err());
    }

    #[test]
    fn what_is_no_table_is_refused() {
        assert!(Export::csv([1, 2]).is_err());
        assert!(Export::csv([vec![vec![1, 2]]]).is_err());
        let unlike = [BTreeMap::from([("a", 1)]), BTreeMap::from([("b", 1)])];
        assert!(Export::csv(&unlike).is_err(), "`b` would be lost");
    }
}
