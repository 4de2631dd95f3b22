//! The decision on a usual message, with the bytes of its outputs and of its record.
//!
//! Each line has its counterpart in Python: pipeline.py, flow.py, outputs.py, address.py, record.py. The tests hold both
//! to the same bytes.

use blake2b_simd::Params;
use serde_json::Value;

use crate::forms::{Names, holds, value};
use crate::json;
use crate::message::Message;
use crate::plan::{Kind, Owner, Plan};

/// What is the same for all messages of a batch.
pub struct Setting<'a> {
    pub now: &'a str,
    pub config: &'a str,
    pub seal: &'a [u8],
    pub hops: i64,
}

pub struct Out {
    pub kind: String,
    pub name: String,
    pub id: String,
    pub type_: String,
    pub body: Vec<u8>,
}

pub struct Made {
    pub key: [u8; 16],
    pub content: [u8; 16],
    pub routed: bool,
    pub route: String,
    pub place: String,
    pub why: String,
    pub reason: String,
    pub notes: Vec<String>,
    pub outs: Vec<Out>,
    pub record: Vec<u8>,
}

pub fn hash16(parts: &[&[u8]]) -> [u8; 16] {
    let mut state = Params::new().hash_length(16).to_state();
    for part in parts {
        state.update(part);
    }
    let mut made = [0; 16];
    made.copy_from_slice(state.finalize().as_bytes());
    made
}

pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut made = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        made.push(DIGITS[usize::from(byte >> 4)] as char);
        made.push(DIGITS[usize::from(byte & 15)] as char);
    }
    made
}

struct Ran<'a> {
    owner: &'a Owner,
    notes: Vec<String>,
    reason: String,
    outs: Vec<Out>,
}

pub fn decide(message: &Message, body: &[u8], plan: &Plan, setting: &Setting) -> Option<Made> {
    if plan.kept.as_ref().is_some_and(|contract| !contract.is_valid(&message.data)) {
        return None;
    }
    let ran = run(message, plan, setting)?;
    let (id, source, conversation) = (message.id(), message.text("source")?, message.conversation());
    let key = hash16(&[
        source.as_bytes(), b"\0", conversation.as_bytes(), b"\0", id.as_bytes(), b"\x000\x000",
    ]);
    let mut made = Made {
        key,
        content: hash16(&[body]),
        routed: !ran.outs.is_empty(),
        route: ran.owner.route.clone(),
        place: ran.owner.place.clone(),
        why: ran.owner.why.clone(),
        reason: ran.reason,
        notes: ran.notes,
        outs: ran.outs,
        record: Vec::new(),
    };
    made.record = record(message, body, &made, setting);
    Some(made)
}

fn run<'a>(message: &Message, plan: &'a Plan, setting: &Setting) -> Option<Ran<'a>> {
    let mut notes = Vec::new();
    for owner in &plan.owners {
        let names = Names { data: &message.data, request: &message.data, config: &owner.config };
        match &owner.when {
            Some(form) if !holds(form, &names)? => notes.push(owner.passed.clone()),
            _ => return flow(message, owner, notes, setting),
        }
    }
    None
}

fn flow<'a>(message: &Message, owner: &'a Owner, mut notes: Vec<String>, setting: &Setting) -> Option<Ran<'a>> {
    let mut translated: Option<Value> = None;
    for step in &owner.steps {
        let data = translated.as_ref().unwrap_or(&message.data);
        let names = Names { data, request: &message.data, config: &owner.config };
        if let Some(form) = &step.when {
            if !holds(form, &names)? {
                notes.push(step.skipped.clone());
                continue;
            }
        }
        match &step.kind {
            Kind::Filter { condition, reason } => {
                if !holds(condition, &names)? {
                    notes.push(reason.clone());
                    return Some(Ran { owner, notes, reason: reason.clone(), outs: Vec::new() });
                }
            }
            Kind::Translate { data } => {
                let made = value(data, &names)?;
                translated = Some(made);
                notes.push("translate".to_owned());
            }
        }
    }
    let data = translated.as_ref().unwrap_or(&message.data);
    let names = Names { data, request: &message.data, config: &owner.config };
    let mut outs = Vec::with_capacity(owner.to.len());
    for target in &owner.to {
        let own = match &target.data {
            Some(form) => Some(value(form, &names)?),
            None => None,
        };
        let payload = own.as_ref().unwrap_or(data);
        if target.kept.as_ref().is_some_and(|contract| !contract.is_valid(payload)) {
            return None;
        }
        notes.push(target.note.clone());
        let place = Place {
            kind: &target.kind, name: &target.name, type_: &target.type_, sealed: target.sealed, route: &owner.route,
            index: outs.len(),
        };
        outs.push(output(message, &place, payload, setting)?);
    }
    (!outs.is_empty()).then_some(Ran { owner, notes, reason: String::new(), outs })
}

struct Place<'a> {
    kind: &'a str,
    name: &'a str,
    type_: &'a str,
    sealed: bool,
    route: &'a str,
    index: usize,
}

/// `Outbox.send`.
fn output(message: &Message, place: &Place, data: &Value, setting: &Setting) -> Option<Out> {
    let (cause, source, conversation) = (message.id(), message.text("source")?, message.conversation());
    let id = hex(&hash16(&[
        source.as_bytes(), b"\0", conversation.as_bytes(), b"\0", cause.as_bytes(), b"\0", place.route.as_bytes(),
        b"\0", place.kind.as_bytes(), b":", place.name.as_bytes(), b"\0", place.index.to_string().as_bytes(),
    ]));
    let left = message.hops().map_or(setting.hops, |said| said.min(setting.hops)) - 1;
    let mut to = Vec::with_capacity(512);
    to.extend_from_slice(b"{\"specversion\":\"1.0\",\"id\":\"");
    to.extend_from_slice(id.as_bytes());
    to.extend_from_slice(b"\",\"source\":\"bus\",\"type\":");
    json::text(&mut to, place.type_);
    to.extend_from_slice(b",\"time\":");
    json::text(&mut to, setting.now);
    to.extend_from_slice(b",\"conversationid\":");
    json::text(&mut to, conversation);
    to.extend_from_slice(b",\"causationid\":");
    json::text(&mut to, cause);
    to.extend_from_slice(b",\"hopsleft\":");
    to.extend_from_slice(left.to_string().as_bytes());
    to.extend_from_slice(b",\"traceparent\":\"");
    trace(&mut to, message, &id);
    to.extend_from_slice(b"\"");
    if let Some(state) = message.text("tracestate") {
        to.extend_from_slice(b",\"tracestate\":");
        json::text(&mut to, state);
    }
    if place.sealed {
        to.extend_from_slice(b",\"replyto\":\"!!!");
        to.extend_from_slice(mac(setting.seal, &id, place.type_, conversation).as_bytes());
        to.extend_from_slice(b"\"");
    }
    if !data.is_null() {
        to.extend_from_slice(b",\"data\":");
        json::value(&mut to, data);
    }
    to.extend_from_slice(b"}");
    Some(Out {
        kind: place.kind.to_owned(), name: place.name.to_owned(), id, type_: place.type_.to_owned(), body: to,
    })
}

/// `address.seal` for nobody.
fn mac(key: &[u8], id: &str, type_: &str, conversation: &str) -> String {
    let mut state = Params::new().hash_length(12).key(key).to_state();
    for part in [b"!!" as &[u8], b"\0", id.as_bytes(), b"\0", type_.as_bytes(), b"\0", conversation.as_bytes()] {
        state.update(part);
    }
    hex(state.finalize().as_bytes())
}

fn trace(to: &mut Vec<u8>, message: &Message, id: &str) {
    match message.text("traceparent") {
        Some(parent) if is_trace(parent.as_bytes()) => {
            to.extend_from_slice(&parent.as_bytes()[..36]);
            to.extend_from_slice(&id.as_bytes()[..16]);
            to.extend_from_slice(&parent.as_bytes()[52..]);
        }
        _ => {
            to.extend_from_slice(b"00-");
            to.extend_from_slice(hex(&hash16(&[message.conversation().as_bytes()])).as_bytes());
            to.extend_from_slice(b"-");
            to.extend_from_slice(&id.as_bytes()[..16]);
            to.extend_from_slice(b"-01");
        }
    }
}

fn is_trace(text: &[u8]) -> bool {
    let hexes = |part: &[u8]| part.iter().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte));
    let zero = |part: &[u8]| part.iter().all(|byte| *byte == b'0');
    text.len() == 55
        && text.starts_with(b"00-")
        && text[35] == b'-'
        && text[52] == b'-'
        && hexes(&text[3..35])
        && hexes(&text[36..52])
        && hexes(&text[53..])
        && !zero(&text[3..35])
        && !zero(&text[36..52])
}

/// The record but for its beginning, which names place and times: see `bus/shell/express.py`.
fn record(message: &Message, body: &[u8], made: &Made, setting: &Setting) -> Vec<u8> {
    let mut to = Vec::with_capacity(768);
    let mut field = |name: &str, value: &str| {
        to.extend_from_slice(b",\"");
        to.extend_from_slice(name.as_bytes());
        to.extend_from_slice(b"\":");
        json::text(&mut to, value);
    };
    field("end", if made.routed { "routed" } else { "filtered" });
    field("config", setting.config);
    field("content", &hex(&made.content));
    field("id", message.id());
    field("source", message.text("source").unwrap_or_default());
    field("type", message.text("type").unwrap_or_default());
    field("conversation", message.conversation());
    field("route", &made.route);
    field("where", &made.place);
    field("why", &made.why);
    for (name, attribute) in [("correlation", "correlationid"), ("causation", "causationid")] {
        if let Some(said) = message.text(attribute) {
            field(name, said);
        }
    }
    if !made.reason.is_empty() {
        field("reason", &made.reason);
    }
    if let Some(hops) = message.hops() {
        to.extend_from_slice(format!(",\"hops\":{hops}").as_bytes());
    }
    to.extend_from_slice(format!(",\"size\":{},\"steps\":[", body.len()).as_bytes());
    for (at, note) in made.notes.iter().enumerate() {
        if at > 0 {
            to.push(b',');
        }
        json::text(&mut to, note);
    }
    to.extend_from_slice(b"],\"outputs\":[");
    for (at, out) in made.outs.iter().enumerate() {
        to.extend_from_slice(if at > 0 { b",[" } else { b"[" });
        for (nth, part) in [&out.kind, &out.name, &out.id, &out.type_].into_iter().enumerate() {
            if nth > 0 {
                to.push(b',');
            }
            json::text(&mut to, part);
        }
        to.push(b']');
    }
    to.extend_from_slice(b"]}");
    to
}
