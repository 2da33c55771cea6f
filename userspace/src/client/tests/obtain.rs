//! From nothing to a lease: INIT, SELECTING, REQUESTING.

use super::*;
use crate::wire::Malformed;

#[test]
fn k05_the_first_discover_names_the_client_and_asks_for_159() {
    let delays: Vec<Duration> = (0..200)
        .map(|seed| {
            let mut bench = Bench::start_seeded(config(), Memory::Nothing, seed);
            let begun = bench.now;
            let sent = bench.next_sent();
            let view = sent.view();
            assert_eq!(sent.kind(), MessageType::Discover);
            assert_eq!(sent.option(dhcpv4::OPTION_CLIENT_ID).unwrap(), IDENTIFIER);
            assert!(view.requests(dhcpv4::OPTION_PORT_PARAMS));
            assert_eq!(
                (view.ciaddr(), view.giaddr()),
                (Ipv4Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED)
            );
            assert!(!sent.query().unicast);
            assert_eq!((sent.port_params(), view.requested_address()), (None, None));
            sent.at.since(begun)
        })
        .collect();
    assert!(delays.iter().all(|delay| (SECOND..=10 * SECOND).contains(delay)));
    assert!(delays.iter().max().unwrap().abs_diff(*delays.iter().min().unwrap()) > 6 * SECOND);
}

#[test]
fn k06_retransmits_with_backoff() {
    let mut bench = Bench::start(config(), Memory::Nothing);
    let first = bench.next_sent();
    let mut last = first.clone();
    for nominal in [4.0, 8.0, 16.0, 32.0, 64.0, 64.0, 64.0] {
        let next = bench.next_sent();
        assert!((seconds_between(&last, &next) - nominal).abs() <= 1.0, "{nominal}");
        assert_eq!(next.view().xid(), first.view().xid());
        let elapsed = next.at.since(first.at).as_secs();
        assert_eq!(u64::from(next.view().seconds()), elapsed);
        last = next;
    }
}

#[test]
fn k07_an_offer_for_another_or_without_its_musts_is_ignored() {
    let mut bench = Bench::start(config(), Memory::Nothing);
    let discover = bench.next_sent();
    let good = Answer::offer(shared());
    let mut other = IDENTIFIER.to_vec();
    other[14] = 2;
    let cases = [
        (
            Answer { xid: Some(discover.view().xid() ^ 1), ..good.clone() },
            Ignored::OtherTransaction,
        ),
        (Answer { identifier: Some(other), ..good.clone() }, Ignored::OtherClient),
        (
            Answer { identifier: Some(IDENTIFIER[..14].to_vec()), ..good.clone() },
            Ignored::OtherClient,
        ),
        (Answer { server_id: None, ..good.clone() }, Ignored::NoServerId),
        (Answer { lease: None, ..good.clone() }, Ignored::NoLeaseTime),
        (Answer { lease: Some(0), ..good.clone() }, Ignored::NoLeaseTime),
        (
            Answer { address: Ipv4Addr::UNSPECIFIED, ..good.clone() },
            Ignored::BadAddress(Ipv4Addr::UNSPECIFIED),
        ),
        (Answer::ack(shared()), Ignored::Unexpected(MessageType::Ack)),
        (Answer::nak(), Ignored::Unexpected(MessageType::Nak)),
        (
            Answer { kind: MessageType::Discover, ..good.clone() },
            Ignored::Unexpected(MessageType::Discover),
        ),
    ];
    for (answer, expected) in cases {
        assert_eq!(bench.ignored(&answer.to(&discover)), expected, "{answer:?}");
    }
    bench.hear(&good.to(&discover));
    assert_eq!(bench.next_sent().kind(), MessageType::Request);
}

#[test]
fn a_server_that_returns_no_identifier_is_heard_by_the_hardware_address() {
    let mut bench = Bench::start(config(), Memory::Nothing);
    let discover = bench.next_sent();
    let answer = Answer { identifier: None, ..Answer::offer(shared()) };
    let stranger = Answer { chaddr: Some([9; 16]), ..answer.clone() };
    assert_eq!(bench.ignored(&stranger.to(&discover)), Ignored::OtherClient);
    bench.hear(&answer.to(&discover));
    assert_eq!(bench.next_sent().kind(), MessageType::Request);
}

#[test]
fn k08_an_offer_with_port_params_that_contradict_themselves_is_ignored() {
    let mut bench = Bench::start(config(), Memory::Nothing);
    let discover = bench.next_sent();
    let vectors: [&[u8]; 8] = [
        &[0, 6, 4],
        &[0, 6, 4, 0, 0],
        &[16, 6, 4, 0],
        &[0, 17, 0xff, 0xff],
        &[10, 8, 1, 0],
        &[0, 6, 4, 1],
        &[0, 6, 4, 0, 0, 6, 4, 0],
        &[],
    ];
    for octets in vectors {
        let answer = Answer { port_params: Some(octets.to_vec()), ..Answer::offer(whole()) };
        assert_eq!(bench.ignored(&answer.to(&discover)), Ignored::BadPortParams, "{octets:?}");
    }
}

#[test]
fn k09_the_best_offer_of_the_window_is_taken() {
    let large = Assignment { port_params: PortParams::new(0, 4, 3), ..shared() };
    for (mode, expected) in [(Mode::PreferFull, SERVER), (Mode::PreferShared, OTHER_SERVER)] {
        let mut bench = Bench::start(Config { mode, ..config() }, Memory::Nothing);
        let discover = bench.next_sent();
        let third = Ipv4Addr::new(192, 0, 2, 252);
        bench.hear(&Answer::offer(shared()).by(third).to(&discover));
        let first = bench.now;
        bench.run_for(SECOND / 2);
        bench.hear(&Answer::offer(large).by(OTHER_SERVER).to(&discover));
        bench.hear(&Answer::offer(whole()).by(SERVER).to(&discover));
        let request = bench.next_sent();
        assert_eq!(request.view().server_id(), Some(expected), "{mode:?}");
        assert_eq!(request.at.since(first), SECOND, "one window, from the first offer on");
    }
}

#[test]
fn offers_of_an_unwanted_kind_are_waited_past() {
    for (mode, unwanted, wanted) in
        [(Mode::SharedOnly, whole(), shared()), (Mode::FullOnly, shared(), whole())]
    {
        let mut bench = Bench::start(Config { mode, ..config() }, Memory::Nothing);
        let discover = bench.next_sent();
        assert_eq!(discover.view().requests(159), mode == Mode::SharedOnly);
        let offer = Answer::offer(unwanted).to(&discover);
        assert_eq!(bench.ignored(&offer), Ignored::UnwantedKind);
        bench.hear(&Answer::offer(wanted).to(&discover));
        let request = bench.next_sent();
        assert_eq!(request.kind(), MessageType::Request);
        assert_eq!(request.view().requests(159), mode == Mode::SharedOnly);
    }
}

#[test]
fn k10_the_request_repeats_the_offer_and_the_discover() {
    let mut bench = Bench::start(config(), Memory::Nothing);
    bench.next_sent();
    let discover = bench.next_sent();
    assert!(discover.view().seconds() > 0);
    bench.run_for(SECOND);
    bench.hear(&Answer::offer(shared()).to(&discover));
    for _ in 0..4 {
        let request = bench.next_sent();
        let view = request.view();
        assert_eq!(view.kind(), MessageType::Request);
        assert_eq!((view.server_id(), view.requested_address()), (Some(SERVER), Some(ADDRESS)));
        assert_eq!(request.port_params().unwrap(), [6, 8, 0x34, 0]);
        assert_eq!(view.xid(), discover.view().xid());
        assert_eq!(view.seconds(), discover.view().seconds());
        assert_eq!(request.option(55), discover.option(55));
        assert_eq!(request.option(61).unwrap(), IDENTIFIER);
        assert_eq!(view.ciaddr(), Ipv4Addr::UNSPECIFIED);
        assert!(!request.query().unicast);
    }
    assert_eq!(bench.next_sent().kind(), MessageType::Discover, "four tries, then INIT");
    assert!(bench.notes.contains(&Note::NoAnswer));
}

#[test]
fn the_request_is_repeated_after_4_8_and_16_seconds_and_given_up_after_32_more() {
    let mut bench = Bench::start(config(), Memory::Nothing);
    let discover = bench.next_sent();
    bench.hear(&Answer::offer(shared()).to(&discover));
    let mut last = bench.next_sent();
    for nominal in [4.0, 8.0, 16.0, 32.0] {
        let next = bench.next_sent();
        assert!((seconds_between(&last, &next) - nominal).abs() <= 1.0, "{nominal}");
        last = next;
    }
    assert_eq!(last.kind(), MessageType::Discover);
    assert_ne!(last.view().xid(), discover.view().xid());
    assert_eq!(last.view().seconds(), 0);
}

#[test]
fn k11_the_ports_of_the_ack_are_the_ports_of_the_lease() {
    let mut bench = Bench::start(config(), Memory::Nothing);
    let discover = bench.next_sent();
    bench.hear(&Answer::offer(shared()).to(&discover));
    let request = bench.next_sent();
    let other = Assignment { port_params: PortParams::new(6, 8, 0x35), ..shared() };
    bench.hear(&Answer::ack(other).to(&request));
    assert_eq!(bench.lease().assignment, other);
    assert!(bench.notes.contains(&Note::Differs { requested: shared(), acknowledged: other }));
}

#[test]
fn k12_an_ack_without_159_for_a_shared_offer_is_not_used_and_the_client_restarts_after_10_s() {
    let bad = Answer { port_params: Some(vec![0, 6, 4, 1]), ..Answer::ack(whole()) };
    let elsewhere = Assignment { address: Ipv4Addr::new(192, 0, 2, 99), ..shared() };
    for answer in [Answer::ack(whole()), bad, Answer::ack(elsewhere)] {
        let mut bench = Bench::start(config(), Memory::Nothing);
        let discover = bench.next_sent();
        bench.hear(&Answer::offer(shared()).to(&discover));
        let request = bench.next_sent();
        bench.hear(&answer.to(&request));
        assert_eq!((bench.machine.lease(), bench.events.len()), (None, 0));
        assert!(bench.notes.contains(&Note::Unacceptable));
        let again = bench.next_sent();
        assert_eq!(again.kind(), MessageType::Discover);
        assert_eq!(again.at.since(request.at), 10 * SECOND);
    }
}

#[test]
fn k13_a_whole_address_is_used_whole() {
    let mut bench = Bench::start(config(), Memory::Nothing);
    let discover = bench.next_sent();
    bench.hear(&Answer::offer(whole()).to(&discover));
    let request = bench.next_sent();
    assert_eq!(request.port_params(), None);
    assert!(request.view().requests(159), "the list is repeated all the same");
    bench.hear(&Answer::ack(whole()).to(&request));
    assert_eq!(bench.lease().assignment, whole());
    assert_eq!(bench.lease().assignment.port_ranges(), [0..=u16::MAX]);
}

#[test]
fn k14_nothing_is_sent_after_the_ack_until_t1() {
    let mut bench = Bench::bound(shared());
    let lease = *bench.machine.lease().unwrap();
    bench.run_until(Moment(lease.renew_at.unwrap().0 - 1));
    assert!(bench.sent.is_empty() && bench.events.is_empty());
}

#[test]
fn the_answer_must_come_from_the_server_that_was_chosen() {
    let mut bench = Bench::start(config(), Memory::Nothing);
    let discover = bench.next_sent();
    bench.hear(&Answer::offer(shared()).to(&discover));
    let request = bench.next_sent();
    bench.notes.clear();
    for answer in [Answer::ack(shared()), Answer::nak()] {
        let octets = answer.by(OTHER_SERVER).to(&request);
        assert_eq!(bench.ignored(&octets), Ignored::OtherServer(OTHER_SERVER));
    }
    let late = Answer::offer(shared()).to(&discover);
    assert_eq!(bench.ignored(&late), Ignored::Unexpected(MessageType::Offer));
    bench.hear(&Answer::ack(shared()).to(&request));
    assert_eq!(bench.lease().server_id, SERVER);
}

#[test]
fn a_nak_to_the_first_request_restarts_after_a_random_wait() {
    let mut bench = Bench::start(config(), Memory::Wish(shared()));
    let discover = bench.next_sent();
    assert_eq!(discover.view().requested_address(), Some(ADDRESS));
    bench.hear(&Answer::offer(shared()).to(&discover));
    let request = bench.next_sent();
    bench.hear(&Answer::nak().to(&request));
    let again = bench.next_sent();
    assert!((1.0..=10.0).contains(&seconds_between(&request, &again)));
    assert_eq!(again.kind(), MessageType::Discover);
    assert_eq!(again.view().requested_address(), None, "what was refused is not asked for again");
}

#[test]
fn k26_the_flags_of_a_response_are_ignored() {
    let mut bench = Bench::start(config(), Memory::Nothing);
    let discover = bench.next_sent();
    let mut offer = Answer::offer(shared()).to(&discover);
    offer[1..4].fill(0xff);
    bench.hear(&offer);
    assert_eq!(bench.next_sent().kind(), MessageType::Request);
}

#[test]
fn k27_a_response_with_two_dhcpv4_messages_or_a_short_one_is_discarded() {
    let mut bench = Bench::start(config(), Memory::Nothing);
    let discover = bench.next_sent();
    let offer = Answer::offer(shared()).to(&discover);
    let malformed = Ignored::Malformed;
    let doubled = [&offer[..], &offer[4..]].concat();
    assert_eq!(bench.ignored(&doubled), malformed(Malformed::DuplicateDhcpv4Message));
    let short = [&[21, 0, 0, 0, 0, 87, 0, 10][..], &[2; 10]].concat();
    assert_eq!(bench.ignored(&short), malformed(Malformed::Dhcpv4Short));
    assert_eq!(bench.ignored(&offer[..4]), malformed(Malformed::NoDhcpv4Message));
    let mut query = offer.clone();
    query[0] = 20;
    assert_eq!(bench.ignored(&query), malformed(Malformed::UnknownType));
    let relayed = [&[13][..], &[0; 33], &[0, 9], &u16_of(offer.len()), &offer].concat();
    assert_eq!(bench.ignored(&relayed), Ignored::RelayReply);
}

fn u16_of(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap().to_be_bytes()
}

#[test]
fn k28_only_xid_and_identifier_tell_whose_answer_it_is() {
    // The machine is not even told where a datagram came from. One for the exchange before is too late.
    let mut bench = Bench::start(config(), Memory::Nothing);
    let discover = bench.next_sent();
    bench.hear(&Answer::offer(shared()).to(&discover));
    for _ in 0..4 {
        bench.next_sent();
    }
    bench.next_sent();
    bench.notes.clear();
    let late = Answer::offer(shared()).to(&discover);
    assert_eq!(bench.ignored(&late), Ignored::OtherTransaction);
}

#[test]
fn a_wish_is_asked_for_and_a_size_only_if_there_is_none() {
    let hint = Config { psid_length: Some(6), ..config() };
    let wish = Bench::start(hint.clone(), Memory::Wish(shared())).next_sent();
    assert_eq!(wish.view().requested_address(), Some(ADDRESS));
    assert_eq!(wish.port_params().unwrap(), [6, 8, 0x34, 0]);
    let size = Bench::start(hint.clone(), Memory::Nothing).next_sent();
    assert_eq!(
        (size.view().requested_address(), size.port_params().unwrap()),
        (None, vec![0, 6, 0, 0])
    );
    let full = Config { mode: Mode::FullOnly, ..hint };
    let full = Bench::start(full, Memory::Wish(shared())).next_sent();
    assert_eq!((full.view().requested_address(), full.port_params()), (None, None));
}

#[test]
fn no_more_than_20_datagrams_leave_in_20_seconds() {
    let mut bench = Bench::bound(shared());
    let begun = bench.now;
    for _ in 0..100 {
        bench.handle(Event::RenewNow);
    }
    // Two were spent on the lease. The rest of the burst leaves at once, then one a second.
    let burst = bench.sent.len();
    assert!((18..=20).contains(&burst), "{burst}");
    assert!(bench.notes.contains(&Note::Throttled));
    bench.run_until(begun.plus(20 * SECOND));
    assert!(bench.sent.len() <= 40, "{}", bench.sent.len());
    for second in 0..20 {
        bench.handle(Event::RenewNow);
        bench.run_until(begun.plus((21 + second) * SECOND));
    }
    for window in bench.sent.windows(41) {
        assert!(window[40].at.since(window[0].at) > 20 * SECOND);
    }
}

#[test]
fn a_transmission_to_many_servers_counts_as_many() {
    let mut bench = Bench::start(Config { destinations: 15, ..config() }, Memory::Nothing);
    let first = bench.next_sent();
    let second = bench.next_sent();
    // 5 are left of 20 and 4 are gained until it is due: the rest has to be waited for.
    assert!(seconds_between(&first, &second) >= 10.0);
}

#[test]
fn what_else_the_ack_configures_comes_with_the_lease() {
    let mut bench = Bench::start(config(), Memory::Nothing);
    let discover = bench.next_sent();
    bench.hear(&Answer::offer(whole()).to(&discover));
    let request = bench.next_sent();
    let mut ack = Answer::ack(whole());
    ack.options = vec![
        (dhcpv4::OPTION_SUBNET_MASK, vec![255, 255, 255, 0]),
        (dhcpv4::OPTION_ROUTER, vec![192, 0, 2, 1, 9]),
        (dhcpv4::OPTION_DNS_SERVERS, (1..=24).collect()),
    ];
    bench.hear(&ack.to(&request));
    let network = bench.lease().network;
    assert_eq!(network.subnet_mask, Some(Ipv4Addr::new(255, 255, 255, 0)));
    assert!(network.routers.is_empty(), "five octets are no list of addresses");
    let servers: Vec<u8> = network.dns_servers.iter().map(|address| address.octets()[0]).collect();
    assert_eq!(servers, [1, 5, 9, 13], "the first four");
}

fn full_first(tries: u32) -> Config {
    Config { mode: Mode::FullFirst, full_first_tries: tries, ..config() }
}

#[test]
fn k30_full_first_asks_for_159_only_when_nobody_answers_without_it() {
    let mut bench = Bench::start(full_first(3), Memory::Wish(shared()));
    for number in 1..=3 {
        let discover = bench.next_sent();
        assert!(!discover.view().requests(dhcpv4::OPTION_PORT_PARAMS), "DISCOVER {number}");
        assert_eq!(discover.port_params(), None, "DISCOVER {number}");
        let offer = Answer::offer(shared()).to(&discover);
        assert_eq!(bench.ignored(&offer), Ignored::UnwantedKind, "159 was not asked for");
    }
    let discover = bench.next_sent();
    assert!(bench.notes.contains(&Note::AsksForSharing));
    assert!(discover.view().requests(dhcpv4::OPTION_PORT_PARAMS));
    assert!(discover.port_params().is_some(), "now it may ask for the same ports again");
    bench.hear(&Answer::offer(shared()).to(&discover));
    let request = bench.next_sent();
    assert!(request.view().requests(dhcpv4::OPTION_PORT_PARAMS));
    bench.hear(&Answer::ack(shared()).to(&request));
    assert_eq!(bench.lease().assignment, shared());
    assert!(bench.next_sent().view().requests(dhcpv4::OPTION_PORT_PARAMS), "nor when it renews");
}

#[test]
fn k30_full_first_takes_a_whole_address_as_a_client_that_knows_nothing_of_sharing() {
    let mut bench = Bench::start(full_first(1), Memory::Nothing);
    let discover = bench.next_sent();
    bench.hear(&Answer::offer(whole()).to(&discover));
    let request = bench.next_sent();
    assert_eq!(request.kind(), MessageType::Request);
    assert!(!request.view().requests(dhcpv4::OPTION_PORT_PARAMS));
    bench.hear(&Answer::ack(whole()).to(&request));
    bench.lease();
    assert!(!bench.next_sent().view().requests(dhcpv4::OPTION_PORT_PARAMS), "nor when it renews");
}

#[test]
fn k30_full_first_confirms_whatever_it_had_and_begins_anew_after_a_refusal() {
    let mut bench = Bench::start(full_first(1), Memory::Lease(shared()));
    let reboot = bench.next_sent();
    assert!(reboot.view().requests(dhcpv4::OPTION_PORT_PARAMS));
    bench.hear(&Answer::nak().to(&reboot));
    assert!(!bench.next_sent().view().requests(dhcpv4::OPTION_PORT_PARAMS));
}

#[test]
fn c20_every_mode_but_full_only_lists_159() {
    for (mode, lists) in [
        (Mode::PreferFull, true),
        (Mode::PreferShared, true),
        (Mode::SharedOnly, true),
        (Mode::FullOnly, false),
    ] {
        let mut bench = Bench::start(Config { mode, ..config() }, Memory::Nothing);
        let discover = bench.next_sent();
        assert_eq!(discover.view().requests(dhcpv4::OPTION_PORT_PARAMS), lists, "{mode:?}");
    }
}
