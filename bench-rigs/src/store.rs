//! Stores with very many leases, made by the journal's own appender: what a restart reads back.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use portlease::{
    journal::{LeaseLog as _, LogError, Options, RingLog},
    lease::{
        Leases,
        key::{IdentityKind, SiteId},
        record::{Content, Record, State, Tuple},
        stamp::{Now, Stamp},
    },
};

use crate::{
    error::{Doing as _, Result, RigError},
    message::{Identity, Lease},
};

/// Port sets of an address that are leased: of 64 the first has reserved ports.
const SHARES: u32 = 63;

/// Octets of the PSID.
const PSID_LENGTH: u8 = 6;

/// Records that are written at a time.
const BATCH_RECORDS: usize = 4096;

/// What a store holds. It fits the pools of [`Config::for_clients`](crate::daemon::Config::for_clients).
#[derive(Clone, Debug)]
pub struct Store {
    /// Leases, one a client.
    pub clients: u32,
    /// `store.capacity` of the daemon that is to start on it.
    pub capacity: u32,
    /// Records of each lease: 1 is a client that has come, each more is a renewal.
    pub rounds: u32,
    /// Of the clients' [identities](Identity::new).
    pub seed: u8,
    /// Where all clients are.
    pub source: Ipv6Addr,
    /// How long the leases last from now on.
    pub lease_seconds: u32,
}

impl Store {
    /// Leases of a day for the clients of seed 1 and as much capacity as
    /// [`Config::for_clients`](crate::daemon::Config::for_clients) configures.
    pub fn of(clients: u32, source: Ipv6Addr) -> Self {
        let capacity = clients.div_ceil(SHARES).max(1) * SHARES;
        Self { clients, capacity, rounds: 1, seed: 1, source, lease_seconds: 86_400 }
    }

    /// The address and port set of a client.
    pub fn tuple(number: u32) -> Tuple {
        Tuple {
            address: Ipv4Addr::from_bits(0x0a00_0000 + number / SHARES),
            offset: 0,
            psid_length: PSID_LENGTH,
            psid: u16::try_from(1 + number % SHARES).unwrap_or(u16::MAX),
        }
    }

    /// What a client would say that it holds, when it renews at `server`.
    pub fn lease(&self, number: u32, server: Ipv4Addr) -> Lease {
        let Tuple { address, offset, psid_length, psid } = Self::tuple(number);
        Lease {
            address,
            ports: portlease::wire::portparams::PortParams::new(offset, psid_length, psid),
            server,
            lease_seconds: self.lease_seconds,
        }
    }

    /// Makes the store in `directory`, in which there must be none. Records come in an order that has nothing to do
    /// with addresses, as clients do.
    pub fn make(&self, directory: &Path) -> Result<()> {
        let options = Options {
            capacity_leases: Leases::places_for(self.capacity as usize) as u64,
            hold_down_seconds: 120,
            accept_loss: false,
            ring_octets: None,
        };
        let refused = |error: LogError| RigError::unexpected(format!("making a store: {error}"));
        let mut log = RingLog::open(directory, options).map_err(refused)?;
        log.recover(&mut |_| ()).map_err(refused)?;
        let secret = log.identity_secret();
        let clock = SystemTime::now().duration_since(UNIX_EPOCH);
        let clock = clock.map_err(std::io::Error::other).doing("read the clock")?;
        let start = u64::try_from(clock.as_millis()).unwrap_or(0) - u64::from(self.rounds);
        let mut batch: Vec<Record> = Vec::with_capacity(BATCH_RECORDS);
        for round in 0..self.rounds {
            let now = Now(start + u64::from(round));
            for number in shuffled(self.clients, round) {
                let Identity { identifier, .. } = Identity::new(self.seed, number);
                batch.push(Record::new(&Content {
                    stamp: Stamp(now.0),
                    identity: secret.identify(IdentityKind::ClientIdentifier, &identifier),
                    tuple: Self::tuple(number),
                    state: State::Bound,
                    expires: now.seconds() + self.lease_seconds,
                    source: self.source,
                    client: &identifier,
                    hardware: false,
                    site: SiteId::UNKNOWN,
                    softwire: None,
                }));
                if batch.len() == BATCH_RECORDS {
                    log.commit(&batch, now).map_err(refused)?;
                    batch.clear();
                }
            }
            if !batch.is_empty() {
                log.commit(&batch, now).map_err(refused)?;
                batch.clear();
            }
        }
        Ok(())
    }
}

/// The numbers below `count`, each once, in an order that `round` decides.
fn shuffled(count: u32, round: u32) -> impl Iterator<Item = u32> {
    // A multiplication by an odd number permutes the integers below a power of two.
    let size = u64::from(count).next_power_of_two();
    let factor = 0x9e37_79b9_7f4a_7c15_u64.rotate_left(2 * round) | 1;
    let number = move |step: u64| u32::try_from(step.wrapping_mul(factor) & (size - 1)).ok();
    (0..size).filter_map(number).filter(move |number| *number < count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_gives_back_every_client_s_newest_record() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store { rounds: 3, ..Store::of(1000, Ipv6Addr::LOCALHOST) };
        store.make(folder.path()).unwrap();
        let mut newest = std::collections::BTreeMap::new();
        let report = RingLog::read(folder.path(), &mut |record| {
            let stamp = newest.entry(record.tuple()).or_insert(record.stamp());
            *stamp = record.stamp().max(*stamp);
        })
        .unwrap();
        assert_eq!((report.records, report.tuples), (3000, 1000));
        assert!((0..1000).all(|number| newest.contains_key(&Store::tuple(number))));
        let stamps: std::collections::BTreeSet<_> = newest.values().collect();
        assert_eq!(stamps.len(), 1, "all of the last round");
    }

    #[test]
    fn every_number_comes_once_a_round() {
        for round in 0..5 {
            let mut numbers: Vec<u32> = shuffled(1000, round).collect();
            assert_ne!(numbers, (0..1000).collect::<Vec<_>>());
            numbers.sort_unstable();
            assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
        }
    }
}
