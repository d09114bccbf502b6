//! Reads JSON the way Go's `encoding/json` does, which is what clients of this API were written against: names of members
//! match in any case, `null` means the zero value, unknown members are ignored, short arrays are filled up.

use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};
use serde_json::{Error, Value};

/// Reads one JSON document. Anything but white space behind it is an error.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    from_value(serde_json::from_slice(bytes)?)
}

/// Reads a value that was parsed before.
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    T::deserialize(Lenient(value))
}

/// A parsed value that is read by Go's rules.
struct Lenient(Value);

impl Lenient {
    fn is_null(&self) -> bool {
        self.0.is_null()
    }
}

/// Numbers and booleans: `null` is the zero value, everything else as serde_json has it.
macro_rules! scalars {
    ($($method:ident => $visit:ident($zero:expr)),* $(,)?) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            if self.is_null() { visitor.$visit($zero) } else { self.0.$method(visitor) }
        })*
    };
}

impl<'de> Deserializer<'de> for Lenient {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(items) => visitor.visit_seq(Items { items: items.into_iter(), missing: 0 }),
            Value::Object(members) => visitor.visit_map(Members { members: members.into_iter(), value: None }),
            scalar => scalar.deserialize_any(visitor),
        }
    }

    scalars! {
        deserialize_bool => visit_bool(false),
        deserialize_i8 => visit_i8(0),
        deserialize_i16 => visit_i16(0),
        deserialize_i32 => visit_i32(0),
        deserialize_i64 => visit_i64(0),
        deserialize_i128 => visit_i128(0),
        deserialize_u8 => visit_u8(0),
        deserialize_u16 => visit_u16(0),
        deserialize_u32 => visit_u32(0),
        deserialize_u64 => visit_u64(0),
        deserialize_u128 => visit_u128(0),
        deserialize_f32 => visit_f32(0.0),
        deserialize_f64 => visit_f64(0.0),
        deserialize_char => visit_char('\0'),
        deserialize_str => visit_str(""),
        deserialize_string => visit_str(""),
        deserialize_bytes => visit_bytes(&[]),
        deserialize_byte_buf => visit_bytes(&[]),
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        // A `Box<RawValue>` asks for its text by a name that only serde_json's own deserializer knows.
        if name.starts_with("$serde_json::") {
            self.0.deserialize_newtype_struct(name, visitor)
        } else {
            visitor.visit_newtype_struct(self)
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_tuple(0, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Error> {
        let mut items = match self.0 {
            Value::Array(items) => items,
            Value::Null => Vec::new(),
            other => return other.deserialize_seq(visitor),
        };
        // Go's fixed arrays ignore what is too much and keep zeros for what is missing. A length of 0 is a sequence.
        if length > 0 {
            items.truncate(length);
        }
        let missing = length.saturating_sub(items.len());
        visitor.visit_seq(Items { items: items.into_iter(), missing })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Object(members) => visitor.visit_map(Members { members: members.into_iter(), value: None }),
            Value::Null => visitor.visit_map(Fields { fields: Vec::new().into_iter(), value: None }),
            other => other.deserialize_map(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let members = match self.0 {
            Value::Object(members) => members,
            Value::Null => serde_json::Map::new(),
            // Members have names; serde_json would take them in order.
            Value::Array(_) => return Err(de::Error::invalid_type(de::Unexpected::Seq, &visitor)),
            other => return other.deserialize_struct(name, fields, visitor),
        };
        let mut found: Vec<Option<Value>> = vec![None; fields.len()];
        for (member, value) in members {
            let index = fields
                .iter()
                .position(|field| **field == member)
                .or_else(|| fields.iter().position(|field| field.eq_ignore_ascii_case(&member)));
            if let Some(index) = index
                && !value.is_null()
            {
                found[index] = Some(value);
            }
        }
        let fields: Vec<_> = fields.iter().zip(found).filter_map(|(field, value)| Some((*field, value?))).collect();
        visitor.visit_map(Fields { fields: fields.into_iter(), value: None })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }
}

/// The items of an array, then as many `null`s as are missing.
struct Items {
    items: std::vec::IntoIter<Value>,
    missing: usize,
}

impl<'de> SeqAccess<'de> for Items {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        if let Some(item) = self.items.next() {
            return seed.deserialize(Lenient(item)).map(Some);
        }
        if self.missing == 0 {
            return Ok(None);
        }
        self.missing -= 1;
        seed.deserialize(Lenient(Value::Null)).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len() + self.missing)
    }
}

/// The members of an object that is read as a map.
struct Members {
    members: serde_json::map::IntoIter,
    value: Option<(String, Value)>,
}

impl<'de> MapAccess<'de> for Members {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((name, value)) = self.members.next() else { return Ok(None) };
        let key = seed.deserialize(name.clone().into_deserializer())?;
        self.value = Some((name, value));
        Ok(Some(key))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let (name, value) = self.value.take().unwrap_or_default();
        seed.deserialize(Lenient(value)).map_err(|error| named(&name, &error))
    }
}

/// The members of an object that is read as a struct: known names only, no `null`.
struct Fields {
    fields: std::vec::IntoIter<(&'static str, Value)>,
    value: Option<(&'static str, Value)>,
}

impl<'de> MapAccess<'de> for Fields {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((name, value)) = self.fields.next() else { return Ok(None) };
        self.value = Some((name, value));
        seed.deserialize(de::value::StrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let (name, value) = self.value.take().unwrap_or_default();
        seed.deserialize(Lenient(value)).map_err(|error| named(name, &error))
    }
}

/// Says in which member the error is.
fn named(name: &str, error: &Error) -> Error {
    let text = error.to_string();
    let separator = if text.starts_with(|first: char| first.is_ascii_uppercase()) { "." } else { ": " };
    de::Error::custom(format!("{name}{separator}{text}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Deserialize, Debug, PartialEq, Default)]
    #[serde(rename_all = "PascalCase", default)]
    struct Inner {
        number: i64,
        size: [u64; 2],
    }

    #[derive(Deserialize, Debug, PartialEq, Default)]
    #[serde(rename_all = "PascalCase", default)]
    struct Outer {
        name: String,
        list: Option<Vec<String>>,
        map: BTreeMap<String, Option<Vec<Inner>>>,
        inner: Inner,
        flag: Option<bool>,
    }

    #[test]
    fn names_match_in_any_case_and_unknown_ones_are_ignored() {
        let outer: Outer = from_slice(br#"{"name":"a","FLAG":true,"iNNer":{"NUMBER":7},"nobody":[1,{}]}"#).unwrap();
        assert_eq!(outer.name, "a");
        assert_eq!(outer.flag, Some(true));
        assert_eq!(outer.inner.number, 7);
    }

    #[test]
    fn null_is_the_zero_value_everywhere() {
        let outer: Outer =
            from_slice(br#"{"Name":null,"List":null,"Map":{"x":null},"Inner":null,"Flag":null}"#).unwrap();
        assert_eq!(outer, Outer { map: BTreeMap::from([("x".into(), None)]), ..Outer::default() });
        let numbers: Vec<u8> = from_slice(b"[1,null]").unwrap();
        assert_eq!(numbers, [1, 0]);
        assert_eq!(from_slice::<Outer>(b"null").unwrap(), Outer::default());
    }

    #[test]
    fn an_empty_list_is_not_null() {
        assert_eq!(from_slice::<Outer>(br#"{"List":[]}"#).unwrap().list, Some(vec![]));
    }

    #[test]
    fn fixed_arrays_are_filled_and_cut() {
        assert_eq!(from_slice::<Inner>(br#"{"Size":[4]}"#).unwrap().size, [4, 0]);
        assert_eq!(from_slice::<Inner>(br#"{"Size":[4,5,6]}"#).unwrap().size, [4, 5]);
    }

    #[test]
    fn a_repeated_member_is_no_error() {
        assert!(from_slice::<Outer>(br#"{"Name":"a","name":"b","Name":"c"}"#).is_ok());
    }

    #[test]
    fn a_list_is_no_object() {
        for text in ["[]", r#"{"Inner":[]}"#, r#"{"Inner":["x"]}"#] {
            assert!(
                from_slice::<Outer>(text.as_bytes()).unwrap_err().to_string().contains("invalid type: sequence"),
                "{text}"
            );
        }
    }

    #[test]
    fn an_error_names_the_member() {
        let error = from_slice::<Outer>(br#"{"Inner":{"Number":"x"}}"#).unwrap_err().to_string();
        assert!(error.starts_with("Inner.Number: invalid type: string \"x\""), "{error}");
    }

    #[test]
    fn content_behind_the_document_is_an_error() {
        assert!(from_slice::<Outer>(b"{} {}").is_err());
        assert!(from_slice::<Outer>(b"{} \n").is_ok());
    }
}
