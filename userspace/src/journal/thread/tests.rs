//! The journal thread with logs of glass and disks that fail.

use std::{
    sync::{Mutex, mpsc},
    time::Duration,
};

use super::*;
use crate::{
    journal::{MemoryLog, Options, RecoveryReport, RingLog, fault::FaultyDisk, testing::record},
    lease::promise::{LaneId, Watermarks},
};

/// Longer than any machine needs, so that a lost wake-up ends in a failure and not in a hang.
const PATIENCE: Duration = Duration::from_secs(30);

/// A log that shows what it has, and fails when it is told.
#[derive(Clone, Default)]
struct Glass {
    committed: Arc<Mutex<Vec<Record>>>,
    commits_until_failure: Option<u64>,
    panics: bool,
}

impl LeaseLog for Glass {
    fn recover(&mut self, _: &mut dyn FnMut(&Record)) -> Result<RecoveryReport, LogError> {
        MemoryLog::new()?.recover(&mut |_| ())
    }

    fn commit(&mut self, batch: &[Record], _: Now) -> Result<(), LogError> {
        assert!(!self.panics, "as told");
        assert!(!batch.is_empty() && batch.len() <= BATCH_RECORDS);
        if let Some(left) = &mut self.commits_until_failure {
            *left = left.checked_sub(1).ok_or_else(|| LogError::Io {
                action: "write",
                path: "glass".into(),
                source: io::Error::other("as told"),
            })?;
        }
        self.committed.lock().unwrap().extend_from_slice(batch);
        Ok(())
    }
}

fn lanes(count: u16, capacity: usize) -> (Vec<Arc<Lane>>, Arc<Watermarks>) {
    let watermarks = Arc::new(Watermarks::new(usize::from(count)));
    let lanes = (0..count)
        .map(|id| Lane::new(LaneId(id), capacity, watermarks.clone(), Box::new(|| ())))
        .map(Arc::new)
        .collect();
    (lanes, watermarks)
}

fn spawn(lanes: &[Arc<Lane>], log: impl LeaseLog + 'static, hooks: Hooks) -> Journal {
    Journal::spawn(lanes.to_vec(), Box::new(log), || Now(1000), hooks).unwrap()
}

/// A record of lane `lane` with the sequence number `sequence`.
fn numbered(lane: u16, sequence: u64) -> Record {
    record(u32::from(lane), sequence)
}

/// One worker's life: pushes records and never trusts a watermark that the log does not bear out.
fn work(lane: &Lane, total: u64, committed: &Mutex<Vec<Record>>) {
    let mut pushed = 0;
    while lane.durable() < total {
        for _ in 0..lane.room().min(7) {
            if pushed < total {
                pushed += 1;
                assert_eq!(lane.push(numbered(lane.id().0, pushed)), Ok(pushed));
            }
        }
        lane.ring_journal();
        let durable = lane.durable();
        let slot = numbered(lane.id().0, 1).tuple();
        let known = committed.lock().unwrap().iter().filter(|r| r.tuple() == slot).count();
        assert!(durable <= known as u64, "{durable} are said to be durable, {known} are");
        std::thread::yield_now();
    }
}

#[test]
fn records_of_all_lanes_become_durable_in_the_order_of_their_lane() {
    const TOTAL: u64 = 300;
    let (lanes, watermarks) = lanes(3, 16);
    let log = Glass::default();
    let journal = spawn(&lanes, log.clone(), Hooks::default());
    std::thread::scope(|scope| {
        for lane in &lanes {
            scope.spawn(|| work(lane, TOTAL, &log.committed));
        }
    });
    let statistics = journal.stop();
    assert_eq!(statistics.records, 3 * TOTAL);
    assert_eq!(statistics.sync.total(), statistics.commits);
    assert!(statistics.largest_batch >= statistics.records / statistics.commits);
    let committed = log.committed.lock().unwrap();
    for lane in 0..3 {
        let slot = numbered(lane, 1).tuple();
        let stamps = committed.iter().filter(|r| r.tuple() == slot).map(|r| r.stamp().0);
        assert!(stamps.eq(1..=TOTAL), "lane {lane}");
        assert_eq!(watermarks.durable(LaneId(lane)), TOTAL);
    }
}

#[test]
fn stopping_drains_what_nobody_has_rung_for() {
    let (lanes, watermarks) = lanes(2, BATCH_RECORDS);
    let log = Glass::default();
    let journal = spawn(&lanes, log.clone(), Hooks::default());
    for sequence in 1..=BATCH_RECORDS as u64 {
        lanes[0].push(numbered(0, sequence)).unwrap();
        lanes[1].push(numbered(1, sequence)).unwrap();
    }
    assert_eq!(journal.stop().records, 2 * BATCH_RECORDS as u64);
    assert_eq!(watermarks.durable(LaneId(1)), BATCH_RECORDS as u64);
    assert_eq!(log.committed.lock().unwrap().len(), 2 * BATCH_RECORDS);
}

#[test]
fn what_nobody_has_called_for_gathers() {
    let (lanes, _) = lanes(1, 16);
    let log = Glass::default();
    let journal = spawn(&lanes, log.clone(), Hooks::default());
    let lane = &lanes[0];
    {
        let _disk_stands_still = log.committed.lock().unwrap();
        lane.push(numbered(0, 1)).unwrap();
        lane.ring_journal();
        while !lane.is_empty() {
            std::thread::yield_now();
        }
        lane.push(numbered(0, 2)).unwrap();
    }
    while lane.durable() < 1 {
        std::thread::yield_now();
    }
    lane.push(numbered(0, 3)).unwrap();
    lane.ring_journal();
    while lane.durable() < 3 {
        std::thread::yield_now();
    }
    let statistics = journal.stop();
    assert_eq!((statistics.commits, statistics.largest_batch), (2, 2));
}

#[test]
fn a_sleeping_journal_wakes_its_sleeping_worker() {
    let watermarks = Arc::new(Watermarks::new(1));
    let (bell, heard) = mpsc::channel();
    let ring = Box::new(move || bell.send(()).unwrap());
    let lane = Arc::new(Lane::new(LaneId(0), 4, watermarks, ring));
    let journal = spawn(std::slice::from_ref(&lane), Glass::default(), Hooks::default());
    for sequence in 1..=50 {
        lane.push(numbered(0, sequence)).unwrap();
        lane.ring_journal();
        while lane.durable() < sequence {
            if lane.fall_asleep() {
                heard.recv_timeout(PATIENCE).expect("a bell was lost");
                lane.woke();
            }
        }
    }
    let statistics = journal.stop();
    assert_eq!(statistics.records, 50);
    // Fifty records, and the stop, rang once each; not every bell met a sleeper.
    assert!(statistics.wake.total() <= 51, "{statistics:?}");
}

/// Hooks that tell of a failure in place of ending the process.
fn telling() -> (Hooks, mpsc::Receiver<()>) {
    let (tell, told) = mpsc::channel();
    let on_failure = Box::new(move || tell.send(()).unwrap());
    (Hooks { on_failure, ..Hooks::default() }, told)
}

#[test]
fn a_failed_commit_is_fatal_and_publishes_nothing() {
    let (lanes, watermarks) = lanes(1, 16);
    let log = Glass { commits_until_failure: Some(2), ..Glass::default() };
    let (hooks, told) = telling();
    let journal = spawn(&lanes, log.clone(), hooks);
    for sequence in 1..=2 {
        lanes[0].push(numbered(0, sequence)).unwrap();
        lanes[0].ring_journal();
        while lanes[0].durable() < sequence {
            std::thread::yield_now();
        }
    }
    for sequence in 3..=5 {
        lanes[0].push(numbered(0, sequence)).unwrap();
    }
    lanes[0].ring_journal();
    told.recv_timeout(PATIENCE).expect("nobody was told");
    assert_eq!(journal.stop().records, 2);
    assert_eq!(watermarks.durable(LaneId(0)), 2);
    assert_eq!(log.committed.lock().unwrap().len(), 2);
}

#[test]
fn a_panic_in_the_thread_is_fatal_too() {
    let (lanes, watermarks) = lanes(1, 16);
    let (hooks, told) = telling();
    let journal = spawn(&lanes, Glass { panics: true, ..Glass::default() }, hooks);
    lanes[0].push(numbered(0, 1)).unwrap();
    lanes[0].ring_journal();
    told.recv_timeout(PATIENCE).expect("nobody was told");
    drop(journal);
    assert_eq!(watermarks.durable(LaneId(0)), 0);
}

#[test]
fn a_lane_has_one_journal_and_the_thread_begins_with_its_hook() {
    let (lanes, _) = lanes(1, 16);
    let (tell, told) = mpsc::channel();
    let on_start = Box::new(move || {
        tell.send(std::thread::current().name().map(str::to_owned)).unwrap();
    });
    let journal = spawn(&lanes, Glass::default(), Hooks { on_start, ..Hooks::default() });
    assert_eq!(told.recv_timeout(PATIENCE).unwrap().as_deref(), Some("journal"));
    let second =
        Journal::spawn(lanes.clone(), Box::new(Glass::default()), || Now(0), Hooks::default());
    assert!(second.is_err());
    drop(journal);
}

#[test]
fn what_a_watermark_says_survives_a_power_failure() {
    let options = Options {
        capacity_leases: 100,
        hold_down_seconds: 10,
        accept_loss: false,
        ring_octets: Some(40 * 4096),
    };
    for seed in 0..20 {
        let disk = FaultyDisk::new(options.octets(), seed);
        let mut log = RingLog::create(disk.clone(), options).unwrap();
        log.recover(&mut |_| ()).unwrap();
        disk.fail_after(20 + seed * 7);
        let (lanes, watermarks) = lanes(2, 64);
        let (hooks, told) = telling();
        let journal = spawn(&lanes, log, hooks);
        let mut pushed = 0;
        while told.try_recv().is_err() {
            if lanes.iter().all(|lane| lane.room() > 0) {
                pushed += 1;
                for lane in &lanes {
                    lane.push(numbered(lane.id().0, pushed)).unwrap();
                    lane.ring_journal();
                }
            }
        }
        drop(journal);
        let mut log = RingLog::mount(disk.after_power_failure(), options).unwrap();
        let mut found = [0; 2];
        log.recover(&mut |record| {
            let lane = usize::from(record.tuple().psid);
            found[lane] = record.stamp().0.max(found[lane]);
        })
        .unwrap();
        for lane in 0..2 {
            let durable = watermarks.durable(LaneId(lane));
            assert!((durable..=pushed).contains(&found[usize::from(lane)]), "seed {seed}");
        }
    }
}
