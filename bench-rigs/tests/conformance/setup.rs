//! The configuration of a case: the reference, and what the case changes in it.

use std::path::Path;

use portlease::server::config::Compiled;
use toml::{Table, Value};

const REFERENCE: &str = include_str!("../../conformance/reference.toml");

/// A configuration, as a tree.
#[derive(Clone, Debug)]
pub struct Setup(Value);

impl Setup {
    pub fn reference() -> Self {
        Self(Value::Table(REFERENCE.parse::<Table>().unwrap()))
    }

    /// Sets a key. The path is dotted; a number is a place in a list: `link.0.pool.0.psid-len`.
    pub fn set(&mut self, path: &str, value: impl Into<Value>) {
        let (folder, key) = path.rsplit_once('.').expect("a table and a key");
        let table = self.at(folder).as_table_mut().expect("a table");
        table.insert(key.to_owned(), value.into());
    }

    /// Sets a key to a value that is written in TOML.
    pub fn set_toml(&mut self, path: &str, value: &str) {
        let value: Table = format!("value = {value}").parse().unwrap();
        self.set(path, value["value"].clone());
    }

    /// Adds a value, written in TOML, to the list at a path; the list is made if it is not there.
    pub fn push(&mut self, path: &str, value: &str) {
        let value: Table = format!("value = {value}").parse().unwrap();
        let (folder, key) = path.rsplit_once('.').expect("a table and a key");
        let table = self.at(folder).as_table_mut().expect("a table");
        let list = table.entry(key.to_owned()).or_insert_with(|| Value::Array(Vec::new()));
        list.as_array_mut().expect("a list").push(value["value"].clone());
    }

    /// The value at a path; tables are made as they are needed.
    fn at(&mut self, path: &str) -> &mut Value {
        let mut value = &mut self.0;
        for step in path.split('.') {
            value = if let Ok(index) = step.parse::<usize>() {
                &mut value.as_array_mut().expect("a list")[index]
            } else {
                let table = value.as_table_mut().expect("a table");
                table.entry(step.to_owned()).or_insert_with(|| Value::Table(Table::new()))
            };
        }
        value
    }

    /// Keeps leases in a ring in this folder.
    pub fn store_in(&mut self, folder: &Path) {
        self.set("store.path", folder.to_str().expect("a path in UTF-8"));
    }

    /// The configuration file.
    pub fn text(&self) -> String {
        toml::to_string(&self.0).unwrap()
    }

    /// What the server makes of it, or all that is wrong with it.
    pub fn compile(&self) -> Result<Compiled, String> {
        Compiled::parse("conformance.toml", &self.text()).map_err(|report| report.to_string())
    }
}
