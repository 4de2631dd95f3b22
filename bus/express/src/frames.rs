//! First deliveries whose three frames are all there, the usual case, read as `bus/shell/amqp/wire.py` reads them.
//!
//! Whatever is another case, or not in order, ends the run, and Python reads on from there.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyType};

use crate::tuples::tuple_of;

const DELIVER: [u8; 4] = [0, 60, 0, 60];
const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const END: u8 = 0xCE;

#[pyclass]
pub struct Frames {
    delivery: Py<PyType>,
    lazy: Py<PyType>,
    headers: Py<PyAny>,
    channel: u16,
    frame_max: usize,
}

/// Reads forward; None at the end.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn number<const N: usize>(&mut self) -> Option<u64> {
        Some(self.take(N)?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    fn short(&mut self) -> Option<&'a [u8]> {
        let length = self.number::<1>()?;
        self.take(length as usize)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.short()?).ok()
    }

    /// The payload of the next frame, if it is whole and of this kind.
    fn frame(&mut self, kind: u8, channel: u16, most: usize) -> Option<Reader<'a>> {
        let said = (self.number::<1>()?, self.number::<2>()?);
        let size = self.number::<4>()? as usize;
        if said != (u64::from(kind), u64::from(channel)) || size > most {
            return None;
        }
        let bytes = self.take(size)?;
        (self.take(1)? == [END]).then_some(Reader { bytes, at: 0 })
    }
}

#[derive(Default)]
struct Properties<'a> {
    content_type: Option<&'a str>,
    table: &'a [u8],
    reply_to: Option<&'a str>,
    message_id: Option<&'a str>,
    kind: Option<&'a str>,
    user: Option<&'a str>,
}

struct Delivered<'a> {
    tag: u64,
    consumer: &'a [u8],
    key: &'a str,
    properties: Properties<'a>,
    body: &'a [u8],
}

fn properties<'a>(from: &mut Reader<'a>, flags: u64) -> Option<Properties<'a>> {
    let has = |bit: u32| flags >> bit & 1 == 1;
    let mut found = Properties::default();
    if has(15) {
        found.content_type = Some(from.text()?);
    }
    if has(14) {
        from.short()?; // content encoding
    }
    if has(13) {
        let length = from.number::<4>()?;
        found.table = from.take(length as usize)?;
    }
    if has(12) {
        from.take(1)?; // delivery mode
    }
    if has(11) {
        from.take(1)?; // priority
    }
    if has(10) {
        from.short()?; // correlation id
    }
    if has(9) {
        found.reply_to = Some(from.text()?);
    }
    if has(8) {
        from.short()?; // expiration
    }
    if has(7) {
        found.message_id = Some(from.text()?);
    }
    if has(6) {
        from.take(8)?; // timestamp
    }
    if has(5) {
        found.kind = Some(from.text()?);
    }
    if has(4) {
        found.user = Some(from.text()?);
    }
    Some(found)
}

impl Frames {
    fn one<'a>(&self, from: &mut Reader<'a>) -> Option<Delivered<'a>> {
        let mut method = from.frame(METHOD, self.channel, self.frame_max)?;
        if method.take(4)? != DELIVER {
            return None;
        }
        let consumer = method.short()?;
        let (tag, redelivered) = (method.number::<8>()?, method.number::<1>()?);
        method.short()?; // the exchange
        let key = method.text()?;
        let mut header = from.frame(HEADER, self.channel, self.frame_max)?;
        let (class, _weight) = (header.number::<2>()?, header.number::<2>()?);
        let (size, flags) = (header.number::<8>()?, header.number::<2>()?);
        let properties = properties(&mut header, flags)?;
        let body = from.frame(BODY, self.channel, self.frame_max)?.bytes;
        let usual = redelivered == 0 && class == 60 && size > 0 && body.len() as u64 == size;
        usual.then_some(Delivered { tag, consumer, key, properties, body })
    }

    fn tell<'py>(
        &self, py: Python<'py>, found: &Delivered, queue: Bound<'py, PyAny>,
    ) -> PyResult<(u64, Bound<'py, PyAny>)> {
        let text = |said: Option<&str>| match said {
            Some(said) => PyString::new(py, said).into_any(),
            None => py.None().into_bound(py),
        };
        let its = &found.properties;
        let headers = match its.table {
            [] => self.headers.bind(py).clone(),
            table => self.lazy.bind(py).call1((PyBytes::new(py, table),))?,
        };
        let delivery = tuple_of(self.delivery.bind(py), [
            PyBytes::new(py, found.body).into_any(),
            text(its.content_type),
            headers,
            text(its.user),
            text(its.message_id),
            text(its.kind),
            PyString::new(py, found.key).into_any(),
            queue,
            0_i32.into_pyobject(py)?.into_any(),
            text(its.reply_to),
        ])?;
        Ok((found.tag, delivery))
    }
}

#[pymethods]
impl Frames {
    #[new]
    fn new(delivery: Py<PyType>, lazy: Py<PyType>, headers: Py<PyAny>, channel: u16, frame_max: usize) -> Self {
        Frames { delivery, lazy, headers, channel, frame_max }
    }

    /// Append to `to`, as (tag, delivery), what stands from `at` on; returns where the run ends.
    fn take(
        &self, buffer: &Bound<'_, PyBytes>, at: usize, queues: &Bound<'_, PyDict>, to: &Bound<'_, PyList>,
    ) -> PyResult<usize> {
        let py = buffer.py();
        let mut from = Reader { bytes: buffer.as_bytes(), at };
        let mut end = at;
        while let Some(found) = self.one(&mut from) {
            let Some(queue) = queues.get_item(PyBytes::new(py, found.consumer))? else { break };
            to.append(self.tell(py, &found, queue)?)?;
            end = from.at;
        }
        Ok(end)
    }
}
