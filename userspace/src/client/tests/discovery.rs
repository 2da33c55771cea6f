//! The search for servers, in virtual time.

use std::net::Ipv6Addr;

use super::SECOND;
use crate::{
    client::{
        discovery::{Action, Config, Discovery, Event, Ignored, Information, Note},
        servers::Servers,
        timers::Moment,
    },
    wire::{
        dhcpv6::{self, Reply, Request},
        writer::Writer,
    },
};

pub(super) const DUID: [u8; 10] = [0, 3, 0, 1, 2, 0, 0, 0, 0, 1];

/// What a server of stateless DHCPv6 says.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) options: Vec<(u16, Vec<u8>)>,
}

impl Said {
    /// Server identifier, client identifier and these servers.
    pub(super) fn servers(addresses: &[&str]) -> Self {
        let octets = |text: &&str| text.parse::<Ipv6Addr>().unwrap().octets();
        Self::nothing().with(dhcpv6::OPTION_4O6_SERVER, addresses.iter().flat_map(octets).collect())
    }

    /// No option 88.
    pub(super) fn nothing() -> Self {
        let identity =
            [(dhcpv6::OPTION_CLIENT_ID, DUID.to_vec()), (dhcpv6::OPTION_SERVER_ID, vec![0, 3, 9])];
        Said { options: identity.to_vec() }
    }

    pub(super) fn with(mut self, code: u16, content: Vec<u8>) -> Self {
        self.options.push((code, content));
        self
    }

    fn without(mut self, code: u16) -> Self {
        self.options.retain(|(present, _)| *present != code);
        self
    }

    /// The Reply to an Information-request.
    pub(super) fn to(&self, request: &[u8]) -> Vec<u8> {
        let mut buffer = [0; 1500];
        let mut w = Writer::new(&mut buffer);
        let envelope =
            dhcpv6::begin_reply(&mut w, dhcpv6::Relays::NONE, [request[1], request[2], request[3]]);
        for (code, content) in &self.options {
            dhcpv6::put_option(&mut w, *code, content);
        }
        envelope.finish(&mut w);
        w.written().to_vec()
    }
}

/// A machine and its clock.
struct Bench {
    discovery: Discovery,
    now: Moment,
    sent: Vec<Vec<u8>>,
    learned: Vec<Information>,
    notes: Vec<Note>,
}

impl Bench {
    fn start(config: Config) -> Self {
        let mut bench = Bench {
            discovery: Discovery::new(config, 7),
            now: Moment(1_000_000),
            sent: Vec::new(),
            learned: Vec::new(),
            notes: Vec::new(),
        };
        bench.handle(Event::Start);
        bench
    }

    fn handle(&mut self, event: Event<'_>) {
        let mut actions = Vec::new();
        self.discovery.handle(self.now, event, &mut actions);
        for action in actions {
            match action {
                Action::Send(octets) => self.sent.push(octets),
                Action::Learned(information) => self.learned.push(information),
                Action::Log(note) => self.notes.push(note),
            }
        }
    }

    /// Lets time pass until something is sent, and takes it.
    fn next_sent(&mut self) -> (Moment, Vec<u8>) {
        while self.sent.is_empty() {
            self.now = self.discovery.deadline().expect("it waits for nothing");
            self.handle(Event::Timer);
        }
        (self.now, self.sent.remove(0))
    }

    fn hear(&mut self, datagram: &[u8]) {
        self.handle(Event::Datagram(datagram));
    }

    fn ignored(&mut self, datagram: &[u8]) -> Ignored {
        self.hear(datagram);
        assert!(self.learned.is_empty());
        match self.notes.pop() {
            Some(Note::Ignored(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }
}

fn config() -> Config {
    Config::new(Some(DUID.to_vec()))
}

fn option(request: &[u8], code: u16) -> Option<Vec<u8>> {
    let mut options = dhcpv6::Options::new(&request[4..]);
    options.find(|&(seen, _)| seen == code).map(|(_, content)| content.to_vec())
}

#[test]
fn the_request_names_the_client_and_asks_for_88_32_and_83() {
    let mut bench = Bench::start(Config { extra: vec![90, 137], ..config() });
    let (_, request) = bench.next_sent();
    let Request::Information(read) = Request::parse(&request).unwrap() else { panic!() };
    assert_eq!(read.client_id, Some(&DUID[..]));
    assert_eq!((read.server_id, read.has_identity_association), (None, false));
    assert_eq!(option(&request, 6).unwrap(), [0, 88, 0, 32, 0, 83, 0, 90, 0, 137]);
    assert_eq!(option(&request, 8).unwrap(), [0, 0], "the first one: no time has elapsed");
    let anonymous = Bench::start(Config::new(None)).next_sent().1;
    assert_eq!(option(&anonymous, 1), None);
}

#[test]
fn it_is_repeated_after_1_2_4_seconds_and_so_on_up_to_an_hour_a_tenth_more_or_less() {
    let mut bench = Bench::start(config());
    let begin = bench.now;
    let (mut last, first) = bench.next_sent();
    assert!(last.since(begin) <= SECOND, "the first wait");
    let mut previous = SECOND / 2;
    for _ in 0..16 {
        let (at, request) = bench.next_sent();
        let wait = at.since(last);
        let nominal = (previous * 2).min(3600 * SECOND);
        assert!(wait.abs_diff(nominal) <= nominal / 10, "{wait:?} after {previous:?}");
        assert_eq!(request[1..4], first[1..4], "the same transaction");
        let elapsed = u16::try_from(at.since(begin).as_millis() / 10).unwrap_or(u16::MAX);
        let told = option(&request, 8).unwrap();
        let told = u16::from_be_bytes([told[0], told[1]]);
        assert!(told <= elapsed && elapsed - told <= 100, "{told} of {elapsed} hundredths");
        (last, previous) = (at, wait);
    }
    assert!(previous > 3000 * SECOND);
}

#[test]
fn k03_the_servers_are_learned_once_each() {
    let mut bench = Bench::start(config());
    let (_, request) = bench.next_sent();
    bench.hear(&Said::servers(&["2001:db8::a", "2001:db8::b", "2001:db8::a"]).to(&request));
    let expected = Servers::new(["2001:db8::a", "2001:db8::b"].map(|text| text.parse().unwrap()));
    assert_eq!(bench.learned[0].servers, Some(expected));
}

#[test]
fn k02_an_empty_option_is_the_group_and_a_malformed_one_is_none() {
    for (content, expected) in [(vec![], Some(Servers::Group)), (vec![1; 15], None)] {
        let mut bench = Bench::start(config());
        let (_, request) = bench.next_sent();
        bench.hear(&Said::nothing().with(88, content).to(&request));
        bench.now = bench.now.plus(SECOND);
        bench.handle(Event::Timer);
        assert_eq!(bench.learned[0].servers, expected);
    }
}

#[test]
fn what_is_not_ours_is_ignored() {
    let mut bench = Bench::start(config());
    let said = Said::servers(&["2001:db8::a"]);
    assert_eq!(bench.ignored(&said.to(&[11, 1, 2, 3])), Ignored::OtherTransaction, "too early");
    let (_, request) = bench.next_sent();
    bench.notes.clear();
    let other = [11, request[1] ^ 1, request[2], request[3]];
    assert_eq!(bench.ignored(&said.to(&other)), Ignored::OtherTransaction);
    let foreign = said.clone().without(1).with(1, vec![0, 3, 7]);
    assert_eq!(bench.ignored(&foreign.to(&request)), Ignored::OtherClient);
    assert_eq!(bench.ignored(&said.clone().without(1).to(&request)), Ignored::OtherClient);
    assert_eq!(bench.ignored(&said.clone().without(2).to(&request)), Ignored::NoServerId);
    let failed = said.clone().with(13, vec![0, 1, b'n', b'o']);
    assert_eq!(bench.ignored(&failed.to(&request)), Ignored::Status(1));
    let mut cut = said.to(&request);
    cut.pop();
    assert!(matches!(bench.ignored(&cut), Ignored::Malformed(_)));
    bench.hear(&said.with(13, vec![0, 0]).to(&request));
    assert_eq!(bench.learned.len(), 1, "status 0 is success");
    let late = Said::servers(&["2001:db8::bad"]).to(&request);
    bench.learned.clear();
    assert_eq!(bench.ignored(&late), Ignored::OtherTransaction, "nothing is asked any more");
}

#[test]
fn of_two_servers_the_one_that_knows_is_heard() {
    let mut bench = Bench::start(config());
    let (_, request) = bench.next_sent();
    bench.hear(&Said::nothing().to(&request));
    assert!(bench.learned.is_empty(), "another may know");
    bench.hear(&Said::servers(&["2001:db8::a"]).to(&request));
    assert!(bench.learned[0].servers.is_some());
    // And if none comes, that was the answer.
    let mut bench = Bench::start(config());
    let (at, request) = bench.next_sent();
    bench.hear(&Said::nothing().to(&request));
    assert_eq!(bench.discovery.deadline(), Some(at.plus(SECOND)));
    bench.now = at.plus(SECOND);
    bench.handle(Event::Timer);
    assert_eq!(bench.learned[0].servers, None);
    assert!(bench.sent.is_empty(), "no repetition once there is an answer");
}

#[test]
fn it_asks_again_when_the_server_says_so_but_not_within_ten_minutes() {
    for (refresh, expected) in [
        (None, Some(86_400)),
        (Some(7200_u32), Some(7200)),
        (Some(30), Some(600)),
        (Some(u32::MAX), None),
    ] {
        let mut bench = Bench::start(config());
        let (at, request) = bench.next_sent();
        let mut said = Said::servers(&["2001:db8::a"]);
        if let Some(seconds) = refresh {
            said = said.with(32, seconds.to_be_bytes().to_vec());
        }
        bench.hear(&said.to(&request));
        let due = expected.map(|seconds| at.plus(seconds * SECOND));
        assert_eq!(bench.discovery.deadline(), due, "{refresh:?}");
        if let Some(due) = due {
            let (again, second) = bench.next_sent();
            assert!(again.since(due) <= SECOND, "and a random wait before");
            assert_ne!(second[1..4], request[1..4], "another transaction");
            assert_eq!(option(&second, 8).unwrap(), [0, 0]);
        }
    }
}

#[test]
fn the_longest_wait_is_the_servers_if_it_may_be() {
    for (limit, expected) in [(60_u32, 60), (59, 3600), (86_401, 3600)] {
        let mut bench = Bench::start(config());
        let (_, request) = bench.next_sent();
        let said = Said::servers(&[]).with(83, limit.to_be_bytes().to_vec());
        bench.hear(&said.to(&request));
        let mut last = bench.next_sent().0;
        let mut wait = SECOND;
        for _ in 0..14 {
            let (at, _) = bench.next_sent();
            (wait, last) = (at.since(last), at);
        }
        assert!(wait.abs_diff(expected * SECOND) <= expected * SECOND / 10, "{limit}: {wait:?}");
    }
}

#[test]
fn on_another_link_it_asks_at_once() {
    let mut bench = Bench::start(config());
    let (_, request) = bench.next_sent();
    bench.hear(&Said::servers(&["2001:db8::a"]).to(&request));
    let now = bench.now;
    bench.handle(Event::Again);
    assert!(bench.next_sent().0.since(now) <= SECOND);
}

#[test]
fn the_options_that_were_asked_for_come_as_they_are_and_no_others() {
    let mut bench = Bench::start(Config { extra: vec![90], ..config() });
    let (_, request) = bench.next_sent();
    let said = Said::servers(&[]).with(90, vec![1; 16]).with(23, vec![2; 16]).with(90, vec![3]);
    bench.hear(&said.to(&request));
    assert_eq!(bench.learned[0].extra, [(90, vec![1; 16]), (90, vec![3])]);
}

#[test]
fn no_datagram_makes_it_panic() {
    let mut random = fastrand::Rng::with_seed(5);
    let mut bench = Bench::start(config());
    let (_, request) = bench.next_sent();
    let good = Said::servers(&["2001:db8::a"]).with(13, vec![0, 1]).to(&request);
    for _ in 0..20_000 {
        let mut octets = good.clone();
        for _ in 0..random.usize(0..4) {
            let at = random.usize(4..octets.len());
            octets[at] = random.u8(..);
        }
        octets.truncate(random.usize(0..=octets.len()));
        bench.hear(&octets);
        if Reply::parse(&octets).is_err() {
            assert!(bench.learned.is_empty());
        }
        bench.learned.clear();
        bench.handle(Event::Again);
        bench.now = bench.now.plus(2 * SECOND);
        bench.handle(Event::Timer);
    }
}
