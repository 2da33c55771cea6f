//! What must hold of any text as a configuration: it is compiled, or each thing that is wrong has its place.

use portlease::server::config::Compiled;

/// The name that the text goes by.
const NAME: &str = "any.toml";

/// Any octets as a configuration file.
pub(crate) fn text(octets: &[u8]) {
    let Ok(text) = std::str::from_utf8(octets) else { return };
    match Compiled::parse(NAME, text) {
        Ok(compiled) => {
            let described = compiled.to_string();
            assert!(!described.is_empty());
            assert!(!compiled.plan.interfaces.is_empty() && compiled.plan.capacity > 0);
            let links = compiled.policy.links.len();
            assert!(compiled.pools.iter().all(|pool| usize::from(pool.link.0) < links));
            let again = Compiled::parse(NAME, text).expect("what compiled compiles again");
            assert_eq!(described, again.to_string());
        }
        Err(report) => {
            let said = report.to_string();
            let problems = said.lines().filter(|line| line.starts_with(NAME));
            assert!(problems.count() > 0, "{said:?} names no file");
            for line in said.lines().filter_map(|line| line.strip_prefix("any.toml:")) {
                let number = line.split(':').next().and_then(|number| number.parse().ok());
                let lines = text.lines().count().max(1);
                let inside = number.is_none_or(|number: usize| (1..=lines + 1).contains(&number));
                assert!(inside, "{line:?} is of a text of {lines} lines");
            }
        }
    }
}
