//! 100,000 packets, and what must hold for each.

use portlease::wire::{dhcpv4::View, dhcpv6::Query};
use proptest::{
    collection::vec,
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};

use crate::{checks, packets};

proptest! {
    #![proptest_config(Config::with_cases(30_000))]

    #[test]
    fn spoiled_messages(packet in packets::spoiled()) {
        checks::query(&packet);
        checks::reply(&packet);
    }

    #[test]
    fn requests_of_likely_options(message in packets::request()) {
        checks::request(&message);
    }
}

proptest! {
    #![proptest_config(Config::with_cases(15_000))]

    #[test]
    fn requests_behind_relays(packet in packets::relayed()) {
        checks::query(&packet);
    }

    #[test]
    fn frames(frame in packets::frame()) {
        checks::frames::frame(&frame);
    }
}

proptest! {
    #![proptest_config(Config::with_cases(10_000))]

    #[test]
    fn noise(octets in vec(any::<u8>(), 0..400)) {
        checks::query(&octets);
        checks::reply(&octets);
        checks::request(&octets);
        checks::frames::frame(&octets);
    }
}

/// How many of 2,000 packets of a kind pass `reader`.
fn passing(packets: impl Strategy<Value = Vec<u8>>, reader: impl Fn(&[u8]) -> bool) -> usize {
    let mut runner = TestRunner::deterministic();
    let mut packet = || packets.new_tree(&mut runner).expect("a packet").current();
    (0..2000).filter(|_| reader(&packet())).count()
}

/// A property over packets that are all refused at once says nothing.
#[test]
fn a_fair_part_of_the_packets_is_well_formed() {
    let request = |message: &[u8]| View::parse_request(message).is_ok();
    let relayed = |packet: &[u8]| Query::parse(packet).is_ok_and(|query| request(query.message));
    let split = |message: &[u8]| {
        View::parse_request(message).is_ok_and(|view| {
            view.client_identifier().is_some_and(|value| value.contiguous().is_none())
        })
    };
    assert!((300..1700).contains(&passing(packets::request(), request)));
    assert!((300..1700).contains(&passing(packets::relayed(), relayed)));
    assert!((200..1700).contains(&passing(packets::spoiled(), relayed)));
    assert!(passing(packets::request(), split) > 20);
}
