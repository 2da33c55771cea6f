//! The store at birth: opened, read back into the leases, and checked against the clock.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use tracing::{info, warn};

use crate::{
    journal::{Adopter, LeaseLog, LogError, MemoryLog, RecoveryReport, RingLog},
    lease::{
        LeaseError, Leases, Recovered, Recovery, Settings,
        key::IdentitySecret,
        promise::Watermarks,
        record::{Record, Tuple},
        recovery::OutsideLease,
        stamp::{Now, Stamp},
    },
    memory::give_back,
    wire::identity::ClientIdentifier,
};

use super::{
    Options,
    clock::{Clock, wall},
    config::{Compiled, Store},
    signals::Event,
};

/// Leases outside of all pools that are named one by one.
const OUTSIDE_NAMED_MAX: usize = 20;

/// How often the clock is looked at while it is behind, and how often that is said.
const CLOCK_LOOK: Duration = Duration::from_secs(1);
const CLOCK_LOOKS_BETWEEN_WARNINGS: u32 = 10;

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The leases in it.
    #[error(transparent)]
    Lease(#[from] LeaseError),
}

/// The store, open, with the leases that were in it.
pub struct Opened {
    /// Makes records durable.
    pub log: Box<dyn LeaseLog>,
    /// Who holds what.
    pub leases: Arc<Leases>,
    /// What identities are hashed with.
    pub secret: IdentitySecret,
    /// Right, as far as the log can tell.
    pub clock: Clock,
}

/// Opens the store and recovers the leases. `None`: told to stop while waiting for the clock.
pub fn open(
    compiled: &Compiled,
    watermarks: Arc<Watermarks>,
    options: Options,
    events: &Receiver<Event>,
) -> Result<Option<Opened>, StoreError> {
    let (plan, times) = (&compiled.plan, &compiled.policy.times);
    let settings = Settings {
        capacity: plan.capacity,
        offers_max: plan.offers_max,
        hold_down_seconds: times.hold_down_seconds,
        decline_hold_seconds: times.decline_hold_seconds,
        watermarks,
        shards: None,
        features: plan.features.clone(),
    };
    let leases = Leases::new(&compiled.pools, settings)?;
    let (mut log, secret) = open_log(compiled, &leases, options)?;
    let mut adopting = Adopting(leases.recover());
    let report = log.recover_into(&mut adopting)?;
    let Adopting(recovery) = adopting;
    for message in report.messages() {
        warn!("{}: {message}", plan.store);
    }
    let Some(clock) = wait_for_clock(recovery.greatest_stamp(), options.accept_clock, wall, events)
    else {
        return Ok(None);
    };
    let recovered = recovery.finish(clock.now())?;
    // What recovery needed is as much as the leases themselves.
    give_back();
    tell(compiled, &report, &recovered);
    Ok(Some(Opened { log, leases: Arc::new(leases), secret, clock }))
}

/// The leases take what the log gives back.
struct Adopting<'l>(Recovery<'l>);

impl Adopter for Adopting<'_> {
    fn adopt(&mut self, records: &[Record]) {
        self.0.adopt_all(records);
    }

    fn begin_anew(&mut self) {
        self.0.begin_anew();
    }
}

fn open_log(
    compiled: &Compiled,
    leases: &Leases,
    options: Options,
) -> Result<(Box<dyn LeaseLog>, IdentitySecret), LogError> {
    match &compiled.plan.store {
        Store::Memory => {
            let log = MemoryLog::new()?;
            let secret = log.identity_secret();
            Ok((Box::new(log), secret))
        }
        Store::Ring(path) => {
            let ring = crate::journal::Options {
                capacity_leases: leases.places() as u64,
                hold_down_seconds: compiled.policy.times.hold_down_seconds,
                accept_loss: options.accept_loss,
                ring_octets: compiled.plan.ring_octets,
            };
            info!("opening the store {} ({} octets)", path.display(), ring.octets());
            let log = RingLog::open(path, ring)?;
            let secret = log.identity_secret();
            Ok((Box::new(log), secret))
        }
    }
}

fn tell(compiled: &Compiled, report: &RecoveryReport, recovered: &Recovered) {
    let Recovered { bound, former, quarantined, past, outside, unknown, .. } = recovered;
    let store = &compiled.plan.store;
    if report.created || *store == Store::Memory {
        info!("store {store}: empty");
    } else {
        info!(
            "store {store}: recovered {bound} leases, {former} held down, {quarantined} declined, \
             {past} remembered; {} records in {} batches",
            report.records, report.batches
        );
    }
    if *unknown > 0 {
        warn!("store {store}: {unknown} records are of a kind that this version does not know");
    }
    if !outside.is_empty() {
        warn!(
            "{} leases are outside of all pools: kept until they end, and not served",
            outside.len()
        );
    }
    let named = outside.get(..OUTSIDE_NAMED_MAX).unwrap_or(outside);
    let clients = clients_of(store, named);
    for lease in named {
        warn!("outside of all pools: {}", name(lease, &clients));
    }
    if let Some(more) = outside.len().checked_sub(OUTSIDE_NAMED_MAX).filter(|more| *more > 0) {
        warn!("outside of all pools: {more} more");
    }
}

/// The newest records of these leases, which say who their clients are. Read from the log once more: it is rare that
/// a lease is outside of all pools, and recovery keeps no more of a client than the hash of its identity.
fn clients_of(store: &Store, leases: &[OutsideLease]) -> BTreeMap<Tuple, Record> {
    let mut newest: BTreeMap<Tuple, Record> = BTreeMap::new();
    let Store::Ring(path) = store else { return newest };
    if leases.is_empty() {
        return newest;
    }
    let read = RingLog::read(path, &mut |record| {
        let tuple = record.tuple();
        let is_newer = newest.get(&tuple).is_none_or(|known| known.stamp() <= record.stamp());
        if is_newer && leases.iter().any(|lease| lease.tuple == tuple) {
            newest.insert(tuple, *record);
        }
    });
    if let Err(error) = read {
        warn!("the clients of these leases cannot be named: {error}");
    }
    newest
}

/// The client as an operator knows it: IAID and DUID if its identifier has that form (RFC 4361 §6.1), else its octets.
/// Of a very long identifier a record has only the beginning.
fn show_client(record: &Record) -> String {
    let octets = record.client();
    match ClientIdentifier::parse(octets).filter(|_| !record.hardware()) {
        Some(identifier) => identifier.to_string(),
        None => octets.iter().fold("0x".to_owned(), |text, octet| format!("{text}{octet:02x}")),
    }
}

fn name(lease: &OutsideLease, clients: &BTreeMap<Tuple, Record>) -> String {
    let OutsideLease { tuple, identity, until, .. } = lease;
    let client = clients.get(tuple).map(show_client);
    let client = client.unwrap_or_else(|| format!("{:032x}", identity.0));
    let ports = match tuple.psid_length {
        0 => String::new(),
        length => format!(" psid {}/{length} offset {}", tuple.psid, tuple.offset),
    };
    format!("{}{ports}, client {client}, until {until} s since 1970", tuple.address)
}

/// A clock that is not behind what it has stamped before: two records of a slot would be in the wrong order, and
/// leases would seem to last longer than they do. `None`: told to stop.
fn wait_for_clock(
    greatest: Stamp,
    accept: bool,
    wall: impl Fn() -> Now,
    events: &Receiver<Event>,
) -> Option<Clock> {
    for look in 0_u32.. {
        let now = wall();
        if now.follows(greatest) {
            break;
        }
        let seconds = greatest.0.saturating_sub(now.0).div_ceil(1000);
        if accept {
            warn!("the clock is {seconds} s behind the last lease; going on, as accepted");
            break;
        }
        if look % CLOCK_LOOKS_BETWEEN_WARNINGS == 0 {
            warn!(
                "the clock is {seconds} s behind the last lease that was granted: serving nothing \
                 until it has caught up; set it, or start with --accept-clock"
            );
        }
        match events.recv_timeout(CLOCK_LOOK) {
            Err(RecvTimeoutError::Timeout) | Ok(Event::Show | Event::Ended { .. }) => {}
            Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
    Some(Clock::new())
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        sync::mpsc::{Sender, channel},
    };

    use super::*;

    fn events() -> (Sender<Event>, Receiver<Event>) {
        channel()
    }

    #[test]
    fn a_clock_that_is_behind_the_log_is_waited_for() {
        let (sender, events) = events();
        let looks = Cell::new(0);
        // It catches up at the third look. Each event ends the wait between two looks early.
        let clock = || {
            looks.set(looks.get() + 1);
            sender.send(Event::Show).unwrap();
            Now(if looks.get() < 3 { 999 } else { 1000 })
        };
        assert!(wait_for_clock(Stamp(1000), false, clock, &events).is_some());
        assert_eq!(looks.get(), 3);
    }

    #[test]
    fn waiting_for_the_clock_ends_with_the_server_or_by_the_operator_s_word() {
        let (sender, events) = events();
        sender.send(Event::Stop).unwrap();
        assert!(wait_for_clock(Stamp(1000), false, || Now(1), &events).is_none());
        assert!(wait_for_clock(Stamp(1000), true, || Now(1), &events).is_some());
    }
}
