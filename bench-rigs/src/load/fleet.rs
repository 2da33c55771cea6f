//! The clients of a load: what each holds and what it is waiting for.

use std::{collections::VecDeque, mem::size_of, net::Ipv4Addr};

use portlease::wire::portparams::PortParams;

use crate::message::{Identity, Lease};

/// The most clients a load can have: a transaction identifier holds a client's number and the round.
pub(super) const CLIENTS_MAX: u32 = 1 << 24;

/// Odd, so that multiplying by it permutes the 32-bit integers: identifiers look random and can be undone.
const STRIDE: u32 = 0x9e37_79b1;

/// The inverse of [`STRIDE`] modulo 2^32.
const STRIDE_INVERSE: u32 = 0x0e8b_2f51;

/// What an exchange waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Step {
    /// Nothing is under way.
    Idle,
    /// A DISCOVER is out.
    Offer,
    /// A REQUEST for what was offered is out.
    Selected,
    /// A REQUEST to extend with the U flag is out.
    Renewed,
    /// A REQUEST to extend without the U flag is out.
    Rebound,
    /// A REQUEST after a restart is out.
    Rebooted,
}

/// What the tuple of a client is to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Standing {
    Nothing,
    Offered,
    Leased,
}

/// One client, in 36 octets: ten millions of them are to fit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client {
    address: u32,
    server: u32,
    lease_seconds: u32,
    psid: u16,
    psid_offset: u8,
    psid_length: u8,
    /// Whether it is a port set and not the whole address.
    is_shared: bool,
    standing: Standing,
    /// Where its exchange stands.
    pub(super) step: Step,
    /// Counts exchanges, so that late answers to older ones can be told.
    pub(super) round: u8,
    /// Transmissions of the current message.
    pub(super) tries: u16,
    /// When the exchange was due, from which its latency counts. Times are microseconds modulo 2^32.
    pub(super) scheduled_us: u32,
    /// When the current message was due first.
    pub(super) asked_us: u32,
    /// When the current message is sent again.
    pub(super) deadline_us: u32,
}

const _: () = assert!(size_of::<Client>() == 36);

impl Client {
    const IDLE: Self = Self {
        address: 0,
        server: 0,
        lease_seconds: 0,
        psid: 0,
        psid_offset: 0,
        psid_length: 0,
        is_shared: false,
        standing: Standing::Nothing,
        step: Step::Idle,
        round: 0,
        tries: 0,
        scheduled_us: 0,
        asked_us: 0,
        deadline_us: 0,
    };

    /// What it was acknowledged and has not given up.
    #[inline]
    pub(super) fn lease(&self) -> Option<Lease> {
        self.has_lease().then(|| self.tuple())
    }

    /// Whether it was acknowledged anything that it has not given up.
    #[inline]
    pub(super) fn has_lease(&self) -> bool {
        self.standing == Standing::Leased
    }

    /// What it was offered or acknowledged.
    #[inline]
    pub(super) fn known(&self) -> Option<Lease> {
        (self.standing != Standing::Nothing).then(|| self.tuple())
    }

    /// It was acknowledged this.
    #[inline]
    pub(super) fn hold(&mut self, lease: &Lease) {
        self.set_tuple(lease, Standing::Leased);
    }

    /// It was offered this.
    #[inline]
    pub(super) fn consider(&mut self, offer: &Lease) {
        self.set_tuple(offer, Standing::Offered);
    }

    /// It holds nothing any more. Gives what it held.
    pub(super) fn give_up(&mut self) -> Option<Lease> {
        let held = self.lease();
        self.standing = Standing::Nothing;
        held
    }

    fn tuple(&self) -> Lease {
        let Self { psid_offset: offset, psid_length, psid, .. } = *self;
        Lease {
            address: Ipv4Addr::from_bits(self.address),
            ports: self.is_shared.then_some(PortParams { offset, psid_length, psid }),
            server: Ipv4Addr::from_bits(self.server),
            lease_seconds: self.lease_seconds,
        }
    }

    fn set_tuple(&mut self, lease: &Lease, standing: Standing) {
        let ports = lease.ports.unwrap_or(PortParams { offset: 0, psid_length: 0, psid: 0 });
        self.address = lease.address.to_bits();
        self.server = lease.server.to_bits();
        self.lease_seconds = lease.lease_seconds;
        self.psid = ports.psid;
        self.psid_offset = ports.offset;
        self.psid_length = ports.psid_length;
        self.is_shared = lease.ports.is_some();
        self.standing = standing;
    }
}

/// All clients.
pub(super) struct Fleet {
    clients: Vec<Client>,
    /// Idle clients without a lease and with one, those that have been idle longest first. Between phases nothing is
    /// in them: see [`line_up`](Self::line_up).
    vacant: VecDeque<u32>,
    holding: VecDeque<u32>,
    seed: u8,
    salt: u32,
}

impl Fleet {
    /// Clients of a population. `salt` makes the transactions of two runs differ.
    pub(super) fn new(count: u32, seed: u8, salt: u32) -> Self {
        Self {
            clients: vec![Client::IDLE; count as usize],
            vacant: VecDeque::new(),
            holding: VecDeque::new(),
            seed,
            salt,
        }
    }

    /// Lines all clients up by number for a phase, in which everybody is idle at first.
    pub(super) fn line_up(&mut self) {
        self.vacant.clear();
        self.holding.clear();
        for (number, client) in (0..).zip(&self.clients) {
            if client.has_lease() {
                self.holding.push_back(number);
            } else {
                self.vacant.push_back(number);
            }
        }
    }

    /// Idle clients without a lease.
    pub(super) fn vacant_idle(&self) -> usize {
        self.vacant.len()
    }

    /// Idle clients with a lease.
    pub(super) fn holding_idle(&self) -> usize {
        self.holding.len()
    }

    /// Takes a client out of a line: the first, or one by chance.
    pub(super) fn take(
        &mut self,
        holding: bool,
        random: Option<&mut fastrand::Rng>,
    ) -> Option<u32> {
        let line = if holding { &mut self.holding } else { &mut self.vacant };
        if let Some(random) = random
            && line.len() > 1
        {
            line.swap(0, random.usize(..line.len()));
        }
        line.pop_front()
    }

    /// A client has nothing under way any more, and stands at the end of its line.
    #[inline]
    pub(super) fn rest(&mut self, number: u32) {
        let Some(client) = self.clients.get_mut(number as usize) else { return };
        client.step = Step::Idle;
        if client.has_lease() {
            self.holding.push_back(number);
        } else {
            client.standing = Standing::Nothing;
            self.vacant.push_back(number);
        }
    }

    pub(super) fn seed(&self) -> u8 {
        self.seed
    }

    pub(super) fn identity(&self, number: u32) -> Identity {
        Identity::new(self.seed, number)
    }

    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.clients.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn get(&self, number: u32) -> Option<&Client> {
        self.clients.get(number as usize)
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Client> {
        self.clients.get_mut(number as usize)
    }

    /// Clients without a lease.
    pub(super) fn vacant(&self) -> u32 {
        let vacant = self.clients.iter().filter(|client| !client.has_lease()).count();
        u32::try_from(vacant).unwrap_or(u32::MAX)
    }

    pub(super) fn leases(&self) -> impl Iterator<Item = (u32, Lease)> {
        (0..).zip(&self.clients).filter_map(|(number, client)| Some((number, client.lease()?)))
    }

    /// The transaction identifier of a client's current exchange.
    pub(super) fn xid(&self, number: u32) -> u32 {
        let round = self.get(number).map_or(0, |client| client.round);
        (number | u32::from(round) << 24).wrapping_mul(STRIDE) ^ self.salt
    }

    /// The client and the round that a transaction identifier belongs to.
    pub(super) fn client_of(&self, xid: u32) -> (u32, u8) {
        let plain = (xid ^ self.salt).wrapping_mul(STRIDE_INVERSE);
        (plain & (CLIENTS_MAX - 1), (plain >> 24).to_le_bytes()[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_tells_its_client_and_round() {
        let mut fleet = Fleet::new(1000, 1, 0x1234_5678);
        for number in [0, 1, 77, 999] {
            for round in [0, 1, 255] {
                fleet.get_mut(number).unwrap().round = round;
                assert_eq!(fleet.client_of(fleet.xid(number)), (number, round));
            }
        }
    }
    #[test]
    fn every_client_and_round_has_a_transaction_of_its_own() {
        let mut fleet = Fleet::new(CLIENTS_MAX, 1, 77);
        let last = CLIENTS_MAX - 1;
        fleet.get_mut(last).unwrap().round = 255;
        assert_eq!(fleet.client_of(fleet.xid(last)), (last, 255));
        let some: std::collections::HashSet<u32> =
            (0..100_000).map(|number| fleet.xid(number)).collect();
        assert_eq!(some.len(), 100_000);
    }

    #[test]
    fn leases_come_out_as_they_went_in() {
        let shared = Lease {
            address: Ipv4Addr::new(192, 0, 2, 18),
            ports: Some(PortParams { offset: 6, psid_length: 8, psid: 0x34 }),
            server: Ipv4Addr::new(192, 0, 2, 254),
            lease_seconds: u32::MAX,
        };
        for lease in [shared, Lease { ports: None, ..shared }] {
            let mut client = Client::IDLE;
            client.consider(&lease);
            assert_eq!((client.known(), client.lease()), (Some(lease), None));
            client.hold(&lease);
            assert_eq!((client.known(), client.lease()), (Some(lease), Some(lease)));
            assert_eq!((client.give_up(), client.known()), (Some(lease), None));
        }
    }

    #[test]
    fn idle_clients_stand_in_line_by_what_they_hold() {
        let mut fleet = Fleet::new(4, 1, 0);
        let lease = Lease {
            address: Ipv4Addr::new(192, 0, 2, 18),
            ports: None,
            server: Ipv4Addr::UNSPECIFIED,
            lease_seconds: 1,
        };
        fleet.get_mut(2).unwrap().hold(&lease);
        fleet.line_up();
        assert_eq!((fleet.vacant_idle(), fleet.holding_idle()), (3, 1));
        let taken: Vec<_> = (0..4).map(|_| fleet.take(false, None)).collect();
        assert_eq!(taken, [Some(0), Some(1), Some(3), None]);
        fleet.get_mut(1).unwrap().hold(&lease);
        fleet.rest(1);
        fleet.rest(0);
        assert_eq!([fleet.take(true, None), fleet.take(true, None)], [Some(2), Some(1)]);
        let mut random = fastrand::Rng::with_seed(1);
        assert_eq!(fleet.take(false, Some(&mut random)), Some(0));
    }
}
