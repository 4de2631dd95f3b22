//! Values and conditions. What has no value here is None, and Python says why.

use std::borrow::Cow;
use std::cmp::Ordering;

use crate::plan::Form;
use crate::tree::{Members, Tree, find};

/// What expressions read: `data` as the steps have left it, the message's own, the route's `config`.
pub struct Names<'a> {
    pub data: &'a Tree<'a>,
    pub request: &'a Tree<'a>,
    pub config: &'a Tree<'a>,
}

fn member<'t, 'a>(of: &'t Tree<'a>, name: &str) -> Option<&'t Tree<'a>> {
    match of {
        Tree::Object(members) => find(members, name),
        _ => None,
    }
}

fn follow<'a>(path: &[String], names: &Names<'a>) -> Option<&'a Tree<'a>> {
    let (root, fields) = path.split_first()?;
    let mut value = match root.as_str() {
        "data" => names.data,
        "request" => names.request,
        "config" => names.config,
        _ => return None,
    };
    for field in fields {
        value = member(value, field)?;
    }
    Some(value)
}

pub fn value<'a>(form: &'a Form, names: &Names<'a>) -> Option<Tree<'a>> {
    Some(match form {
        Form::Const(value) => value.lent(),
        Form::Path(path) => follow(path, names)?.lent(),
        Form::Object(members) => {
            let mut made: Members = Vec::with_capacity(members.len());
            for (name, form) in members {
                let value = value(form, names)?;
                match made.iter_mut().find(|(each, _)| each == name) {
                    Some((_, before)) => *before = value,
                    None => made.push((Cow::Borrowed(name), value)),
                }
            }
            Tree::Object(made)
        }
        Form::List(items) => Tree::List(items.iter().map(|each| value(each, names)).collect::<Option<_>>()?),
        Form::Text(parts) => {
            let mut made = String::new();
            for part in parts {
                made.push_str(value(part, names)?.text()?);
            }
            Tree::Text(Cow::Owned(made))
        }
        _ => Tree::Bool(holds(form, names)?),
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
        Form::Has(path, field) => match follow(path, names)? {
            Tree::Object(members) => find(members, field).is_some(),
            _ => return None,
        },
        Form::Compare(how, left, right) => compare(how, &operand(left, names)?, &operand(right, names)?)?,
        _ => operand(form, names)?.as_bool()?,
    })
}

enum Operand<'a> {
    Borrowed(&'a Tree<'a>),
    Made(bool),
}

impl Operand<'_> {
    fn as_bool(&self) -> Option<bool> {
        match self {
            Operand::Borrowed(Tree::Bool(value)) | Operand::Made(value) => Some(*value),
            Operand::Borrowed(_) => None,
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
        (Tree::List(_) | Tree::Object(_), _) | (_, Tree::List(_) | Tree::Object(_)) => return None,
        (Tree::Int(one), Tree::Int(two)) => one.cmp(two),
        (Tree::Int(one), Tree::Float(two)) => (*one as f64).partial_cmp(two)?,
        (Tree::Float(one), Tree::Int(two)) => one.partial_cmp(&(*two as f64))?,
        (Tree::Float(one), Tree::Float(two)) => one.partial_cmp(two)?,
        (Tree::Text(one), Tree::Text(two)) => one.cmp(two),
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
