//! The express lane: usual messages are decided here, a batch at a time.
//!
//! It decides nothing that Python would decide otherwise. Whatever is not usual, or is in any way doubtful, comes back
//! as None, and Python decides it: every error message, every rule and every exception stands there and only there.

mod decide;
mod filter;
mod forms;
mod frames;
mod message;
mod plan;
mod segment;
mod tree;
mod tuples;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PySet, PyString, PyTuple, PyType};

use crate::tuples::{bytes_at, item_at, text_at, texts_at, tuple_of};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bodies that are decided before other threads get the interpreter's lock: about a millisecond's.
const HELD_BYTES: usize = 256 << 10;
const STRUCTURED: &str = "application/cloudevents+json";

/// The Python classes of what it returns, all named tuples.
struct Classes {
    output: Py<PyType>,
    decision: Py<PyType>,
    message: Py<PyType>,
    key: Py<PyType>,
    quick: Py<PyType>,
    entry: Py<PyType>,
    attributes: Py<PyType>,
    headers: Py<PyAny>,
}

#[pyclass]
struct Lane {
    classes: Classes,
    seal: Vec<u8>,
    config: String,
    format: u32,
    shared: bool,
    body_bytes: usize,
    depth: usize,
    hops: i64,
    plans: HashMap<String, HashMap<String, Box<plan::Plan>>>,
    contracts: plan::Contracts,
}

/// One delivery, borrowed from Python.
struct Came<'a> {
    body: &'a [u8],
    user: Option<&'a str>,
    id: Option<&'a str>,
    type_: Option<&'a str>,
    key: &'a str,
}

/// A first delivery from one of these queues, with the types that Python promises; else it is not usual.
fn came<'a>(delivery: Borrowed<'a, '_, PyTuple>, queues: &Bound<'_, PySet>) -> Option<Came<'a>> {
    if text_at(delivery, 1)? != STRUCTURED || item_at(delivery, 8)?.is_truthy().ok()? {
        return None;
    }
    if !queues.contains(item_at(delivery, 7)?).ok()? {
        return None;
    }
    Some(Came {
        body: bytes_at(delivery, 0)?,
        user: texts_at(delivery, 3)?,
        id: texts_at(delivery, 4)?,
        type_: texts_at(delivery, 5)?,
        key: text_at(delivery, 6)?,
    })
}

#[pymethods]
impl Lane {
    #[new]
    #[allow(clippy::too_many_arguments, clippy::type_complexity)]
    fn new(
        classes: (Py<PyType>, Py<PyType>, Py<PyType>, Py<PyType>, Py<PyType>, Py<PyType>, Py<PyType>),
        headers: Py<PyAny>,
        format: u32,
        seal: Vec<u8>,
        config: String,
        shared: bool,
        body_bytes: usize,
        depth: usize,
        hops: i64,
    ) -> PyResult<Self> {
        if seal.is_empty() || seal.len() > 64 || hops < 1 {
            return Err(PyValueError::new_err("a key of 1 to 64 bytes and at least one hop are needed"));
        }
        let (output, decision, message, attributes, key, quick, entry) = classes;
        let classes = Classes { output, decision, message, attributes, key, quick, entry, headers };
        Ok(Lane { classes, seal, config, format, shared, body_bytes, depth, hops, plans: HashMap::new(), contracts: HashMap::new() })
    }

    /// Decide messages of this type and source by a plan.
    fn learn(&mut self, type_: String, source: String, plan: &[u8]) -> PyResult<()> {
        let plan = plan::read(plan, &mut self.contracts).map_err(PyValueError::new_err)?;
        self.plans.entry(type_).or_default().insert(source, Box::new(plan));
        Ok(())
    }

    /// Decide a batch of what came for the first time from these queues: per delivery a `Quick`, or None.
    fn judge<'py>(
        &self, py: Python<'py>, deliveries: Vec<Bound<'py, PyTuple>>, queues: &Bound<'py, PySet>, now: &str,
    ) -> PyResult<Bound<'py, PyList>> {
        // Tuples and what is in them stay alive while this list of references to them does.
        let batch: Vec<Option<Came>> = deliveries.iter().map(|each| came(each.as_borrowed(), queues)).collect();
        let setting = decide::Setting { now, config: &self.config, seal: &self.seal, hops: self.hops };
        let results = PyList::empty(py);
        let mut held = 0;
        for (each, delivery) in batch.iter().zip(&deliveries) {
            let Some((head, made)) = each.as_ref().and_then(|came| self.doubted(came, &setting)) else {
                results.append(py.None())?;
                continue;
            };
            results.append(self.tell(py, &head, made, delivery)?)?;
            held += delivery.get_item(0)?.len()?;
            if held > HELD_BYTES {
                py.detach(|| held = 0); // somebody else's turn
            }
        }
        Ok(results)
    }

    /// Complete records: per (quick, delivery, partition, number, arrived) an `Entry`.
    fn record<'py>(
        &self, py: Python<'py>, rows: Vec<Bound<'py, PyTuple>>, decided_s: f64,
    ) -> PyResult<Bound<'py, PyList>> {
        let results = PyList::empty(py);
        for row in rows {
            results.append(self.entry(py, &row, decided_s)?)?;
        }
        Ok(results)
    }
}

impl Lane {
    /// Should this code have a fault, it is no usual message.
    fn doubted<'a>(
        &'a self, came: &Came<'a>, setting: &decide::Setting,
    ) -> Option<(message::Head<'a>, decide::Made<'a>)> {
        catch_unwind(AssertUnwindSafe(|| self.decided(came, setting))).ok().flatten()
    }

    fn decided<'a>(
        &'a self, came: &Came<'a>, setting: &decide::Setting,
    ) -> Option<(message::Head<'a>, decide::Made<'a>)> {
        if came.body.len() > self.body_bytes {
            return None;
        }
        let message = message::read(came.body, self.depth)?;
        let usual = came.id.is_none_or(|said| said == message.head.id)
            && came.type_.is_none_or(|said| said == message.head.type_)
            && (self.shared || came.user == Some(message.head.source))
            && came.key == message.head.conversation;
        if !usual {
            return None;
        }
        let plan = self.plans.get(message.head.type_)?.get(message.head.source)?;
        let mut made = decide::decide(&message, came.body, plan, setting)?;
        made.record.extend_from_slice(b",\"user_id\":");
        match came.user {
            Some(user) => tree::text(&mut made.record, user),
            None => made.record.extend_from_slice(b"null"),
        }
        made.record.push(b'}');
        Some((message.head, made))
    }

    fn tell<'py>(
        &self, py: Python<'py>, head: &message::Head, made: decide::Made, delivery: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let classes = &self.classes;
        let attributes = classes.attributes.bind(py).call1((delivery.get_item(0)?,))?;
        let conversation = PyString::new(py, head.conversation).into_any();
        let none = py.None().into_bound(py);
        let mut outs = Vec::with_capacity(made.outs.len());
        let routed = !made.outs.is_empty();
        for out in &made.outs {
            outs.push(tuple_of(classes.output.bind(py), [
                out.target.kind.py.bind(py).clone().into_any(),
                out.target.name.py.bind(py).clone().into_any(),
                PyString::new(py, out.id.text()).into_any(),
                out.target.type_.py.bind(py).clone().into_any(),
                conversation.clone(),
                PyBytes::new(py, &out.body).into_any(),
                intern!(py, STRUCTURED).clone().into_any(),
                classes.headers.bind(py).clone(),
                none.clone(),
            ])?);
        }
        let told = tuple_of(classes.message.bind(py), [attributes, none.clone()])?;
        let empty = intern!(py, "").clone().into_any();
        let end = if routed { intern!(py, "routed") } else { intern!(py, "filtered") };
        let notes = PyTuple::new(py, made.notes.iter().map(|note| note.py.bind(py)))?;
        let decision = tuple_of(classes.decision.bind(py), [
            end.clone().into_any(),
            told,
            made.owner.route.py.bind(py).clone().into_any(),
            made.owner.place.py.bind(py).clone().into_any(),
            made.owner.why.py.bind(py).clone().into_any(),
            made.reason.map_or_else(|| empty.clone(), |reason| reason.py.bind(py).clone().into_any()),
            none,
            notes.into_any(),
            PyTuple::new(py, outs)?.into_any(),
            PyTuple::empty(py).into_any(),
            empty,
        ])?;
        let key = [PyBytes::new(py, &made.key).into_any(), PyBytes::new(py, &made.content[..8]).into_any()];
        let key = tuple_of(classes.key.bind(py), key)?;
        tuple_of(classes.quick.bind(py), [decision, key, PyBytes::new(py, &made.record).into_any()])
    }

    fn entry<'py>(&self, py: Python<'py>, row: &Bound<'py, PyTuple>, decided_s: f64) -> PyResult<Bound<'py, PyAny>> {
        let item = |at: usize| row.get_borrowed_item(at);
        let (quick, delivery) = (row.get_item(0)?.cast_into::<PyTuple>()?, row.get_item(1)?.cast_into::<PyTuple>()?);
        let odd = || PyTypeError::new_err("a row is (quick, delivery, partition, number, arrived)");
        let (partition, seq, arrived_s): (u64, u64, f64) = (item(2)?.extract()?, item(3)?.extract()?, item(4)?.extract()?);
        let tail = bytes_at(quick.as_borrowed(), 2).ok_or_else(odd)?;
        let mut record = Vec::with_capacity(tail.len() + 160);
        record.extend_from_slice(format!("{{\"v\":{},\"partition\":{partition},\"seq\":{seq}", self.format).as_bytes());
        for (name, seconds) in [("received_s", arrived_s), ("decided_s", decided_s)] {
            record.extend_from_slice(format!(",\"{name}\":").as_bytes());
            tree::write(&mut record, &tree::Tree::Float(seconds));
        }
        record.extend_from_slice(b",\"queue\":");
        tree::text(&mut record, text_at(delivery.as_borrowed(), 7).ok_or_else(odd)?);
        record.extend_from_slice(tail);
        let (decision, key) = (quick.get_item(0)?, quick.get_item(1)?);
        let outputs = decision.cast::<PyTuple>()?.get_item(8)?;
        let line = PyBytes::new(py, &record).into_any();
        tuple_of(self.classes.entry.bind(py), [row.get_item(3)?, key, line, delivery.get_item(0)?, outputs])
    }
}

#[pymodule]
fn agentbus_express(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(segment::segments, module)?)?;
    module.add_class::<filter::Filter>()?;
    module.add_class::<frames::Frames>()?;
    module.add_class::<Lane>()
}
