//! Stateless DHCPv6: who asks by Information-request is told where DHCPv4 over DHCPv6 is served, and by what softwire.
//! scapy asks and reads the Reply, tshark reads both.

use std::{collections::BTreeMap, path::Path};

use bench_rigs::{
    capture::{expect_well_formed, tshark},
    shell,
};
use serde::Deserialize;

use crate::{
    scapy::PYTHON,
    scene::{ONE, ONE_AT, PATIENCE, SHARED, Scene, WAN},
};

/// What the server is configured to tell.
const INFORMATION: &str = "\
[information]
servers = [\"2001:db8:1::547\", \"2001:db8:1::548\"]
refresh = \"2h\"
br = [\"2001:db8::b1\"]
lw = { br = [\"2001:db8::b2\"], bind = { address = \"192.0.2.18\", prefix = \"2001:db8:1::/56\", \
psid-offset = 0, psid-len = 6, psid = 7 } }
priority = [88, 96]
";

/// Types of the two messages (RFC 8415 §7.3).
const INFORMATION_REQUEST: &str = "11";
const REPLY: u8 = 7;

/// What scapy reads of the Reply.
#[derive(Debug, Deserialize)]
struct Reply {
    kind: u8,
    same_transaction: bool,
    same_client: bool,
    refresh: Option<u32>,
    port: u16,
    link_local: bool,
    options: BTreeMap<u16, String>,
}

#[test]
fn scapy_and_tshark_read_what_stateless_clients_are_told() {
    let mut scene = Scene::new().unwrap();
    let tell = |config: &mut bench_rigs::daemon::Config| config.links.push_str(INFORMATION);
    let ours = scene.ours_with(ONE, ONE_AT, &[SHARED], tell).unwrap();
    let capture = scene.listen().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/scapy_information.py");
    let mut command = scene.client.namespace.command(PYTHON);
    command.arg(script).args([WAN, "88", "32", "90", "96", "111", "23"]);
    let reply: Reply = serde_json::from_str(&shell::output_of(command).unwrap()).unwrap();
    assert!(reply.same_transaction && reply.same_client && reply.link_local, "{reply:?}");
    assert_eq!((reply.kind, reply.port, reply.refresh), (REPLY, 547, Some(7200)));
    let codes: Vec<u16> = reply.options.keys().copied().collect();
    assert_eq!(codes, [1, 2, 32, 88, 90, 96, 111], "nothing of DNS, which is not ours");
    let hex = |address: &str| {
        let octets = address.parse::<std::net::Ipv6Addr>().unwrap().octets();
        octets.map(|octet| format!("{octet:02x}")).concat()
    };
    let servers = ["2001:db8:1::547", "2001:db8:1::548"].map(hex).concat();
    assert_eq!(reply.options[&88], servers);
    assert_eq!(reply.options[&90], hex("2001:db8::b1"));
    assert_eq!(reply.options[&111], "00580060");
    assert_eq!(ours.daemon.counters().unwrap().get("xdp-steered"), 0, "the socket answers");

    capture.wait(PATIENCE, |frames| frames.len() == 2).unwrap();
    let file = capture.stop().unwrap();
    expect_well_formed(&file).unwrap();
    let read = |fields: &[&str]| {
        let mut arguments = vec!["-T", "fields", "-E", "separator=|", "-E", "aggregator=,"];
        arguments.extend(fields.iter().flat_map(|field| ["-e", field]));
        let text = tshark(&file, &arguments).unwrap();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(read(&["dhcpv6.msgtype"]), [INFORMATION_REQUEST.to_owned(), REPLY.to_string()]);
    let softwires = read(&[
        "dhcpv6.s46_br.address",
        "dhcpv6.s46_v4v6bind.ipv4_address",
        "dhcpv6.s46_v4v6bind.ipv6_pref_len",
        "dhcpv6.s46_v4v6bind.ipv6_prefix",
        "dhcpv6.s46_portparam.offset",
        "dhcpv6.s46_portparam.psid_len",
        "dhcpv6.s46_portparam.psid",
    ]);
    assert_eq!(softwires[1], "2001:db8::b1,2001:db8::b2|192.0.2.18|56|2001:db8:1::|0|6|7");
}
