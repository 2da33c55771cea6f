//! `[softwire]`: what clients are told of the ends of their softwires.

use std::net::Ipv6Addr;

use toml::Spanned;

use crate::engine::policy::{Softwire, SoftwireConflict};
use crate::wire::dhcpv6::softwire::BindPrefix;

use super::file::File;
use super::report::Problems;
use super::units;

/// Border relays that a client is told of. A response has to fit into a packet with a lease.
const BORDER_RELAYS_MAX: usize = 8;

/// The longest time between two softwire addresses of a lease.
const UPDATE_INTERVAL_SECONDS_MAX: u32 = 86_400;

/// What is said if a client will ask for a border relay in vain.
const NO_RELAY: &str = "softwire.br is empty: a client that asks for a border relay (option 90) \
                        discards offers without one";

/// Compiles `[softwire]`, if it is there.
pub(super) fn compile(
    file: &File,
    problems: &mut Problems<'_>,
    notices: &mut Vec<String>,
) -> Option<Softwire> {
    let written = file.softwire.as_ref()?.get_ref();
    let conflict = [("existing", SoftwireConflict::Existing), ("drop", SoftwireConflict::Drop)];
    if written.br.is_empty() {
        notices.push(NO_RELAY.to_owned());
    }
    Some(Softwire {
        border_relays: border_relays(&written.br, problems),
        bind_prefix: written.bind_prefix.as_ref().and_then(|value| bind_prefix(value, problems)),
        update_interval_seconds: problems.time(
            written.update_interval.as_ref(),
            (0, UPDATE_INTERVAL_SECONDS_MAX),
            Softwire::default().update_interval_seconds,
        ),
        conflict: problems.choose(written.conflict.as_ref(), &conflict),
    })
}

/// Addresses of border relays, each once. Anycast addresses are unicast ones here.
pub(super) fn border_relays(
    written: &[Spanned<String>],
    problems: &mut Problems<'_>,
) -> Vec<Ipv6Addr> {
    const ALLOWED: &str = "unicast IPv6 addresses of border relays, each once, at most 8";
    addresses(written, BORDER_RELAYS_MAX, ALLOWED, problems, |text| {
        let address = units::destination(text)?;
        let unicast = !address.is_multicast() && !address.is_unicast_link_local();
        unicast
            .then_some(address)
            .ok_or_else(|| "not an address for the end of a tunnel".to_owned())
    })
}

/// A list of at most `most` addresses, each once.
pub(super) fn addresses(
    written: &[Spanned<String>],
    most: usize,
    allowed: &str,
    problems: &mut Problems<'_>,
    parse: impl Fn(&str) -> Result<Ipv6Addr, String>,
) -> Vec<Ipv6Addr> {
    let mut addresses = Vec::new();
    for value in written {
        let Some(address) = problems.read(value, allowed, &parse) else { continue };
        if addresses.contains(&address) {
            problems.add(value.span(), "listed twice", allowed);
        }
        addresses.push(address);
    }
    if let Some(beyond) = written.get(most) {
        problems.add(beyond.span(), format!("{} addresses", written.len()), allowed);
    }
    addresses
}

/// A prefix for softwire addresses: no host bits, and not nothing.
pub(super) fn bind_prefix(
    value: &Spanned<String>,
    problems: &mut Problems<'_>,
) -> Option<BindPrefix> {
    problems.read(value, "an IPv6 prefix such as 2001:db8:1::/56", |text| {
        let prefix = units::prefix(text)?;
        BindPrefix::new(prefix.address, prefix.length).ok_or_else(|| "not a prefix".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::super::Compiled;

    /// What is said of `[softwire]` with these lines: problems, or notices and what comes of it.
    fn said(lines: &str) -> String {
        let text = format!(
            "[server]\ninterfaces = [\"eth1\"]\nserver-id = \"192.0.2.254\"\n[[link]]\nname = \"L1\"\n\
             match = [{{}}]\n[[link.pool]]\nname = \"P1\"\naddresses = [\"192.0.2.18\"]\n[softwire]\n{lines}"
        );
        match Compiled::parse("F", &text) {
            Ok(compiled) => {
                let shown = compiled.to_string();
                let from = shown.find("softwires").unwrap();
                let to = shown.find("\nlink ").unwrap();
                format!("{}\n{}", compiled.plan.notices.join("\n"), &shown[from..to])
            }
            Err(report) => report.to_string(),
        }
    }

    #[test]
    fn relays_and_a_prefix_are_told() {
        let relays = "br = [\"2001:db8::b1\", \"2001:db8::b2\"]\n";
        assert_snapshot!(said(&format!("{relays}bind-prefix = \"2001:db8:1::/56\"\n")), @r#"
        softwires   border relays: 2001:db8::b1, 2001:db8::b2
                    addresses in 2001:db8:1::/56
                    a lease gets another address after 1m; who asks for another's is answered with its own
        "#);
        assert_snapshot!(said(relays), @r#"
        softwires   border relays: 2001:db8::b1, 2001:db8::b2
                    a lease gets another address after 1m; who asks for another's is answered with its own
        "#);
        assert_snapshot!(said(""), @r#"
        softwire.br is empty: a client that asks for a border relay (option 90) discards offers without one
        softwires   border relays: none
                    a lease gets another address after 1m; who asks for another's is answered with its own
        "#);
    }

    #[test]
    fn wrong_relays_and_prefixes_are_named() {
        let lines = "br = [\"ff02::1\", \"fe80::1\", \"x\", \"2001:db8::1\", \"2001:db8::1\"]\n\
                     bind-prefix = \"2001:db8:1::1/56\"\n";
        assert_snapshot!(said(lines), @r#"
        F:11: softwire.br = "ff02::1": not an address for the end of a tunnel
          allowed: unicast IPv6 addresses of border relays, each once, at most 8
        F:11: softwire.br = "fe80::1": not an address for the end of a tunnel
          allowed: unicast IPv6 addresses of border relays, each once, at most 8
        F:11: softwire.br = "x": not an IPv6 address
          allowed: unicast IPv6 addresses of border relays, each once, at most 8
        F:11: softwire.br = "2001:db8::1": listed twice
          allowed: unicast IPv6 addresses of border relays, each once, at most 8
        F:12: softwire.bind-prefix = "2001:db8:1::1/56": host bits are set; the prefix is 2001:db8:1::/56
          allowed: an IPv6 prefix such as 2001:db8:1::/56
        "#);
        let nine: Vec<String> = (1..=9).map(|number| format!("\"2001:db8::{number}\"")).collect();
        assert_snapshot!(said(&format!("br = [{}]\n", nine.join(", "))), @r#"
        F:11: softwire.br = "2001:db8::9": 9 addresses
          allowed: unicast IPv6 addresses of border relays, each once, at most 8
        "#);
        assert_snapshot!(said("bind-prefix = \"2001:db8::/129\"\n"), @r#"
        F:11: softwire.bind-prefix = "2001:db8::/129": prefix length 129 is more than 128
          allowed: an IPv6 prefix such as 2001:db8:1::/56
        "#);
    }

    #[test]
    fn changes_and_conflicts_are_the_operator_s_choice() {
        let relays = "br = [\"2001:db8::b1\"]\n";
        let shown = said(&format!("{relays}update-interval = \"5m\"\nconflict = \"drop\"\n"));
        assert!(
            shown.contains("another address after 5m; who asks for another's is not answered"),
            "{shown}"
        );
        assert_snapshot!(said("update-interval = \"2d\""), @r#"
        F:11: softwire.update-interval = "2d": too long
          allowed: 0s to 1d
        "#);
        assert_snapshot!(said("conflict = \"nak\""), @r#"
        F:11: softwire.conflict = "nak": unknown value
          allowed: existing, drop
        "#);
    }
}
