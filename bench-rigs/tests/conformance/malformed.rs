//! B01-B19, B25, B30, B35: octets that are no sound message, and what is tolerated.

use portlease::engine::remark::Remark;

use crate::{
    dora::{assert_of_p1, p1},
    lab::Bench,
    packet::{DHCPV4_MESSAGE, NAK, OFFER, QUERY, encode_options, encode_options6},
    query::{Client, L1, Query},
    registry::{Case, server},
};

pub const CASES: &[Case] = &[
    server("B01", fewer_octets_than_a_header),
    server("B02", a_header_alone),
    server("B03", an_empty_option_87),
    server("B04", a_message_that_is_too_short),
    server("B05", an_option_87_beyond_the_packet),
    server("B06", two_options_87),
    server("B07", octets_after_the_last_option),
    server("B08", a_wrong_cookie),
    server("B09", no_message_type),
    server("B10", message_types_that_are_none),
    server("B11", two_message_types),
    server("B12", messages_of_servers),
    server("B13", impossible_hardware_lengths),
    server("B14", an_option_beyond_its_field),
    server("B15", no_end),
    server("B16", nothing_but_padding),
    server("B17", overloads_that_are_none),
    server("B18", an_overload_in_an_overloaded_field),
    server("B19", a_full_field_without_an_end),
    server("B25", an_option_159_cut_short),
    server("B30", a_server_identifier_of_three_octets),
    server("B35", messages_that_only_servers_send),
];

fn discover() -> Query {
    Client::on(L1, 1).discover()
}

fn fewer_octets_than_a_header(bench: Bench) {
    let mut lab = bench.lab();
    for length in 0..4 {
        lab.expect_discard("short-header", discover().spoilt(|octets| octets.truncate(length)));
    }
}

fn a_header_alone(bench: Bench) {
    bench.lab().expect_discard("no-dhcpv4-msg", discover().replaced_by(&[QUERY, 0, 0, 0]));
}

fn an_empty_option_87(bench: Bench) {
    let empty = discover().envelope(&[]);
    bench.lab().expect_discard("no-dhcpv4-msg", discover().replaced_by(&empty));
}

fn a_message_that_is_too_short(bench: Bench) {
    let mut lab = bench.lab();
    let whole = discover().message.octets();
    for length in [1, 236, 239] {
        let short = discover().envelope(&whole[..length]);
        lab.expect_discard("v4-short", discover().replaced_by(&short));
    }
}

fn an_option_87_beyond_the_packet(bench: Bench) {
    let mut lab = bench.lab();
    let whole = discover().datagram().payload.len();
    for length in [8, 200, whole - 1] {
        lab.expect_discard("truncated-tlv", discover().spoilt(|octets| octets.truncate(length)));
    }
}

fn two_options_87(bench: Bench) {
    let message = discover().message.octets();
    let again = encode_options6(&[(DHCPV4_MESSAGE, message)]);
    bench.lab().expect_discard("dup-dhcpv4-msg", discover().spoilt(|octets| octets.extend(again)));
}

fn octets_after_the_last_option(bench: Bench) {
    let mut lab = bench.lab();
    for count in 1..=3 {
        let longer = discover().spoilt(|octets| octets.extend(vec![0; count]));
        lab.expect_discard("truncated-tlv", &longer);
    }
}

fn a_wrong_cookie(bench: Bench) {
    let mut lab = bench.lab();
    for at in 0..4 {
        let mut query = discover();
        query.message.cookie[at] ^= 1;
        lab.expect_discard("bad-cookie", &query);
    }
}

fn no_message_type(bench: Bench) {
    bench.lab().expect_discard("no-msg-type", &discover().without(53));
}

fn message_types_that_are_none(bench: Bench) {
    let mut lab = bench.lab();
    for value in [&[][..], &[1, 1], &[0], &[200]] {
        lab.expect_discard("bad-msg-type", &discover().set(53, value));
    }
}

fn two_message_types(bench: Bench) {
    bench.lab().expect_discard("bad-msg-type", &discover().add(53, &[1]));
}

fn messages_of_servers(bench: Bench) {
    let mut lab = bench.lab();
    for kind in [OFFER, 5, NAK] {
        lab.expect_discard("server-msg", &discover().set(53, &[kind]));
    }
    let mut query = discover();
    query.message.op = 2;
    lab.expect_discard("bad-op", &query);
}

fn impossible_hardware_lengths(bench: Bench) {
    let mut lab = bench.lab();
    for length in [17, 255] {
        let mut query = discover();
        query.message.hlen = length;
        lab.expect_discard("bad-hlen", &query);
    }
}

fn an_option_beyond_its_field(bench: Bench) {
    let mut lab = bench.lab();
    for tail in [&[12, 200, 1, 255][..], &[12, 1], &[12]] {
        let mut query = discover();
        query.message.tail = tail.to_vec();
        lab.expect_discard("option-overrun", &query);
    }
}

fn no_end(bench: Bench) {
    let mut query = discover();
    query.message.tail.clear();
    assert_of_p1(&bench.lab().offer(&query));
}

fn nothing_but_padding(bench: Bench) {
    let mut lab = bench.lab();
    let padding = [vec![0; 312], vec![255]].concat();
    let mut query = discover();
    query.message.options.clear();
    query.message.tail = padding.clone();
    lab.expect_discard("no-msg-type", &query);
    query = discover();
    query.message.tail = padding;
    assert_of_p1(&lab.offer(&query));
}

/// What stands in the fields is not read: it would be a second message type.
fn overloads_that_are_none(bench: Bench) {
    let mut lab = bench.lab();
    for value in [&[0][..], &[4], &[255], &[1, 1]] {
        let mut query = discover().set(52, value);
        query.message.file[..4].copy_from_slice(&[53, 1, 3, 255]);
        query.message.sname[..4].copy_from_slice(&[53, 1, 3, 255]);
        let (offer, remarks) = lab.send_and_count(&query).expect("an OFFER");
        assert_of_p1(&offer);
        assert_eq!(remarks, [(Remark::BadOverload.name().to_owned(), 1)]);
    }
}

fn an_overload_in_an_overloaded_field(bench: Bench) {
    let mut query = discover().set(52, &[1]);
    query.message.file[..4].copy_from_slice(&[52, 1, 2, 255]);
    query.message.sname[..4].copy_from_slice(&[53, 1, 3, 255]);
    assert_of_p1(&bench.lab().offer(&query));
}

/// The last option of the field is read to its last octet; one octet more would be the cookie's.
fn a_full_field_without_an_end(bench: Bench) {
    let mut lab = bench.lab();
    let wanted = p1(19, 7);
    let filled = |last: &[u8]| {
        let mut query = Client::on(L1, 1).discover_for(wanted).without(50).set(52, &[1]);
        let filler = 128 - last.len() - 2;
        let head = encode_options(&[(60, vec![b'v'; filler])]);
        query.message.file.copy_from_slice(&[&head, last].concat());
        query
    };
    assert_eq!(lab.offer(&filled(&[50, 4, 192, 0, 2, 19])).tuple(), wanted);
    lab.expect_discard("option-overrun", &filled(&[50, 5, 192, 0, 2, 19]));
}

/// M12.
fn an_option_159_cut_short(bench: Bench) {
    let mut query = discover();
    query.message.tail = vec![159, 4, 0, 6];
    bench.lab().expect_discard("option-overrun", &query);
}

fn a_server_identifier_of_three_octets(bench: Bench) {
    let mut lab = bench.lab();
    let query = Client::on(L1, 1).select_tuple(p1(19, 7)).set(54, &[192, 0, 2]);
    lab.expect_discard("bad-option-length", &query);
}

fn messages_that_only_servers_send(bench: Bench) {
    let mut lab = bench.lab();
    for kind in [21, 7] {
        lab.expect_discard("unknown-type", discover().spoilt(|octets| octets[0] = kind));
    }
}
