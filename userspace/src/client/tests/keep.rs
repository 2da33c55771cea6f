//! From a lease to its end: BOUND, RENEWING, REBINDING, restarts and RELEASE.

use super::*;

/// A machine that holds the shared lease for a day and has just begun to renew it.
fn renewing() -> (Bench, Sent) {
    let mut bench = Bench::bound_for(shared(), 86_400);
    let request = bench.next_sent();
    assert!(request.query().unicast);
    bench.notes.clear();
    (bench, request)
}

#[test]
fn the_times_count_from_the_moment_the_request_was_sent() {
    let mut bench = Bench::start(config(), Memory::Nothing);
    let discover = bench.next_sent();
    bench.hear(&Answer::offer(shared()).to(&discover));
    let request = bench.next_sent();
    bench.next_sent();
    bench.run_for(SECOND);
    bench.hear(&Answer::ack(shared()).to(&request));
    let lease = bench.lease();
    // Of several REQUESTs with one xid the first may be the one that was answered.
    assert_eq!(lease.began, request.at);
    assert_eq!(lease.expires_at, Some(request.at.plus(3600 * SECOND)));
}

#[test]
fn k15_at_t1_the_lease_is_renewed_towards_its_server() {
    let mut bench = Bench::bound(shared());
    let lease = *bench.machine.lease().unwrap();
    let request = bench.next_sent();
    assert_eq!(Some(request.at), lease.renew_at);
    let view = request.view();
    assert!(request.query().unicast);
    assert_eq!(view.kind(), MessageType::Request);
    assert_eq!((view.ciaddr(), view.requested_address(), view.server_id()), (ADDRESS, None, None));
    assert_eq!(request.port_params().unwrap(), PORTS.encode());
    assert!(view.requests(159));
    assert_eq!(request.option(61).unwrap(), IDENTIFIER);
    bench.hear(&Answer::ack(shared()).to(&request));
    let [Action::Renewed(renewed)] = bench.events[..] else { panic!("{:?}", bench.events) };
    assert_eq!((renewed.began, renewed.assignment), (request.at, shared()));
    assert_eq!(bench.machine.lease(), Some(&renewed));
}

#[test]
fn a_whole_address_is_renewed_without_option_159() {
    let mut bench = Bench::bound(whole());
    let request = bench.next_sent();
    assert_eq!((request.port_params(), request.view().ciaddr()), (None, ADDRESS));
    assert!(request.view().requests(159));
}

#[test]
fn k16_at_t2_any_server_may_extend_the_lease() {
    let mut bench = Bench::bound(shared());
    let lease = *bench.machine.lease().unwrap();
    let rebind_at = lease.rebind_at.unwrap();
    bench.run_until(Moment(rebind_at.0 - 1));
    assert!(bench.sent.iter().all(|sent| sent.query().unicast));
    bench.sent.clear();
    let request = bench.next_sent();
    assert_eq!(request.at, rebind_at);
    assert!(!request.query().unicast);
    assert_eq!((request.view().ciaddr(), request.view().server_id()), (ADDRESS, None));
    assert_eq!(request.port_params().unwrap(), PORTS.encode());
    bench.hear(&Answer::ack(shared()).by(OTHER_SERVER).to(&request));
    let [Action::Renewed(renewed)] = bench.events[..] else { panic!("{:?}", bench.events) };
    assert_eq!(renewed.server_id, OTHER_SERVER);
}

#[test]
fn k17_renewals_are_repeated_at_half_of_the_time_left_and_not_within_a_minute() {
    let (mut bench, mut last) = renewing();
    let lease = *bench.machine.lease().unwrap();
    for end in [lease.rebind_at.unwrap(), lease.expires_at.unwrap()] {
        loop {
            let left = end.since(last.at);
            let next = bench.next_sent();
            let waited = next.at.since(last.at);
            if next.at >= end {
                assert!(left / 2 < 60 * SECOND + waited, "T2 or the end comes first");
                last = next;
                break;
            }
            let expected = (left / 2).max(60 * SECOND);
            assert!(waited.abs_diff(expected) < SECOND / 1000, "{waited:?} {expected:?}");
            assert_ne!(next.view().xid(), last.view().xid(), "each says when its lease begins");
            last = next;
        }
    }
    assert_eq!(last.kind(), MessageType::Discover);
}

#[test]
fn the_answer_to_an_earlier_renewal_comes_too_late() {
    let (mut bench, first) = renewing();
    let second = bench.next_sent();
    bench.notes.clear();
    let late = Answer::ack(shared()).to(&first);
    assert_eq!(bench.ignored(&late), Ignored::OtherTransaction);
    bench.hear(&Answer::ack(shared()).to(&second));
    assert_eq!(bench.machine.lease().unwrap().began, second.at);
}

#[test]
fn k18_when_the_lease_ends_it_is_lost_at_once_and_asked_for_again() {
    let mut bench = Bench::bound(shared());
    let lease = *bench.machine.lease().unwrap();
    let end = lease.expires_at.unwrap();
    bench.run_until(Moment(end.0 - 1));
    assert!(bench.events.is_empty());
    let last_request = bench.sent.pop().unwrap();
    bench.sent.clear();
    bench.run_until(end);
    assert_eq!(bench.events, [Action::Lost(lease, Loss::Expired)]);
    assert_eq!(bench.machine.lease(), None);
    let discover = bench.next_sent();
    assert_eq!((discover.at, discover.kind()), (end, MessageType::Discover));
    assert_eq!(discover.view().requested_address(), Some(ADDRESS));
    assert_eq!(discover.port_params().unwrap(), PORTS.encode());
    bench.hear(&Answer::ack(shared()).to(&last_request));
    assert_eq!(bench.machine.lease(), None, "an ACK does not revive it");
}

#[test]
fn an_ack_in_the_very_moment_of_the_end_is_too_late_even_if_the_timer_has_not_rung() {
    let mut bench = Bench::bound_for(shared(), 600);
    let lease = *bench.machine.lease().unwrap();
    let end = lease.expires_at.unwrap();
    bench.run_until(Moment(end.0 - 1));
    let request = bench.sent.pop().unwrap();
    bench.now = end;
    bench.hear(&Answer::ack(shared()).to(&request));
    assert_eq!(bench.events, [Action::Lost(lease, Loss::Expired)]);
}

#[test]
fn an_ack_for_less_time_than_it_took_is_no_lease() {
    let mut bench = Bench::start(config(), Memory::Nothing);
    let discover = bench.next_sent();
    bench.hear(&Answer::offer(shared()).to(&discover));
    let request = bench.next_sent();
    bench.next_sent();
    bench.notes.clear();
    let short = Answer::ack(shared()).lasting(2).to(&request);
    assert_eq!(bench.ignored(&short), Ignored::TooLate);
}

#[test]
fn a_clock_that_slept_past_the_end_loses_the_lease_before_anything_else() {
    let mut bench = Bench::bound(shared());
    let lease = *bench.machine.lease().unwrap();
    bench.now = bench.now.plus(90_000 * SECOND);
    bench.handle(Event::Timer);
    assert_eq!(bench.events, [Action::Lost(lease, Loss::Expired)]);
    assert_eq!(bench.sent.len(), 1);
    assert_eq!(bench.sent[0].kind(), MessageType::Discover);
}

#[test]
fn k19_a_nak_ends_the_lease() {
    let (mut bench, request) = renewing();
    let lease = *bench.machine.lease().unwrap();
    bench.hear(&Answer::nak().to(&request));
    assert_eq!(bench.events, [Action::Lost(lease, Loss::Refused)]);
    let discover = bench.next_sent();
    assert_eq!((discover.kind(), discover.at), (MessageType::Discover, request.at));
    assert_eq!(discover.view().requested_address(), None);
}

#[test]
fn k20_a_nak_for_somebody_else_is_ignored() {
    let (mut bench, request) = renewing();
    let nak = Answer { identifier: Some(vec![255, 9, 9]), ..Answer::nak() };
    assert_eq!(bench.ignored(&nak.to(&request)), Ignored::OtherClient);
    let anonymous = Answer { server_id: None, ..Answer::nak() };
    assert_eq!(bench.ignored(&anonymous.to(&request)), Ignored::NoServerId);
}

#[test]
fn an_ack_for_something_else_leaves_the_lease_as_it_is() {
    let (mut bench, request) = renewing();
    let elsewhere = Assignment { address: Ipv4Addr::new(192, 0, 2, 99), ..shared() };
    let bad = Answer { port_params: Some(vec![0, 6, 4, 1]), ..Answer::ack(shared()) };
    let widened = Answer::ack(whole()).to(&request);
    assert_eq!(bench.ignored(&widened), Ignored::OtherAssignment, "others hold the rest");
    let moved = Answer::ack(elsewhere).to(&request);
    assert_eq!(bench.ignored(&moved), Ignored::OtherAssignment);
    assert_eq!(bench.ignored(&bad.to(&request)), Ignored::BadPortParams);
    assert!(bench.next_sent().query().unicast, "it goes on asking");
}

#[test]
fn k21_at_the_end_the_lease_is_given_back() {
    let mut bench = Bench::bound(shared());
    let lease = *bench.machine.lease().unwrap();
    bench.run_for(100 * SECOND);
    bench.handle(Event::Release);
    assert_eq!(bench.events, [Action::Lost(lease, Loss::Released)]);
    let release = bench.next_sent();
    let view = release.view();
    assert_eq!((view.kind(), release.at), (MessageType::Release, bench.now));
    assert!(release.query().unicast);
    assert_eq!((view.ciaddr(), view.server_id()), (ADDRESS, Some(SERVER)));
    assert_eq!(view.requested_address(), None);
    assert_eq!((release.option(55), release.option(51)), (None, None));
    assert_eq!(release.port_params().unwrap(), PORTS.encode());
    assert_eq!(release.option(61).unwrap(), IDENTIFIER);
    assert!(bench.stopped);
    assert_eq!(bench.machine.deadline(), None);
    bench.handle(Event::Release);
    bench.handle(Event::RenewNow);
    bench.handle(Event::Start);
    assert!(bench.sent.is_empty());
}

#[test]
fn without_a_lease_there_is_nothing_to_give_back() {
    let mut bench = Bench::start(config(), Memory::Nothing);
    bench.next_sent();
    bench.handle(Event::Release);
    assert!(bench.stopped && bench.sent.is_empty() && bench.events.is_empty());
}

#[test]
fn a_release_waits_for_the_rate_limit_but_the_lease_is_over_at_once() {
    let mut bench = Bench::bound(shared());
    for _ in 0..50 {
        bench.handle(Event::RenewNow);
    }
    bench.sent.clear();
    bench.handle(Event::Release);
    assert!(matches!(bench.events[..], [Action::Lost(_, Loss::Released)]));
    assert!(bench.sent.is_empty() && !bench.stopped);
    assert_eq!(bench.next_sent().kind(), MessageType::Release);
    assert!(bench.stopped);
}

#[test]
fn k22_after_a_restart_the_lease_is_confirmed() {
    let mut bench = Bench::start(config(), Memory::Lease(shared()));
    let request = bench.next_sent();
    let view = request.view();
    assert_eq!((view.kind(), request.at), (MessageType::Request, bench.now), "at once");
    assert_eq!((view.requested_address(), view.server_id()), (Some(ADDRESS), None));
    assert_eq!(view.ciaddr(), Ipv4Addr::UNSPECIFIED);
    assert_eq!(request.port_params().unwrap(), PORTS.encode());
    assert!(view.requests(159) && !request.query().unicast);
    bench.hear(&Answer::ack(shared()).by(OTHER_SERVER).to(&request));
    assert_eq!((bench.lease().assignment, bench.lease().server_id), (shared(), OTHER_SERVER));
}

#[test]
fn a_nak_after_a_restart_begins_at_once_from_nothing() {
    let mut bench = Bench::start(config(), Memory::Lease(shared()));
    let request = bench.next_sent();
    bench.hear(&Answer::nak().to(&request));
    let discover = bench.next_sent();
    assert_eq!((discover.kind(), discover.at), (MessageType::Discover, request.at));
    assert_eq!(discover.view().requested_address(), None);
}

#[test]
fn a_restart_that_nobody_answers_ends_in_a_discover_for_the_same() {
    let mut bench = Bench::start(config(), Memory::Lease(shared()));
    let tries: Vec<Sent> = (0..4).map(|_| bench.next_sent()).collect();
    assert!(tries.iter().all(|sent| sent.kind() == MessageType::Request));
    let discover = bench.next_sent();
    assert_eq!(discover.kind(), MessageType::Discover);
    assert!((seconds_between(&tries[0], &discover) - 60.0).abs() <= 4.0);
    assert_eq!(discover.view().requested_address(), Some(ADDRESS));
    assert_eq!(discover.port_params().unwrap(), PORTS.encode());
}

#[test]
fn a_remembered_lease_of_an_unwanted_kind_is_not_confirmed() {
    let full_only = Config { mode: Mode::FullOnly, ..config() };
    let sent = Bench::start(full_only, Memory::Lease(shared())).next_sent();
    assert_eq!((sent.kind(), sent.port_params()), (MessageType::Discover, None));
    assert_eq!(sent.view().requested_address(), None);
}

#[test]
fn k23_from_another_source_the_former_lease_is_only_asked_for() {
    let mut bench = Bench::start(config(), Memory::Wish(shared()));
    let sent = bench.next_sent();
    assert_eq!(sent.kind(), MessageType::Discover);
    assert_eq!(sent.view().requested_address(), Some(ADDRESS));
    assert_eq!(sent.port_params().unwrap(), PORTS.encode());
}

#[test]
fn k24_another_source_ends_the_lease_and_begins_with_a_discover() {
    let mut bench = Bench::bound(shared());
    let lease = *bench.machine.lease().unwrap();
    bench.run_for(100 * SECOND);
    bench.handle(Event::SourceChanged);
    assert_eq!(bench.events, [Action::Lost(lease, Loss::SourceChanged)]);
    let discover = bench.next_sent();
    assert_eq!((discover.kind(), discover.at), (MessageType::Discover, bench.now));
    assert_eq!(discover.view().requested_address(), Some(ADDRESS));
}

#[test]
fn another_source_before_there_is_a_lease_begins_again() {
    let mut selecting = Bench::start(config(), Memory::Nothing);
    let discover = selecting.next_sent();
    selecting.hear(&Answer::offer(shared()).to(&discover));
    selecting.handle(Event::SourceChanged);
    let again = selecting.next_sent();
    assert_eq!(again.kind(), MessageType::Discover);
    assert_ne!(again.view().xid(), discover.view().xid());

    let mut rebooting = Bench::start(config(), Memory::Lease(shared()));
    rebooting.next_sent();
    rebooting.handle(Event::SourceChanged);
    let again = rebooting.next_sent();
    assert_eq!((again.kind(), again.at), (MessageType::Discover, rebooting.now));
}

#[test]
fn k29_times_that_contradict_each_other_are_replaced() {
    let mut bench = Bench::start(config(), Memory::Nothing);
    let discover = bench.next_sent();
    bench.hear(&Answer::offer(shared()).to(&discover));
    let request = bench.next_sent();
    let answer = Answer { renewal: Some(3000), rebinding: Some(2000), ..Answer::ack(shared()) };
    bench.hear(&answer.to(&request));
    let terms = bench.lease().terms;
    assert_eq!((terms.renewal_seconds, terms.rebinding_seconds), (1800, 3150));
}

#[test]
fn k32_other_ports_in_a_later_ack_are_told_with_the_former_ones() {
    let (mut bench, request) = renewing();
    let former = *bench.machine.lease().unwrap();
    let other = Assignment { port_params: PortParams::new(6, 8, 0x35), ..shared() };
    bench.hear(&Answer::ack(other).to(&request));
    let [Action::Changed { from, to }] = bench.events[..] else { panic!("{:?}", bench.events) };
    assert_eq!((from, to.assignment), (former, other));
    let next = bench.next_sent();
    assert_eq!(next.port_params().unwrap(), [6, 8, 0x35, 0]);
}

#[test]
fn k33_a_lease_without_end_is_never_renewed() {
    let mut bench = Bench::bound_for(shared(), u32::MAX);
    assert_eq!(bench.machine.deadline(), None);
    bench.handle(Event::RenewNow);
    let request = bench.next_sent();
    assert!(request.query().unicast, "unless it is asked for");
    assert_eq!(bench.next_sent().at.since(request.at), 60 * SECOND);
}

#[test]
fn to_renew_now_is_to_renew_at_once() {
    let mut bench = Bench::bound(shared());
    bench.run_for(100 * SECOND);
    bench.handle(Event::RenewNow);
    let request = bench.next_sent();
    assert_eq!((request.at, request.query().unicast), (bench.now, true));
    bench.run_for(5 * SECOND);
    bench.handle(Event::RenewNow);
    assert_eq!(bench.next_sent().at, bench.now);
    let mut idle = Bench::start(config(), Memory::Nothing);
    idle.handle(Event::RenewNow);
    assert!(idle.sent.is_empty(), "there is nothing to renew");
}
