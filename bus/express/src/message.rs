//! A usual message: a structured CloudEvent with nothing about it that Python would look at closely.

use std::borrow::Cow;

use crate::tree::{Tree, parse};

/// Attributes that a usual message may have; all but the last three are any text.
const NAMES: [&str; 13] = [
    "specversion", "id", "source", "type", "conversationid", "correlationid", "causationid", "traceparent",
    "tracestate", "subject", "datacontenttype", "time", "hopsleft",
];
const FREE: usize = 10;
const MOST_TEXT: usize = 1024;
const SHORT_ID: usize = 63;

pub struct Message<'a> {
    pub head: Head<'a>,
    pub data: Tree<'a>,
}

pub struct Head<'a> {
    pub id: &'a str,
    pub source: &'a str,
    pub type_: &'a str,
    pub conversation: &'a str,
    pub hops: Option<i64>,
    texts: Vec<(&'static str, &'a str)>,
}

impl<'a> Head<'a> {
    pub fn text(&self, name: &str) -> Option<&'a str> {
        text(&self.texts, name)
    }
}

fn text<'a>(texts: &[(&'static str, &'a str)], name: &str) -> Option<&'a str> {
    texts.iter().find(|(each, _)| *each == name).map(|(_, said)| *said)
}

pub fn read(body: &[u8], depth: usize) -> Option<Message<'_>> {
    let Tree::Object(members) = parse(body, depth)? else { return None };
    let mut data = Tree::Null;
    let mut hops = None;
    let mut length = 0;
    let mut texts = Vec::with_capacity(members.len());
    for (name, value) in members {
        if name == "data" {
            data = value;
            continue;
        }
        let at = NAMES.iter().position(|each| *each == name)?;
        match (NAMES[at], value) {
            ("hopsleft", Tree::Int(left)) if left >= 1 => hops = Some(left),
            ("datacontenttype", Tree::Text(Cow::Borrowed("application/json"))) => (),
            ("time", Tree::Text(Cow::Borrowed(said))) if is_time(said.as_bytes()) => (),
            (name, Tree::Text(Cow::Borrowed(said))) if at < FREE && printable(said) => {
                length += said.len();
                texts.push((name, said));
            }
            _ => return None,
        }
    }
    let of = |name: &str| text(&texts, name);
    let (id, source, type_) = (of("id")?, of("source")?, of("type")?);
    let conversation = of("conversationid").unwrap_or(id);
    let short = |text: &str| !text.is_empty() && text.len() <= SHORT_ID;
    let usual = length <= MOST_TEXT
        && of("specversion")? == "1.0"
        && short(id)
        && short(conversation)
        && !source.is_empty()
        && is_type(type_.as_bytes());
    usual.then_some(Message { head: Head { id, source, type_, conversation, hops, texts }, data })
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
