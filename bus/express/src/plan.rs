//! What Python says of one (type, source): the routes that may own it, as data. See `bus/core/express.py`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jsonschema::{PatternOptions, Retrieve, Uri, Validator};
use pyo3::prelude::*;
use pyo3::types::PyString;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::tree::{Borrowed, Tree, text};

/// A text that is the same for many messages: as it is, as JSON, and as Python has it.
pub struct Name {
    pub text: String,
    pub json: Vec<u8>,
    pub py: Py<PyString>,
}

impl Name {
    pub fn new(said: &str) -> Self {
        let mut json = Vec::new();
        text(&mut json, said);
        Name { text: said.to_owned(), json, py: Python::attach(|py| PyString::intern(py, said).unbind()) }
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Name::new(&String::deserialize(from)?))
    }
}

#[derive(Deserialize, Serialize)]
pub struct Schema {
    uri: String,
    files: BTreeMap<String, Value>,
}

pub type Compiled = Arc<Validator<Borrowed>>;

/// What was compiled, by all that it was compiled of: many plans keep the same contract.
pub type Contracts = HashMap<String, Compiled>;

#[derive(Deserialize)]
pub struct Plan {
    pub contract: Option<Schema>,
    pub owners: Vec<Owner>,
    #[serde(skip)]
    pub kept: Option<Compiled>,
}

#[derive(Deserialize)]
pub struct Owner {
    pub when: Option<Form>,
    pub passed: Name,
    pub route: Name,
    pub place: Name,
    pub why: Name,
    pub config: Tree<'static>,
    pub steps: Vec<Step>,
    pub to: Vec<Target>,
}

#[derive(Deserialize)]
pub struct Step {
    pub when: Option<Form>,
    pub skipped: Name,
    #[serde(flatten)]
    pub kind: Kind,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    Filter { condition: Form, reason: Name },
    Translate {
        data: Form,
        #[serde(default = "translate")]
        note: Name,
    },
}

fn translate() -> Name {
    Name::new("translate")
}

#[derive(Deserialize)]
pub struct Target {
    pub kind: Name,
    pub name: Name,
    #[serde(rename = "type")]
    pub type_: Name,
    pub data: Option<Form>,
    pub contract: Option<Schema>,
    pub sealed: bool,
    pub note: Name,
    #[serde(skip)]
    pub kept: Option<Compiled>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    Const(Tree<'static>),
    Path(Vec<String>),
    Has(Vec<String>, String),
    Object(Vec<(String, Form)>),
    List(Vec<Form>),
    Text(Vec<Form>),
    Not(Box<Form>),
    And(Box<Form>, Box<Form>),
    Or(Box<Form>, Box<Form>),
    Compare(String, Box<Form>, Box<Form>),
}

struct Files(BTreeMap<String, Value>);

impl Retrieve for Files {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        self.0.get(uri.as_str()).cloned().ok_or_else(|| format!("{uri} is not there").into())
    }
}

/// With the settings of `bus/config/contracts.py`.
fn compile(schema: Option<Schema>, known: &mut Contracts) -> Result<Option<Compiled>, String> {
    let Some(schema) = schema else { return Ok(None) };
    let whole = serde_json::to_string(&schema).map_err(|error| error.to_string())?;
    if let Some(compiled) = known.get(&whole) {
        return Ok(Some(compiled.clone()));
    }
    let root = schema.files.get(&schema.uri).ok_or("no schema")?;
    let compiled = jsonschema::options_for::<Borrowed>()
        .with_base_uri(schema.uri.clone())
        .with_retriever(Files(schema.files.clone()))
        .should_validate_formats(true)
        .with_pattern_options(PatternOptions::regex().size_limit(1 << 20).dfa_size_limit(1 << 20))
        .build(root)
        .map_err(|error| error.to_string())?;
    Ok(Some(known.entry(whole).or_insert(Arc::new(compiled)).clone()))
}

/// Read a plan and compile its contracts, but those that are known.
pub fn read(text: &[u8], known: &mut Contracts) -> Result<Plan, String> {
    let mut plan: Plan = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    plan.kept = compile(plan.contract.take(), known)?;
    for target in plan.owners.iter_mut().flat_map(|owner| &mut owner.to) {
        target.kept = compile(target.contract.take(), known)?;
    }
    Ok(plan)
}
