//! The envelope: the vectors, relays, and what hostile peers send.

use super::*;
use crate::wire::{vectors, writer::Writer};

#[test]
fn relay_vector() {
    let octets = vectors::octets(vectors::RELAY_FORWARD);
    let query = Query::parse(&octets).unwrap();
    assert_eq!(query.relays.levels(), 2);
    assert_eq!(query.relays.link_address(), Some("2001:db8:1::1".parse().unwrap()));
    let reply = vectors::octets(vectors::RELAY_REPLY);
    let response = Response::parse(&reply).unwrap();
    let mut buffer = [0; 1500];
    let mut w = Writer::new(&mut buffer);
    let envelope = begin_response(&mut w, query.relays);
    w.bytes(response.message);
    envelope.finish(&mut w);
    let length = w.finish().unwrap();
    assert_eq!(buffer[..length], reply);
}
