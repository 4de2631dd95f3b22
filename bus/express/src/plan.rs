//! What Python says of one (type, source): the routes that may own it, as data. See `bus/core/express.py`.

use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;

use jsonschema::{PatternOptions, Retrieve, Uri, Validator};

#[derive(Deserialize)]
pub struct Schema {
    uri: String,
    files: HashMap<String, Value>,
}

#[derive(Deserialize)]
pub struct Plan {
    pub contract: Option<Schema>,
    pub owners: Vec<Owner>,
    #[serde(skip)]
    pub kept: Option<Validator>,
}

#[derive(Deserialize)]
pub struct Owner {
    pub when: Option<Form>,
    pub passed: String,
    pub route: String,
    pub place: String,
    pub why: String,
    pub config: Value,
    pub steps: Vec<Step>,
    pub to: Vec<Target>,
}

#[derive(Deserialize)]
pub struct Step {
    pub when: Option<Form>,
    pub skipped: String,
    #[serde(flatten)]
    pub kind: Kind,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    Filter { condition: Form, reason: String },
    Translate { data: Form },
}

#[derive(Deserialize)]
pub struct Target {
    pub kind: String,
    pub name: String,
    #[serde(rename = "type")]
    pub type_: String,
    pub data: Option<Form>,
    pub contract: Option<Schema>,
    pub sealed: bool,
    pub note: String,
    #[serde(skip)]
    pub kept: Option<Validator>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    Const(Value),
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

struct Files(HashMap<String, Value>);

impl Retrieve for Files {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        self.0.get(uri.as_str()).cloned().ok_or_else(|| format!("{uri} is not there").into())
    }
}

/// With the settings of `bus/config/contracts.py`.
fn compile(schema: Option<&Schema>) -> Result<Option<Validator>, String> {
    let Some(schema) = schema else { return Ok(None) };
    let root = schema.files.get(&schema.uri).ok_or("no schema")?;
    jsonschema::options()
        .with_base_uri(schema.uri.clone())
        .with_retriever(Files(schema.files.clone()))
        .should_validate_formats(true)
        .with_pattern_options(PatternOptions::regex().size_limit(1 << 20).dfa_size_limit(1 << 20))
        .build(root)
        .map(Some)
        .map_err(|error| error.to_string())
}

/// Read a plan and compile its contracts.
pub fn read(text: &[u8]) -> Result<Plan, String> {
    let mut plan: Plan = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    plan.kept = compile(plan.contract.as_ref())?;
    for target in plan.owners.iter_mut().flat_map(|owner| &mut owner.to) {
        target.kept = compile(target.contract.as_ref())?;
    }
    Ok(plan)
}
