//! The list of cases: what must be shown.

use serde::Deserialize;

const CASES: &str = include_str!("../../conformance/cases.toml");

/// The number of cases of the checklist.
pub const COUNT: usize = 221;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    pub id: String,
    pub input: String,
    pub expected: String,
    /// The RFC sections that ask for it, or that it is a decision where they are silent.
    pub source: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Section {
    pub title: String,
    pub case: Vec<Listed>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    pub section: Vec<Section>,
}

impl Catalogue {
    /// All cases of the checklist.
    pub fn load() -> Self {
        let catalogue: Self = toml::from_str(CASES).unwrap();
        let mut ids: Vec<&str> = catalogue.cases().map(|case| case.id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), COUNT, "cases with ids of their own in cases.toml");
        catalogue
    }

    pub fn cases(&self) -> impl Iterator<Item = &Listed> {
        self.section.iter().flat_map(|section| &section.case)
    }
}
