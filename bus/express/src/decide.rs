//! The decision on a usual message, with the bytes of its outputs and of its record.
//!
//! Each line has its counterpart in Python: pipeline.py, flow.py, outputs.py, address.py, record.py. The tests hold both
//! to the same bytes.

use blake2b_simd::Params;

use crate::forms::{Names, holds, value};
use crate::message::Message;
use crate::plan::{Kind, Name, Owner, Plan, Step, Target};
use crate::tree::{self, Tree};

/// What is the same for all messages of a batch.
pub struct Setting<'a> {
    pub now: &'a str,
    pub config: &'a str,
    pub seal: &'a [u8],
    pub hops: i64,
}

pub struct Out<'p> {
    pub target: &'p Target,
    pub id: Hex<32>,
    pub body: Vec<u8>,
}

pub struct Made<'p> {
    pub key: [u8; 16],
    pub content: [u8; 16],
    pub owner: &'p Owner,
    pub reason: Option<&'p Name>,
    pub notes: Vec<&'p Name>,
    pub outs: Vec<Out<'p>>,
    /// The record but for its beginning, which names place and times, and its end, which names the user.
    pub record: Vec<u8>,
}

/// Text of hex digits.
pub struct Hex<const N: usize>([u8; N]);

impl<const N: usize> Hex<N> {
    fn new(bytes: &[u8]) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut made = [b'0'; N];
        for (pair, byte) in made.chunks_exact_mut(2).zip(bytes) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        Hex(made)
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
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

struct Ran<'p> {
    owner: &'p Owner,
    notes: Vec<&'p Name>,
    reason: Option<&'p Name>,
    outs: Vec<Out<'p>>,
}

pub fn decide<'p>(message: &Message, body: &[u8], plan: &'p Plan, setting: &Setting) -> Option<Made<'p>> {
    if plan.kept.as_ref().is_some_and(|contract| !contract.is_valid(&message.data)) {
        return None;
    }
    let ran = run(message, plan, setting)?;
    let key = hash16(&[
        message.head.source.as_bytes(), b"\0", message.head.conversation.as_bytes(), b"\0", message.head.id.as_bytes(),
        b"\x000\x000",
    ]);
    let mut made = Made {
        key,
        content: hash16(&[body]),
        owner: ran.owner,
        reason: ran.reason,
        notes: ran.notes,
        outs: ran.outs,
        record: Vec::new(),
    };
    made.record = record(message, body, &made, setting);
    Some(made)
}

fn run<'p>(message: &Message, plan: &'p Plan, setting: &Setting) -> Option<Ran<'p>> {
    let mut notes = Vec::with_capacity(8);
    for owner in &plan.owners {
        let names = Names { data: &message.data, request: &message.data, config: &owner.config };
        match &owner.when {
            Some(form) if !holds(form, &names)? => notes.push(&owner.passed),
            _ => return flow(message, owner, &owner.steps, &message.data, notes, setting),
        }
    }
    None
}

/// Go through the steps that are left, with `data` as those before have left it.
fn flow<'p>(
    message: &Message,
    owner: &'p Owner,
    steps: &'p [Step],
    data: &Tree,
    mut notes: Vec<&'p Name>,
    setting: &Setting,
) -> Option<Ran<'p>> {
    let names = Names { data, request: &message.data, config: &owner.config };
    let Some((step, left)) = steps.split_first() else { return send(message, owner, &names, notes, setting) };
    if let Some(form) = &step.when {
        if !holds(form, &names)? {
            notes.push(&step.skipped);
            return flow(message, owner, left, data, notes, setting);
        }
    }
    match &step.kind {
        Kind::Filter { condition, reason } => {
            if !holds(condition, &names)? {
                notes.push(reason);
                return Some(Ran { owner, notes, reason: Some(reason), outs: Vec::new() });
            }
            flow(message, owner, left, data, notes, setting)
        }
        Kind::Translate { data: form, note } => {
            let made = value(form, &names)?;
            notes.push(note);
            flow(message, owner, left, &made, notes, setting)
        }
    }
}

fn send<'p>(
    message: &Message,
    owner: &'p Owner,
    names: &Names,
    mut notes: Vec<&'p Name>,
    setting: &Setting,
) -> Option<Ran<'p>> {
    let mut outs = Vec::with_capacity(owner.to.len());
    for target in &owner.to {
        let own = match &target.data {
            Some(form) => Some(value(form, names)?),
            None => None,
        };
        let payload = own.as_ref().unwrap_or(names.data);
        if target.kept.as_ref().is_some_and(|contract| !contract.is_valid(payload)) {
            return None;
        }
        notes.push(&target.note);
        outs.push(output(message, target, &owner.route.text, outs.len(), payload, setting));
    }
    (!outs.is_empty()).then_some(Ran { owner, notes, reason: None, outs })
}

/// `Outbox.send`.
fn output<'p>(
    message: &Message, target: &'p Target, route: &str, index: usize, data: &Tree, setting: &Setting,
) -> Out<'p> {
    let (cause, source, conversation) = (message.head.id, message.head.source, message.head.conversation);
    let id: Hex<32> = Hex::new(&hash16(&[
        source.as_bytes(), b"\0", conversation.as_bytes(), b"\0", cause.as_bytes(), b"\0", route.as_bytes(),
        b"\0", target.kind.text.as_bytes(), b":", target.name.text.as_bytes(), b"\0", index.to_string().as_bytes(),
    ]));
    let left = message.head.hops.map_or(setting.hops, |said| said.min(setting.hops)) - 1;
    let mut to = Vec::with_capacity(1024);
    to.extend_from_slice(b"{\"specversion\":\"1.0\",\"id\":\"");
    to.extend_from_slice(id.bytes());
    to.extend_from_slice(b"\",\"source\":\"bus\",\"type\":");
    to.extend_from_slice(&target.type_.json);
    to.extend_from_slice(b",\"time\":");
    tree::text(&mut to, setting.now);
    to.extend_from_slice(b",\"conversationid\":");
    tree::text(&mut to, conversation);
    to.extend_from_slice(b",\"causationid\":");
    tree::text(&mut to, cause);
    to.extend_from_slice(b",\"hopsleft\":");
    to.extend_from_slice(left.to_string().as_bytes());
    to.extend_from_slice(b",\"traceparent\":\"");
    trace(&mut to, message, &id);
    to.extend_from_slice(b"\"");
    if let Some(state) = message.head.text("tracestate") {
        to.extend_from_slice(b",\"tracestate\":");
        tree::text(&mut to, state);
    }
    if target.sealed {
        to.extend_from_slice(b",\"replyto\":\"!!!");
        to.extend_from_slice(mac(setting.seal, &id, &target.type_.text, conversation).bytes());
        to.extend_from_slice(b"\"");
    }
    if *data != Tree::Null {
        to.extend_from_slice(b",\"data\":");
        tree::write(&mut to, data);
    }
    to.extend_from_slice(b"}");
    Out { target, id, body: to }
}

/// `address.seal` for nobody.
fn mac(key: &[u8], id: &Hex<32>, type_: &str, conversation: &str) -> Hex<24> {
    let mut state = Params::new().hash_length(12).key(key).to_state();
    for part in [b"!!" as &[u8], b"\0", id.bytes(), b"\0", type_.as_bytes(), b"\0", conversation.as_bytes()] {
        state.update(part);
    }
    Hex::new(state.finalize().as_bytes())
}

fn trace(to: &mut Vec<u8>, message: &Message, id: &Hex<32>) {
    match message.head.text("traceparent") {
        Some(parent) if is_trace(parent.as_bytes()) => {
            to.extend_from_slice(&parent.as_bytes()[..36]);
            to.extend_from_slice(&id.bytes()[..16]);
            to.extend_from_slice(&parent.as_bytes()[52..]);
        }
        _ => {
            to.extend_from_slice(b"00-");
            to.extend_from_slice(Hex::<32>::new(&hash16(&[message.head.conversation.as_bytes()])).bytes());
            to.extend_from_slice(b"-");
            to.extend_from_slice(&id.bytes()[..16]);
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

fn record(message: &Message, body: &[u8], made: &Made, setting: &Setting) -> Vec<u8> {
    let mut to = Vec::with_capacity(1024);
    to.extend_from_slice(if made.outs.is_empty() { b",\"end\":\"filtered\"" } else { b",\"end\":\"routed\"" as &[u8] });
    let mut field = |name: &str, value: &str| {
        to.extend_from_slice(b",\"");
        to.extend_from_slice(name.as_bytes());
        to.extend_from_slice(b"\":");
        tree::text(&mut to, value);
    };
    field("config", setting.config);
    field("content", Hex::<32>::new(&made.content).text());
    field("id", message.head.id);
    field("source", message.head.source);
    field("type", message.head.type_);
    field("conversation", message.head.conversation);
    for (name, value) in [("route", &made.owner.route), ("where", &made.owner.place), ("why", &made.owner.why)] {
        said(&mut to, name, value);
    }
    for (name, attribute) in [("correlation", "correlationid"), ("causation", "causationid")] {
        if let Some(value) = message.head.text(attribute) {
            to.extend_from_slice(format!(",\"{name}\":").as_bytes());
            tree::text(&mut to, value);
        }
    }
    if let Some(reason) = made.reason.filter(|reason| !reason.text.is_empty()) {
        said(&mut to, "reason", reason);
    }
    if let Some(hops) = message.head.hops {
        to.extend_from_slice(format!(",\"hops\":{hops}").as_bytes());
    }
    to.extend_from_slice(format!(",\"size\":{},\"steps\":[", body.len()).as_bytes());
    for (at, note) in made.notes.iter().enumerate() {
        if at > 0 {
            to.push(b',');
        }
        to.extend_from_slice(&note.json);
    }
    to.extend_from_slice(b"],\"outputs\":[");
    for (at, out) in made.outs.iter().enumerate() {
        to.extend_from_slice(if at > 0 { b",[" } else { b"[" });
        to.extend_from_slice(&out.target.kind.json);
        to.push(b',');
        to.extend_from_slice(&out.target.name.json);
        to.extend_from_slice(b",\"");
        to.extend_from_slice(out.id.bytes());
        to.extend_from_slice(b"\",");
        to.extend_from_slice(&out.target.type_.json);
        to.push(b']');
    }
    to.push(b']');
    to
}

fn said(to: &mut Vec<u8>, name: &str, value: &Name) {
    to.extend_from_slice(b",\"");
    to.extend_from_slice(name.as_bytes());
    to.extend_from_slice(b"\":");
    to.extend_from_slice(&value.json);
}
