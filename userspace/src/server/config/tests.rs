//! What operators are told: the messages, word for word, and what the reference configuration comes to.

use insta::assert_snapshot;

use super::*;
use crate::engine::policy::{Prefix, SitePolicy};

const REFERENCE: &str = include_str!("../../../examples/reference.toml");

/// A small configuration: line 1 is `[server]`.
const SMALL: &str = r#"[server]
interfaces = ["eth1"]
server-id = "192.0.2.254"
[[link]]
name = "L1"
match = [{ link-address = "2001:db8:1::/64" }]
[[link.pool]]
name = "P1"
addresses = ["192.0.2.18-192.0.2.19"]
psid-offset = 0
psid-len = 6
"#;

/// A second link; `SMALL` and this have 17 lines.
const SECOND: &str = r#"[[link]]
name = "L2"
match = [{ source = "2001:db8:2::/64" }]
[[link.pool]]
name = "P2"
addresses = ["198.51.100.1"]
"#;

/// What is said of `text` with `from` replaced by `to`.
fn said(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "the test replaces what is not there: {from}");
    match Compiled::parse("F", &text.replacen(from, to, 1)) {
        Ok(compiled) => format!("no problem:\n{compiled}"),
        Err(report) => report.to_string(),
    }
}

/// What is said of `SMALL` and `SECOND` with `from` replaced by `to` in the second.
fn said_of_second(from: &str, to: &str) -> String {
    assert!(SECOND.contains(from), "the test replaces what is not there: {from}");
    said(&format!("{SMALL}{}", SECOND.replacen(from, to, 1)), "", "")
}

fn compiled(text: &str) -> Compiled {
    Compiled::parse("F", text).unwrap_or_else(|report| panic!("{report}"))
}

#[test]
fn the_reference_configuration_compiles() {
    let compiled = compiled(REFERENCE);
    assert_eq!(compiled.plan.notices, ["[admin] is accepted, but this version does not serve it"]);
    assert_snapshot!(compiled, @r#"
    interfaces  pl-srv
    addresses   2001:db8:ffff::547, ff02::1:2, ff05::1:3
    datapath    auto; ordinary socket on
    server-id   192.0.2.254
    store       ring in /var/lib/portlease; 1000000 leases, 250000 offers at a time
    times       lease 1h, at most 1d; held: offers 1m, freed 2m, declined 1d
    policy      unknown clients: not answered
                renewals without option 159: refused
                reboots from another source: served and counted
                port sets are picked at random
                sites are not limited

    link L1
      clients   link-address 2001:db8:1::/64
      clients   source 2001:db8:1::/64
      pool P1: shared addresses 192.0.2.18-192.0.2.19
        2 addresses x 63 port sets = 126 clients; sharing ratio 1:63
        psid-offset 0, psid-len 6: 64 port sets of 1024 ports in 1 range
        reserved ports 0-1023: PSIDs 0
        options subnet-mask 255.255.255.255

    link L2
      clients   link-address 2001:db8:2::/64
      pool P2: shared addresses 198.51.100.1
        1 address x 256 port sets = 256 clients; sharing ratio 1:256
        psid-offset 6, psid-len 8: 256 port sets of 252 ports in 63 ranges
        reserved ports 0-1023: PSIDs none
        options subnet-mask 255.255.255.255

    link L3
      clients   link-address 2001:db8:3::/64
      pool F: full addresses 203.0.113.10-203.0.113.12
        3 clients, one an address

    link L4 (prefers shared)
      clients   link-address 2001:db8:4::/64
      pool P4: shared addresses 192.0.2.40
        1 address x 63 port sets = 63 clients; sharing ratio 1:63
        psid-offset 0, psid-len 6: 64 port sets of 1024 ports in 1 range
        reserved ports 0-1023: PSIDs 0
        options subnet-mask 255.255.255.255
      pool F4: full addresses 203.0.113.40
        1 clients, one an address
    "#);
}

#[test]
fn defaults_are_those_of_the_reference() {
    let bare = compiled(SMALL);
    let full = compiled(REFERENCE);
    assert_eq!(bare.policy.times, full.policy.times);
    assert_eq!(bare.plan.datapath, full.plan.datapath);
    assert_eq!(bare.plan.store, full.plan.store);
    assert_eq!(bare.plan.capacity, full.plan.capacity);
    assert_eq!(bare.plan.offers_max, full.plan.offers_max);
    assert!(bare.plan.udp && full.plan.udp);
    assert_eq!(bare.policy.psid_choice, full.policy.psid_choice);
    assert_eq!(bare.policy.bind_source, full.policy.bind_source);
}

#[test]
fn what_is_no_toml_or_of_another_type_is_named_with_its_line() {
    assert_snapshot!(said(SMALL, "\"192.0.2.254\"", "192.0.2.254"), @r#"
    F:3: server-id = 192.0.2.254: not TOML: invalid float
      allowed: [section], [[link]] or key = value, with text in double quotes
    "#);
    assert_snapshot!(said(SMALL, "\"192.0.2.254\"", "7"), @r#"
    F:3: server.server-id = 7: invalid type: integer `7`
      allowed: a string
    "#);
    assert_snapshot!(said(SMALL, "name = \"P1\"", "name = \"P1\"\nname = \"P2\""), @r#"
    F:9: name = "P2": not TOML: duplicate key
      allowed: [section], [[link]] or key = value, with text in double quotes
    "#);
    assert_snapshot!(said(SMALL, "psid-len = 6", "psid-len = \"6\""), @r#"
    F:11: link.pool.psid-len = "6": invalid type: string "6"
      allowed: a whole number
    "#);
}

#[test]
fn unknown_keys_are_named_with_those_that_are_known() {
    assert_snapshot!(said(SMALL, "server-id", "serverid"), @r#"
    F:3: server.serverid: unknown key
      allowed: interfaces, listen, server-id, other-server-ids, duid, authoritative, datapath, udp, cpus
    "#);
    assert_snapshot!(said(SMALL, "link-address", "link-adress"), @r#"
    F:6: link.match.link-adress: unknown key
      allowed: link-address, source, interface, interface-id, remote-id
    "#);
    assert_snapshot!(said(SMALL, "psid-len", "psid-length"), @r#"
    F:11: link.pool.psid-length: unknown key
      allowed: name, addresses, psid-offset, psid-len, reserved-ports, options
    "#);
    assert_snapshot!(said(SMALL, "[server]", "[servers]"), @r#"
    F:1: servers: unknown key
      allowed: server, store, admin, lease, link, policy, softwire, information, options
    "#);
}

#[test]
fn what_is_missing_is_asked_for() {
    assert_snapshot!(said("", "", ""), @r#"
    F: no [server]
      allowed: a section with interfaces and server-id
    F: no [[link]]
      allowed: one [[link]] or more, each with a pool
    "#);
    assert_snapshot!(said(SMALL, "interfaces = [\"eth1\"]\nserver-id = \"192.0.2.254\"", ""), @r#"
    F:1: server: interfaces is missing
      allowed: a list of interface names such as ["eth1"]
    F:1: server: server-id is missing
      allowed: a unicast IPv4 address such as 192.0.2.254
    "#);
    assert_snapshot!(said(SMALL, "match = [{ link-address = \"2001:db8:1::/64\" }]", ""), @r#"
    F:4: link: match is missing: no client would be on this link
      allowed: match = [{ link-address = "2001:db8:1::/64" }] or the like
    "#);
    assert_snapshot!(said(SMALL, "name = \"P1\"\naddresses = [\"192.0.2.18-192.0.2.19\"]", ""), @r#"
    F:7: link.pool: name is missing
      allowed: a name of 1 to 64 octets without control characters
    F:7: link.pool: no addresses
      allowed: 192.0.2.1, 192.0.2.1-192.0.2.9 or 192.0.2.0/28
    "#);
    assert_snapshot!(said(&format!("{SMALL}[[link]]\nname = \"L2\"\nmatch = [{{}}]"), "L2", "L2"), @r#"
    F:12: link: no pool
      allowed: one [[link.pool]] or more
    "#);
}

#[test]
fn addresses_are_checked() {
    assert_snapshot!(said(SMALL, "192.0.2.18-192.0.2.19", "192.0.2.18/24"), @r#"
    F:9: link.pool.addresses = "192.0.2.18/24": host bits are set; the prefix is 192.0.2.0/24
      allowed: 192.0.2.1, 192.0.2.1-192.0.2.9 or 192.0.2.0/28
    "#);
    assert_snapshot!(said(SMALL, "192.0.2.18-192.0.2.19", "192.0.2.19-192.0.2.18"), @r#"
    F:9: link.pool.addresses = "192.0.2.19-192.0.2.18": reversed: 192.0.2.19 comes after 192.0.2.18
      allowed: 192.0.2.1, 192.0.2.1-192.0.2.9 or 192.0.2.0/28
    "#);
    assert_snapshot!(said(SMALL, "192.0.2.18-192.0.2.19", "192.0.2"), @r#"
    F:9: link.pool.addresses = "192.0.2": '192.0.2' is not an IPv4 address
      allowed: 192.0.2.1, 192.0.2.1-192.0.2.9 or 192.0.2.0/28
    "#);
    assert_snapshot!(said(SMALL, "192.0.2.18-192.0.2.19", "224.0.0.0/4"), @r#"
    F:9: link.pool.addresses = "224.0.0.0/4": meets 224.0.0.0/3 (multicast and reserved), which no client can use
      allowed: 192.0.2.1, 192.0.2.1-192.0.2.9 or 192.0.2.0/28
    "#);
    assert_snapshot!(said(SMALL, "2001:db8:1::/64", "2001:db8:1::1/64"), @r#"
    F:6: link.match.link-address = "2001:db8:1::1/64": host bits are set; the prefix is 2001:db8:1::/64
      allowed: an IPv6 prefix such as 2001:db8:1::/64, or one address
    "#);
    assert_snapshot!(said(SMALL, "\"192.0.2.254\"", "\"0.0.0.0\""), @r#"
    F:3: server.server-id = "0.0.0.0": meets 0.0.0.0/8 (this network), which no client can use
      allowed: a unicast IPv4 address such as 192.0.2.254
    "#);
    assert_snapshot!(said(SMALL, "[server]", "[server]\nlisten = [\"ff02::1:2\"]"), @r#"
    F:2: server.listen = "ff02::1:2": not a unicast address
      allowed: unicast IPv6 addresses of this server, each once
    "#);
}

#[test]
fn an_address_is_in_one_pool_with_one_geometry() {
    assert_snapshot!(
        said(SMALL, "[\"192.0.2.18-192.0.2.19\"]", "[\"192.0.2.0/24\", \"192.0.2.18\"]"), @r#"
    F:9: link.pool.addresses = "192.0.2.18": 192.0.2.18 is in pool P1 already (F:9)
      allowed: each address in one pool, once
    "#
    );
    let second = "\"192.0.2.19\"]\npsid-len = 6";
    assert_snapshot!(said_of_second("\"198.51.100.1\"]", second), @r#"
    F:17: link.pool.addresses = "192.0.2.19": 192.0.2.19 is in pool P1 already (F:9)
      allowed: each address in one pool, once
    "#);
    let second = "\"192.0.2.0/24\"]\npsid-offset = 4\npsid-len = 6";
    assert_snapshot!(said_of_second("\"198.51.100.1\"]", second), @r#"
    F:17: link.pool.addresses = "192.0.2.0/24": 192.0.2.18 is in pool P1 with psid-offset 0 and psid-len 6 (F:9)
      allowed: each address in one pool, once
    "#);
    assert_snapshot!(said_of_second("198.51.100.1", "192.0.2.18"), @r#"
    F:17: link.pool.addresses = "192.0.2.18": 192.0.2.18 is a shared address of pool P1 (F:9)
      allowed: each address in one pool, once
    "#);
}

#[test]
fn a_stretch_within_a_longer_one_is_found_behind_a_third() {
    let pools = "\"10.0.0.0/8\", \"10.0.0.1\", \"10.200.0.0\"";
    let text = SMALL.replace("\"192.0.2.18-192.0.2.19\"", pools).replace("psid-len = 6", "");
    assert_snapshot!(said(&text, "", ""), @r#"
    F:9: link.pool.addresses = "10.0.0.1": 10.0.0.1 is in pool P1 already (F:9)
      allowed: each address in one pool, once
    F:9: link.pool.addresses = "10.200.0.0": 10.200.0.0 is in pool P1 already (F:9)
      allowed: each address in one pool, once
    "#);
}

#[test]
fn the_bits_of_a_port_are_counted() {
    assert_snapshot!(said(SMALL, "psid-len = 6", "psid-len = 17"), @r#"
    F:11: link.pool.psid-len = 17: out of range
      allowed: 0 to 16
    "#);
    assert_snapshot!(said(SMALL, "psid-offset = 0", "psid-offset = 16"), @r#"
    F:10: link.pool.psid-offset = 16: out of range
      allowed: 0 to 15
    "#);
    assert_snapshot!(said(SMALL, "psid-offset = 0\npsid-len = 6", "psid-offset = 6\npsid-len = 11"), @r#"
    F:11: link.pool.psid-len = 11: psid-offset 6 and this are more than the 16 bits of a port
      allowed: 0 to 10
    "#);
    assert_snapshot!(said(SMALL, "psid-offset = 0", "psid-offset = 8"), @r#"
    F:10: link.pool.psid-offset = 8: every port set would have ports below 1024
      allowed: 0 to 6, or up to 15 with policy.allow-system-ports = true
    "#);
    assert_snapshot!(said(SMALL, "psid-offset = 0\npsid-len = 6", "psid-offset = 6"), @r#"
    F:10: link.pool.psid-offset = 6: an offset without psid-len, in a pool of full addresses
      allowed: psid-len beside it, or no psid-offset
    "#);
    assert_snapshot!(said(SMALL, "psid-offset = 0", "psid-offset = -1"), @r#"
    F:10: link.pool.psid-offset = -1: out of range
      allowed: 0 to 15
    "#);
}

#[test]
fn reserved_ports_take_their_port_sets_out() {
    let reserved = |ports: &str| format!("psid-len = 6\nreserved-ports = {ports}");
    assert_snapshot!(said(SMALL, "psid-len = 6", &reserved("[\"0-65535\"]")), @r#"
    F:11: link.pool.psid-len = 6: psid-offset 0 and psid-len 6 leave no port set without a reserved port
      allowed: a pool with port sets that can be leased
    "#);
    assert_snapshot!(said(SMALL, "psid-len = 6", &reserved("[\"1023-0\"]")), @r#"
    F:12: link.pool.reserved-ports = "1023-0": reversed: 1023 comes after 0
      allowed: ports such as 5060 or 0-1023
    "#);
    assert_snapshot!(said(SMALL, "psid-offset = 0\npsid-len = 6", "reserved-ports = [\"0-1023\"]"), @r#"
    F:10: link.pool.reserved-ports = "0-1023": a pool of full addresses leases all ports of them
      allowed: psid-len beside it, or no reserved-ports
    "#);
    let clients = |text: &str| {
        let compiled = compiled(text);
        compiled.to_string().lines().filter(|line| line.contains("clients;")).collect::<String>()
    };
    assert!(clients(SMALL).contains("2 addresses x 63 port sets = 126 clients"));
    // 5060 and 5061 are in PSID 4; the system ports stay reserved beside them.
    let sip = SMALL.replace("psid-len = 6", &reserved("[\"5060-5061\"]"));
    assert!(clients(&sip).contains("62 port sets = 124"));
    assert!(compiled(&sip).to_string().contains("PSIDs 0, 4"));
}

#[test]
fn system_ports_are_leased_only_if_the_policy_says_so() {
    let allowed = format!("{SMALL}[policy]\nallow-system-ports = true\n");
    assert_eq!(compiled(&allowed).pools[0].reserved_ports, []);
    assert!(compiled(&allowed).to_string().contains("64 port sets = 128 clients"));
    assert_eq!(compiled(&allowed.replace("offset = 0", "offset = 8")).pools[0].offset, 8);
    assert_eq!(compiled(SMALL).pools[0].reserved_ports, [0..=1023]);
}

#[test]
fn names_and_matches_are_unique() {
    assert_snapshot!(said_of_second("\"L2\"", "\"L1\""), @r#"
    F:13: link.name = "L1": another link has this name
      allowed: unique names
    "#);
    assert_snapshot!(said_of_second("\"P2\"", "\"P1\""), @r#"
    F:16: link.pool.name = "P1": another pool has this name (F:7)
      allowed: unique names
    "#);
    assert_snapshot!(said_of_second("source = \"2001:db8:2", "link-address = \"2001:db8:1"), @r#"
    F:14: link.match: the same match as in L1 (F:6)
      allowed: each match once
    "#);
    assert_snapshot!(said(SMALL, "[\"eth1\"]", "[\"eth1\", \"eth1\"]"), @r#"
    F:2: server.interfaces = "eth1": named twice
      allowed: each interface once
    "#);
    assert_snapshot!(said(SMALL, "link-address = \"2001:db8:1::/64\"", "interface = \"eth9\""), @r#"
    F:6: link.match.interface = "eth9": not one of server.interfaces
      allowed: eth1
    "#);
}

#[test]
fn times_have_units_and_bounds() {
    let lease = |keys: &str| said(SMALL, "[[link]]", &format!("[lease]\n{keys}\n[[link]]"));
    assert_snapshot!(lease("time = \"59s\""), @r#"
    F:5: lease.time = "59s": too short
      allowed: 1m to 3650d
    "#);
    assert_snapshot!(lease("time = \"1 hour\""), @r#"
    F:5: lease.time = "1 hour": a time needs a unit, one of s, m, h, d, w
      allowed: a time such as 90s, 30m, 1h, 1d
    "#);
    assert_snapshot!(lease("time = 3600"), @r#"
    F:5: lease.time = 3600: invalid type: integer `3600`
      allowed: a string
    "#);
    assert_snapshot!(lease("time = \"2h\"\nmax-time = \"1h\""), @r#"
    F:6: lease.max-time = "1h": shorter than lease.time, which is 2h
      allowed: 2h or more
    "#);
    assert_snapshot!(lease("offer-hold = \"2d\""), @r#"
    F:5: lease.offer-hold = "2d": too long
      allowed: 1s to 1h
    "#);
    assert_snapshot!(lease("early-renewal-percent = 50"), @r#"
    F:5: lease.early-renewal-percent = 50: out of range
      allowed: 0 to 49 (percent of the lease)
    "#);
}

#[test]
fn a_lease_may_be_infinite() {
    let text = SMALL.replacen("[[link]]", "[lease]\nmax-time = \"infinite\"\n[[link]]", 1);
    assert_eq!(compiled(&text).policy.times.lease_seconds_max, u32::MAX);
    assert!(compiled(&text).to_string().contains("lease 1h, at most infinite"));
}

#[test]
fn the_way_packets_come_in_is_checked() {
    let server = |keys: &str| said(SMALL, "server-id", &format!("{keys}\nserver-id"));
    assert_snapshot!(server("datapath = \"xdp\""), @r#"
    F:3: server.datapath = "xdp": unknown value
      allowed: auto, xdp-native, xdp-generic, socket
    "#);
    assert_snapshot!(server("datapath = \"socket\"\nudp = false"), @r#"
    F:4: server.udp = false: datapath = "socket" needs the socket
      allowed: true, or a datapath of auto, xdp-native or xdp-generic
    "#);
    assert_snapshot!(server("cpus = [0, -1]"), @r#"
    F:3: server.cpus = -1: not the number of a core
      allowed: 0 to 1023
    "#);
}

#[test]
fn the_store_has_to_be_built_and_large_enough() {
    let store = |keys: &str| said(SMALL, "[[link]]", &format!("[store]\n{keys}\n[[link]]"));
    assert_snapshot!(store("kind = \"etcd\""), @r#"
    F:5: store.kind = "etcd": not built into this version
      allowed: ring, memory
    "#);
    assert_snapshot!(store("kind = \"sqlite\""), @r#"
    F:5: store.kind = "sqlite": unknown value
      allowed: ring, memory, etcd
    "#);
    assert_snapshot!(store("capacity = 100"), @r#"
    F:5: store.capacity = 100: too small: the pools serve 126 clients
      allowed: 126 to 256000000
    "#);
    assert_snapshot!(store("capacity = \"1X\""), @r#"
    F:5: store.capacity = "1X": '1X' is not a whole number; units are k, M and G
      allowed: a number such as 1000, "500k", "1M"
    "#);
    assert_snapshot!(said(SMALL, "192.0.2.18-192.0.2.19", "10.0.0.0/14"), @r#"
    F: store.capacity = 1000000: too small: the pools serve 16515072 clients
      allowed: 16515072 to 256000000
    "#);
}

#[test]
fn limits_of_sites_are_numbers_in_bounds() {
    let text = format!(
        "{SMALL}[policy]\nmax-leases-per-site = 2\nsite-prefix-len = 56\nqueries-per-site = 5\n"
    );
    let limited = compiled(&text);
    assert_eq!(limited.plan.features.leases_per_site_max, 2);
    assert_eq!(limited.policy.sites, SitePolicy { prefix_length: 56, queries_per_second: 5 });
    let shown = limited.to_string();
    assert!(shown.contains("or /56): 2 leases, 5 (at once 50) queries a second"), "{shown}");
    assert_snapshot!(said(&text, "site = 2", "site = -1"), @r"
    F:13: policy.max-leases-per-site = -1: out of range
      allowed: 0 to 1000000
    ");
    assert_snapshot!(said(&text, "len = 56", "len = 0"), @r"
    F:14: policy.site-prefix-len = 0: out of range
      allowed: 1 to 128
    ");
}

#[test]
fn what_this_version_does_not_do_is_not_accepted_silently() {
    let memory = SMALL.replacen("[[link]]", "[store]\nkind = \"memory\"\n[[link]]", 1);
    assert_eq!(
        compiled(&memory).plan.notices,
        ["store.kind is memory: a restart of the server forgets every lease"]
    );
    let relay = SMALL.replace("link-address = \"2001:db8:1::/64\"", "interface-id = \"0x01ff\"");
    assert!(compiled(&relay).plan.notices[0].contains("unique only together with one (RFC 7969)"));
    let own = SMALL.replace("192.0.2.254", "192.0.2.18");
    assert_eq!(compiled(&own).plan.notices, ["server-id 192.0.2.18 is an address of pool P1"]);
}

#[test]
fn all_problems_are_reported_at_once() {
    let text = SMALL.replace("psid-len = 6", "psid-len = 17").replace("\"192.0.2.254\"", "\"x\"");
    assert_snapshot!(said(&text, "", ""), @r#"
    F:3: server.server-id = "x": 'x' is not an IPv4 address
      allowed: a unicast IPv4 address such as 192.0.2.254
    F:11: link.pool.psid-len = 17: out of range
      allowed: 0 to 16
    "#);
}

#[test]
fn matches_compile_to_what_they_say() {
    let keys = "source = \"2001:db8::/32\", interface = \"eth1\", remote-id = \"9:0x01ff\"";
    let text = SMALL.replace("link-address = \"2001:db8:1::/64\"", keys);
    let mut compiled = compiled(&text);
    let prefix = Prefix { address: "2001:db8::".parse().unwrap(), length: 32 };
    assert_eq!(compiled.policy.matches[0].0.source, Some(prefix));
    assert_eq!(compiled.policy.matches[0].0.remote_id, Some(vec![0, 0, 0, 9, 1, 255]));
    assert_eq!(compiled.policy.matches[0].0.interface, Some(0));
    compiled.resolve(|name| (name == "eth1").then_some(7), String::new).unwrap();
    assert_eq!(compiled.policy.matches[0].0.interface, Some(7));
    let unknown = compiled.resolve(|_| None, || "lo, eth0".to_owned()).unwrap_err();
    assert_snapshot!(unknown, @"F:2: interface 'eth1' is not on this machine; it has lo, eth0");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Compiled::load(Path::new("/nonexistent/portlease.toml")).unwrap_err();
    assert_snapshot!(error, @"/nonexistent/portlease.toml: No such file or directory (os error 2)");
}
