//! The express lane: usual messages are decided here, a batch at a time and without the interpreter's lock.
//!
//! It decides nothing that Python would decide otherwise. Whatever is not usual, or is in any way doubtful, comes back
//! as None, and Python decides it: every error message, every rule and every exception stands there and only there.

mod decide;
mod forms;
mod json;
mod message;
mod plan;

use std::collections::HashMap;

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple, PyType};
use serde_json::Value;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const STRUCTURED: &str = "application/cloudevents+json";

/// The Python classes of what it returns, all named tuples.
struct Classes {
    output: Py<PyType>,
    decision: Py<PyType>,
    message: Py<PyType>,
    key: Py<PyType>,
    quick: Py<PyType>,
    new: Py<PyAny>,
    headers: Py<PyAny>,
}

#[pyclass]
struct Lane {
    classes: Classes,
    seal: Vec<u8>,
    config: String,
    shared: bool,
    body_bytes: usize,
    depth: usize,
    hops: i64,
    plans: HashMap<String, HashMap<String, Box<plan::Plan>>>,
}

/// One delivery, borrowed from Python.
struct Came<'a> {
    body: &'a [u8],
    user: Option<&'a str>,
    id: Option<&'a str>,
    type_: Option<&'a str>,
    key: &'a str,
}

fn text<'a>(item: &'a Bound<'_, PyAny>) -> Option<Option<&'a str>> {
    if item.is_none() {
        return Some(None);
    }
    item.cast::<PyString>().ok()?.to_str().ok().map(Some)
}

fn came<'a>(fields: &'a [Bound<'_, PyAny>]) -> Option<Came<'a>> {
    if text(fields.get(1)?)?? != STRUCTURED {
        return None;
    }
    Some(Came {
        body: fields[0].cast::<PyBytes>().ok()?.as_bytes(),
        user: text(fields.get(3)?)?,
        id: text(fields.get(4)?)?,
        type_: text(fields.get(5)?)?,
        key: text(fields.get(6)?)??,
    })
}

#[pymethods]
impl Lane {
    #[new]
    #[pyo3(signature = (classes, headers, seal, config, shared, body_bytes, depth, hops))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        classes: (Py<PyType>, Py<PyType>, Py<PyType>, Py<PyType>, Py<PyType>),
        headers: Py<PyAny>,
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
        let (output, decision, message, key, quick) = classes;
        let new = py.get_type::<PyTuple>().getattr("__new__")?.unbind();
        let classes = Classes { output, decision, message, key, quick, new, headers };
        Ok(Lane { classes, seal, config, shared, body_bytes, depth, hops, plans: HashMap::new() })
    }

    /// Decide messages of this type and source by a plan.
    fn learn(&mut self, type_: String, source: String, plan: &[u8]) -> PyResult<()> {
        let plan = plan::read(plan).map_err(PyValueError::new_err)?;
        self.plans.entry(type_).or_default().insert(source, Box::new(plan));
        Ok(())
    }

    /// Decide a batch: per delivery a (decision, inbox key, content hash, rest of the record), or None.
    fn judge<'py>(&self, py: Python<'py>, deliveries: &Bound<'py, PyList>, now: &str) -> PyResult<Bound<'py, PyList>> {
        // Tuples and what is in them stay alive while the list of references to it does.
        let mut fields: Vec<Vec<Bound<'py, PyAny>>> = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            fields.push(match delivery.cast::<PyTuple>() {
                Ok(tuple) => tuple.iter().collect(),
                Err(_) => Vec::new(),
            });
        }
        let batch: Vec<Option<Came>> = fields.iter().map(|each| came(each)).collect();
        let setting = decide::Setting { now, config: &self.config, seal: &self.seal, hops: self.hops };
        let made: Vec<_> = py.detach(|| {
            batch.iter().map(|each| each.as_ref().and_then(|came| self.decided(came, &setting))).collect()
        });
        let results = PyList::empty(py);
        for (each, came) in made.into_iter().zip(&batch) {
            match (each, came) {
                (Some((message, made)), Some(came)) => results.append(self.tell(py, message, made, came)?)?,
                _ => results.append(py.None())?,
            }
        }
        Ok(results)
    }
}

impl Lane {
    fn decided(&self, came: &Came, setting: &decide::Setting) -> Option<(message::Message, decide::Made)> {
        if came.body.len() > self.body_bytes {
            return None;
        }
        let message = message::read(came.body, self.depth)?;
        let (type_, source) = (message.text("type")?, message.text("source")?);
        let usual = came.id.is_none_or(|said| said == message.id())
            && came.type_.is_none_or(|said| said == type_)
            && (self.shared || came.user == Some(source))
            && came.key == message.conversation();
        if !usual {
            return None;
        }
        let made = decide::decide(&message, came.body, self.plans.get(type_)?.get(source)?, setting)?;
        Some((message, made))
    }

    fn tell<'py>(
        &self, py: Python<'py>, message: message::Message, made: decide::Made, came: &Came,
    ) -> PyResult<Bound<'py, PyAny>> {
        let classes = &self.classes;
        let new = classes.new.bind(py);
        let attributes = PyDict::new(py);
        for (name, value) in &message.attributes {
            match value {
                Value::String(said) => attributes.set_item(PyString::intern(py, name), said)?,
                _ => attributes.set_item(PyString::intern(py, name), value.as_i64())?,
            }
        }
        let conversation = PyString::new(py, message.conversation());
        let mut outs = Vec::with_capacity(made.outs.len());
        for out in made.outs {
            let parts = (
                PyString::intern(py, &out.kind), PyString::intern(py, &out.name), out.id,
                PyString::intern(py, &out.type_), &conversation, PyBytes::new(py, &out.body), intern!(py, STRUCTURED),
                classes.headers.bind(py), py.None(),
            );
            outs.push(new.call1((classes.output.bind(py), parts))?);
        }
        let told = new.call1((classes.message.bind(py), (attributes, py.None())))?;
        let decision = (
            if made.routed { intern!(py, "routed") } else { intern!(py, "filtered") },
            told, PyString::intern(py, &made.route), PyString::intern(py, &made.place),
            PyString::intern(py, &made.why), made.reason, py.None(), PyTuple::new(py, made.notes)?,
            PyTuple::new(py, outs)?, PyTuple::empty(py), intern!(py, ""),
        );
        let decision = new.call1((classes.decision.bind(py), decision))?;
        let key = (PyBytes::new(py, &made.key), PyBytes::new(py, &made.content[..8]));
        let key = new.call1((classes.key.bind(py), key))?;
        let mut record = made.record;
        let tail = record.split_off(record.len() - 1);
        record.extend_from_slice(b",\"user_id\":");
        match came.user {
            Some(user) => json::text(&mut record, user),
            None => record.extend_from_slice(b"null"),
        }
        record.extend_from_slice(&tail);
        new.call1((classes.quick.bind(py), (decision, key, PyBytes::new(py, &record))))
    }
}

#[pymodule]
fn agentbus_express(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Lane>()
}
