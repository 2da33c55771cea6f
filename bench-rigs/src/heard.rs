//! What was said on the link, by our own parsers: who said what to whom.

use std::net::{Ipv4Addr, Ipv6Addr};

use portlease::wire::{
    dhcpv4::{MessageType, PortParamsField, View},
    dhcpv6::{Query, Response},
    portparams::PortParams,
};

use crate::frame::Frame;

/// A DHCPv4 message that crossed the link in its envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Whether a server says it.
    pub reply: bool,
    /// IPv6 source.
    pub from: Ipv6Addr,
    /// Flag U of a query; of a response, whether any flag is set.
    pub flagged: bool,
    /// Option 53.
    pub kind: MessageType,
    /// Transaction.
    pub xid: u32,
    /// The client's address, in a message about a lease in use.
    pub ciaddr: Ipv4Addr,
    /// What is offered or leased.
    pub yiaddr: Ipv4Addr,
    /// Option 54.
    pub server: Option<Ipv4Addr>,
    /// Option 159.
    pub ports: Option<PortParams>,
    /// Whether option 55 lists 159.
    pub lists_159: bool,
}

/// All of them, in the order in which they came by.
pub fn read(frames: &[Vec<u8>]) -> Vec<Heard> {
    frames.iter().filter_map(|octets| one(&Frame::read(octets)?)).collect()
}

fn one(frame: &Frame) -> Option<Heard> {
    let (reply, flagged, view) = if let Ok(query) = Query::parse(&frame.payload) {
        (false, query.unicast, View::parse_request(query.message).ok()?)
    } else {
        let response = Response::parse(&frame.payload).ok()?;
        let flagged = frame.payload.get(1..4)? != [0; 3];
        (true, flagged, View::parse_reply(response.message).ok()?)
    };
    Some(Heard {
        reply,
        from: frame.source,
        flagged,
        kind: view.kind(),
        xid: view.xid(),
        ciaddr: view.ciaddr(),
        yiaddr: view.yiaddr(),
        server: view.server_id(),
        ports: match view.port_params() {
            PortParamsField::Present(ports) => Some(ports),
            PortParamsField::Absent | PortParamsField::Invalid => None,
        },
        lists_159: view.requests(159),
    })
}

/// How many messages of a kind were said.
pub fn count(heard: &[Heard], kind: MessageType) -> usize {
    heard.iter().filter(|one| one.kind == kind).count()
}

/// Who answered the last message of a kind by which kind, in order: kinds and server identifiers.
pub fn answers_to_last(heard: &[Heard], kind: MessageType) -> Vec<(MessageType, Ipv4Addr)> {
    let Some(asked) = heard.iter().rfind(|one| !one.reply && one.kind == kind) else {
        return Vec::new();
    };
    // SELECTING repeats the transaction of its DISCOVER: what came before it answers that.
    let from = heard.iter().rposition(|one| one == asked).unwrap_or(0);
    heard[from..]
        .iter()
        .filter(|one| one.reply && one.xid == asked.xid)
        .map(|one| (one.kind, one.server.unwrap_or(Ipv4Addr::UNSPECIFIED)))
        .collect()
}
