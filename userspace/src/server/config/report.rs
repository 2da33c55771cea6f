//! What is wrong with a configuration: each problem with its file, line, key, value, and what is allowed.

use std::fmt;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// A configuration's text and the name it goes by in messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    /// The file's name.
    pub(super) name: &'a str,
    /// All of it.
    pub(super) text: &'a str,
}

/// What a line may be.
const WRITTEN: &str = "[section], [[link]] or key = value, with text in double quotes";

/// Characters of a line that is quoted.
const SEEN_LENGTH_MAX: usize = 80;

/// Collects problems, so that one run of `check` shows all of them.
#[derive(Debug)]
pub(super) struct Problems<'a> {
    source: Source<'a>,
    document: DeTable<'a>,
    found: Vec<Problem>,
}

/// One thing that is wrong, ready to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    line: usize,
    text: String,
}

/// Everything that is wrong with a configuration. Shown as two lines for each problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    problems: Vec<Problem>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{}", problem.text)?;
        }
        Ok(())
    }
}

impl std::error::Error for Report {}

impl<'a> Problems<'a> {
    /// Reads `source` as TOML. What is no TOML at all is the only problem then.
    pub(super) fn new(source: Source<'a>) -> Result<Self, Report> {
        match DeTable::parse(source.text) {
            Ok(document) => Ok(Self { source, document: document.into_inner(), found: Vec::new() }),
            Err(error) => {
                let line = line_of(source.text, error.span().map_or(0, |span| span.start));
                let seen = source.text.lines().nth(line - 1).unwrap_or_default().trim();
                let seen: String = seen.chars().take(SEEN_LENGTH_MAX).collect();
                let what = error.message().trim().replace(", expected nothing", "");
                let what = format!("not TOML: {}", what.replace('\n', ", "));
                let name = source.name;
                let text = format!("{name}:{line}: {seen}: {what}\n  allowed: {WRITTEN}");
                Err(Report { problems: vec![Problem { line, text }] })
            }
        }
    }

    /// Notes that the value at `span` is not what is `allowed`.
    pub(super) fn add(&mut self, span: Range<usize>, what: impl fmt::Display, allowed: &str) {
        let line = self.line(&span);
        let subject = self.subject(&span);
        let place = self.place(&span);
        let text = format!("{place}: {subject}: {what}\n  allowed: {allowed}");
        self.found.push(Problem { line, text });
    }

    /// Notes that something is missing from the file as a whole.
    pub(super) fn add_missing(&mut self, what: impl fmt::Display, allowed: &str) {
        let text = format!("{}: {what}\n  allowed: {allowed}", self.source.name);
        self.found.push(Problem { line: 0, text });
    }

    /// Notes what the deserializer found: an unknown key, or a value of another type.
    pub(super) fn add_error(&mut self, error: &toml::de::Error) {
        let span = error.span().unwrap_or(0..0);
        let line = self.line(&span);
        let subject = self.subject(&span);
        let text = format!("{}: {subject}: {}", self.place(&span), one_line(error));
        self.found.push(Problem { line, text });
    }

    /// File and line of `span`: `portlease.toml:7`.
    pub(super) fn place(&self, span: &Range<usize>) -> String {
        format!("{}:{}", self.source.name, self.line(span))
    }

    /// The line on which `span` begins, counted from 1.
    fn line(&self, span: &Range<usize>) -> usize {
        line_of(self.source.text, span.start)
    }

    /// Whether nothing was found so far.
    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// All that was found, in the order of lines.
    pub(super) fn into_report(mut self) -> Report {
        self.found.sort_by_key(|problem| problem.line);
        Report { problems: self.found }
    }

    /// The key at `span`, with its value if that is a plain one: `lease.time = "5s"`.
    fn subject(&self, span: &Range<usize>) -> String {
        match find(&self.document, span.start, "") {
            Some(Place { key, value: Some(value) }) => {
                format!("{key} = {}", &self.source.text[value])
            }
            Some(Place { key, value: None }) => key,
            None => "here".to_owned(),
        }
    }
}

/// Where an offset into the text points to.
struct Place {
    key: String,
    value: Option<Range<usize>>,
}

/// The innermost key or value of `table` that contains `offset`. A `[header]` contains only itself.
fn find(table: &DeTable<'_>, offset: usize, prefix: &str) -> Option<Place> {
    table.iter().find_map(|(name, value)| {
        let key = if prefix.is_empty() {
            name.get_ref().to_string()
        } else {
            format!("{prefix}.{}", name.get_ref())
        };
        let inside = find_value(value.get_ref(), &value.span(), offset, &key);
        let here = || name.span().contains(&offset).then_some(Place { key, value: None });
        inside.or_else(here)
    })
}

fn find_value(value: &DeValue<'_>, span: &Range<usize>, offset: usize, key: &str) -> Option<Place> {
    let inside = match value {
        DeValue::Table(table) => find(table, offset, key),
        DeValue::Array(array) => array
            .iter()
            .find_map(|element| find_value(element.get_ref(), &element.span(), offset, key)),
        _ => None,
    };
    inside.or_else(|| {
        let plain = !matches!(value, DeValue::Table(_) | DeValue::Array(_));
        let value = plain.then(|| span.clone());
        span.contains(&offset).then(|| Place { key: key.to_owned(), value })
    })
}

fn line_of(text: &str, offset: usize) -> usize {
    text.char_indices().take_while(|&(at, _)| at < offset).filter(|(_, c)| *c == '\n').count() + 1
}

/// What the parser says, in the words and the form of our own messages.
fn one_line(error: &toml::de::Error) -> String {
    let text = error.message().trim().replace('\n', ", ");
    if text.starts_with("unknown field") {
        let known = text.split_once(" expected ").map_or("", |(_, known)| known);
        let known = known.trim_start_matches("one of ").replace('`', "");
        return format!("unknown key\n  allowed: {known}");
    }
    text.replace("expected i64", "expected a whole number").replace(", expected ", "\n  allowed: ")
}
