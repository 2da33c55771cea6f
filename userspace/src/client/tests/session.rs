//! The whole client in virtual time: it finds its servers, leases from them and stops when there are none.

use super::{
    discovery::{DUID, Said},
    *,
};
use crate::client::{
    discovery,
    servers::Servers,
    session::{Config as SessionConfig, Event, Session, Source},
};

/// A session, its clock, and what it did that nobody has looked at yet.
struct Room {
    session: Session,
    now: Moment,
    actions: Vec<Action>,
    /// Whether the driver has a way to whatever servers there are.
    connected: bool,
}

impl Room {
    fn start(source: Source, on_loss: OnLoss) -> Self {
        let now = Moment(1_000_000);
        let config = SessionConfig { machine: config(), source, on_loss };
        let session = Session::new(config, 3, now);
        let mut room = Room { session, now, actions: Vec::new(), connected: true };
        room.handle(Event::Start);
        room
    }

    fn discovering(on_loss: OnLoss) -> Self {
        Self::start(Source::Discovery(discovery::Config::new(Some(DUID.to_vec()))), on_loss)
    }

    fn handle(&mut self, event: Event<'_>) {
        let mut actions = Vec::new();
        self.session.handle(self.now, event, &mut actions);
        let follows = actions.iter().any(|action| matches!(action, Action::Servers(Some(_))));
        self.actions.extend(actions.into_iter().filter(|action| !matches!(action, Action::Log(_))));
        if follows && self.connected {
            self.reach(Memory::Nothing);
        }
    }

    fn reach(&mut self, memory: Memory) {
        let destinations = self.session.servers().map_or(0, |servers| servers.addresses().len());
        let destinations = u32::try_from(destinations).unwrap();
        self.handle(Event::Reachable { destinations, offer_wait: SECOND, memory });
    }

    fn run_until(&mut self, end: Moment) {
        while let Some(due) = self.session.deadline().filter(|&due| due <= end) {
            self.now = self.now.max(due);
            self.handle(Event::Timer);
        }
        self.now = self.now.max(end);
    }

    /// Lets time pass until `choose` finds something among the actions, and takes all of them.
    fn next<T>(&mut self, choose: impl Fn(&Action) -> Option<T>) -> T {
        loop {
            for action in std::mem::take(&mut self.actions) {
                if let Some(found) = choose(&action) {
                    return found;
                }
            }
            self.now = self.now.max(self.session.deadline().expect("it waits for nothing"));
            self.handle(Event::Timer);
        }
    }

    fn next_inform(&mut self) -> Vec<u8> {
        self.next(|action| match action {
            Action::Inform(octets) => Some(octets.clone()),
            _ => None,
        })
    }

    fn next_sent(&mut self) -> Sent {
        let octets = self.next(|action| match action {
            Action::Send(octets) => Some(octets.clone()),
            _ => None,
        });
        Sent { at: self.now, octets }
    }

    fn inform(&mut self, said: &Said) {
        let request = self.next_inform();
        self.actions.clear();
        self.handle(Event::Datagram(&said.to(&request)));
    }

    /// Obtains a lease of an hour.
    fn obtain(&mut self) {
        let discover = self.next_sent();
        self.handle(Event::Datagram(&Answer::offer(shared()).to(&discover)));
        let request = self.next_sent();
        self.handle(Event::Datagram(&Answer::ack(shared()).to(&request)));
        assert!(matches!(self.actions[..], [Action::Obtained(_)]), "{:?}", self.actions);
        self.actions.clear();
    }

    fn sends_nothing_but_informs(&self) {
        let others: Vec<_> =
            self.actions.iter().filter(|action| !matches!(action, Action::Inform(_))).collect();
        assert!(others.is_empty(), "{others:?}");
    }
}

fn day() -> Duration {
    24 * 3600 * SECOND
}

#[test]
fn k01_without_option_88_no_query_is_ever_sent() {
    let mut room = Room::discovering(OnLoss::Now);
    room.inform(&Said::nothing());
    room.run_until(room.now.plus(3 * day()));
    let informs = room.actions.len();
    room.sends_nothing_but_informs();
    assert!(informs > 1, "it goes on asking");
    assert_eq!(room.session.servers(), None);
}

#[test]
fn before_anybody_answers_no_query_is_sent_either() {
    let mut room = Room::discovering(OnLoss::Now);
    room.run_until(room.now.plus(day()));
    room.sends_nothing_but_informs();
    room.handle(Event::RenewNow);
    room.handle(Event::SourceChanged);
    room.handle(Event::Reachable { destinations: 1, offer_wait: SECOND, memory: Memory::Nothing });
    room.run_until(room.now.plus(day()));
    room.sends_nothing_but_informs();
    room.handle(Event::Release);
    assert_eq!(room.actions.last(), Some(&Action::Stopped));
    assert_eq!(room.session.deadline(), None);
}

#[test]
fn k02_k34_with_an_empty_option_native_dhcpv4_stops_and_the_group_is_asked() {
    let mut room = Room::discovering(OnLoss::Now);
    room.inform(&Said::servers(&[]));
    assert_eq!(room.actions, [Action::NativeStop, Action::Servers(Some(Servers::Group))]);
    assert_eq!(room.next_sent().kind(), MessageType::Discover);
}

#[test]
fn nothing_is_sent_before_there_is_a_way() {
    let mut room = Room::discovering(OnLoss::Now);
    room.connected = false;
    room.inform(&Said::servers(&["2001:db8::a"]));
    room.actions.clear();
    room.run_until(room.now.plus(60 * SECOND));
    assert!(room.actions.is_empty());
    // A lease can be confirmed once it is known where queries leave from.
    room.reach(Memory::Lease(shared()));
    let reboot = room.next_sent();
    assert_eq!(
        (reboot.kind(), reboot.view().ciaddr()),
        (MessageType::Request, Ipv4Addr::UNSPECIFIED)
    );
}

#[test]
fn k04_when_the_option_vanishes_the_lease_is_lost_at_once_or_runs_out_without_renewal() {
    for on_loss in [OnLoss::Now, OnLoss::LeaseEnd] {
        let mut room = Room::discovering(on_loss);
        let refresh = 600_u32.to_be_bytes().to_vec();
        let said = Said::servers(&["2001:db8::a"]).with(32, refresh.clone());
        room.inform(&said);
        room.obtain();
        let lease = *room.session.lease().unwrap();
        room.inform(&Said::nothing().with(32, refresh));
        room.run_until(room.now.plus(SECOND));
        let gone = [Action::Servers(None), Action::NativeStart];
        if on_loss == OnLoss::Now {
            let lost = Action::Lost(lease, Loss::Withdrawn);
            assert_eq!(room.actions[..], [&[lost][..], &gone].concat());
            assert_eq!(room.session.lease(), None);
        } else {
            assert_eq!(room.actions[..], gone);
            assert_eq!(room.session.lease(), Some(&lease));
        }
        room.actions.clear();
        room.run_until(lease.expires_at.unwrap());
        room.actions.retain(|action| !matches!(action, Action::Inform(_)));
        let expired = Action::Lost(lease, Loss::Expired);
        assert_eq!(room.actions, if on_loss == OnLoss::Now { vec![] } else { vec![expired] });
        room.actions.clear();
        room.run_until(room.now.plus(day()));
        room.sends_nothing_but_informs();
        assert!(room.actions.len() > 10, "it keeps asking for 88");
    }
}

#[test]
fn when_the_option_returns_a_lease_that_goes_on_is_renewed_and_a_lost_one_asked_for_again() {
    for on_loss in [OnLoss::Now, OnLoss::LeaseEnd] {
        let mut room = Room::start(Source::Told, on_loss);
        let servers = Servers::new(["2001:db8::a".parse().unwrap()]);
        room.handle(Event::Servers(Some(&servers)));
        room.obtain();
        let lease = *room.session.lease().unwrap();
        room.handle(Event::Servers(None));
        room.run_until(lease.renew_at.unwrap().plus(60 * SECOND));
        room.actions.clear();
        room.handle(Event::Servers(Some(&servers)));
        assert_eq!(room.actions[..2], [Action::NativeStop, Action::Servers(Some(servers))]);
        let sent = room.next_sent();
        if on_loss == OnLoss::Now {
            assert_eq!(sent.kind(), MessageType::Discover);
            assert_eq!(sent.view().requested_address(), Some(ADDRESS));
        } else {
            assert!(sent.query().unicast && sent.view().ciaddr() == ADDRESS);
        }
    }
}

#[test]
fn while_there_are_no_servers_not_even_a_release_is_sent() {
    let mut room = Room::start(Source::Told, OnLoss::LeaseEnd);
    room.handle(Event::Servers(Some(&Servers::Group)));
    room.obtain();
    let lease = *room.session.lease().unwrap();
    room.handle(Event::Servers(None));
    room.actions.clear();
    room.handle(Event::Release);
    assert_eq!(room.actions, [Action::Lost(lease, Loss::Withdrawn), Action::Stopped]);
}

#[test]
fn a_lease_that_runs_out_does_not_outlive_its_source_address() {
    let mut room = Room::start(Source::Told, OnLoss::LeaseEnd);
    room.handle(Event::Servers(Some(&Servers::Group)));
    room.obtain();
    room.handle(Event::Servers(None));
    room.actions.clear();
    room.handle(Event::SourceChanged);
    assert!(matches!(room.actions[..], [Action::Lost(_, Loss::SourceChanged)]));
    room.actions.clear();
    room.run_until(room.now.plus(day()));
    assert!(room.actions.is_empty());
}

#[test]
fn other_servers_are_followed_and_the_lease_stays() {
    let mut room = Room::start(Source::Told, OnLoss::Now);
    let one = Servers::new(["2001:db8::a".parse().unwrap()]);
    let two = Servers::new(["2001:db8::a", "2001:db8::b"].map(|text| text.parse().unwrap()));
    room.handle(Event::Servers(Some(&one)));
    room.obtain();
    room.handle(Event::Servers(Some(&one)));
    assert!(room.actions.is_empty(), "the same: nothing to do");
    room.handle(Event::Servers(Some(&two)));
    assert_eq!(room.actions, [Action::Servers(Some(two))]);
    assert!(room.session.lease().is_some());
}

#[test]
fn servers_that_were_told_once_and_for_all_are_asked_and_native_dhcpv4_is_left_alone() {
    let mut room = Room::start(Source::Fixed(Servers::Group), OnLoss::Now);
    assert_eq!(room.actions, [Action::Servers(Some(Servers::Group))]);
    room.handle(Event::Servers(None));
    room.obtain();
}

#[test]
fn c37_information_requests_and_queries_share_the_rate_limit() {
    let mut room = Room::discovering(OnLoss::Now);
    let addresses: Vec<String> = (1..=20).map(|number| format!("2001:db8::{number}")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    room.inform(&Said::servers(&addresses));
    // The bucket was full but for the Information-request: 20 queries have to wait for it.
    let discover = room.next_sent();
    assert_eq!(discover.kind(), MessageType::Discover);
    room.handle(Event::Again);
    let before = room.now;
    let _ = room.next_inform();
    let wait = room.now.since(before);
    assert!(wait >= SECOND && wait <= 2 * SECOND, "one a second: {wait:?}");
}
