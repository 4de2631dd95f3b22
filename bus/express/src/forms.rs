//! Values and conditions. What has no value here is None, and Python says why.

use serde_json::{Map, Value};
use std::cmp::Ordering;

use crate::plan::Form;

/// What expressions read: `data` as the steps have left it, the message's own, the route's `config`.
pub struct Names<'a> {
    pub data: &'a Value,
    pub request: &'a Value,
    pub config: &'a Value,
}

fn follow<'a>(path: &[String], names: &Names<'a>) -> Option<&'a Value> {
    let (root, fields) = path.split_first()?;
    let mut value = match root.as_str() {
        "data" => names.data,
        "request" => names.request,
        "config" => names.config,
        _ => return None,
    };
    for field in fields {
        value = value.as_object()?.get(field)?;
    }
    Some(value)
}

pub fn value(form: &Form, names: &Names) -> Option<Value> {
    Some(match form {
        Form::Const(value) => value.clone(),
        Form::Path(path) => follow(path, names)?.clone(),
        Form::Object(members) => {
            let mut made = Map::with_capacity(members.len());
            for (name, form) in members {
                made.insert(name.clone(), value(form, names)?);
            }
            Value::Object(made)
        }
        Form::List(items) => Value::Array(items.iter().map(|each| value(each, names)).collect::<Option<_>>()?),
        Form::Text(parts) => {
            let mut made = String::new();
            for part in parts {
                match value(part, names)? {
                    Value::String(text) => made.push_str(&text),
                    _ => return None,
                }
            }
            Value::String(made)
        }
        _ => Value::Bool(holds(form, names)?),
    })
}

/// A condition's value. An error on either side of `&&` or `||` is left to Python, which may forgive it.
pub fn holds(form: &Form, names: &Names) -> Option<bool> {
    Some(match form {
        Form::Not(inner) => !holds(inner, names)?,
        Form::And(left, right) => {
            let (left, right) = (holds(left, names)?, holds(right, names)?);
            left && right
        }
        Form::Or(left, right) => {
            let (left, right) = (holds(left, names)?, holds(right, names)?);
            left || right
        }
        Form::Has(path, field) => follow(path, names)?.as_object()?.contains_key(field),
        Form::Compare(how, left, right) => compare(how, &operand(left, names)?, &operand(right, names)?)?,
        _ => operand(form, names)?.as_bool()?,
    })
}

enum Operand<'a> {
    Borrowed(&'a Value),
    Made(bool),
}

impl Operand<'_> {
    fn as_bool(&self) -> Option<bool> {
        match self {
            Operand::Borrowed(value) => value.as_bool(),
            Operand::Made(value) => Some(*value),
        }
    }
}

fn operand<'a>(form: &'a Form, names: &Names<'a>) -> Option<Operand<'a>> {
    match form {
        Form::Const(value) => Some(Operand::Borrowed(value)),
        Form::Path(path) => follow(path, names).map(Operand::Borrowed),
        Form::Object(_) | Form::List(_) | Form::Text(_) => None,
        _ => holds(form, names).map(Operand::Made),
    }
}

fn compare(how: &str, left: &Operand, right: &Operand) -> Option<bool> {
    let (Operand::Borrowed(left), Operand::Borrowed(right)) = (left, right) else { return None };
    let order = match (left, right) {
        (Value::Array(_) | Value::Object(_), _) | (_, Value::Array(_) | Value::Object(_)) => return None,
        (Value::Number(one), Value::Number(two)) => match (one.as_i64(), two.as_i64()) {
            (Some(one), Some(two)) => one.cmp(&two),
            _ => one.as_f64()?.partial_cmp(&two.as_f64()?)?,
        },
        (Value::String(one), Value::String(two)) => one.cmp(two),
        _ => return match how {
            "==" => Some(left == right),
            "!=" => Some(left != right),
            _ => None,
        },
    };
    Some(match how {
        "==" => order == Ordering::Equal,
        "!=" => order != Ordering::Equal,
        "<" => order == Ordering::Less,
        "<=" => order != Ordering::Greater,
        ">" => order == Ordering::Greater,
        ">=" => order != Ordering::Less,
        _ => return None,
    })
}
