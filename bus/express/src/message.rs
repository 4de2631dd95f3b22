//! A usual message: a structured CloudEvent with nothing about it that Python would look at closely.

use serde_json::{Map, Value};

/// Attributes that may be any text. All others but `time` and `hopsleft` are left to Python.
const FREE: [&str; 10] = [
    "specversion", "id", "source", "type", "conversationid", "correlationid", "causationid", "traceparent",
    "tracestate", "subject",
];
const MOST_TEXT: usize = 1024;
const SHORT_ID: usize = 63;

pub struct Message {
    pub attributes: Map<String, Value>,
    pub data: Value,
}

impl Message {
    pub fn text(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).and_then(Value::as_str)
    }

    pub fn id(&self) -> &str {
        self.text("id").unwrap_or_default()
    }

    pub fn conversation(&self) -> &str {
        self.text("conversationid").unwrap_or_else(|| self.id())
    }

    pub fn hops(&self) -> Option<i64> {
        self.attributes.get("hopsleft").and_then(Value::as_i64)
    }
}

pub fn read(body: &[u8], depth: usize) -> Option<Message> {
    let Value::Object(mut attributes) = crate::json::parse(body, depth)? else { return None };
    let data = attributes.shift_remove("data").unwrap_or(Value::Null);
    let mut length = 0;
    for (name, value) in &attributes {
        match (name.as_str(), value) {
            ("hopsleft", Value::Number(number)) => {
                number.as_i64().filter(|hops| *hops >= 1)?;
            }
            ("datacontenttype", Value::String(said)) if said == "application/json" => (),
            ("time", Value::String(said)) if is_time(said.as_bytes()) => (),
            (_, Value::String(said)) if FREE.contains(&name.as_str()) && printable(said) => length += said.len(),
            _ => return None,
        }
    }
    let message = Message { attributes, data };
    let short = |text: &str| !text.is_empty() && text.len() <= SHORT_ID;
    let usual = length <= MOST_TEXT
        && message.text("specversion")? == "1.0"
        && short(message.text("id")?)
        && short(message.conversation())
        && !message.text("source")?.is_empty()
        && is_type(message.text("type")?.as_bytes());
    usual.then_some(message)
}

fn printable(text: &str) -> bool {
    text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

fn is_type(text: &[u8]) -> bool {
    text.len() <= 255
        && text.first().is_some_and(u8::is_ascii_alphanumeric)
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(byte))
}

/// RFC 3339 as nearly everybody writes it: in UTC, and not on the last days of a month, which would need a calendar.
fn is_time(text: &[u8]) -> bool {
    let two = |at: usize| -> u32 { u32::from(text[at] - b'0') * 10 + u32::from(text[at + 1] - b'0') };
    if text.len() < 20 || text.len() > 32 {
        return false;
    }
    let digits = [0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18];
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if !digits.iter().all(|at| text[*at].is_ascii_digit()) || marks.iter().any(|(at, mark)| text[*at] != *mark) {
        return false;
    }
    let Some((b'Z', fraction)) = text[19..].split_last() else { return false };
    let fine = match fraction.split_first() {
        None => true,
        Some((b'.', rest)) => (1..=12).contains(&rest.len()) && rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    let (month, day) = (two(5), two(8));
    fine && text[..4] != *b"0000"
        && (1..=12).contains(&month)
        && ((1..=28).contains(&day) || (day <= 30 && month != 2 && day > 0))
        && two(11) < 24
        && two(14) < 60
        && two(17) < 60
}
