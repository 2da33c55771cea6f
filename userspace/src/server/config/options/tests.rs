//! Options as operators write them: what they come to at each level, and what is said of mistakes.

use insta::assert_snapshot;

use super::super::Compiled;

/// Two links; the first line of options is the fourth.
const TWO_LINKS: &str = r#"[server]
interfaces = ["eth1"]
server-id = "192.0.2.254"
[[link]]
name = "L1"
match = [{ link-address = "2001:db8:1::/64" }]
[[link.pool]]
name = "P1"
addresses = ["192.0.2.18"]
psid-len = 6
[[link.pool]]
name = "F1"
addresses = ["203.0.113.10"]
[[link]]
name = "L2"
match = [{ link-address = "2001:db8:2::/64" }]
[[link.pool]]
name = "F2"
addresses = ["203.0.113.20"]
"#;

/// `TWO_LINKS` with options for everybody, for the first link, and for its first pool.
fn text(global: &str, link: &str, pool: &str) -> String {
    let everybody = format!("[options]\n{global}\n[[link]]\nname = \"L1\"");
    let text = TWO_LINKS.replacen("[[link]]\nname = \"L1\"", &everybody, 1);
    let pools = format!("psid-len = 6\n[link.pool.options]\n{pool}\n");
    let link = format!("[link.options]\n{link}\n[[link.pool]]\nname = \"P1\"");
    text.replacen("[[link.pool]]\nname = \"P1\"", &link, 1).replacen("psid-len = 6\n", &pools, 1)
}

/// What each pool's leases come with.
fn options_of_pools(global: &str, link: &str, pool: &str) -> String {
    let compiled = Compiled::parse("F", &text(global, link, pool));
    let shown = compiled.unwrap_or_else(|report| panic!("{report}")).to_string();
    let lines = shown.lines().filter(|line| line.contains("  pool ") || line.contains("options"));
    lines.collect::<Vec<_>>().join("\n")
}

/// What is said of options for everybody.
fn said(options: &str) -> String {
    match Compiled::parse("F", &text(options, "", "")) {
        Ok(compiled) => format!("no problem:\n{compiled}"),
        Err(report) => report.to_string(),
    }
}

#[test]
fn the_narrowest_level_wins_and_an_empty_list_takes_away() {
    let global = "domain-name-servers = [\"192.0.2.53\"]\ndomain-name = \"example.net\"";
    let link = "domain-name = \"one.example.net\"\n\"252\" = { type = \"u8\", value = 7 }";
    let pool = "domain-name-servers = []\nntp-servers = \"192.0.2.123\"";
    assert_snapshot!(options_of_pools(global, link, pool), @r#"
      pool P1: shared addresses 192.0.2.18
        options subnet-mask 255.255.255.255; domain-name "one.example.net"; ntp-servers 192.0.2.123; 252 0x07
      pool F1: full addresses 203.0.113.10
        options domain-name-servers 192.0.2.53; domain-name "one.example.net"; 252 0x07
      pool F2: full addresses 203.0.113.20
        options domain-name-servers 192.0.2.53; domain-name "example.net"
    "#);
}

#[test]
fn a_shared_address_has_the_mask_of_one_address_unless_told_otherwise() {
    assert_snapshot!(options_of_pools("", "", ""), @r"
      pool P1: shared addresses 192.0.2.18
        options subnet-mask 255.255.255.255
      pool F1: full addresses 203.0.113.10
      pool F2: full addresses 203.0.113.20
    ");
    let compiled = Compiled::parse("F", &text("subnet-mask = \"255.255.255.0\"", "", "")).unwrap();
    assert_eq!(compiled.plan.notices.len(), 1);
    let notice = &compiled.plan.notices[0];
    assert!(notice.starts_with("pool P1: subnet-mask 255.255.255.0 with shared"), "{notice}");
    let mask = |pool: usize| compiled.policy.pool_options[pool].content(1).unwrap();
    assert_eq!((mask(0), mask(1)), (vec![255, 255, 255, 0], vec![255, 255, 255, 0]));
}

#[test]
fn an_inform_gets_the_options_of_its_link() {
    let global = "log-servers = [\"192.0.2.7\"]";
    let compiled = Compiled::parse("F", &text(global, "interface-mtu = 1400", "")).unwrap();
    let link = &compiled.policy.links[0].options;
    assert_eq!((link.content(26), link.content(7)), (Some(vec![5, 120]), Some(vec![192, 0, 2, 7])));
    assert_eq!(compiled.policy.links[1].options.content(26), None);
}

#[test]
fn codes_and_names_are_checked() {
    assert_snapshot!(said("domain-name-server = \"192.0.2.53\""), @r#"
    F:5: options.domain-name-server: no option has this name or code; is it domain-name-servers?
      allowed: a name that docs/OPTIONS.md lists, or a code such as "252"
    "#);
    assert_snapshot!(said("\"256\" = { type = \"u8\", value = 1 }"), @r#"
    F:5: options.256: no option has this name or code
      allowed: a name that docs/OPTIONS.md lists, or a code such as "252"
    "#);
    assert_snapshot!(said("\"51\" = { type = \"u32\", value = 60 }"), @r#"
    F:5: options.51: option 51 is the lease time, which follows from [lease] time and max-time
      allowed: options for clients
    "#);
    assert_snapshot!(said("\"159\" = { type = \"octets\", value = \"00060400\" }"), @r#"
    F:5: options.159: option 159 is the port set of a lease, which follows from its pool (RFC 7618 §9)
      allowed: options for clients
    "#);
    assert_snapshot!(said("\"82\" = { type = \"octets\", value = \"0101ff\" }"), @r#"
    F:5: options.82: option 82 is the relay's, and goes back as it came (RFC 3046 §2.2)
      allowed: options for clients
    "#);
    assert_snapshot!(said("routers = [\"192.0.2.1\"]\n\"3\" = [\"192.0.2.2\"]"), @r#"
    F:6: options.3: option 3 is here already (F:5)
      allowed: each option once, by its name or by its code
    "#);
}

#[test]
fn values_are_checked() {
    assert_snapshot!(said("domain-name-servers = [\"192.0.2.53\", \"dns.example\"]"), @r#"
    F:5: options.domain-name-servers: 'dns.example' is not an IPv4 address
      allowed: IPv4 addresses such as ["192.0.2.1", "192.0.2.2"]
    "#);
    assert_snapshot!(said("interface-mtu = \"1400\""), @r#"
    F:5: options.interface-mtu = "1400": a string where a whole number is expected
      allowed: 0 to 65535
    "#);
    assert_snapshot!(said("interface-mtu = 67"), @r#"
    F:5: options.interface-mtu = 67: too small
      allowed: 68 to 65535 (RFC 2132 §5.1)
    "#);
    assert_snapshot!(said("subnet-mask = \"255.0.255.0\""), @r#"
    F:5: options.subnet-mask = "255.0.255.0": ones after zeros
      allowed: a mask such as "255.255.255.0"
    "#);
    assert_snapshot!(said("\"6\" = { type = \"octets\", value = \"c00002\" }"), @r#"
    F:5: options.6: 3 octets cannot be option 6
      allowed: IPv4 addresses such as ["192.0.2.1", "192.0.2.2"]
    "#);
    assert_snapshot!(said("\"252\" = \"http://wpad/\""), @r#"
    F:5: options.252 = "http://wpad/": option 252 has no name, so its type is needed
      allowed: { type = "octets", value = "0102ff" }, or a type of text, u8, u16, u32, i32, flag, address
    "#);
    assert_snapshot!(said("\"252\" = { type = \"texts\", value = \"x\" }"), @r#"
    F:5: options.252: 'texts' is no type
      allowed: { type = "octets", value = "0102ff" }, or a type of text, u8, u16, u32, i32, flag, address
    "#);
    assert_snapshot!(said("domain-name = \"\""), @r#"
    F:5: options.domain-name = "": empty
      allowed: ASCII text
    "#);
    assert_snapshot!(said("domain-name = \"caf\u{e9}.example\""), @r#"
    F:5: options.domain-name = "café.example": 'é' is no printable ASCII character
      allowed: ASCII text
    "#);
    let long = format!("\"250\" = {{ type = \"octets\", value = \"{}\" }}", "00".repeat(801));
    assert!(said(&long).contains("801 octets\n  allowed: at most 800"), "{}", said(&long));
}

#[test]
fn more_than_every_client_can_read_is_pointed_out() {
    let long = format!("\"250\" = {{ type = \"octets\", value = \"{}\" }}", "00".repeat(300));
    let compiled = Compiled::parse("F", &text(&long, "", "")).unwrap();
    assert_eq!(compiled.plan.notices.len(), 3);
    let notice = &compiled.plan.notices[1];
    assert!(notice.starts_with("pool F1: 304 octets of options"), "{notice}");
}
