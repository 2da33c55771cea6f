//! Packets for the property tests: reference messages spoiled in any way, and messages put together
//! of parts that are likely to mean something.

use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
};

use crate::vectors;

/// One way to spoil a packet.
#[derive(Clone, Debug)]
pub(crate) enum Spoil {
    Flip(Index, u8),
    Set(Index, u8),
    Cut(Index),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Repeat(Index, usize),
}

fn spoil() -> impl Strategy<Value = Spoil> {
    let edges = select(vec![0, 1, 4, 12, 13, 20, 21, 52, 53, 61, 82, 87, 127, 128, 159, 254, 255]);
    prop_oneof![
        4 => (any::<Index>(), 0..8u8).prop_map(|(at, bit)| Spoil::Flip(at, 1 << bit)),
        4 => (any::<Index>(), edges).prop_map(|(at, octet)| Spoil::Set(at, octet)),
        1 => any::<Index>().prop_map(Spoil::Cut),
        2 => (any::<Index>(), vec(any::<u8>(), 1..12)).prop_map(|(at, new)| Spoil::Insert(at, new)),
        2 => (any::<Index>(), 1..12usize).prop_map(|(at, count)| Spoil::Remove(at, count)),
        2 => (any::<Index>(), 1..40usize).prop_map(|(at, count)| Spoil::Repeat(at, count)),
    ]
}

impl Spoil {
    fn apply(&self, packet: &mut Vec<u8>) {
        let place = |at: &Index| at.index(packet.len() + 1);
        match self {
            Spoil::Flip(at, mask) => {
                let at = place(at);
                packet.iter_mut().skip(at).take(1).for_each(|octet| *octet ^= mask);
            }
            Spoil::Set(at, value) => {
                let at = place(at);
                packet.iter_mut().skip(at).take(1).for_each(|octet| *octet = *value);
            }
            Spoil::Cut(at) => packet.truncate(place(at)),
            Spoil::Insert(at, new) => {
                let at = place(at);
                packet.splice(at..at, new.iter().copied());
            }
            Spoil::Remove(at, count) => {
                let at = place(at);
                packet.drain(at..packet.len().min(at + count));
            }
            Spoil::Repeat(at, count) => {
                let at = place(at);
                let again = packet[at..packet.len().min(at + count)].to_vec();
                packet.splice(at..at, again);
            }
        }
    }
}

/// A reference message spoiled up to four times. The places lie towards the end as often as
/// anywhere: that is where the options are.
pub(crate) fn spoiled() -> impl Strategy<Value = Vec<u8>> {
    let names: Vec<&str> = vectors::ALL.iter().map(|(_, hex)| *hex).collect();
    let tail = (0..70usize, any::<u8>());
    (select(names), vec(spoil(), 0..4), vec(tail, 0..4)).prop_map(|(hex, spoils, tail)| {
        let mut packet = vectors::octets(hex);
        for (back, octet) in tail {
            let at = packet.len().saturating_sub(back + 1);
            packet.iter_mut().skip(at).take(1).for_each(|place| *place = octet);
        }
        for spoil in &spoils {
            spoil.apply(&mut packet);
        }
        packet
    })
}

/// One option of a DHCPv4 message, or something that is none.
fn option() -> impl Strategy<Value = Vec<u8>> {
    let codes = select(vec![1u8, 50, 51, 52, 53, 54, 55, 57, 58, 59, 60, 61, 82, 159]);
    let known = (codes, vec(0..=18u8, 0..7));
    let likely = select(vec![
        vec![53, 1, 1],
        vec![53, 1, 3],
        vec![50, 4, 192, 0, 2, 18],
        vec![54, 4, 192, 0, 2, 254],
        vec![55, 3, 1, 3, 159],
        vec![61, 15, 255, 0, 0, 0, 1, 0, 3, 0, 1, 2, 0, 0, 0, 0, 1],
        vec![61, 3, 0, 1, 2],
        vec![52, 1, 1],
        vec![52, 1, 2],
        vec![52, 1, 3],
        vec![159, 4, 0, 6, 4, 0],
        vec![159, 2, 0, 6],
        vec![82, 4, 1, 2, 0, 9],
    ]);
    prop_oneof![
        8 => likely,
        6 => known.prop_map(|(code, value)| tlv(code, &value)),
        2 => (any::<u8>(), vec(any::<u8>(), 0..20)).prop_map(|(code, value)| tlv(code, &value)),
        2 => (1..6usize).prop_map(|count| vec![0; count]),
        1 => Just(vec![255]),
        1 => vec(any::<u8>(), 1..4),
    ]
}

fn tlv(code: u8, value: &[u8]) -> Vec<u8> {
    [&[code, u8::try_from(value.len()).unwrap()], value].concat()
}

/// A DHCPv4 request whose three fields are filled with options.
pub(crate) fn request() -> impl Strategy<Value = Vec<u8>> {
    let field = |count| vec(option(), 0..count).prop_map(|options| options.concat());
    let kind = prop_oneof![9 => Just(vec![53, 1, 1]), 1 => Just(Vec::new())];
    (kind, field(9), field(4), field(4), any::<[u8; 44]>(), 0..=18u8).prop_map(
        |(kind, options, file, sname, mut fixed, hardware_length)| {
            fixed[0] = 1;
            fixed[2] = hardware_length;
            let mut message = fixed.to_vec();
            for (field, length) in [(sname, 64), (file, 128)] {
                let mut field = field;
                field.resize(length, 0);
                message.extend(field);
            }
            message.extend([99, 130, 83, 99]);
            message.extend(kind);
            message.extend(options);
            message
        },
    )
}

/// One option of a relay level.
fn relay_option() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let codes = select(vec![9u16, 18, 18, 37, 38, 43, 79, 135, 135, 65000]);
    let echo = vec(select(vec![9u16, 18, 37, 38, 43, 79, 135, 999]), 0..5)
        .prop_map(|codes| (43, codes.iter().flat_map(|code| code.to_be_bytes()).collect()));
    prop_oneof![
        3 => (codes, vec(any::<u8>(), 0..9)),
        2 => echo,
    ]
}

/// A level of Relay-forward: its fixed fields, its options, and where among them the message goes.
type Level = (u8, [u8; 16], [u8; 16], Vec<(u16, Vec<u8>)>, usize);

fn level() -> impl Strategy<Value = Level> {
    let addresses =
        prop_oneof![Just([0; 16]), Just([0xfe; 16]), Just([0xff; 16]), any::<[u8; 16]>()];
    (any::<u8>(), addresses, any::<[u8; 16]>(), vec(relay_option(), 0..5), 0..5usize)
}

/// A request inside any number of relay levels.
pub(crate) fn relayed() -> impl Strategy<Value = Vec<u8>> {
    let levels = prop_oneof![9 => vec(level(), 0..5), 1 => vec(level(), 30..36)];
    let well_behaved = prop::bool::weighted(0.8);
    (levels, request(), any::<[u8; 3]>(), well_behaved).prop_map(
        |(levels, message, flags, well_behaved)| {
            let mut packet = [&[20][..], &flags, &option16(87, &message)].concat();
            for (hop_count, link, peer, mut options, place) in levels {
                // A second Relay Message would end most chains of relays early.
                options.retain(|(code, _)| *code != 9 || !well_behaved);
                options.insert(place.min(options.len()), (9, packet));
                packet = [&[12, hop_count][..], &link, &peer].concat();
                packet.extend(options.iter().flat_map(|(code, value)| option16(*code, value)));
            }
            packet
        },
    )
}

fn option16(code: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap();
    [&code.to_be_bytes(), &length.to_be_bytes(), value].concat()
}

/// A frame that has the right shape, more or less.
pub(crate) fn frame() -> impl Strategy<Value = Vec<u8>> {
    let tag = select(vec![[0x81, 0x00, 0, 7], [0x88, 0xa8, 0xe0, 9], [0x86, 0xdd, 0, 0]]);
    let shape = (any::<[u8; 12]>(), vec(tag, 0..4), any::<[u8; 40]>(), any::<[u8; 8]>());
    let to = select(vec![[0x33, 0x33], [0xff, 0xff], [2, 0]]);
    let payload = vec(any::<u8>(), 0..80);
    (shape, to, payload, vec(spoil(), 0..2), any::<bool>()).prop_map(
        |((macs, tags, ip, udp), to, payload, spoils, to_server)| {
            let mut packet = [&macs[..], tags.as_flattened(), &[0x86, 0xdd], &ip, &udp].concat();
            packet[..2].copy_from_slice(&to);
            packet[6] &= if to_server { 0xfe } else { 0xff };
            if to_server {
                let at = packet.len() - 6;
                packet[at..at + 2].copy_from_slice(&547u16.to_be_bytes());
            }
            packet.extend(payload);
            for spoil in &spoils {
                spoil.apply(&mut packet);
            }
            packet
        },
    )
}
