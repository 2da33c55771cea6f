//! `[information]`: stateless DHCPv6. Off unless it is there: another server may own port 547, and
//! whoever tells clients of option 88 switches their IPv4 over to it.
// req-X7 (RFC 7341 §12): nothing is told on a link before the operator says so.

use std::net::Ipv6Addr;
use std::ops::Range;

use toml::Spanned;

use crate::engine::policy::{Information, Lightweight};
use crate::wire::dhcpv6::{OPTION_4O6_SERVER, OPTION_S46_CONTAINER_LW, softwire::Binding};
use crate::wire::identity::{DUID_LENGTH_MAX, DUID_LENGTH_MIN};
use crate::wire::portparams::PortParams;

use super::compile::LEASE_SECONDS_MAX;
use super::file::{self, Bind, File};
use super::report::Problems;
use super::softwire::{addresses, bind_prefix, border_relays};
use super::{Plan, units};

/// Servers that a client is told of: it asks each of them.
const SERVERS_MAX: usize = 16;

/// `IRT_MINIMUM` and `IRT_DEFAULT` (RFC 8415 §7.6), in seconds.
const REFRESH_SECONDS_MIN: u32 = 600;
const REFRESH_SECONDS: u32 = 86_400;

/// What `INF_MAX_RT` may be, in seconds (RFC 8415 §21.25).
const RETRY_SECONDS: (u32, u32) = (60, 86_400);

/// Mechanisms that can have a priority, by their option codes (RFC 8026 §4).
const MECHANISMS: [(u16, &str); 5] = [
    (64, "DS-Lite"),
    (OPTION_4O6_SERVER, "DHCPv4 over DHCPv6"),
    (94, "MAP-E"),
    (95, "MAP-T"),
    (OPTION_S46_CONTAINER_LW, "lightweight 4over6"),
];

/// Compiles `[information]`, if it is there.
pub(super) fn compile(
    file: &File,
    plan: &Plan,
    problems: &mut Problems<'_>,
    notices: &mut Vec<String>,
) -> Option<Information> {
    let section = file.information.as_ref()?;
    let written = section.get_ref();
    if !plan.udp {
        let what = "Information-requests come by the ordinary socket, and server.udp is false";
        problems.add(section.span(), what, "server.udp = true, or no [information]");
    }
    let servers = servers(section.span(), written.servers.as_ref(), problems);
    for server in servers.iter().filter(|server| !server.is_multicast()) {
        if !plan.listen.contains(server) {
            notices.push(format!("information.servers: {server} is not in server.listen"));
        }
    }
    let retry = written.inf_max_rt.as_ref();
    let lightweight = written.lw.as_ref().map(|lw| lightweight(lw, problems));
    Some(Information {
        servers,
        refresh_seconds: problems.time(
            written.refresh.as_ref(),
            (REFRESH_SECONDS_MIN, LEASE_SECONDS_MAX),
            REFRESH_SECONDS,
        ),
        retry_seconds_max: retry
            .map(|retry| problems.time(Some(retry), RETRY_SECONDS, RETRY_SECONDS.0)),
        border_relays: border_relays(&written.br, problems),
        priority: priority(&written.priority, lightweight.is_some(), problems, notices),
        lightweight,
    })
}

fn servers(
    section: Range<usize>,
    written: Option<&Spanned<Vec<Spanned<String>>>>,
    problems: &mut Problems<'_>,
) -> Vec<Ipv6Addr> {
    const ALLOWED: &str =
        "IPv6 addresses of DHCP 4o6 servers, each once, at most 16; [] for the group ff02::1:2";
    let Some(written) = written else {
        problems.add(section, "servers is missing", ALLOWED);
        return Vec::new();
    };
    addresses(written.get_ref(), SERVERS_MAX, ALLOWED, problems, units::destination)
}

fn lightweight(written: &Spanned<file::Lightweight>, problems: &mut Problems<'_>) -> Lightweight {
    let container = written.get_ref();
    if container.br.is_empty() {
        let what = "no border relay (RFC 7598 §5.3 asks for one)";
        problems.add(written.span(), what, "br = [\"2001:db8::b1\"]");
    }
    Lightweight {
        border_relays: border_relays(&container.br, problems),
        binding: container.bind.as_ref().and_then(|bind| binding(bind, problems)),
    }
}

fn binding(written: &Spanned<Bind>, problems: &mut Problems<'_>) -> Option<Binding> {
    let bind = written.get_ref();
    let (Some(address), Some(prefix)) = (&bind.address, &bind.prefix) else {
        let allowed = "{ address = \"192.0.2.18\", prefix = \"2001:db8:1::/56\" }";
        problems.add(written.span(), "address or prefix is missing", allowed);
        return None;
    };
    let ports = ports(written.span(), bind, problems);
    let prefix = bind_prefix(prefix, problems);
    let address = problems.read(address, "an IPv4 address such as 192.0.2.18", |text| {
        let range = units::addresses(text)?;
        let single = range.start() == range.end();
        single.then_some(*range.start()).ok_or_else(|| "more than one address".to_owned())
    });
    Some(Binding { address: address?, prefix: prefix?, ports })
}

/// The port set of a shared address; none for a whole one.
fn ports(section: Range<usize>, bind: &Bind, problems: &mut Problems<'_>) -> Option<PortParams> {
    const ALLOWED: &str =
        "psid-len 1 to 16, psid below 2^psid-len, psid-offset at most 16 - psid-len";
    let (offset, length, psid) = match (&bind.psid_offset, &bind.psid_len, &bind.psid) {
        (None, None, None) => return None,
        (offset, Some(length), Some(psid)) => {
            (offset.as_ref().map_or(0, |offset| *offset.get_ref()), length, psid)
        }
        _ => {
            problems.add(section, "psid and psid-len belong together", ALLOWED);
            return None;
        }
    };
    let number = |value: i64| u8::try_from(value).ok();
    let ports = number(offset).zip(number(*length.get_ref())).filter(|(_, length)| *length > 0);
    let psid = u16::try_from(*psid.get_ref()).ok();
    let ports = ports.zip(psid);
    let ports = ports.and_then(|((offset, length), psid)| PortParams::new(offset, length, psid));
    if ports.is_none() {
        problems.add(section, "not a port set", ALLOWED);
    }
    ports
}

fn priority(
    written: &[Spanned<i64>],
    has_lightweight: bool,
    problems: &mut Problems<'_>,
    notices: &mut Vec<String>,
) -> Vec<u16> {
    let known = MECHANISMS.map(|(code, name)| format!("{code} ({name})")).join(", ");
    let mut codes = Vec::new();
    for value in written {
        let code = u16::try_from(*value.get_ref()).ok();
        let mechanism = MECHANISMS.iter().find(|(known, _)| Some(*known) == code);
        let Some((code, name)) = mechanism else {
            problems.add(value.span(), "not the option of a softwire mechanism", &known);
            continue;
        };
        if codes.contains(code) {
            problems.add(value.span(), "listed twice", &known);
        }
        let told =
            *code == OPTION_4O6_SERVER || (*code == OPTION_S46_CONTAINER_LW && has_lightweight);
        if !told {
            notices.push(format!("information.priority: {name} has no option {code} in replies"));
        }
        codes.push(*code);
    }
    codes
}

/// `duid` of `[server]`: the server's own identifier in DHCPv6.
pub(super) fn duid(
    file: &File,
    problems: &mut Problems<'_>,
    notices: &mut Vec<String>,
) -> Option<Vec<u8>> {
    const ALLOWED: &str =
        "hexadecimal digits of 3 to 130 octets, type first, such as \"0003000102000000ff01\"";
    let value = file.server.as_ref()?.get_ref().duid.as_ref()?;
    if file.information.is_none() {
        notices.push("server.duid has no effect without [information]".to_owned());
    }
    problems.read(value, ALLOWED, |text| {
        let octets = units::hexadecimal(text)?;
        let fits = (DUID_LENGTH_MIN..=DUID_LENGTH_MAX).contains(&octets.len());
        let what = format!("a DUID of {} octets", octets.len());
        if fits { Ok(octets) } else { Err(what) }
    })
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use insta::assert_snapshot;

    use super::super::Compiled;

    /// A configuration with these lines in `[server]` and these after its link.
    fn text(server: &str, rest: &str) -> String {
        format!(
            "[server]\ninterfaces = [\"eth1\"]\nserver-id = \"192.0.2.254\"\n\
             listen = [\"2001:db8:ffff::547\"]\n{server}\n[[link]]\nname = \"L1\"\nmatch = [{{}}]\n\
             [[link.pool]]\nname = \"P1\"\naddresses = [\"192.0.2.18\"]\npsid-len = 6\n{rest}"
        )
    }

    /// What is said of `[information]` with these lines: problems, or notices and what comes of it.
    fn said(server: &str, lines: &str) -> String {
        match Compiled::parse("F", &text(server, &format!("[information]\n{lines}"))) {
            Ok(compiled) => {
                let mut said = String::new();
                for notice in &compiled.plan.notices {
                    writeln!(said, "{notice}").unwrap();
                }
                let shown = compiled.to_string();
                let from = shown.find("information").unwrap();
                let to = shown.find("\nlink ").unwrap();
                said + &shown[from..to]
            }
            Err(report) => report.to_string(),
        }
    }

    #[test]
    fn everything_that_can_be_told() {
        let lines = "servers = [\"2001:db8:ffff::547\", \"ff05::1:3\"]\nrefresh = \"12h\"\n\
                     inf-max-rt = \"2h\"\nbr = [\"2001:db8::b1\"]\npriority = [88, 96]\n\
                     lw = { br = [\"2001:db8::b2\"], bind = { address = \"192.0.2.18\", \
                     prefix = \"2001:db8:1::/56\", psid-len = 6, psid = 7 } }\n";
        assert_snapshot!(said("duid = \"0002000000090a\"", lines), @r#"
        information servers 2001:db8:ffff::547, ff05::1:3; asked again after 12h
                    retries at most 2h apart
                    border relays 2001:db8::b1
                    lightweight 4over6: border relays 2001:db8::b2; 192.0.2.18 psid 7/6 offset 0 at 2001:db8:1::/56
                    priority 88, 96
                    server DUID 0002000000090a
        "#);
    }

    #[test]
    fn defaults_and_second_looks() {
        assert_snapshot!(said("", "servers = []\n"), @r#"
        information servers ff02::1:2 (an empty option 88); asked again after 1d
                    server DUID made of the store's secret
        "#);
        let lines = "servers = [\"2001:db8::1\"]\nrefresh = \"infinite\"\npriority = [94, 96]\n";
        assert_snapshot!(said("", lines), @r#"
        information.servers: 2001:db8::1 is not in server.listen
        information.priority: MAP-E has no option 94 in replies
        information.priority: lightweight 4over6 has no option 96 in replies
        information servers 2001:db8::1; never asked again
                    priority 94, 96
                    server DUID made of the store's secret
        "#);
        let alone = Compiled::parse("F", &text("duid = \"000400\"", "")).unwrap();
        assert_snapshot!(alone.plan.notices.join("\n"), @r#"
        server.duid has no effect without [information]
        "#);
        assert!(alone.policy.information.is_none());
    }

    #[test]
    fn it_needs_the_ordinary_socket_and_a_list_of_servers() {
        assert_snapshot!(said("udp = false", "servers = []\n"), @r#"
        F:13: information: Information-requests come by the ordinary socket, and server.udp is false
          allowed: server.udp = true, or no [information]
        "#);
        assert_snapshot!(said("", ""), @r#"
        F:13: information: servers is missing
          allowed: IPv6 addresses of DHCP 4o6 servers, each once, at most 16; [] for the group ff02::1:2
        "#);
    }

    #[test]
    fn wrong_values_are_named_with_their_lines() {
        let lines = "servers = [\"::1\", \"2001:db8::1\", \"2001:db8::1\"]\nrefresh = \"5m\"\n\
                     inf-max-rt = \"30s\"\nbr = [\"ff02::1\"]\npriority = [88, 88, 89]\n";
        assert_snapshot!(said("duid = \"0004\"", lines), @r#"
        F:5: server.duid = "0004": a DUID of 2 octets
          allowed: hexadecimal digits of 3 to 130 octets, type first, such as "0003000102000000ff01"
        F:14: information.servers = "::1": an address that nobody can be reached at
          allowed: IPv6 addresses of DHCP 4o6 servers, each once, at most 16; [] for the group ff02::1:2
        F:14: information.servers = "2001:db8::1": listed twice
          allowed: IPv6 addresses of DHCP 4o6 servers, each once, at most 16; [] for the group ff02::1:2
        F:15: information.refresh = "5m": too short
          allowed: 10m to 3650d
        F:16: information.inf-max-rt = "30s": too short
          allowed: 1m to 1d
        F:17: information.br = "ff02::1": not an address for the end of a tunnel
          allowed: unicast IPv6 addresses of border relays, each once, at most 8
        F:18: information.priority = 88: listed twice
          allowed: 64 (DS-Lite), 88 (DHCPv4 over DHCPv6), 94 (MAP-E), 95 (MAP-T), 96 (lightweight 4over6)
        F:18: information.priority = 89: not the option of a softwire mechanism
          allowed: 64 (DS-Lite), 88 (DHCPv4 over DHCPv6), 94 (MAP-E), 95 (MAP-T), 96 (lightweight 4over6)
        "#);
        assert_snapshot!(said("duid = \"00:04:05\"", "servers = []\n"), @r#"
        F:5: server.duid = "00:04:05": not hexadecimal
          allowed: hexadecimal digits of 3 to 130 octets, type first, such as "0003000102000000ff01"
        "#);
        let lw = |bind: &str| said("", &format!("servers = []\nlw = {{ {bind} }}\n"));
        assert_snapshot!(lw("bind = { address = \"192.0.2.18\" }"), @r#"
        F:15: information.lw: no border relay (RFC 7598 §5.3 asks for one)
          allowed: br = ["2001:db8::b1"]
        F:15: information.lw.bind: address or prefix is missing
          allowed: { address = "192.0.2.18", prefix = "2001:db8:1::/56" }
        "#);
        let ports = |ports: &str| {
            lw(&format!(
                "br = [\"2001:db8::b1\"], bind = {{ address = \"192.0.2.0/24\", \
                 prefix = \"2001:db8:1::1/56\", {ports} }}"
            ))
        };
        assert_snapshot!(ports("psid = 7"), @r#"
        F:15: information.lw.bind: psid and psid-len belong together
          allowed: psid-len 1 to 16, psid below 2^psid-len, psid-offset at most 16 - psid-len
        F:15: information.lw.bind.prefix = "2001:db8:1::1/56": host bits are set; the prefix is 2001:db8:1::/56
          allowed: an IPv6 prefix such as 2001:db8:1::/56
        F:15: information.lw.bind.address = "192.0.2.0/24": more than one address
          allowed: an IPv4 address such as 192.0.2.18
        "#);
        assert_snapshot!(ports("psid = 64, psid-len = 6"), @r#"
        F:15: information.lw.bind: not a port set
          allowed: psid-len 1 to 16, psid below 2^psid-len, psid-offset at most 16 - psid-len
        F:15: information.lw.bind.prefix = "2001:db8:1::1/56": host bits are set; the prefix is 2001:db8:1::/56
          allowed: an IPv6 prefix such as 2001:db8:1::/56
        F:15: information.lw.bind.address = "192.0.2.0/24": more than one address
          allowed: an IPv4 address such as 192.0.2.18
        "#);
    }
}
