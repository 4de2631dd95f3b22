//! Segments of the log, packed as `bus/audit/segment.py` packs them, which reads them and says what they are.

use std::cell::RefCell;
use std::io::Write;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};
use zstd::bulk::Compressor;

use crate::tree::text;
use crate::tuples::{bytes_at, item_at, number_at, text_at, tuple_at};

const FORMAT: u8 = 1;
const ZSTD: u8 = 2;
const SMALL: usize = 4096;
const SEGMENT_BYTES: usize = 1 << 20;

struct Output<'a> {
    texts: [&'a str; 5],
    body: &'a [u8],
    content_type: &'a str,
    expires_ms: Option<u64>,
}

struct Entry<'a> {
    seq: u64,
    inbox: Option<(&'a [u8], &'a [u8])>,
    record: &'a [u8],
    input: &'a [u8],
    outputs: Vec<Output<'a>>,
}

pub struct Segment {
    partition: u32,
    first: u64,
    count: usize,
    blob: Vec<u8>,
}

thread_local! {
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
}

/// None when there is something about it that only Python keeps exactly.
fn entry<'a>(tuple: Borrowed<'a, '_, PyTuple>) -> Option<Entry<'a>> {
    let inbox = match item_at(tuple, 1)? {
        none if none.is_none() => None,
        some => {
            let key = some.cast::<PyTuple>().ok()?;
            Some((bytes_at(key, 0)?, bytes_at(key, 1)?))
        }
    };
    let made = tuple_at(tuple, 4)?;
    let outputs = (0..made.len()).map(|at| output(tuple_at(made, at)?)).collect::<Option<_>>()?;
    Some(Entry { seq: number_at(tuple, 0)?, inbox, record: bytes_at(tuple, 2)?, input: bytes_at(tuple, 3)?, outputs })
}

fn output<'a>(tuple: Borrowed<'a, '_, PyTuple>) -> Option<Output<'a>> {
    if item_at(tuple, 7)?.is_truthy().ok()? {
        return None; // headers
    }
    let expires = item_at(tuple, 8)?;
    Some(Output {
        texts: [text_at(tuple, 0)?, text_at(tuple, 1)?, text_at(tuple, 2)?, text_at(tuple, 3)?, text_at(tuple, 4)?],
        body: bytes_at(tuple, 5)?,
        content_type: text_at(tuple, 6)?,
        expires_ms: if expires.is_none() { None } else { Some(expires.extract().ok()?) },
    })
}

impl Entry<'_> {
    fn size(&self) -> usize {
        self.record.len() + self.input.len() + self.outputs.iter().map(|each| each.body.len()).sum::<usize>()
    }

    fn index(&self, to: &mut Vec<u8>) {
        match self.inbox {
            Some((key, content)) => write!(to, "[{},{},", key.len(), content.len()),
            None => write!(to, "[-1,0,"),
        }
        .expect("into memory");
        write!(to, "{},{},[", self.record.len(), self.input.len()).expect("into memory");
        for (at, output) in self.outputs.iter().enumerate() {
            to.extend_from_slice(if at > 0 { b",[" } else { b"[" });
            for each in output.texts {
                text(to, each);
                to.push(b',');
            }
            write!(to, "{},", output.body.len()).expect("into memory");
            text(to, output.content_type);
            match output.expires_ms {
                Some(expires) => write!(to, ",null,{expires}]").expect("into memory"),
                None => to.extend_from_slice(b",null,null]"),
            }
        }
        to.extend_from_slice(b"]]");
    }

    fn bytes(&self, to: &mut Vec<u8>) {
        if let Some((key, content)) = self.inbox {
            to.extend_from_slice(key);
            to.extend_from_slice(content);
        }
        to.extend_from_slice(self.record);
        to.extend_from_slice(self.input);
        for output in &self.outputs {
            to.extend_from_slice(output.body);
        }
    }
}

fn pack(partition: u32, entries: &[Entry], size: usize) -> Option<Segment> {
    let first = entries.first()?.seq;
    if entries.iter().zip(first..).any(|(entry, expected)| entry.seq != expected) {
        return None;
    }
    let mut packed = Vec::with_capacity(size + entries.len() * 256);
    packed.push(b'[');
    for (at, entry) in entries.iter().enumerate() {
        if at > 0 {
            packed.push(b',');
        }
        entry.index(&mut packed);
    }
    packed.push(b']');
    let length = u32::try_from(packed.len()).ok()?;
    for entry in entries {
        entry.bytes(&mut packed);
    }
    let mut flags = 0;
    if packed.len() > SMALL {
        flags = ZSTD;
        packed = COMPRESSOR.with_borrow_mut(|held| -> std::io::Result<Vec<u8>> {
            if held.is_none() {
                *held = Some(Compressor::new(1)?);
            }
            held.as_mut().expect("just made").compress(&packed)
        })
        .ok()?;
    }
    let mut blob = Vec::with_capacity(packed.len() + 30);
    blob.extend_from_slice(b"abSG");
    blob.extend_from_slice(&[FORMAT, flags]);
    blob.extend_from_slice(&partition.to_be_bytes());
    blob.extend_from_slice(&first.to_be_bytes());
    blob.extend_from_slice(&u32::try_from(entries.len()).ok()?.to_be_bytes());
    blob.extend_from_slice(&length.to_be_bytes());
    blob.extend_from_slice(&packed);
    let sum = crc32fast::hash(&blob);
    blob.extend_from_slice(&sum.to_be_bytes());
    Some(Segment { partition, first, count: entries.len(), blob })
}

/// `segment.split`, and each piece packed.
fn split(partition: u32, entries: &[Entry], to: &mut Vec<Segment>) -> Option<()> {
    let (mut start, mut size) = (0, 0);
    for (at, entry) in entries.iter().enumerate() {
        size += entry.size();
        if size >= SEGMENT_BYTES || at + 1 == entries.len() {
            to.push(pack(partition, &entries[start..=at], size)?);
            (start, size) = (at + 1, 0);
        }
    }
    let numbers = entries.iter().zip(entries.iter().skip(1));
    numbers.into_iter().all(|(one, next)| one.seq + 1 == next.seq).then_some(())
}

/// Pack the entries of a commit, given by partition: a list of (partition, first number, count, blob), or None.
#[pyfunction]
pub fn segments<'py>(py: Python<'py>, entries: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyList>>> {
    let Ok(entries) = entries.cast::<PyDict>() else { return Ok(None) };
    let mut held: Vec<(u32, Vec<Bound<'py, PyTuple>>)> = Vec::new();
    for (partition, of) in entries.iter() {
        let Ok(partition) = partition.extract() else { return Ok(None) };
        let Ok(of) = of.extract() else { return Ok(None) };
        held.push((partition, of));
    }
    let mut batch = Vec::with_capacity(held.len());
    for (partition, of) in &held {
        let Some(read) = of.iter().map(|each| entry(each.as_borrowed())).collect::<Option<Vec<_>>>() else {
            return Ok(None);
        };
        batch.push((*partition, read));
    }
    let made = py.detach(|| {
        let mut made = Vec::with_capacity(batch.len());
        for (partition, entries) in &batch {
            split(*partition, entries, &mut made)?;
        }
        Some(made)
    });
    let Some(made) = made else { return Ok(None) };
    let results = PyList::empty(py);
    for each in made {
        results.append((each.partition, each.first, each.count, PyBytes::new(py, &each.blob)))?;
    }
    Ok(Some(results))
}
