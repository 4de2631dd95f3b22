//! Strict JSON, as `bus/core/strict_json.py` reads it; whatever it would look at twice is an error here.

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// Numbers from here on may have been integers beyond 64 bits, or are not written alike by all.
const CERTAIN: f64 = 9.0e15;

struct Strict {
    left: usize,
}

/// Read a whole text; the error does not say what is wrong, as Python says it.
pub fn parse(text: &[u8], depth: usize) -> Option<Value> {
    let mut from = serde_json::Deserializer::from_slice(text);
    let value = Strict { left: depth }.deserialize(&mut from).ok()?;
    from.end().ok()?;
    Some(value)
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl Strict {
    fn inner<E: Error>(&self) -> Result<usize, E> {
        self.left.checked_sub(1).ok_or_else(|| E::custom("too deep"))
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, to: &mut fmt::Formatter) -> fmt::Result {
        to.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        match i64::try_from(value) {
            Ok(value) => Ok(Value::Number(value.into())),
            Err(_) => Err(E::custom("too big")),
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        let certain = value.abs() < CERTAIN && !(value == 0.0 && value.is_sign_negative());
        match Number::from_f64(value) {
            Some(number) if certain => Ok(Value::Number(number)),
            _ => Err(E::custom("not certain")),
        }
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let left = self.inner()?;
        let mut found = Vec::new();
        while let Some(item) = items.next_element_seed(Strict { left })? {
            found.push(item);
        }
        Ok(Value::Array(found))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let left = self.inner()?;
        let mut found = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(Strict { left })?;
            if found.insert(name, value).is_some() {
                return Err(A::Error::custom("twice"));
            }
        }
        Ok(Value::Object(found))
    }
}

/// Append a string as JSON.
pub fn text(to: &mut Vec<u8>, value: &str) {
    serde_json::to_writer(to, value).expect("a string into memory");
}

/// Append a value as JSON.
pub fn value(to: &mut Vec<u8>, value: &Value) {
    serde_json::to_writer(to, value).expect("a value into memory");
}
