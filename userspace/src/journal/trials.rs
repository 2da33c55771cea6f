//! The ring on a disk that fails: random histories, and a failure at every single write and sync of them.

use std::collections::HashMap;

use super::{
    RingLog,
    fault::FaultyDisk,
    log::{LeaseLog, LogError},
    ring::Options,
    testing::record_until,
};
use crate::lease::{
    record::{NEVER, Record, State},
    stamp::Now,
};

const HOLD_DOWN_SECONDS: u32 = 20;
const SLOTS: u32 = 200;

/// A ring of `blocks` blocks for batches, of which the largest has one in thirty-two.
fn options(blocks: u64) -> Options {
    Options {
        capacity_leases: 200,
        hold_down_seconds: HOLD_DOWN_SECONDS,
        accept_loss: false,
        ring_octets: Some((2 + blocks) * 4096),
    }
}

/// How a server ends.
#[derive(Clone, Copy, Debug)]
enum End {
    PowerFailure,
    /// The process is killed; the power fails after the next start.
    Kill,
}

/// A server's life on one disk, and what it owes to its clients.
struct Trial {
    options: Options,
    /// Blocks that the ring keeps free, if not what it keeps by itself.
    reserve: Option<u32>,
    disk: FaultyDisk,
    random: fastrand::Rng,
    now: Now,
    next_stamp: u64,
    /// The newest acknowledged or recovered record of each tuple.
    owed: HashMap<u64, Record>,
    /// All that was ever handed to the log.
    written: HashMap<(u64, u64), Record>,
}

impl Trial {
    fn new(seed: u64) -> Self {
        // The smallest ring also with so small a reserve that what is free is overwritten at once.
        let (blocks, reserve) = match seed % 4 {
            0 => (32, Some(1)),
            1 => (32, None),
            2 => (64, None),
            _ => (100, None),
        };
        let options = options(blocks);
        let disk = FaultyDisk::new(options.octets(), seed);
        RingLog::create(disk.clone(), options).unwrap();
        Self {
            options,
            reserve,
            disk: disk.after_power_failure(),
            random: fastrand::Rng::with_seed(seed),
            now: Now(1_000_000),
            next_stamp: 1_000_000,
            owed: HashMap::new(),
            written: HashMap::new(),
        }
    }

    fn copy(&self) -> Self {
        Self {
            disk: self.disk.copy(),
            random: self.random.clone(),
            owed: self.owed.clone(),
            written: self.written.clone(),
            ..*self
        }
    }

    /// Starts, and checks that every debt is there and nothing that was never written.
    fn start(&mut self) -> Result<RingLog<FaultyDisk>, LogError> {
        let mut log = RingLog::mount(self.disk.clone(), self.options)?;
        let mut found: HashMap<u64, Record> = HashMap::new();
        log.recover(&mut |record| {
            let key = (record.tuple().packed(), record.stamp().0);
            assert_eq!(self.written.get(&key), Some(record), "an invented record");
            let newest = found.entry(key.0).or_insert(*record);
            if record.stamp() > newest.stamp() {
                *newest = *record;
            }
        })?;
        for (tuple, owed) in &self.owed {
            let stamp = found.get(tuple).map(Record::stamp);
            assert!(
                stamp >= Some(owed.stamp()) || !owed.keeps_slot(self.now, HOLD_DOWN_SECONDS),
                "lost {owed:?}, found {stamp:?}"
            );
        }
        // The server acts on what it found, acknowledged or not.
        self.owed = found;
        if let Some(blocks) = self.reserve {
            log.keep_reserve(blocks);
        }
        Ok(log)
    }

    fn batch(&mut self) -> Vec<Record> {
        self.now.0 += self.random.u64(0..3000);
        let most = *self.random.choice(&[1, 3, 40, 150]).unwrap();
        let mut batch: Vec<_> = (0..self.random.usize(1..=most)).map(|_| self.record()).collect();
        // Lanes have no order among each other.
        self.random.shuffle(&mut batch);
        batch
    }

    fn record(&mut self) -> Record {
        self.next_stamp = self.now.0.max(self.next_stamp + 1);
        let slot = self.random.u32(0..SLOTS);
        let expires = self.now.seconds() + self.random.u32(1..100);
        let (state, expires) = match self.random.u32(0..10) {
            0 => (State::Former, expires),
            1 => (State::Quarantined, expires),
            2 => (State::Bound, expires),
            _ => (State::Bound, NEVER),
        };
        let record = record_until(slot, self.next_stamp, state, expires);
        self.written.insert((record.tuple().packed(), record.stamp().0), record);
        record
    }

    fn commit(&mut self, log: &mut RingLog<FaultyDisk>) -> Result<(), LogError> {
        let batch = self.batch();
        log.commit(&batch, self.now)?;
        for record in batch {
            let owed = self.owed.entry(record.tuple().packed()).or_insert(record);
            if record.stamp() > owed.stamp() {
                *owed = record;
            }
        }
        Ok(())
    }

    /// Starts and commits; an error is what a failing disk gives.
    fn live(&mut self, commits: usize) -> Result<(), LogError> {
        let mut log = self.start()?;
        for _ in 0..commits {
            self.commit(&mut log)?;
        }
        Ok(())
    }

    fn end(&mut self, end: End) {
        self.disk = match end {
            End::PowerFailure => self.disk.after_power_failure(),
            End::Kill => self.disk.after_kill(),
        };
    }
}

/// Lets the disk fail at the first write or sync of a life, then at the second, and so on, until the life is over
/// before the failure; after each, the next lives must find everything.
fn fail_everywhere(seed: u64) -> u64 {
    let mut trial = Trial::new(seed);
    let before = trial.random.usize(0..60);
    trial.live(before).unwrap();
    trial.end(End::PowerFailure);
    for steps in 0.. {
        let mut life = trial.copy();
        let end = if life.random.bool() { End::PowerFailure } else { End::Kill };
        life.disk.fail_after(steps);
        let failed = life.live(6).is_err();
        life.end(end);
        // What a start has shown is owed, even if it then came from a cache.
        life.start().unwrap_or_else(|error| panic!("seed {seed}, step {steps}, {end:?}: {error}"));
        life.end(End::PowerFailure);
        life.live(2).unwrap_or_else(|error| panic!("seed {seed}, step {steps}, {end:?}: {error}"));
        life.end(End::Kill);
        life.live(0).unwrap();
        if !failed {
            return steps;
        }
    }
    unreachable!("every life ends");
}

#[test]
fn nothing_acknowledged_is_lost_wherever_the_disk_fails() {
    let failures: u64 = (0..150).map(fail_everywhere).sum();
    assert!(failures > 2000, "only {failures} failures were tried");
}

#[test]
fn nothing_acknowledged_is_lost_over_many_short_lives() {
    let mut wraps = 0;
    for seed in 0..100 {
        let mut trial = Trial::new(seed);
        for _ in 0..40 {
            let steps = trial.random.u64(0..120);
            trial.disk.fail_after(steps);
            let _ = trial.live(12);
            let end = if trial.random.u32(0..3) == 0 { End::Kill } else { End::PowerFailure };
            trial.end(end);
        }
        trial.live(1).unwrap();
        wraps += trial.disk.steps() / 2 / 32;
    }
    assert!(wraps > 1000, "the ring came round only {wraps} times");
}

#[test]
fn a_disk_that_ignores_syncs_is_found_out() {
    let lost = (0..20).filter(|seed| {
        let mut trial = Trial::new(*seed);
        trial.disk.ignore_syncs();
        let lives = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            (0..10).all(|_| {
                let lived = trial.live(5).is_ok();
                trial.end(End::PowerFailure);
                lived
            })
        }));
        !matches!(lives, Ok(true))
    });
    assert!(lost.count() > 15, "the trials do not notice that nothing was durable");
}

#[test]
fn a_full_ring_says_so_and_keeps_what_it_has() {
    let options = options(32);
    let disk = FaultyDisk::new(options.octets(), 1);
    let mut log = RingLog::create(disk.clone(), options).unwrap();
    log.recover(&mut |_| ()).unwrap();
    // 32 blocks in batches of one: 23 of them may be full of live records.
    let promised = (0..2000)
        .take_while(|slot| {
            let record = record_until(*slot, 1_000_000, State::Bound, NEVER);
            match log.commit(&[record], Now(1_000_000)) {
                Ok(()) => true,
                Err(LogError::Full { live, capacity, .. }) => {
                    assert_eq!((live, capacity), (u64::from(*slot), 200));
                    false
                }
                Err(error) => panic!("{error}"),
            }
        })
        .count();
    assert!(promised >= 23 * 31, "full with {promised} records only");
    let mut log = RingLog::mount(disk.after_power_failure(), options).unwrap();
    let mut found = vec![false; promised];
    log.recover(&mut |record| {
        let slot = (record.tuple().address.to_bits() - 0xC000_0200) << 6;
        found[(slot + u32::from(record.tuple().psid)) as usize] = true;
    })
    .unwrap();
    assert!(found.iter().all(|found| *found));
}
