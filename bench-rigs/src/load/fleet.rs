//! The clients of a load: what each holds and what it is waiting for.

use crate::message::{Identity, Lease};

/// The most clients a load can have: a transaction identifier holds a client's number and the round.
pub(super) const CLIENTS_MAX: u32 = 1 << 24;

/// Odd, so that multiplying by it permutes the 32-bit integers: identifiers look random and can be undone.
const STRIDE: u32 = 0x9e37_79b1;

/// The inverse of [`STRIDE`] modulo 2^32.
const STRIDE_INVERSE: u32 = 0x0e8b_2f51;

/// What an exchange waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing is under way.
    Idle,
    /// A DISCOVER is out.
    Offer,
    /// A REQUEST for this offer is out.
    Selected(Lease),
    /// A REQUEST to extend with the U flag is out.
    Renewed,
    /// A REQUEST to extend without the U flag is out.
    Rebound,
    /// A REQUEST after a restart is out.
    Rebooted,
}

/// One client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client {
    /// What it was acknowledged and has not given up.
    pub(super) lease: Option<Lease>,
    /// Where its exchange stands.
    pub(super) step: Step,
    /// Counts exchanges, so that late answers to older ones can be told.
    pub(super) round: u8,
    /// Transmissions of the current message.
    pub(super) tries: u32,
    /// When the exchange was due, from which its latency counts; like all times in microseconds.
    pub(super) scheduled_us: u64,
    /// When the current message was due first.
    pub(super) asked_us: u64,
    /// When the current message is sent again.
    pub(super) deadline_us: u64,
}

/// All clients.
pub(super) struct Fleet {
    clients: Vec<Client>,
    seed: u8,
    salt: u32,
}

impl Fleet {
    /// Clients of a population. `salt` makes the transactions of two runs differ.
    pub(super) fn new(count: u32, seed: u8, salt: u32) -> Self {
        let idle = Client {
            lease: None,
            step: Step::Idle,
            round: 0,
            tries: 0,
            scheduled_us: 0,
            asked_us: 0,
            deadline_us: 0,
        };
        Self { clients: vec![idle; count as usize], seed, salt }
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
        let vacant = self.clients.iter().filter(|client| client.lease.is_none()).count();
        u32::try_from(vacant).unwrap_or(u32::MAX)
    }

    pub(super) fn leases(&self) -> impl Iterator<Item = (u32, &Lease)> {
        (0..)
            .zip(&self.clients)
            .filter_map(|(number, client)| Some((number, client.lease.as_ref()?)))
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
}
