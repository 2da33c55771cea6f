//! tshark reads every kind of message that our server and our client send, finds none malformed, and reads out of them
//! what we meant.

use std::{collections::BTreeMap, net::Ipv4Addr, path::Path};

use bench_rigs::{
    capture::{Capture, expect_well_formed, tshark},
    daemon::Config,
    error::Result,
    exchange::Talker,
    message::{Identity, Message, relay_at},
    pcap,
    sys::Signal,
};
use portlease::wire::{dhcpv4::MessageType, dhcpv6::RelayForward, portparams::PortParams};

use crate::{
    heard::read,
    scene::{CLIENT_AT, ONE, ONE_AT, PATIENCE, SERVER, SHARED, Scene, link},
    subscriber::{Subscriber, Told},
};

/// The client's DUID and IAID, and both as tshark shows them.
const DUID: &str = "000300010200000000aa";
const IAID: u32 = 0x0102_0304;
const SHOWN_IDENTITY: (&str, &str) = ("01020304", "02:00:00:00:00:aa");

/// The least that a server leases for, so that the client's REBINDING comes within the test's time.
const LEASE_SECONDS: u32 = 60;

/// How long the client may take to come to REBINDING, and to be answered.
const REBINDING: std::time::Duration = std::time::Duration::from_secs(70);

/// What the client asks for besides, and gets by configuration.
const OPTIONS: &str = "[options]\ndomain-name-servers = [\"192.0.2.53\", \"192.0.2.54\"]\n";

/// How tshark shows that.
const SERVERS: &str = "192.0.2.53,192.0.2.54";

/// The address of who sends the INFORM.
const INFORMED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 18);

/// The last transaction of the capture.
const LAST: u32 = 10;

/// What must be in the capture.
const KINDS: &[&str] = &[
    "DISCOVER",
    "OFFER",
    "REQUEST (SELECTING)",
    "REQUEST (INIT-REBOOT)",
    "REQUEST (RENEWING)",
    "REQUEST (REBINDING)",
    "ACK",
    "NAK",
    "RELEASE",
    "INFORM",
    "ACK to INFORM",
    "relayed OFFER",
    "relayed ACK",
];

/// A message as tshark shows it. What is not there is empty.
#[derive(Clone, Debug, Default)]
struct Shown {
    /// Types of the DHCPv6 messages, outermost first.
    types: String,
    /// The three octets behind type 20 or 21, which tshark takes for a transaction.
    flags: String,
    fields: BTreeMap<&'static str, String>,
}

/// Fields of the inner messages.
const INNER: &[&str] = &[
    "dhcp.option.dhcp",
    "dhcp.ip.client",
    "dhcp.ip.your",
    "dhcp.option.dhcp_server_id",
    "dhcp.option.requested_ip_address",
    "dhcp.option.ip_address_lease_time",
    "dhcp.option.renewal_time_value",
    "dhcp.option.rebinding_time_value",
    "dhcp.option.domain_name_server",
    "dhcp.option.request_list_item",
    "dhcp.client_id.iaid",
    "dhcp.client_id.link_layer_address",
    "dhcp.option.portparams.offset",
    "dhcp.option.portparams.psid_length",
    "dhcp.option.portparams.psid",
];

/// A table of tshark: a line a packet, a column a field.
pub fn table(file: &Path, fields: &[&str]) -> Result<Vec<Vec<String>>> {
    let mut arguments = vec!["-T", "fields", "-E", "separator=|", "-E", "aggregator=,"];
    arguments.extend(fields.iter().flat_map(|field| ["-e", field]));
    let text = tshark(file, &arguments)?;
    Ok(text.lines().map(|line| line.split('|').map(str::to_owned).collect()).collect())
}

/// Both of tshark's readings of a capture, side by side.
fn shown(outer: &Path, inner: &Path) -> Vec<Shown> {
    let around = table(outer, &["dhcpv6.msgtype", "dhcpv6.xid"]).unwrap();
    let around = around.into_iter().filter(|row| row[0].ends_with("20") || row[0].ends_with("21"));
    let inside = table(inner, INNER).unwrap();
    let both: Vec<_> = around.collect();
    assert_eq!(both.len(), inside.len(), "as many envelopes as messages");
    let join = |(around, inside): (Vec<String>, Vec<String>)| Shown {
        types: around[0].clone(),
        flags: around[1].clone(),
        fields: INNER.iter().copied().zip(inside).collect(),
    };
    both.into_iter().zip(inside).map(join).collect()
}

impl Shown {
    fn get(&self, field: &str) -> &str {
        self.fields.get(field).map_or("", String::as_str)
    }

    fn has(&self, field: &str) -> bool {
        !self.get(field).is_empty()
    }

    fn address(&self, field: &str) -> Option<Ipv4Addr> {
        self.get(field).parse().ok()
    }

    fn is_reply(&self) -> bool {
        self.types.ends_with("21")
    }

    /// What kind of message it is, as a person says it.
    fn kind(&self) -> String {
        let unicast = self.flags == "0x800000";
        let bare = match self.get("dhcp.option.dhcp") {
            "1" => "DISCOVER",
            "2" => "OFFER",
            "3" if self.has("dhcp.option.dhcp_server_id") => "REQUEST (SELECTING)",
            "3" if self.has("dhcp.option.requested_ip_address") => "REQUEST (INIT-REBOOT)",
            "3" if unicast => "REQUEST (RENEWING)",
            "3" => "REQUEST (REBINDING)",
            "4" => "DECLINE",
            "5" if self.has("dhcp.option.ip_address_lease_time") => "ACK",
            "5" => "ACK to INFORM",
            "6" => "NAK",
            "7" => "RELEASE",
            "8" => "INFORM",
            other => panic!("a message of type {other}: {self:?}"),
        };
        let relayed = self.types.contains(',');
        if relayed { format!("relayed {bare}") } else { bare.to_owned() }
    }

    /// Option 159, as tshark shows it: the PSID in the most significant bits of its two octets (RFC 7618 §9).
    fn ports(&self) -> [&str; 3] {
        ["offset", "psid_length", "psid"]
            .map(|name| self.fields[format!("dhcp.option.portparams.{name}").as_str()].as_str())
    }
}

/// How tshark shows a port set.
fn ports_of(ports: PortParams) -> [String; 3] {
    let psid = u32::from(ports.psid) << (16 - u32::from(ports.psid_length));
    [ports.offset.to_string(), ports.psid_length.to_string(), format!("{psid:04x}")]
}

/// Holds what tshark reads of the client's messages and of the answers to them against what the client was told.
fn check(message: &Shown, told: &Told) {
    let kind = message.kind();
    let address = Some(told.address);
    let ports = told.ports().map(ports_of).unwrap();
    let identity =
        (message.get("dhcp.client_id.iaid"), message.get("dhcp.client_id.link_layer_address"));
    assert_eq!(identity, SHOWN_IDENTITY, "{kind}");
    let lists = message.get("dhcp.option.request_list_item").split(',').any(|code| code == "159");
    assert_eq!(lists, kind == "DISCOVER" || kind.starts_with("REQUEST"), "{kind}: {message:?}");

    let named = ["REQUEST (SELECTING)", "REQUEST (INIT-REBOOT)"].contains(&kind.as_str());
    let requested = message.address("dhcp.option.requested_ip_address");
    // A DISCOVER may ask for what the client had before.
    assert!(requested == address || !named && (requested.is_none() || kind == "DISCOVER"));
    let used = ["REQUEST (RENEWING)", "REQUEST (REBINDING)", "RELEASE"].contains(&kind.as_str());
    let ciaddr = message.address("dhcp.ip.client").unwrap();
    assert!(!used || ciaddr == told.address, "{kind}: {message:?}");
    let answered = ["OFFER", "ACK"].contains(&kind.as_str());
    let yiaddr = message.address("dhcp.ip.your").unwrap();
    assert_eq!(yiaddr, if answered { told.address } else { Ipv4Addr::UNSPECIFIED }, "{kind}");
    let server = message.address("dhcp.option.dhcp_server_id");
    let names_server =
        message.is_reply() || ["REQUEST (SELECTING)", "RELEASE"].contains(&kind.as_str());
    assert_eq!(server, names_server.then_some(told.server_id), "{kind}: {message:?}");

    match kind.as_str() {
        "NAK" => assert_eq!(message.ports(), [""; 3]),
        "DISCOVER" => {}
        _ => assert_eq!(message.ports(), ports.each_ref().map(String::as_str), "{kind}"),
    }
    let times = ["ip_address_lease_time", "renewal_time_value", "rebinding_time_value"];
    let times = times.map(|name| message.get(&format!("dhcp.option.{name}")).to_owned());
    let t1 = (LEASE_SECONDS / 2).to_string();
    let t2 = (LEASE_SECONDS * 7 / 8).to_string();
    let expected = if answered { [LEASE_SECONDS.to_string(), t1, t2] } else { Default::default() };
    assert_eq!(times, expected, "{kind}");
    let servers = if answered { SERVERS } else { "" };
    assert_eq!(message.get("dhcp.option.domain_name_server"), servers, "{kind}");
    let flags = match kind.as_str() {
        "REQUEST (RENEWING)" | "RELEASE" => "0x800000",
        _ => "0x000000",
    };
    assert_eq!(message.flags, flags, "{kind}: flag U of a query, nothing in a response");
}

/// The same for the client behind two relays, whose lease is its own.
fn check_relayed(message: &Shown) {
    assert_eq!(message.types, if message.is_reply() { "13,13,21" } else { "12,12,20" });
    if message.is_reply() {
        assert_eq!(message.address("dhcp.option.dhcp_server_id"), Some(ONE));
        assert_eq!(message.get("dhcp.option.ip_address_lease_time"), LEASE_SECONDS.to_string());
        let [offset, psid_length, psid] = message.ports();
        assert_eq!((offset, psid_length, psid.len()), ("0", "6", 4), "{message:?}");
    }
}

/// The same for a host that has its address by other means.
fn check_informed(message: &Shown) {
    let reply = message.is_reply();
    assert_eq!(message.address("dhcp.ip.client"), Some(INFORMED));
    assert_eq!(message.address("dhcp.ip.your"), Some(Ipv4Addr::UNSPECIFIED));
    assert_eq!(message.address("dhcp.option.dhcp_server_id"), reply.then_some(ONE));
    assert_eq!(message.ports(), [""; 3]);
    assert_eq!(message.get("dhcp.option.domain_name_server"), if reply { SERVERS } else { "" });
    for name in ["ip_address_lease_time", "renewal_time_value", "rebinding_time_value"] {
        assert!(!message.has(&format!("dhcp.option.{name}")), "RFC 2131 §4.3.5: {message:?}");
    }
}

/// A whole life of the client: INIT, a reboot, a server that is away for a while, one that has forgotten it, the end.
/// Gives what it was told of its first and of its last lease.
fn live(scene: &mut Scene) -> ([Told; 2], Capture) {
    let mut config = Config {
        lease_seconds: LEASE_SECONDS,
        store: Some(scene.folder.path().join("store")),
        links: link(&[SHARED]) + OPTIONS,
        ..Config::new(SERVER, ONE_AT, "xdp-native")
    };
    let mut ours = scene.ours_with(ONE, ONE_AT, &[], |fresh| *fresh = config.clone()).unwrap();
    let capture = scene.listen().unwrap();
    let state = scene.folder.path().join("state.json");
    let arguments = format!("--duid {DUID} --iaid {IAID} --state {}", state.display());
    let mut client =
        Subscriber::start(&scene.client, &format!("{arguments} --no-release")).unwrap();
    let first = client.told("obtained").unwrap();
    client.leave().unwrap();
    let mut client = Subscriber::start(&scene.client, &arguments).unwrap();
    assert_eq!(client.told("obtained").unwrap(), first, "INIT-REBOOT");
    assert_eq!(client.renew().unwrap().tuple(), first.tuple());

    // The server is away when RENEWING comes, and back for REBINDING.
    ours.daemon.kill().unwrap();
    let renewals = |frames: &[Vec<u8>]| {
        read(frames).iter().filter(|one| one.flagged && one.kind == MessageType::Request).count()
    };
    capture.wait(REBINDING, |frames| renewals(frames) == 2).unwrap();
    ours.restart(&config).unwrap();
    let line = client.process.wait_for("\"renewed\"", client.process.log_length(), REBINDING);
    let rebound: Told = serde_json::from_str(&line.unwrap()).unwrap();
    assert_eq!(rebound.tuple(), first.tuple());

    // A server that has forgotten the client and is the authority refuses; the client begins again.
    config.store = None;
    config.server.push_str("authoritative = true\n");
    ours.restart(&config).unwrap();
    client.process.signal(Signal::User1).unwrap();
    client.told("lost").unwrap();
    let last = client.told("obtained").unwrap();
    client.leave().unwrap();
    relayed(scene);
    informed(scene);
    ([first, last], capture)
}

/// Another client, behind two relays.
fn relayed(scene: &Scene) {
    let outer = relay_at("::".parse().unwrap(), "2001:db8:1::b".parse().unwrap());
    let inner = RelayForward {
        interface_id: Some(b"ge-0/0/1.100"),
        remote_id: Some(b"\0\0\x7d\xb7cust-0001"),
        ..relay_at(CLIENT_AT, "fe80::1".parse().unwrap())
    };
    let relays = vec![RelayForward { hop_count: 1, ..outer }, inner];
    let server = std::net::SocketAddrV6::new(ONE_AT, 547, 0, 0);
    let talker = Talker::relayed(&scene.client.namespace, CLIENT_AT, server, relays).unwrap();
    let identity = Identity::new(0, 1);
    let lease = talker.obtain(&identity).unwrap();
    talker.extend(&identity, &Message::renew(&identity, 9, &lease), &lease).unwrap();
}

/// A host that has an address and asks for the rest.
fn informed(scene: &Scene) {
    let server = std::net::SocketAddrV6::new(ONE_AT, 547, 0, 0);
    let talker = Talker::direct(&scene.client.namespace, CLIENT_AT, server).unwrap();
    let identity = Identity::new(0, 2);
    let message = Message {
        kind: MessageType::Inform,
        unicast: true,
        ciaddr: INFORMED,
        ..Message::discover(&identity, LAST)
    };
    let answer = talker.ask(&identity, &message).unwrap();
    assert_eq!(answer.kind, MessageType::Ack);
}

#[test]
fn tshark_reads_what_we_meant_in_every_kind_of_message() {
    let mut scene = Scene::new().unwrap();
    let ([first, last], capture) = live(&mut scene);
    let complete =
        |frames: &[Vec<u8>]| read(frames).last().is_some_and(|one| one.reply && one.xid == LAST);
    capture.wait(PATIENCE, complete).unwrap();
    let outer = capture.stop().unwrap();
    let inner = scene.folder.path().join("inner.pcap");
    pcap::unwrap(&outer, &inner).unwrap();
    expect_well_formed(&outer).unwrap();
    expect_well_formed(&inner).unwrap();

    let messages = shown(&outer, &inner);
    let mut kinds = BTreeMap::<String, usize>::new();
    for message in &messages {
        *kinds.entry(message.kind()).or_default() += 1;
    }
    for kind in KINDS {
        assert!(kinds.contains_key(*kind), "no {kind} among {kinds:?}");
    }
    // The client's last lease may be another one than its first: the server had forgotten it.
    let refused = messages.iter().position(|message| message.kind() == "NAK").unwrap();
    for (number, message) in messages.iter().enumerate() {
        if message.types.contains(',') {
            check_relayed(message);
        } else if message.kind().ends_with("INFORM") {
            check_informed(message);
        } else {
            check(message, if number <= refused { &first } else { &last });
        }
    }
}
