//! Serializing without mixing values up, in front of any serializer: for keys, and for values that must come back as they were.
//!
//! JSON has no word for numbers that are not finite; they would become `null`, as what is absent does. It has no sets; one without
//! an order would never make the same text twice, so its elements are sorted. What is nested deeper than readers take is refused.
//! A set is known by the name of its type, in the one call in which a serializer gets to see that.

use std::fmt::Display;

use serde::Serialize;
use serde::ser::{self, Error as _, Serializer};
use serde_json::Value;

/// The deepest that readers take.
pub(crate) const DEEPEST: usize = 127;
/// Up to here a double holds every integer.
const LARGEST_EXACT: u128 = 1 << 53;

/// What becomes of integers that a double cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Integers {
    AsTheyAre,
    /// As identities often are: in a key they stand as text.
    #[cfg_attr(not(any(feature = "macros", test)), expect(dead_code, reason = "only functions have such keys"))]
    AsText,
}

/// A value that is serialized so.
pub(crate) struct Exact<'a, T: ?Sized> {
    value: &'a T,
    manner: Manner,
}

#[derive(Clone, Copy)]
struct Manner {
    integers: Integers,
    depth: usize,
}

impl<'a, T: ?Sized> Exact<'a, T> {
    /// Of a value that stands so deep in another.
    pub(crate) fn new(value: &'a T, integers: Integers, depth: usize) -> Self {
        Self { value, manner: Manner { integers, depth } }
    }
}

impl<T: Serialize + ?Sized> Serialize for Exact<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(Careful { inner: serializer, manner: self.manner })
    }
}

struct Careful<S> {
    inner: S,
    manner: Manner,
}

impl Manner {
    /// Within so many brackets more.
    fn within<E: ser::Error>(self, brackets: usize) -> Result<Self, E> {
        let depth = self.depth + brackets;
        if depth > DEEPEST {
            return Err(E::custom(format_args!("nested deeper than {DEEPEST}")));
        }
        Ok(Self { depth, ..self })
    }

    fn of<T: ?Sized>(self, value: &T) -> Exact<'_, T> {
        Exact { value, manner: self }
    }
}

fn is_small_negative(value: impl TryInto<i64>) -> bool {
    value.try_into().is_ok_and(|n: i64| u128::from(n.unsigned_abs()) <= LARGEST_EXACT)
}

/// Whether equal ones may bring their items in another order.
fn has_no_order<I>() -> bool {
    let name = std::any::type_name::<I>();
    let name = name.trim_start_matches('&').split('<').next().unwrap_or_default();
    ["HashSet", "DashSet", "BinaryHeap"].iter().any(|kind| name.ends_with(kind))
}

macro_rules! as_they_are {
    ($($method:ident($type:ty)),*) => {
        $(fn $method(self, value: $type) -> Result<S::Ok, S::Error> {
            self.inner.$method(value)
        })*
    };
}

macro_rules! integers {
    ($($method:ident($type:ty)),*) => {
        $(fn $method(self, value: $type) -> Result<S::Ok, S::Error> {
            let is_exact = u128::try_from(value).map_or_else(|_| is_small_negative(value), |n| n <= LARGEST_EXACT);
            match self.manner.integers {
                Integers::AsText if !is_exact => self.inner.serialize_str(&value.to_string()),
                _ => self.inner.$method(value),
            }
        })*
    };
}

macro_rules! floats {
    ($($method:ident($type:ty)),*) => {
        $(fn $method(self, value: $type) -> Result<S::Ok, S::Error> {
            if !value.is_finite() {
                return Err(S::Error::custom(format_args!("{value} is no number that JSON has")));
            }
            self.inner.$method(value)
        })*
    };
}

impl<S: Serializer> Serializer for Careful<S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Within<S::SerializeSeq>;
    type SerializeTuple = Within<S::SerializeTuple>;
    type SerializeTupleStruct = Within<S::SerializeTupleStruct>;
    type SerializeTupleVariant = Within<S::SerializeTupleVariant>;
    type SerializeMap = Within<S::SerializeMap>;
    type SerializeStruct = Within<S::SerializeStruct>;
    type SerializeStructVariant = Within<S::SerializeStructVariant>;

    as_they_are!(
        serialize_bool(bool),
        serialize_i8(i8),
        serialize_i16(i16),
        serialize_i32(i32),
        serialize_u8(u8),
        serialize_u16(u16),
        serialize_u32(u32),
        serialize_char(char),
        serialize_str(&str),
        serialize_bytes(&[u8]),
        serialize_unit_struct(&'static str)
    );
    integers!(serialize_i64(i64), serialize_u64(u64), serialize_i128(i128), serialize_u128(u128));
    floats!(serialize_f32(f32), serialize_f64(f64));

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_none()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.serialize_some(&self.manner.of(value))
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit()
    }

    fn serialize_unit_variant(self, name: &'static str, index: u32, variant: &'static str) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit_variant(name, index, variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.serialize_newtype_struct(name, &self.manner.of(value))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.inner.serialize_newtype_variant(name, index, variant, &self.manner.within(1)?.of(value))
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        Ok(Within { manner: self.manner.within(1)?, inner: self.inner.serialize_seq(len)? })
    }

    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, S::Error> {
        Ok(Within { manner: self.manner.within(1)?, inner: self.inner.serialize_tuple(len)? })
    }

    fn serialize_tuple_struct(self, name: &'static str, len: usize) -> Result<Self::SerializeTupleStruct, S::Error> {
        Ok(Within { manner: self.manner.within(1)?, inner: self.inner.serialize_tuple_struct(name, len)? })
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        let manner = self.manner.within(2)?;
        Ok(Within { manner, inner: self.inner.serialize_tuple_variant(name, index, variant, len)? })
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        Ok(Within { manner: self.manner.within(1)?, inner: self.inner.serialize_map(len)? })
    }

    fn serialize_struct(self, name: &'static str, len: usize) -> Result<Self::SerializeStruct, S::Error> {
        Ok(Within { manner: self.manner.within(1)?, inner: self.inner.serialize_struct(name, len)? })
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        let manner = self.manner.within(2)?;
        Ok(Within { manner, inner: self.inner.serialize_struct_variant(name, index, variant, len)? })
    }

    fn collect_seq<I>(self, items: I) -> Result<S::Ok, S::Error>
    where
        I: IntoIterator,
        I::Item: Serialize,
    {
        let manner = self.manner.within(1)?;
        if !has_no_order::<I>() {
            let items: Vec<I::Item> = items.into_iter().collect();
            return self.inner.collect_seq(items.iter().map(|item| manner.of(item)));
        }
        let value = |item: I::Item| serde_json::to_value(manner.of(&item)).map_err(S::Error::custom);
        let mut sorted: Vec<Value> = items.into_iter().map(value).collect::<Result<_, _>>()?;
        sorted.sort_by_cached_key(Value::to_string);
        self.inner.collect_seq(sorted)
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// Between the brackets of something.
struct Within<C> {
    inner: C,
    manner: Manner,
}

macro_rules! items {
    ($($trait:ident::$method:ident),*) => {
        $(impl<C: ser::$trait> ser::$trait for Within<C> {
            type Ok = C::Ok;
            type Error = C::Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
                self.inner.$method(&self.manner.of(value))
            }

            fn end(self) -> Result<C::Ok, C::Error> {
                self.inner.end()
            }
        })*
    };
}

macro_rules! fields {
    ($($trait:ident),*) => {
        $(impl<C: ser::$trait> ser::$trait for Within<C> {
            type Ok = C::Ok;
            type Error = C::Error;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), C::Error> {
                self.inner.serialize_field(name, &self.manner.of(value))
            }

            fn skip_field(&mut self, name: &'static str) -> Result<(), C::Error> {
                self.inner.skip_field(name)
            }

            fn end(self) -> Result<C::Ok, C::Error> {
                self.inner.end()
            }
        })*
    };
}

items!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field
);
fields!(SerializeStruct, SerializeStructVariant);

impl<C: ser::SerializeMap> ser::SerializeMap for Within<C> {
    type Ok = C::Ok;
    type Error = C::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), C::Error> {
        self.inner.serialize_key(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
        self.inner.serialize_value(&self.manner.of(value))
    }

    fn end(self) -> Result<C::Ok, C::Error> {
        self.inner.end()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::{BTreeMap, BinaryHeap, HashSet};

    use super::*;

    fn text(value: &(impl Serialize + ?Sized)) -> Result<String, serde_json::Error> {
        serde_json::to_string(&Exact::new(value, Integers::AsText, 0))
    }

    #[derive(Serialize)]
    enum Shape {
        Unit,
        Newtype(u64),
        Tuple(u64, Option<f32>),
        Struct { a: u64, b: () },
    }

    #[derive(Serialize)]
    struct Inner<T>(T);

    #[derive(Serialize)]
    struct Outer<T> {
        inner: Option<Inner<T>>,
    }

    #[test]
    fn what_is_ordinary_stays_as_it_is() {
        let shapes = [Shape::Unit, Shape::Newtype(1), Shape::Tuple(1, None), Shape::Struct { a: 1, b: () }];
        let all =
            (shapes, "ä", 'c', [1.5, -0.0], BTreeMap::from([(1, true)]), Some(Outer { inner: Some(Inner(-7i64)) }));
        assert_eq!(text(&all).unwrap(), serde_json::to_string(&all).unwrap());
    }

    #[test]
    fn what_is_not_finite_is_refused_wherever_it_is() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(text(&value).is_err());
            assert!(text(&Outer { inner: Some(Inner(vec![(1, Some(value))])) }).is_err());
            assert!(text(&BTreeMap::from([("a", value)])).is_err());
        }
        assert!(text(&[Shape::Tuple(1, Some(f32::NAN))]).is_err());
    }

    #[test]
    fn sets_are_the_same_however_they_came_about() {
        let names: Vec<String> = (0..100).map(|n| format!("n{n}")).collect();
        let sets: Vec<String> = (0..4)
            .map(|turn| {
                let mut set: HashSet<&String> = names.iter().cycle().skip(turn * 7).take(100).collect();
                set.reserve(turn * 1000);
                text(&Outer { inner: Some(Inner(vec![set])) }).unwrap()
            })
            .collect();
        assert!(sets.windows(2).all(|pair| pair.first() == pair.last()), "{sets:?}");
        assert_eq!(text(&BinaryHeap::from([3, 1, 2])).unwrap(), text(&BinaryHeap::from([2, 3, 1])).unwrap());
        assert_eq!(text(&[3, 1, 2]).unwrap(), "[3,1,2]", "others keep their order");
        assert_eq!(text(&vec![3, 1, 2]).unwrap(), "[3,1,2]");
    }

    #[test]
    fn integers_beyond_a_double_are_text() {
        let exact = 1u64 << 53;
        assert_eq!(
            text(&[exact, exact + 1, u64::MAX]).unwrap(),
            format!("[{exact},\"{}\",\"{}\"]", exact + 1, u64::MAX)
        );
        assert_eq!(text(&[-9007199254740992i64, i64::MIN]).unwrap(), format!("[-9007199254740992,\"{}\"]", i64::MIN));
        assert_eq!(text(&(u128::MAX, i128::MIN, 5u128)).unwrap(), format!("[\"{}\",\"{}\",5]", u128::MAX, i128::MIN));
    }

    #[test]
    fn the_depth_is_that_which_readers_take() {
        #[derive(Serialize)]
        struct Nested(Vec<Nested>);
        let nested = |depth: usize| (1..depth).fold(Nested(Vec::new()), |inner, _| Nested(vec![inner]));
        let deepest = text(&nested(DEEPEST)).unwrap();
        assert!(serde_json::from_str::<Value>(&deepest).is_ok());
        let error = text(&nested(DEEPEST + 1)).unwrap_err().to_string();
        assert!(error.contains("127"), "{error}");
        assert!(serde_json::from_str::<Value>(&format!("[{deepest}]")).is_err());
    }
}
