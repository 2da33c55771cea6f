//! Every requirement of the RFCs is kept somewhere, and the code that keeps it says so: `req-S31 (RFC 7618 §6)`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

/// A row of `requirements.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Requirement {
    level: Level,
    text: String,
    source: String,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum Level {
    Must,
    #[serde(rename = "must not")]
    MustNot,
    Should,
    #[serde(rename = "should not")]
    ShouldNot,
    May,
    Security,
}

impl Requirement {
    /// The numbers of the RFCs that it comes from: the first word of each part of the source.
    fn rfcs(&self) -> BTreeSet<&str> {
        self.source.split("; ").filter_map(|part| part.split(' ').next()).collect()
    }
}

/// Where a requirement is cited, and with which RFC.
struct Citation {
    place: String,
    requirement: String,
    rfc: Option<String>,
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn requirements() -> BTreeMap<String, Requirement> {
    let path = workspace().join("userspace/tests/requirements.toml");
    toml::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Files with this extension under `folder`.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![workspace().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let is_test = path.file_stem().is_some_and(|name| name == "tests");
            if path.is_dir() && !is_test {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) && !is_test {
                files.push(path);
            }
        }
    }
    files
}

/// The citations of a text; those in its tests do not count.
fn citations(name: &str, text: &str) -> Vec<Citation> {
    let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut found = Vec::new();
    for (number, line) in product.lines().enumerate() {
        for (at, _) in line.match_indices("req-") {
            let rest = &line[at + 4..];
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
            let rfc = rest[end..]
                .strip_prefix(" (RFC ")
                .map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
            let place = format!("{name}:{}", number + 1);
            found.push(Citation { place, requirement: rest[..end].to_owned(), rfc });
        }
    }
    found
}

fn citations_of(folder: &str, extension: &str) -> Vec<Citation> {
    let read = |path: PathBuf| {
        let name = path.strip_prefix(workspace()).unwrap().display().to_string();
        citations(&name, &fs::read_to_string(&path).unwrap())
    };
    files(folder, extension).into_iter().flat_map(read).collect()
}

#[test]
fn the_reader_of_citations_finds_them_and_their_rfcs() {
    let text = "//! req-S1 (RFC 7341 §6)\nlet a; // req-C3 (RFC 7618 §7): why. req-X1\n\
                #[cfg(test)]\nmod tests {\n// req-S9";
    let found = citations("a.rs", text);
    let found: Vec<_> = found
        .iter()
        .map(|one| (one.place.as_str(), one.requirement.as_str(), one.rfc.as_deref()))
        .collect();
    assert_eq!(
        found,
        [("a.rs:1", "S1", Some("7341")), ("a.rs:2", "C3", Some("7618")), ("a.rs:2", "X1", None),]
    );
}

#[test]
fn every_requirement_is_whole() {
    let requirements = requirements();
    assert_eq!(requirements.len(), 109);
    for (id, requirement) in &requirements {
        assert!(!requirement.text.is_empty(), "{id} says nothing");
        for rfc in requirement.rfcs() {
            assert!(rfc.len() == 4 && rfc.parse::<u16>().is_ok(), "{id}: {rfc} is no RFC");
        }
    }
}

#[test]
fn every_citation_names_a_requirement_and_an_rfc_that_it_comes_from() {
    let requirements = requirements();
    let folders = [("userspace/src", "rs"), ("xdp-ebpf/src", "rs"), ("docs", "md")];
    for (folder, extension) in folders {
        for Citation { place, requirement, rfc } in citations_of(folder, extension) {
            let row = requirements.get(&requirement);
            let row = row.unwrap_or_else(|| panic!("{place} cites req-{requirement}: no such row"));
            let rfc = rfc.unwrap_or_else(|| {
                panic!("{place}: req-{requirement}, expected an RFC after it: (RFC 7618 §6)")
            });
            assert!(
                row.rfcs().contains(rfc.as_str()),
                "{place} cites RFC {rfc} for req-{requirement}, which is of {:?}",
                row.rfcs()
            );
        }
    }
}

/// What binds is cited in code; of recommendations and permissions a page of the manual may say what was decided.
#[test]
fn every_requirement_is_cited_where_it_is_kept_or_decided() {
    let folders = [("userspace/src", "rs"), ("xdp-ebpf/src", "rs"), ("docs", "md")];
    let cited: BTreeMap<String, bool> = folders
        .iter()
        .rev()
        .flat_map(|(folder, extension)| citations_of(folder, extension))
        .map(|citation| (citation.requirement, citation.place.contains(".rs:")))
        .collect();
    let uncited: Vec<String> = requirements()
        .iter()
        .filter(|(id, requirement)| {
            let binding = matches!(requirement.level, Level::Must | Level::MustNot);
            match cited.get(*id) {
                None => true,
                Some(in_code) => binding && !in_code,
            }
        })
        .map(|(id, requirement)| format!("{id}: {} ({})", requirement.text, requirement.source))
        .collect();
    assert!(uncited.is_empty(), "no code says that it keeps\n{}", uncited.join("\n"));
}
