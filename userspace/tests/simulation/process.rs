//! One life of the server: the product's engine, leases, lanes, parked replies and ring, and a turn of each on demand.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use portlease::{
    engine::Engine,
    journal::{Awaiting, Lane, LeaseLog, LogError, Options, RingLog, fault::FaultyDisk},
    lease::{
        Leases,
        key::{ClientIdentity, SiteId},
        promise::{LaneId, Watermarks},
        record::{Content, Record, State, Tuple},
        stamp::{Now, Stamp},
    },
};

use super::plan::Plan;
use crate::common::{Received, SECRET};

/// Records that wait in a worker's lane at most, and replies beside them.
const LANE_RECORDS: usize = 8;

/// A reply that waits for a record.
#[derive(Debug)]
pub struct Parked {
    /// The client, by its place among the clients.
    pub client: usize,
    pub reply: Received,
    /// The record's number in its lane.
    pub sequence: u64,
}

/// What one worker owns.
pub struct Worker {
    pub lane: Lane,
    pub awaiting: Awaiting<Parked>,
    /// Records that the journal has taken out, and those of them whose commit has succeeded. Watermarks are the
    /// product's; these are the simulation's own.
    drained: u64,
    pub durable: u64,
}

/// A server that runs.
pub struct Process {
    pub engine: Engine,
    pub workers: Vec<Worker>,
    log: RingLog<FaultyDisk>,
    /// How far its clock is behind the true time, in milliseconds.
    behind: u64,
}

/// Why a server does not start.
#[derive(Debug)]
pub enum Hindrance {
    /// The clock is behind the log.
    Clock,
    Log(LogError),
}

impl Process {
    /// Starts a server on `disk` whose wall clock is `behind` milliseconds late. `each` hears of every record that is
    /// read back.
    pub fn start(
        disk: &FaultyDisk,
        options: Options,
        plan: &Plan,
        workers: usize,
        (now, behind): (Now, u64),
        each: &mut dyn FnMut(&Record),
    ) -> Result<Process, Hindrance> {
        let watermarks = Arc::new(Watermarks::new(workers));
        let leases = Leases::new(&plan.pools(), plan.settings(&watermarks)).unwrap();
        let mut recovery = leases.recover();
        let mut greatest = Stamp::default();
        let opened = RingLog::mount(disk.clone(), options).and_then(|mut log| {
            log.recover(&mut |record| {
                greatest = greatest.max(record.stamp());
                recovery.adopt(record);
                each(record);
            })?;
            Ok(log)
        });
        let log = opened.map_err(Hindrance::Log)?;
        let wall = Now(now.0 - behind);
        if !wall.follows(greatest) {
            return Err(Hindrance::Clock);
        }
        recovery.finish(wall).unwrap();
        let worker = |id| Worker {
            lane: Lane::new(LaneId(id), LANE_RECORDS, Arc::clone(&watermarks), Box::new(|| {})),
            awaiting: Awaiting::with_capacity(LANE_RECORDS),
            drained: 0,
            durable: 0,
        };
        let workers = (0..u16::try_from(workers).unwrap()).map(worker).collect();
        let engine = Engine::new(plan.policy(), Arc::new(leases), SECRET);
        Ok(Process { engine, workers, log, behind })
    }

    /// The server's clock, at the true time `now`.
    pub fn clock(&self, now: Now) -> Now {
        Now(now.0 - self.behind)
    }

    /// The journal's turn: takes some records of some lanes, as they come, and makes them durable. Watermarks are not
    /// published yet.
    pub fn commit(
        &mut self,
        now: Now,
        random: &mut fastrand::Rng,
    ) -> Result<Vec<Record>, LogError> {
        let mut batch = Vec::new();
        let mut order: Vec<usize> = (0..self.workers.len()).collect();
        random.shuffle(&mut order);
        for at in order {
            let worker = &mut self.workers[at];
            let limit = *random.choice(&[LANE_RECORDS, LANE_RECORDS, 0, 0, 1, 2]).unwrap();
            worker.drained += worker.lane.drain(&mut batch, limit) as u64;
        }
        if !batch.is_empty() {
            self.log.commit(&batch, self.clock(now))?;
        }
        for worker in &mut self.workers {
            worker.durable = worker.drained;
        }
        Ok(batch)
    }

    /// Commits that have nothing to do with the clients.
    pub fn commit_foreign(&mut self, commits: usize, now: Now) -> Result<(), LogError> {
        let now = self.clock(now);
        let record = Record::new(&Content {
            stamp: Stamp(now.0),
            identity: ClientIdentity(0),
            tuple: Tuple::whole(Ipv4Addr::new(198, 51, 100, 1)),
            state: State::Former,
            expires: now.seconds(),
            source: Ipv6Addr::UNSPECIFIED,
            client: &[],
            hardware: true,
            site: SiteId::UNKNOWN,
            softwire: None,
        });
        (0..commits).try_for_each(|_| self.log.commit(&[record], now))
    }

    /// Tells the workers what is durable.
    pub fn publish(&self) {
        for worker in &self.workers {
            worker.lane.publish(worker.durable);
        }
    }
}
