//! RFC 8539: the client and its server agree on where the softwire starts.

use std::net::Ipv6Addr;

use super::*;
use crate::client::softwire;
use crate::wire::dhcpv6::{OPTION_REQUEST, OPTION_S46_BIND_PREFIX, OPTION_S46_BR, put_option};

const HOME: &str = "2001:db8:1::1";
const OTHER: &str = "2001:db8:2::1";
const RELAY: &str = "2001:db8::b1";

fn address(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn tunneling(source: Option<&str>) -> Config {
    let softwire = softwire::Config {
        source: source.map(address),
        addresses: vec![address("fe80::1"), address(HOME), address(OTHER)],
        remembered: None,
    };
    Config { softwire: Some(softwire), ..config() }
}

/// The response with these options beside its DHCPv4 message.
fn beside(response: &[u8], options: &[(u16, &[u8])]) -> Vec<u8> {
    let mut buffer = [0; 1500];
    let mut w = Writer::new(&mut buffer);
    w.bytes(response);
    for (code, content) in options {
        put_option(&mut w, *code, content);
    }
    w.written().to_vec()
}

fn relay() -> [u8; 16] {
    address(RELAY).octets()
}

fn source_of(sent: &Sent) -> Option<Ipv6Addr> {
    let octets: [u8; 16] = sent.option(dhcpv4::OPTION_SOFTWIRE_SOURCE)?.try_into().unwrap();
    Some(octets.into())
}

fn ack_with(source: &str) -> Answer {
    let mut ack = Answer::ack(shared());
    ack.options.push((dhcpv4::OPTION_SOFTWIRE_SOURCE, address(source).octets().to_vec()));
    ack
}

/// Up to the REQUEST, after an OFFER with these options beside it.
fn requesting(config: Config, options: &[(u16, &[u8])]) -> (Bench, Sent) {
    let mut bench = Bench::start(config, Memory::Nothing);
    let discover = bench.next_sent();
    bench.hear(&beside(&Answer::offer(shared()).to(&discover), options));
    let request = bench.next_sent();
    (bench, request)
}

fn bound() -> Bench {
    let (mut bench, request) = requesting(tunneling(None), &[(OPTION_S46_BR, &relay())]);
    bench.hear(&ack_with(HOME).to(&request));
    assert_eq!(bench.lease().softwire.unwrap().source, address(HOME));
    bench.events.clear();
    bench.notes.clear();
    bench
}

#[test]
fn c40_the_query_asks_for_90_and_137_and_no_release_does() {
    let mut bench = Bench::start(tunneling(None), Memory::Nothing);
    let discover = bench.next_sent();
    assert!(discover.query().requested.contains(OPTION_S46_BR));
    assert!(discover.query().requested.contains(OPTION_S46_BIND_PREFIX));
    assert!(!discover.query().requested.contains(dhcpv6::OPTION_4O6_SERVER));
    assert_eq!(source_of(&discover), None, "109 is for REQUESTs");
    let mut bench = bound();
    bench.handle(Event::Release);
    let release = bench.next_sent();
    assert_eq!((release.kind(), source_of(&release)), (MessageType::Release, None));
    assert!(!release.query().requested.contains(OPTION_S46_BR));
    let plain = Bench::start(config(), Memory::Nothing).next_sent();
    assert!(
        !plain.octets.windows(2).any(|pair| pair == OPTION_REQUEST.to_be_bytes()) || {
            !plain.query().requested.contains(OPTION_S46_BR)
        }
    );
}

#[test]
fn c40_an_offer_without_a_valid_border_relay_is_ignored() {
    for options in
        [&[][..], &[(OPTION_S46_BR, &[0_u8; 16][..])], &[(OPTION_S46_BR, &relay()[..15])]]
    {
        let mut bench = Bench::start(tunneling(None), Memory::Nothing);
        let discover = bench.next_sent();
        let offer = beside(&Answer::offer(shared()).to(&discover), options);
        assert_eq!(bench.ignored(&offer), Ignored::NoSoftwire, "{options:?}");
    }
}

#[test]
fn c41_the_address_follows_the_prefix_of_the_offer() {
    let relay = relay();
    let inside: &[u8] = &[48, 0x20, 1, 0xd, 0xb8, 0, 2];
    let nowhere: &[u8] = &[48, 0x20, 1, 0xd, 0xb8, 0, 9];
    // req-C43: the length says 8 octets, and there are 6.
    let malformed: &[u8] = &[64, 0x20, 1, 0xd, 0xb8, 0, 9];
    for (prefix, expected) in [(inside, OTHER), (malformed, HOME)] {
        let options = [(OPTION_S46_BR, &relay[..]), (OPTION_S46_BIND_PREFIX, prefix)];
        let (_, request) = requesting(tunneling(None), &options);
        assert_eq!(source_of(&request), Some(address(expected)), "{prefix:?}");
    }
    let (_, request) = requesting(tunneling(Some(OTHER)), &[(OPTION_S46_BR, &relay)]);
    assert_eq!(source_of(&request), Some(address(OTHER)), "as it was told");
    let mut bench = Bench::start(tunneling(None), Memory::Nothing);
    let discover = bench.next_sent();
    let options = [(OPTION_S46_BR, &relay[..]), (OPTION_S46_BIND_PREFIX, nowhere)];
    let offer = beside(&Answer::offer(shared()).to(&discover), &options);
    assert_eq!(bench.ignored(&offer), Ignored::NoSoftwire, "no address is in that prefix");
}

#[test]
fn the_lease_knows_both_ends() {
    let second = address("2001:db8::b2").octets();
    let options = [(OPTION_S46_BR, &relay()[..]), (OPTION_S46_BR, &second[..])];
    let (mut bench, request) = requesting(tunneling(None), &options);
    bench.hear(&ack_with(HOME).to(&request));
    let softwire = bench.lease().softwire.unwrap();
    assert_eq!(softwire.source, address(HOME));
    let relays: Vec<_> = softwire.border_relays.iter().collect();
    assert_eq!(relays, [address(RELAY), address("2001:db8::b2")]);
}

#[test]
fn c41_each_extension_bears_the_address_and_another_one_is_told_at_once() {
    let mut bench = bound();
    let renewal = bench.next_sent();
    assert_eq!(source_of(&renewal), Some(address(HOME)));
    bench.hear(&ack_with(HOME).to(&renewal));
    assert!(matches!(bench.events[..], [Action::Renewed(_)]));
    bench.events.clear();
    // Another address beside it changes nothing, as long as the one in use is there.
    bench.handle(Event::Addresses(&[address(OTHER), address(HOME)]));
    assert!(bench.sent.is_empty());
    bench.handle(Event::Addresses(&[address(OTHER)]));
    let request = bench.next_sent();
    assert_eq!((request.at, source_of(&request)), (bench.now, Some(address(OTHER))));
    assert!(request.query().unicast && request.view().ciaddr() == ADDRESS, "RENEWING");
    bench.hear(&ack_with(OTHER).to(&request));
    let [Action::Changed { from, to }] = bench.events[..] else { panic!("{:?}", bench.events) };
    assert_eq!(from.assignment, to.assignment);
    assert_eq!(to.softwire.unwrap().source, address(OTHER));
    assert_eq!(to.softwire.unwrap().border_relays, from.softwire.unwrap().border_relays);
}

#[test]
fn an_interface_that_loses_all_its_addresses_keeps_its_softwire() {
    let mut bench = bound();
    bench.handle(Event::Addresses(&[]));
    assert!(bench.sent.is_empty() && bench.events.is_empty());
}

#[test]
fn c42_an_ack_for_another_address_is_asked_again_after_a_minute_and_then_given_back() {
    let mut bench = bound();
    bench.handle(Event::Addresses(&[address(OTHER)]));
    let request = bench.next_sent();
    bench.hear(&ack_with(HOME).to(&request));
    assert!(bench.notes.iter().any(|note| matches!(note, Note::OtherSoftwire { .. })));
    assert!(
        matches!(bench.events[..], [Action::Renewed(lease)]
        if lease.softwire.unwrap().source == address(HOME)),
        "as the server has it"
    );
    bench.events.clear();
    let again = bench.next_sent();
    let wait = seconds_between(&request, &again);
    assert!((60.0..=90.0).contains(&wait), "{wait}");
    assert_eq!(source_of(&again), Some(address(OTHER)));
    bench.hear(&ack_with(HOME).to(&again));
    assert!(matches!(bench.events[..], [Action::Lost(_, Loss::OtherSoftwire)]));
    let release = bench.next_sent();
    assert_eq!((release.kind(), release.at), (MessageType::Release, bench.now));
    let discover = bench.next_sent();
    assert_eq!(discover.kind(), MessageType::Discover);
    assert!(seconds_between(&release, &discover) >= 10.0);
    assert!(!bench.stopped);
}

#[test]
fn c42_a_server_that_agrees_the_second_time_keeps_its_client() {
    let mut bench = bound();
    bench.handle(Event::Addresses(&[address(OTHER)]));
    let request = bench.next_sent();
    bench.hear(&ack_with(HOME).to(&request));
    let again = bench.next_sent();
    bench.events.clear();
    bench.hear(&ack_with(OTHER).to(&again));
    assert!(matches!(bench.events[..], [Action::Changed { .. }]));
    let next = bench.next_sent();
    assert!(seconds_between(&again, &next) > 1000.0, "not before T1");
}

#[test]
fn after_a_restart_the_softwire_is_confirmed_with_the_lease() {
    let mut config = tunneling(None);
    let remembered =
        Softwire { source: address(OTHER), border_relays: [address(RELAY)].into_iter().collect() };
    config.softwire.as_mut().unwrap().remembered = Some(remembered);
    let mut bench = Bench::start(config, Memory::Lease(shared()));
    let reboot = bench.next_sent();
    assert_eq!(source_of(&reboot), Some(address(OTHER)), "not the first address");
    bench.hear(&ack_with(OTHER).to(&reboot));
    assert_eq!(bench.lease().softwire, Some(remembered), "although no option 90 came");
}
