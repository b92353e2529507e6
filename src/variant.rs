//! Enums of a Rust domain as the pair (type, data) they are stored as.
//!
//! `enum Event { AppointmentBooked { doctor: String } }` with serde's ordinary derive is type
//! `AppointmentBooked` and data `{"doctor":"7"}`. A variant without fields has data `{}`. Renaming
//! attributes apply; tagging attributes don't, for the tag is a column of its own.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::{
    self, DeserializeOwned, DeserializeSeed, EnumAccess, IgnoredAny, SeqAccess, VariantAccess,
    Visitor,
};
use serde::ser::{self, Impossible, Serialize, SerializeStructVariant, SerializeTupleVariant};
use serde_json::Error;

use crate::upcast::parts_of;

/// Type and data of a value of an enum.
///
/// # Errors
/// If the value is not of an enum, or serde_json can't write it.
pub(crate) fn to_variant<T: Serialize>(value: &T) -> Result<(Arc<str>, Arc<str>), Error> {
    let (name, data) = value.serialize(VariantSerializer)?;
    Ok((name.into(), data.into()))
}

/// The value of an enum with this type and data.
///
/// # Errors
/// If the enum has no such variant or the data does not fit it.
pub(crate) fn from_variant<T: DeserializeOwned>(name: &str, data: &str) -> Result<T, Error> {
    let mut json = serde_json::Deserializer::from_str(data);
    let value = T::deserialize(Tagged { name, data: &mut json })?;
    json.end()?;
    Ok(value)
}

/// Folds the values of an enum whose types these forms have, and whose data are the elements of a JSON
/// array. `count` is how many of them were folded, also if the next one can't be.
///
/// # Errors
/// If the text is no such array, or one of the values is not of the enum.
pub(crate) fn fold_variants<T: DeserializeOwned, S>(
    forms: &[Arc<str>],
    data: &str,
    state: S,
    evolve: impl Fn(S, &T) -> S,
    count: &mut usize,
) -> Result<S, Error> {
    let mut json = serde_json::Deserializer::from_str(data);
    let array = Fold { forms, state, evolve, count, values: PhantomData };
    let state = de::Deserializer::deserialize_seq(&mut json, array)?;
    json.end()?;
    Ok(state)
}

/// The names of an enum's variants; none of another type's.
pub(crate) fn variants_of<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut names = &[][..];
    // It tells its variants and is told that there is no value.
    let _ = T::deserialize(Names(&mut names));
    names
}

/// Notes the names of an enum's variants, and gives no value.
struct Names<'n>(&'n mut &'static [&'static str]);

impl<'de> de::Deserializer<'de> for Names<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(de::Error::custom("there is no value"))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        *self.0 = variants;
        self.deserialize_any(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// Reads a value's data when its type is known.
struct Tagged<'n, D> {
    name: &'n str,
    data: D,
}

impl<'de, D: de::Deserializer<'de>> de::Deserializer<'de> for Tagged<'_, D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, D::Error> {
        Err(de::Error::custom("expected an enum with one variant per type"))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        visitor.visit_enum(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

impl<'de, D: de::Deserializer<'de>> EnumAccess<'de> for Tagged<'_, D> {
    type Error = D::Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), D::Error> {
        let name = de::value::StrDeserializer::<D::Error>::new(self.name);
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de, D: de::Deserializer<'de>> VariantAccess<'de> for Tagged<'_, D> {
    type Error = D::Error;

    fn unit_variant(self) -> Result<(), D::Error> {
        <IgnoredAny as serde::Deserialize>::deserialize(self.data).map(drop)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, D::Error> {
        seed.deserialize(self.data)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, D::Error> {
        self.data.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.data.deserialize_struct("", fields, visitor)
    }
}

/// Reads the array of [`fold_variants`].
struct Fold<'n, T, S, F> {
    forms: &'n [Arc<str>],
    state: S,
    evolve: F,
    count: &'n mut usize,
    values: PhantomData<T>,
}

impl<'de, T: DeserializeOwned, S, F: Fn(S, &T) -> S> Visitor<'de> for Fold<'_, T, S, F> {
    type Value = S;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of what the types say")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<S, A::Error> {
        let Self { forms, mut state, evolve, count, .. } = self;
        // What comes again and again is looked at once.
        for run in forms.chunk_by(Arc::ptr_eq) {
            let (name, _) = parts_of(&run[0]);
            for _ in run {
                let value = values.next_element_seed(Data { name, value: PhantomData })?;
                let Some(value) = value else {
                    return Err(de::Error::custom("there are fewer data than types"));
                };
                state = evolve(state, &value);
                *count += 1;
            }
        }
        Ok(state)
    }
}

/// Reads the data of a value of this type.
struct Data<'n, T> {
    name: &'n str,
    value: PhantomData<T>,
}

impl<'de, T: DeserializeOwned> DeserializeSeed<'de> for Data<'_, T> {
    type Value = T;

    fn deserialize<D: de::Deserializer<'de>>(self, data: D) -> Result<T, D::Error> {
        T::deserialize(Tagged { name: self.name, data })
            .map_err(|error| de::Error::custom(format_args!("{}: {error}", self.name)))
    }
}

struct VariantSerializer;

type Variant = (&'static str, String);

macro_rules! not_a_variant {
    ($($method:ident: $type:ty),* $(,)?) => {$(
        fn $method(self, _: $type) -> Result<Variant, Error> {
            Err(NotAnEnum.into())
        }
    )*};
}

/// The value is not of an enum.
struct NotAnEnum;

impl From<NotAnEnum> for Error {
    fn from(_: NotAnEnum) -> Self {
        ser::Error::custom("expected an enum with one variant per type")
    }
}

impl ser::Serializer for VariantSerializer {
    type Ok = Variant;
    type Error = Error;
    type SerializeSeq = Impossible<Variant, Error>;
    type SerializeTuple = Impossible<Variant, Error>;
    type SerializeTupleStruct = Impossible<Variant, Error>;
    type SerializeTupleVariant = Fields;
    type SerializeMap = Impossible<Variant, Error>;
    type SerializeStruct = Impossible<Variant, Error>;
    type SerializeStructVariant = Fields;

    not_a_variant! {
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32,
        serialize_i64: i64, serialize_u8: u8, serialize_u16: u16, serialize_u32: u32,
        serialize_u64: u64, serialize_f32: f32, serialize_f64: f64, serialize_char: char,
        serialize_str: &str, serialize_bytes: &[u8], serialize_unit_struct: &'static str,
    }

    fn serialize_none(self) -> Result<Variant, Error> {
        Err(NotAnEnum.into())
    }

    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result<Variant, Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Variant, Error> {
        Err(NotAnEnum.into())
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<Variant, Error> {
        Ok((variant, "{}".to_owned()))
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Variant, Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Variant, Error> {
        Ok((variant, serde_json::to_string(value)?))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, Error> {
        Err(NotAnEnum.into())
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Error> {
        Err(NotAnEnum.into())
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, Error> {
        Err(NotAnEnum.into())
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Fields, Error> {
        Ok(Fields { variant, json: "[".to_owned() })
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Error> {
        Err(NotAnEnum.into())
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeStruct, Error> {
        Err(NotAnEnum.into())
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Fields, Error> {
        Ok(Fields { variant, json: "{".to_owned() })
    }
}

/// The fields of a variant, written one by one.
struct Fields {
    variant: &'static str,
    json: String,
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.variant, self.json)
    }
}

impl Fields {
    fn put<T: ?Sized + Serialize>(&mut self, key: Option<&str>, value: &T) -> Result<(), Error> {
        if self.json.len() > 1 {
            self.json.push(',');
        }
        if let Some(key) = key {
            self.json.push_str(&serde_json::to_string(key)?);
            self.json.push(':');
        }
        self.json.push_str(&serde_json::to_string(value)?);
        Ok(())
    }

    fn close(mut self, bracket: char) -> Variant {
        self.json.push(bracket);
        (self.variant, self.json)
    }
}

impl SerializeStructVariant for Fields {
    type Ok = Variant;
    type Error = Error;

    fn serialize_field<T: ?Sized + Serialize>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.put(Some(key), value)
    }

    fn end(self) -> Result<Variant, Error> {
        Ok(self.close('}'))
    }
}

impl SerializeTupleVariant for Fields {
    type Ok = Variant;
    type Error = Error;

    fn serialize_field<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Error> {
        self.put(None, value)
    }

    fn end(self) -> Result<Variant, Error> {
        Ok(self.close(']'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Event {
        Booked {
            doctor: String,
            minutes: u32,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            note: Option<String>,
        },
        Moved(Box<Slot>),
        Swapped(u8, u8),
        #[serde(rename = "called-off")]
        Cancelled,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Slot {
        start: u32,
    }

    #[test]
    fn every_kind_of_variant_comes_back_as_it_went() {
        for (event, name, data) in [
            (
                Event::Booked { doctor: "7 \"x\"".into(), minutes: 30, note: None },
                "Booked",
                r#"{"doctor":"7 \"x\"","minutes":30}"#,
            ),
            (Event::Moved(Box::new(Slot { start: 5 })), "Moved", r#"{"start":5}"#),
            (Event::Swapped(1, 2), "Swapped", "[1,2]"),
            (Event::Cancelled, "called-off", "{}"),
        ] {
            let (found_name, found_data) = to_variant(&event).unwrap();
            assert_eq!((&*found_name, &*found_data), (name, data));
            assert_eq!(from_variant::<Event>(&found_name, &found_data).unwrap(), event);
        }
    }

    #[test]
    fn an_array_of_data_is_read_one_by_one() {
        let read = |types: &[&str], data: &str| {
            let types: Vec<Arc<str>> = types.iter().map(|name| (*name).into()).collect();
            let mut count = 0;
            let result = fold_variants(&types, data, 0, |sum, _: &Event| sum + 1, &mut count);
            if let Ok(sum) = result {
                assert_eq!(sum, count);
            }
            (count, result.is_ok())
        };
        let (moved, booked) = (r#" {"start":5} "#, r#"{"doctor":"7","minutes":1}"#);
        assert_eq!(read(&[], "[]"), (0, true));
        let three = ["called-off", "Moved", "Booked"];
        assert_eq!(read(&three, &format!("[{{}},\n{moved},\n{booked}]")), (3, true));
        for (name, broken) in
            [("Lost", "{}"), ("Moved", "{}"), ("Moved", r#"{"start":"#), ("Swapped", "5")]
        {
            let types = ["Moved", name, "Moved"];
            let result = read(&types, &format!("[{moved},\n{broken},\n{moved}]"));
            assert_eq!(result, (1, false), "{name} {broken}");
        }
        // Not as many data as types.
        assert_eq!(read(&["Moved"], &format!("[{moved},\n{moved}]")), (1, false));
        assert_eq!(read(&["Moved", "Moved"], &format!("[{moved}]")), (1, false));
        assert_eq!(read(&["Moved"], &format!("[{moved}] 5")), (1, false));
    }

    #[test]
    fn events_of_one_form_are_read_one_by_one_too() {
        let [moved, swapped]: [Arc<str>; 2] = ["Moved".into(), "Swapped".into()];
        let forms = [&moved, &moved, &swapped, &moved, &moved].map(Arc::clone);
        let start = |mut starts: Vec<u32>, event: &Event| {
            starts.push(if let Event::Moved(slot) = event { slot.start } else { 0 });
            starts
        };
        let read = |last: &str| {
            let data = format!(r#"[{{"start":1}},{{"start":2}},[7,8],{{"start":3}},{last}]"#);
            let mut count = 0;
            (fold_variants(&forms, &data, Vec::new(), start, &mut count).ok(), count)
        };
        assert_eq!(read(r#"{"start":4}"#), (Some(vec![1, 2, 0, 3, 4]), 5));
        // The second of a run is no event of its type.
        assert_eq!(read("[7,8]"), (None, 4));
    }

    #[test]
    fn forms_name_types_with_their_versions() {
        let forms = ["Moved\x7f12".into(), "Moved".into()];
        let start = |mut starts: Vec<u32>, event: &Event| match event {
            Event::Moved(slot) => {
                starts.push(slot.start);
                starts
            }
            other => panic!("{other:?}"),
        };
        let data = r#"[{"start":1},{"start":2}]"#;
        assert_eq!(fold_variants(&forms, data, Vec::new(), start, &mut 0).unwrap(), [1, 2]);
    }

    #[test]
    fn an_enum_is_asked_for_its_variants() {
        #[derive(Deserialize)]
        #[expect(dead_code, reason = "read by nobody")]
        enum Renamed {
            #[serde(alias = "Taken")]
            Booked { doctor: String },
            #[serde(skip)]
            Never,
        }
        assert_eq!(variants_of::<Event>(), ["Booked", "Moved", "Swapped", "called-off"]);
        assert_eq!(variants_of::<Renamed>(), ["Booked", "Taken"]);
        assert_eq!(variants_of::<Slot>(), [""; 0]);
    }

    #[test]
    fn what_is_no_variant_is_an_error() {
        assert!(from_variant::<Event>("Lost", "{}").is_err());
        assert!(from_variant::<Event>("Booked", "{}").is_err());
        assert!(from_variant::<Event>("Swapped", "[1,2] 3").is_err());
        assert!(from_variant::<Slot>("Slot", "{}").is_err());
        assert!(to_variant(&Slot { start: 1 }).is_err());
        assert!(to_variant(&5).is_err());
    }
}
