//! A JSON value that borrows from the text it was read from, and how contracts look at it.
//!
//! Texts and names are copied only where they have escapes. Whatever `bus/core/strict_json.py` would look at twice is
//! an error here.

use std::borrow::Cow;
use std::fmt;

use jsonschema::json::{Array, Json, JsonNumber, Node, NodeIdentity, Object, cmp};
use jsonschema::types::JsonType;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Numbers from here on may have been integers beyond 64 bits, or are not written alike by all.
const CERTAIN: f64 = 9.0e15;
/// Members are looked up one by one; who has more of them is left to Python.
const MOST_MEMBERS: usize = 64;

#[derive(Debug, Clone, PartialEq)]
pub enum Tree<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Cow<'a, str>),
    List(Vec<Tree<'a>>),
    Object(Members<'a>),
}

pub type Members<'a> = Vec<(Cow<'a, str>, Tree<'a>)>;

pub fn find<'t, 'a>(members: &'t [(Cow<'a, str>, Tree<'a>)], name: &str) -> Option<&'t Tree<'a>> {
    members.iter().find(|(each, _)| each == name).map(|(_, value)| value)
}

impl<'a> Tree<'a> {
    /// The same value, borrowing every text.
    pub fn lent<'t>(&'t self) -> Tree<'t> {
        match self {
            Tree::Null => Tree::Null,
            Tree::Bool(value) => Tree::Bool(*value),
            Tree::Int(value) => Tree::Int(*value),
            Tree::Float(value) => Tree::Float(*value),
            Tree::Text(text) => Tree::Text(Cow::Borrowed(text)),
            Tree::List(items) => Tree::List(items.iter().map(Tree::lent).collect()),
            Tree::Object(members) => {
                Tree::Object(members.iter().map(|(name, value)| (Cow::Borrowed(&**name), value.lent())).collect())
            }
        }
    }

    fn owned(&self) -> Value {
        match self {
            Tree::Null => Value::Null,
            Tree::Bool(value) => Value::Bool(*value),
            Tree::Int(_) | Tree::Float(_) => self.number().map_or(Value::Null, |it| Value::Number(it.owned())),
            Tree::Text(text) => Value::String(text.clone().into_owned()),
            Tree::List(items) => Value::Array(items.iter().map(Tree::owned).collect()),
            Tree::Object(members) => {
                Value::Object(members.iter().map(|(name, value)| (name.to_string(), value.owned())).collect::<Map<_, _>>())
            }
        }
    }

    pub fn number(&self) -> Option<Numeral> {
        match self {
            Tree::Int(value) => Some(Numeral::Int(*value)),
            Tree::Float(value) => Some(Numeral::Float(*value)),
            _ => None,
        }
    }

    pub fn text(&self) -> Option<&str> {
        match self {
            Tree::Text(text) => Some(text),
            _ => None,
        }
    }
}

// --- reading ---------------------------------------------------------------------------------------------------------

struct Strict {
    left: usize,
}

/// Read a whole text; what is wrong with it is told by Python.
pub fn parse(text: &[u8], depth: usize) -> Option<Tree<'_>> {
    let mut from = serde_json::Deserializer::from_slice(text);
    let value = Strict { left: depth }.deserialize(&mut from).ok()?;
    from.end().ok()?;
    Some(value)
}

/// Of a plan: any depth, and owned, since plans outlive what they are read from.
impl<'de> Deserialize<'de> for Tree<'static> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        planned(&Value::deserialize(from)?).ok_or_else(|| D::Error::custom("a literal that only Python can write"))
    }
}

fn planned(value: &Value) -> Option<Tree<'static>> {
    Some(match value {
        Value::Null => Tree::Null,
        Value::Bool(value) => Tree::Bool(*value),
        Value::Number(number) => match number.as_i64() {
            Some(value) => Tree::Int(value),
            None => Tree::Float(number.as_f64().filter(|value| certain(*value))?),
        },
        Value::String(text) => Tree::Text(Cow::Owned(text.clone())),
        Value::Array(items) => Tree::List(items.iter().map(planned).collect::<Option<_>>()?),
        Value::Object(members) => Tree::Object(
            members.iter().map(|(name, each)| Some((Cow::Owned(name.clone()), planned(each)?))).collect::<Option<_>>()?,
        ),
    })
}

fn certain(value: f64) -> bool {
    value.abs() < CERTAIN && !(value == 0.0 && value.is_sign_negative())
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Tree<'de>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Tree<'de>, D::Error> {
        from.deserialize_any(self)
    }
}

impl Strict {
    fn inner<E: Error>(&self) -> Result<usize, E> {
        self.left.checked_sub(1).ok_or_else(|| E::custom("too deep"))
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Tree<'de>;

    fn expecting(&self, to: &mut fmt::Formatter) -> fmt::Result {
        to.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Tree<'de>, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree<'de>, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree<'de>, E> {
        Ok(Tree::Int(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Tree<'de>, E> {
        i64::try_from(value).map(Tree::Int).map_err(|_| E::custom("too big"))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Tree<'de>, E> {
        if certain(value) { Ok(Tree::Float(value)) } else { Err(E::custom("not certain")) }
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Tree<'de>, E> {
        Ok(Tree::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree<'de>, E> {
        Ok(Tree::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree<'de>, A::Error> {
        let left = self.inner()?;
        let mut found = Vec::new();
        while let Some(item) = items.next_element_seed(Strict { left })? {
            found.push(item);
        }
        Ok(Tree::List(found))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Tree<'de>, A::Error> {
        let left = self.inner()?;
        let mut found: Members<'de> = Vec::with_capacity(8);
        while let Some(Name(name)) = members.next_key()? {
            let value = members.next_value_seed(Strict { left })?;
            if found.len() == MOST_MEMBERS || found.iter().any(|(each, _)| *each == name) {
                return Err(A::Error::custom("twice, or too many"));
            }
            found.push((name, value));
        }
        Ok(Tree::Object(found))
    }
}

struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;
            fn expecting(&self, to: &mut fmt::Formatter) -> fmt::Result {
                to.write_str("a name")
            }
            fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(value)))
            }
            fn visit_str<E>(self, value: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(value.to_owned())))
            }
        }
        from.deserialize_str(Text)
    }
}

// --- writing ---------------------------------------------------------------------------------------------------------

/// Append a text as JSON.
pub fn text(to: &mut Vec<u8>, value: &str) {
    let plain = !value.bytes().fold(false, |odd, byte| odd | (byte < b' ') | (byte == b'"') | (byte == b'\\'));
    if plain {
        to.push(b'"');
        to.extend_from_slice(value.as_bytes());
        to.push(b'"');
    } else {
        serde_json::to_writer(to, value).expect("a text into memory");
    }
}

/// Append a value as JSON.
pub fn write(to: &mut Vec<u8>, value: &Tree) {
    match value {
        Tree::Null => to.extend_from_slice(b"null"),
        Tree::Bool(true) => to.extend_from_slice(b"true"),
        Tree::Bool(false) => to.extend_from_slice(b"false"),
        Tree::Int(number) => serde_json::to_writer(to, number).expect("a number into memory"),
        Tree::Float(number) => serde_json::to_writer(to, number).expect("a number into memory"),
        Tree::Text(said) => text(to, said),
        Tree::List(items) => {
            to.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    to.push(b',');
                }
                write(to, item);
            }
            to.push(b']');
        }
        Tree::Object(members) => {
            to.push(b'{');
            for (at, (name, item)) in members.iter().enumerate() {
                if at > 0 {
                    to.push(b',');
                }
                text(to, name);
                to.push(b':');
                write(to, item);
            }
            to.push(b'}');
        }
    }
}

// --- as contracts see it ---------------------------------------------------------------------------------------------

pub struct Borrowed;

#[derive(Clone, Copy)]
pub enum Numeral {
    Int(i64),
    Float(f64),
}

impl Numeral {
    fn owned(self) -> Number {
        match self {
            Numeral::Int(value) => value.into(),
            Numeral::Float(value) => Number::from_f64(value).unwrap_or_else(|| 0.into()), // it was read from JSON
        }
    }
}

impl JsonNumber for Numeral {
    fn as_u64(&self) -> Option<u64> {
        match self {
            Numeral::Int(value) => u64::try_from(*value).ok(),
            Numeral::Float(_) => None,
        }
    }

    fn as_i64(&self) -> Option<i64> {
        match self {
            Numeral::Int(value) => Some(*value),
            Numeral::Float(_) => None,
        }
    }

    fn as_f64(&self) -> Option<f64> {
        match self {
            Numeral::Int(value) => Some(*value as f64),
            Numeral::Float(value) => Some(*value),
        }
    }

    fn as_str(&self) -> Cow<'_, str> {
        Cow::Owned(self.owned().to_string())
    }

    fn to_number(&self) -> Cow<'_, Number> {
        Cow::Owned(self.owned())
    }

    fn is_integer(&self) -> bool {
        match self {
            Numeral::Int(_) => true,
            Numeral::Float(value) => value.fract() == 0.0,
        }
    }

    fn is_written_as_integer(&self) -> bool {
        self.owned().is_written_as_integer()
    }
}

impl Json for Borrowed {
    type Node<'a> = &'a Tree<'a>;
    type PreparedKey = String;
    type StringBuffer = Option<Tree<'static>>;

    fn prepare_key(key: &str) -> String {
        key.to_owned()
    }

    fn with_string_node<T>(buffer: &mut Self::StringBuffer, string: &str, f: impl FnOnce(Self::Node<'_>) -> T) -> T {
        f(buffer.insert(Tree::Text(Cow::Owned(string.to_owned()))))
    }
}

impl<'a> Node<'a, Borrowed> for &'a Tree<'a> {
    type Object = &'a [(Cow<'a, str>, Tree<'a>)];
    type Array = &'a [Tree<'a>];
    type Number = Numeral;

    fn as_object(&self) -> Option<Self::Object> {
        match self {
            Tree::Object(members) => Some(members),
            _ => None,
        }
    }

    fn as_array(&self) -> Option<Self::Array> {
        match self {
            Tree::List(items) => Some(items),
            _ => None,
        }
    }

    fn as_string(&self) -> Option<Cow<'a, str>> {
        self.text().map(Cow::Borrowed)
    }

    fn as_number(&self) -> Option<Numeral> {
        self.number()
    }

    fn as_boolean(&self) -> Option<bool> {
        match self {
            Tree::Bool(value) => Some(*value),
            _ => None,
        }
    }

    fn is_null(&self) -> bool {
        matches!(self, Tree::Null)
    }

    fn json_type(&self) -> JsonType {
        match self {
            Tree::Null => JsonType::Null,
            Tree::Bool(_) => JsonType::Boolean,
            Tree::Int(_) | Tree::Float(_) => JsonType::Number,
            Tree::Text(_) => JsonType::String,
            Tree::List(_) => JsonType::Array,
            Tree::Object(_) => JsonType::Object,
        }
    }

    fn equals_value(&self, expected: &Value) -> bool {
        match (self, expected) {
            (Tree::Text(text), Value::String(expected)) => text == expected,
            (Tree::Text(_), _) | (_, Value::String(_)) => false,
            _ => cmp::equal(&self.owned(), expected),
        }
    }

    fn to_value(&self) -> Cow<'a, Value> {
        Cow::Owned(self.owned())
    }

    fn identity(&self) -> Option<NodeIdentity> {
        Some(NodeIdentity::new(std::ptr::from_ref::<Tree>(self) as usize))
    }
}

impl<'a> Object<'a, Borrowed> for &'a [(Cow<'a, str>, Tree<'a>)] {
    type Node = &'a Tree<'a>;
    type MemberName = &'a str;
    type MembersIter = Pairs<'a>;

    fn len(&self) -> usize {
        <[_]>::len(self)
    }

    fn get(&self, key: &String) -> Option<&'a Tree<'a>> {
        find(self, key)
    }

    fn members(&self) -> Pairs<'a> {
        Pairs(self.iter())
    }
}

pub struct Pairs<'a>(std::slice::Iter<'a, (Cow<'a, str>, Tree<'a>)>);

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a str, &'a Tree<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(name, value)| (&**name, value))
    }
}

impl<'a> Array<'a, Borrowed> for &'a [Tree<'a>] {
    type Node = &'a Tree<'a>;
    type ElementsIter = std::slice::Iter<'a, Tree<'a>>;

    fn len(&self) -> usize {
        <[_]>::len(self)
    }

    fn elements(&self) -> Self::ElementsIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contracts_may_rely_on_it() {
        let text = jsonschema::json::conformance::document().to_string();
        let tree = parse(text.as_bytes(), 10).expect("a document");
        jsonschema::json::conformance::assert_conformance::<Borrowed>(&&tree);
    }
}
