//! Named tuples of Python, made and read without a call of their classes.

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple, PyType};

/// A tuple of a class that adds nothing to tuples but names: half the time of `tuple.__new__`.
pub fn tuple_of<'py, const N: usize>(
    class: &Bound<'py, PyType>, items: [Bound<'py, PyAny>; N],
) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    if !class.is_subclass_of::<PyTuple>()? {
        return Err(PyTypeError::new_err("a class of named tuples is needed"));
    }
    // SAFETY: an empty tuple of N places that nobody else has seen; each place is filled once, before it is given away.
    unsafe {
        let made = Bound::from_owned_ptr_or_err(py, ffi::PyType_GenericAlloc(class.as_type_ptr(), N as ffi::Py_ssize_t))?;
        for (at, item) in items.into_iter().enumerate() {
            if ffi::PyTuple_SetItem(made.as_ptr(), at as ffi::Py_ssize_t, item.into_ptr()) != 0 {
                return Err(PyErr::fetch(py));
            }
        }
        Ok(made)
    }
}

/// What stands at a place, for as long as the tuple lives: tuples are immutable.
pub fn item_at<'a, 'py>(tuple: Borrowed<'a, 'py, PyTuple>, at: usize) -> Option<Borrowed<'a, 'py, PyAny>> {
    if at >= tuple.len() {
        return None;
    }
    // SAFETY: the place exists, and what the tuple holds lives as long as it does.
    unsafe { Some(Borrowed::from_ptr(tuple.py(), ffi::PyTuple_GetItem(tuple.as_ptr(), at as ffi::Py_ssize_t))) }
}

/// The text at a place: None when something else stands there, Some(None) for Python's None.
pub fn texts_at<'a>(tuple: Borrowed<'a, '_, PyTuple>, at: usize) -> Option<Option<&'a str>> {
    let item = item_at(tuple, at)?;
    if item.is_none() {
        return Some(None);
    }
    let text = item.cast::<PyString>().ok()?;
    let text = text.to_str().ok()?;
    // SAFETY: the text lies in an object that the tuple holds.
    Some(Some(unsafe { std::mem::transmute::<&str, &'a str>(text) }))
}

pub fn text_at<'a>(tuple: Borrowed<'a, '_, PyTuple>, at: usize) -> Option<&'a str> {
    texts_at(tuple, at).flatten()
}

pub fn bytes_at<'a>(tuple: Borrowed<'a, '_, PyTuple>, at: usize) -> Option<&'a [u8]> {
    let item = item_at(tuple, at)?;
    let bytes = item.cast::<PyBytes>().ok()?;
    let bytes = bytes.as_bytes();
    // SAFETY: the bytes lie in an object that the tuple holds.
    Some(unsafe { std::mem::transmute::<&[u8], &'a [u8]>(bytes) })
}

pub fn tuple_at<'a, 'py>(tuple: Borrowed<'a, 'py, PyTuple>, at: usize) -> Option<Borrowed<'a, 'py, PyTuple>> {
    item_at(tuple, at)?.cast::<PyTuple>().ok()
}

pub fn number_at(tuple: Borrowed<'_, '_, PyTuple>, at: usize) -> Option<u64> {
    item_at(tuple, at)?.extract().ok()
}
