//! Records as the rows of a table, for CSV: structs and maps by names, tuples and rows by places.
//!
//! The crate `csv` writes structs; but it makes the header of the first record, knows no maps, and gives tuples no header, so that
//! readers lose their first row. What holds other things than a text, a number, a truth or nothing is no row.

use serde::Serialize;
use serde::ser::{Error as _, Impossible, SerializeMap, SerializeStruct, Serializer};

use crate::error::{Error, Result};

/// The rows under a header, which was said or is that of the first record; and how many.
pub(crate) fn write<T: Serialize>(
    header: Option<Vec<String>>,
    records: impl IntoIterator<Item = T>,
) -> Result<(Vec<u8>, u64)> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let (mut header, mut count) = (header, 0);
    if let Some(names) = &header {
        writer.write_record(names).map_err(Error::payload)?;
    }
    for record in records {
        let row = record.serialize(Rower).map_err(Error::payload)?;
        let names = match &header {
            Some(names) => names,
            None => {
                let names = header.insert(row.names());
                writer.write_record(&*names).map_err(Error::payload)?;
                names
            }
        };
        writer.write_record(row.under(names)?).map_err(Error::payload)?;
        count += 1;
    }
    let payload = writer.into_inner().map_err(|error| Error::payload(error.into_error()))?;
    Ok((payload, count))
}

/// The fields of a record, with their names if it has some.
enum Row {
    Named(Vec<(String, String)>),
    Bare(Vec<String>),
}

impl Row {
    fn names(&self) -> Vec<String> {
        match self {
            Self::Named(fields) => fields.iter().map(|(name, _)| name.clone()).collect(),
            Self::Bare(fields) => (1..=fields.len()).map(|place| format!("column{place}")).collect(),
        }
    }

    fn under(self, names: &[String]) -> Result<Vec<String>> {
        let fields = match self {
            // As they nearly always are.
            Self::Named(fields) if names.iter().eq(fields.iter().map(|(name, _)| name)) => {
                fields.into_iter().map(|(_, field)| field).collect()
            }
            Self::Named(fields) => placed(fields, names)?,
            Self::Bare(fields) => fields,
        };
        if fields.len() == names.len() {
            return Ok(fields);
        }
        Err(Error::payload(format!("a row of {} fields under a header of {}", fields.len(), names.len())))
    }
}

fn placed(fields: Vec<(String, String)>, names: &[String]) -> Result<Vec<String>> {
    let mut row = vec![String::new(); names.len()];
    for (name, field) in fields {
        let place = names.iter().position(|known| *known == name);
        match place.and_then(|place| row.get_mut(place)) {
            Some(slot) => *slot = field,
            None => return Err(Error::payload(format!("the header has no `{name}`"))),
        }
    }
    Ok(row)
}

type JsonError = serde_json::Error;

/// A field as it stands in the table.
fn field(value: &(impl Serialize + ?Sized)) -> Result<String, JsonError> {
    value.serialize(Fielder)
}

macro_rules! as_text {
    ($($method:ident($type:ty)),*) => {
        $(fn $method(self, value: $type) -> Result<String, JsonError> {
            Ok(value.to_string())
        })*
    };
}

macro_rules! no_field {
    ($($method:ident($($type:ty),*) -> $kind:ident),*) => {
        $(fn $method(self, $(_: $type),*) -> Result<Self::$kind, JsonError> {
            Err(JsonError::custom("a field of a record must be a text, a number, a truth or nothing"))
        })*
    };
}

struct Fielder;

impl Serializer for Fielder {
    type Ok = String;
    type Error = JsonError;
    type SerializeSeq = Impossible<String, JsonError>;
    type SerializeTuple = Impossible<String, JsonError>;
    type SerializeTupleStruct = Impossible<String, JsonError>;
    type SerializeTupleVariant = Impossible<String, JsonError>;
    type SerializeMap = Impossible<String, JsonError>;
    type SerializeStruct = Impossible<String, JsonError>;
    type SerializeStructVariant = Impossible<String, JsonError>;

    as_text!(
        serialize_bool(bool),
        serialize_i8(i8),
        serialize_i16(i16),
        serialize_i32(i32),
        serialize_i64(i64),
        serialize_i128(i128),
        serialize_u8(u8),
        serialize_u16(u16),
        serialize_u32(u32),
        serialize_u64(u64),
        serialize_u128(u128),
        serialize_char(char),
        serialize_str(&str)
    );
    no_field!(
        serialize_seq(Option<usize>) -> SerializeSeq,
        serialize_tuple(usize) -> SerializeTuple,
        serialize_tuple_struct(&'static str, usize) -> SerializeTupleStruct,
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> SerializeTupleVariant,
        serialize_map(Option<usize>) -> SerializeMap,
        serialize_struct(&'static str, usize) -> SerializeStruct,
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> SerializeStructVariant
    );

    /// With a point or an exponent, as `csv` writes them.
    fn serialize_f32(self, value: f32) -> Result<String, JsonError> {
        Ok(format!("{value:?}"))
    }

    fn serialize_f64(self, value: f64) -> Result<String, JsonError> {
        Ok(format!("{value:?}"))
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<String, JsonError> {
        String::from_utf8(bytes.to_vec()).map_err(JsonError::custom)
    }

    fn serialize_none(self) -> Result<String, JsonError> {
        Ok(String::new())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<String, JsonError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<String, JsonError> {
        Ok(String::new())
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<String, JsonError> {
        Ok(name.to_owned())
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<String, JsonError> {
        Ok(variant.to_owned())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<String, JsonError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<String, JsonError> {
        value.serialize(self)
    }
}

macro_rules! no_record {
    ($($method:ident($($type:ty),*)),*) => {
        $(fn $method(self, $(_: $type),*) -> Result<Row, JsonError> {
            Err(JsonError::custom("a record must be a struct, a map, a tuple or a row"))
        })*
    };
}

struct Rower;

impl Serializer for Rower {
    type Ok = Row;
    type Error = JsonError;
    type SerializeSeq = Bare;
    type SerializeTuple = Bare;
    type SerializeTupleStruct = Bare;
    type SerializeTupleVariant = Impossible<Row, JsonError>;
    type SerializeMap = Named;
    type SerializeStruct = Named;
    type SerializeStructVariant = Impossible<Row, JsonError>;

    no_record!(
        serialize_bool(bool),
        serialize_i8(i8),
        serialize_i16(i16),
        serialize_i32(i32),
        serialize_i64(i64),
        serialize_u8(u8),
        serialize_u16(u16),
        serialize_u32(u32),
        serialize_u64(u64),
        serialize_f32(f32),
        serialize_f64(f64),
        serialize_char(char),
        serialize_str(&str),
        serialize_bytes(&[u8]),
        serialize_none(),
        serialize_unit(),
        serialize_unit_struct(&'static str),
        serialize_unit_variant(&'static str, u32, &'static str)
    );

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Row, JsonError> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<Row, JsonError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<Row, JsonError> {
        value.serialize(self)
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Bare, JsonError> {
        Ok(Bare(Vec::with_capacity(len.unwrap_or(0))))
    }

    fn serialize_tuple(self, len: usize) -> Result<Bare, JsonError> {
        self.serialize_seq(Some(len))
    }

    fn serialize_tuple_struct(self, _: &'static str, len: usize) -> Result<Bare, JsonError> {
        self.serialize_seq(Some(len))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, JsonError> {
        Err(JsonError::custom(format_args!("`{variant}` is no record")))
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Named, JsonError> {
        Ok(Named { fields: Vec::with_capacity(len.unwrap_or(0)), name: String::new() })
    }

    fn serialize_struct(self, _: &'static str, len: usize) -> Result<Named, JsonError> {
        Ok(Named { fields: Vec::with_capacity(len), name: String::new() })
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, JsonError> {
        Err(JsonError::custom(format_args!("`{variant}` is no record")))
    }
}

struct Bare(Vec<String>);

macro_rules! bare {
    ($($trait:ident::$method:ident),*) => {
        $(impl serde::ser::$trait for Bare {
            type Ok = Row;
            type Error = JsonError;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), JsonError> {
                self.0.push(field(value)?);
                Ok(())
            }

            fn end(self) -> Result<Row, JsonError> {
                Ok(Row::Bare(self.0))
            }
        })*
    };
}

bare!(SerializeSeq::serialize_element, SerializeTuple::serialize_element, SerializeTupleStruct::serialize_field);

struct Named {
    fields: Vec<(String, String)>,
    /// That of the next.
    name: String,
}

impl SerializeStruct for Named {
    type Ok = Row;
    type Error = JsonError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), JsonError> {
        self.fields.push((name.to_owned(), field(value)?));
        Ok(())
    }

    fn end(self) -> Result<Row, JsonError> {
        Ok(Row::Named(self.fields))
    }
}

impl SerializeMap for Named {
    type Ok = Row;
    type Error = JsonError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), JsonError> {
        self.name = field(key)?;
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), JsonError> {
        let name = std::mem::take(&mut self.name);
        self.fields.push((name, field(value)?));
        Ok(())
    }

    /// A hash map has no order: it is that of the names. That of a struct with flattened fields is its own, and is not known from it.
    fn end(mut self) -> Result<Row, JsonError> {
        self.fields.sort_unstable();
        Ok(Row::Named(self.fields))
    }
}
