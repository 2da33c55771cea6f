//! What a reply says besides the lease: requested options in their order, each once, within the client's limit.

mod common;

use std::net::Ipv4Addr;

use common::{L1, L3, L4, Query, Received, Server, client_identifier};
use portlease::{
    engine::{
        options::OptionSet,
        policy::Policy,
        remark::Remark::{OptionsOmitted, RelayInformationOmitted},
    },
    wire::{dhcpv4::View, dhcpv6::Response},
};

/// Octets of a message that a client without option 57 can read.
const USUAL_LIMIT: usize = 548;

const ROUTER: (u8, [u8; 4]) = (3, [192, 0, 2, 1]);
const RESOLVER: (u8, [u8; 4]) = (6, [192, 0, 2, 53]);
const MASK: (u8, [u8; 4]) = (1, [255; 4]);

/// The reference configuration, in which every pool and every link has `options`.
fn configured(options: &OptionSet) -> Server {
    Server::with(|policy| configure(policy, options))
}

fn configure(policy: &mut Policy, options: &OptionSet) {
    policy.pool_options = vec![options.clone(); 5];
    for link in &mut policy.links {
        link.options = options.clone();
    }
}

fn listing(list: &[u8]) -> Query {
    Query { parameter_list: list.to_vec(), ..Query::discover(1, L1) }
}

/// Several options of `length` octets each, from code 224 on.
fn bulky(count: u8, length: usize) -> OptionSet {
    OptionSet::new((0..count).map(|number| (224 + number, vec![number; length])))
}

/// Codes and contents of the options, in their order and as they stand.
fn options(reply: &Received) -> Vec<(u8, Vec<u8>)> {
    let response = Response::parse(&reply.octets).unwrap();
    let view = View::parse_reply(response.message).unwrap();
    view.options().map(|(code, content)| (code, content.to_vec())).collect()
}

/// Codes of the options, in their order.
fn codes(reply: &Received) -> Vec<u8> {
    options(reply).iter().map(|(code, _)| *code).collect()
}

/// The content of an option in one piece.
fn content(reply: &Received, code: u8) -> Vec<u8> {
    options(reply)
        .into_iter()
        .filter(|(seen, _)| *seen == code)
        .flat_map(|(_, part)| part)
        .collect()
}

/// Octets of the DHCPv4 message.
fn message_length(reply: &Received) -> usize {
    Response::parse(&reply.octets).unwrap().message.len()
}

#[test]
fn d23_only_what_is_configured_and_requested_is_there_and_in_the_order_of_the_list() {
    let offer = Server::reference().send(&listing(&[159, 51, 58, 59, 1, 3, 6])).offer();
    assert_eq!(codes(&offer), [53, 54, 159, 51, 58, 59, 61], "nothing empty, nothing invented");
    let mut server = configured(&OptionSet::new([MASK, RESOLVER, (15, [b'x'; 4])]));
    let offer = server.send(&listing(&[6, 159, 51, 1, 3])).offer();
    assert_eq!(codes(&offer), [53, 54, 6, 159, 51, 1, 58, 59, 61]);
    assert_eq!(content(&offer, 6), [192, 0, 2, 53]);
}

#[test]
fn d23_the_mask_comes_before_the_router() {
    let mut server = configured(&OptionSet::new([MASK, ROUTER]));
    let offer = server.send(&listing(&[3, 159, 1])).offer();
    assert_eq!(codes(&offer), [53, 54, 1, 3, 159, 51, 58, 59, 61]);
    // A mask that nobody asks for is not sent for the router's sake.
    let offer = server.send(&listing(&[3, 159])).offer();
    assert_eq!(codes(&offer), [53, 54, 3, 159, 51, 58, 59, 61]);
}

#[test]
fn a_client_without_a_list_gets_what_a_lease_needs() {
    let mut server = configured(&OptionSet::new([MASK, ROUTER, RESOLVER]));
    let query = Query { parameter_list: Vec::new(), ..Query::discover(1, L3) };
    assert_eq!(codes(&server.send(&query).offer()), [53, 54, 51, 58, 59, 61]);
}

#[test]
fn b26_a_list_with_repetitions_or_of_length_zero() {
    let mut server = configured(&OptionSet::new([MASK, ROUTER, RESOLVER]));
    let mut list = vec![6; 200];
    list.extend([159; 50]);
    list.extend([51, 3, 6, 51, 53]);
    assert_eq!(list.len(), 255);
    let offer = server.send(&listing(&list)).offer();
    assert_eq!(codes(&offer), [53, 54, 6, 159, 51, 3, 58, 59, 61]);
    let empty = Query { extra: vec![(55, vec![])], ..Query::discover(1, L3) };
    let empty = Query { parameter_list: Vec::new(), ..empty };
    assert_eq!(codes(&server.send(&empty).offer()), [53, 54, 51, 58, 59, 61]);
}

#[test]
fn each_pool_and_each_reserved_tuple_has_its_own_options() {
    let mut server = Server::with(|policy| {
        policy.pool_options = (0..5).map(|pool| OptionSet::new([(6, [pool; 4])])).collect();
    });
    let list = vec![6, 159];
    let shared = server.send(&Query { parameter_list: list, ..Query::discover(1, L4) }).offer();
    let whole = Query { parameter_list: vec![6], ..Query::discover(2, L4) };
    assert_eq!(content(&shared, 6), [3; 4]);
    assert_eq!(content(&server.send(&whole).offer(), 6), [4; 4]);
    let reserved = portlease::lease::record::Tuple::whole(Ipv4Addr::new(203, 0, 113, 40));
    let mut server = Server::with(|policy| {
        policy.pool_options = (0..5).map(|pool| OptionSet::new([(6, [pool; 4])])).collect();
        policy.reservation_options = vec![(reserved, OptionSet::new([(6, [9; 4])]))];
    });
    assert_eq!(content(&server.send(&whole).offer(), 6), [9; 4]);
}

#[test]
fn d34_what_exceeds_the_limit_is_left_out_from_the_end_of_the_list() {
    let mut server = configured(&bulky(10, 60));
    let mut list = vec![159, 51];
    list.extend(224..234);
    for size in [None, Some(576_u16)] {
        let extra = size.map(|size| (57, size.to_be_bytes().to_vec())).into_iter().collect();
        let offer = server.send(&Query { extra, ..listing(&list) }).offer();
        assert!(message_length(&offer) <= USUAL_LIMIT, "{}", message_length(&offer));
        assert_eq!(codes(&offer), [53, 54, 159, 51, 224, 225, 226, 227, 58, 59, 61]);
        assert!(offer.remarks.has(OptionsOmitted) && !offer.remarks.has(RelayInformationOmitted));
    }
    // The one that is wanted least is the first to go, though it would fit where another did not.
    let mut server = configured(&OptionSet::new([(224, vec![0; 300]), (225, vec![0; 4])]));
    assert!(!codes(&server.send(&listing(&[159, 224, 225])).offer()).contains(&224));
    assert!(!codes(&server.send(&listing(&[159, 224, 225])).offer()).contains(&225));
    assert!(codes(&server.send(&listing(&[159, 225, 224])).offer()).contains(&225));
}

#[test]
fn b38_limits_below_the_legal_one_and_beyond_ours() {
    let mut server = configured(&bulky(30, 60));
    let list: Vec<u8> = std::iter::once(159).chain(224..=253).collect();
    let mut length = |size: u16| {
        let extra = vec![(57, size.to_be_bytes().to_vec())];
        message_length(&server.send(&Query { extra, ..listing(&list) }).offer())
    };
    let usual = length(576);
    assert!(usual <= USUAL_LIMIT);
    assert_eq!((length(0), length(575)), (usual, usual));
    assert!(length(700) > usual && length(700) <= 700 - 28);
    // The IPv6 packet stays whole on every path.
    let most = length(u16::MAX);
    assert!(most > 1100 && most + 8 + 48 <= 1280, "{most}");
    assert_eq!(length(1500), most);
}

#[test]
fn b38_an_option_57_of_another_length_is_no_limit() {
    let mut server = configured(&bulky(30, 60));
    let list: Vec<u8> = std::iter::once(159).chain(224..=253).collect();
    let odd = Query { extra: vec![(57, vec![5])], ..listing(&list) };
    assert!(message_length(&server.send(&odd).offer()) <= USUAL_LIMIT);
}

#[test]
fn an_option_longer_than_255_octets_comes_in_pieces() {
    let long: Vec<u8> = (0..=255).chain(0..=43).collect();
    let mut server = configured(&OptionSet::new([(43, &long)]));
    let extra = vec![(57, 1500_u16.to_be_bytes().to_vec())];
    let offer = server.send(&Query { extra, ..listing(&[43, 159]) }).offer();
    assert_eq!(codes(&offer)[2..5], [43, 43, 159]);
    assert_eq!(content(&offer, 43), long);
    // Half of it is worse than nothing.
    let offer = server.send(&listing(&[43, 159])).offer();
    assert!(!codes(&offer).contains(&43) && offer.remarks.has(OptionsOmitted));
}

#[test]
fn r17_option_82_goes_back_whole_and_last() {
    let mut server = configured(&OptionSet::new([RESOLVER]));
    let agent: Vec<u8> = [vec![1, 4], b"ge-0".to_vec()].concat();
    let query = Query {
        giaddr: Ipv4Addr::new(10, 0, 0, 1),
        extra: vec![(82, agent.clone())],
        ..listing(&[82, 6, 159])
    };
    let offer = server.send(&query).offer();
    assert_eq!(codes(&offer), [53, 54, 6, 159, 51, 58, 59, 61, 82]);
    assert_eq!(content(&offer, 82), agent);
    let lost = Query { params: None, extra: query.extra.clone(), ..Query::select(1, L1, &offer) };
    let nak = server.send(&Query { giaddr: query.giaddr, ..lost }).nak();
    assert_eq!(codes(&nak), [53, 54, 56, 61, 82]);
    assert_eq!(nak.flags, 0x8000, "through a DHCPv4 relay a NAK is broadcast");
}

#[test]
fn r18_option_82_displaces_requested_options_and_nothing_that_a_lease_needs() {
    let mut server = configured(&bulky(3, 60));
    let list = [159, 224, 225, 226];
    let with = |length: usize, size: u16| {
        let extra = vec![(57, size.to_be_bytes().to_vec()), (82, vec![1; length])];
        Query { extra, ..listing(&list) }
    };
    let offer = server.send(&with(255, 576)).offer();
    assert_eq!(codes(&offer), [53, 54, 159, 51, 58, 59, 61, 82]);
    assert!(offer.remarks.has(OptionsOmitted) && !offer.remarks.has(RelayInformationOmitted));
    let identifier = [client_identifier(1), vec![0; 100]].concat();
    let long = Query { client_identifier: Some(identifier), ..with(255, 576) };
    let offer = server.send(&long).offer();
    assert_eq!(codes(&offer), [53, 54, 159, 224, 225, 51, 58, 59, 61]);
    assert!(offer.remarks.has(RelayInformationOmitted), "counted by whoever sends the reply");
    assert_eq!(
        codes(&server.send(&Query { extra: with(255, 800).extra, ..long }).offer()).last(),
        Some(&82)
    );
}

#[test]
fn s63_a_nak_says_who_and_to_whom_only() {
    let mut server = configured(&OptionSet::new([MASK, ROUTER, RESOLVER]));
    let offer = server.send(&Query::discover(1, L1)).offer();
    let nak = server.send(&Query { params: None, ..Query::select(1, L1, &offer) }).nak();
    assert_eq!(codes(&nak), [53, 54, 56, 61]);
    assert_eq!(content(&nak, 56), b"a shared address needs a valid option 159");
    let anonymous = Query { client_identifier: None, ..Query::discover(1, L3) };
    assert!(!codes(&server.send(&anonymous).offer()).contains(&61), "none came, none goes");
}
