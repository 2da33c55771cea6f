//! DHCPv4 messages: the vectors, and what hostile clients send.

use super::*;
use crate::wire::{dhcpv6::Query, vectors};

#[test]
fn discover() {
    let octets = vectors::octets(vectors::DISCOVER);
    let query = Query::parse(&octets).unwrap();
    let view = View::parse_request(query.message).unwrap();
    assert_eq!(view.kind(), MessageType::Discover);
    assert!(view.requests(159));
    assert!(view.port_params().present().unwrap().is_hint());
}
