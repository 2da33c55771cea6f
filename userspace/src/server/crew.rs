//! The workers' threads: who runs where, how they are told to stop, and what they have counted.
//!
//! A *berth* is what a worker needs and outlives it: its lane to the journal, its bell, its counters. All berths are
//! made at birth, since the journal has to know all lanes. A port that is opened anew takes over a berth.

use std::io;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
    mpsc::Sender,
};
use std::thread::JoinHandle;

use crossbeam_utils::CachePadded;

use crate::{
    engine::Engine,
    journal::Lane,
    lease::promise::{LaneId, Watermarks},
    net::{
        Port,
        counters::NetCounters,
        sys::{WakeFd, pin_to_cpus, set_niceness},
    },
};

use super::{
    clock::Clock,
    metrics::{Counters, Snapshot},
    signals::Event,
    sweep::Pace,
    worker::{Surroundings, Worker},
};

/// Records that a lane holds: four bursts of moves, and what gathers while a slow disk works.
pub const LANE_RECORDS: usize = 16_384;

/// How much workers go before others: what else runs on their cores would hold up a queue for milliseconds. Not by a
/// real-time class, since one that never sleeps would keep out what the kernel has to do on its core; and not before
/// the kernel's own block threads (-20), which the disk's sync goes through.
const NICENESS: i32 = -19;

/// What a worker needs and outlives it.
struct Berth {
    lane: Arc<Lane>,
    wake: Arc<WakeFd>,
    counters: Arc<CachePadded<Counters>>,
    running: Option<Running>,
}

/// A worker at work.
struct Running {
    name: String,
    /// Tells it from others that had this berth.
    edition: u64,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
    net: Arc<NetCounters>,
}

/// All workers.
pub struct Crew {
    berths: Vec<Berth>,
    watermarks: Arc<Watermarks>,
    clock: Clock,
    pace: Arc<Pace>,
    events: Sender<Event>,
    editions: u64,
    /// Cores that the journal may run on.
    journal_cpus: Vec<usize>,
    /// Counters of ports that were closed.
    closed: Vec<Arc<NetCounters>>,
}

impl Crew {
    /// A berth for each lane of `watermarks`, all empty. `journal_cpus`: the cores that the journal may run on.
    pub fn new(
        watermarks: Arc<Watermarks>,
        clock: Clock,
        pace: Arc<Pace>,
        events: Sender<Event>,
        journal_cpus: Vec<usize>,
    ) -> io::Result<Self> {
        let berth = |number: usize| {
            let wake = Arc::new(WakeFd::new()?);
            let bell = wake.clone();
            let bell = Box::new(move || bell.ring());
            let id = LaneId(u16::try_from(number).map_err(io::Error::other)?);
            let lane = Arc::new(Lane::new(id, LANE_RECORDS, watermarks.clone(), bell));
            Ok(Berth { lane, wake, counters: Arc::default(), running: None })
        };
        let berths = (0..watermarks.lanes()).map(berth).collect::<io::Result<_>>()?;
        let (editions, closed) = (0, Vec::new());
        Ok(Self { berths, watermarks, clock, pace, events, editions, journal_cpus, closed })
    }

    /// All lanes, for the journal.
    pub fn lanes(&self) -> Vec<Arc<Lane>> {
        self.berths.iter().map(|berth| berth.lane.clone()).collect()
    }

    /// Starts a worker for `port` in an empty berth, on core `cpu` if one is given.
    pub fn start<P: Port + Send + 'static>(
        &mut self,
        berth: usize,
        name: &str,
        cpu: Option<usize>,
        engine: Arc<Engine>,
        port: P,
    ) -> io::Result<()> {
        self.editions += 1;
        let (number, edition) = (berth, self.editions);
        let berth = &mut self.berths[number];
        let stop = Arc::new(AtomicBool::new(false));
        let net = port.counters().clone();
        let around = Surroundings {
            engine,
            clock: self.clock,
            pace: self.pace.clone(),
            stop: stop.clone(),
            lane: berth.lane.clone(),
            shares_core: cpu.is_none_or(|cpu| self.journal_cpus.contains(&cpu)),
            wake: berth.wake.clone(),
            counters: berth.counters.clone(),
        };
        let events = self.events.clone();
        let label = name.to_owned();
        let thread = std::thread::Builder::new().name(label.clone()).spawn(move || {
            if let Some(cpu) = cpu
                && let Err(error) = pin_to_cpus(&[cpu])
            {
                tracing::warn!("worker {label} is not pinned to core {cpu}: {error}");
            }
            if let Err(error) = set_niceness(NICENESS) {
                tracing::warn!(
                    "worker {label} goes before nobody ({error}): replies take longer on busy \
                     cores; CAP_SYS_NICE gives it"
                );
            }
            let outcome = Worker::new(port, around).run();
            // Nobody listens any more when the server goes down.
            let _ = events.send(Event::Ended { berth: number, edition, outcome });
        })?;
        berth.running = Some(Running { name: name.to_owned(), edition, stop, thread, net });
        Ok(())
    }

    /// Stops the workers of `berths`, after they have sent what they promised.
    pub fn stop(&mut self, berths: impl IntoIterator<Item = usize> + Clone) {
        for number in berths.clone() {
            let berth = &self.berths[number];
            if let Some(running) = &berth.running {
                running.stop.store(true, Ordering::Release);
                berth.wake.ring();
            }
        }
        for number in berths {
            if let Some(running) = self.berths[number].running.take() {
                // A panic has aborted the process already.
                let _ = running.thread.join();
                self.closed.push(running.net);
            }
        }
    }

    /// Stops all workers.
    pub fn stop_all(&mut self) {
        self.stop(0..self.berths.len());
    }

    /// The name of the worker that has ended in a berth, unless another has the berth now.
    pub fn ended(&self, berth: usize, edition: u64) -> Option<&str> {
        let running = self.berths.get(berth)?.running.as_ref()?;
        (running.edition == edition).then_some(running.name.as_str())
    }

    /// Whether there is a worker in a berth.
    pub fn is_working(&self, berth: usize) -> bool {
        self.berths.get(berth).is_some_and(|berth| berth.running.is_some())
    }

    /// How many workers there are.
    pub fn working(&self) -> usize {
        self.berths.iter().filter(|berth| berth.running.is_some()).count()
    }

    /// The name of each worker, and how often its loop has turned.
    pub fn turns(&self) -> Vec<(String, u64)> {
        let turns = |berth: &Berth| {
            let running = berth.running.as_ref()?;
            Some((running.name.clone(), berth.counters.turns()))
        };
        self.berths.iter().filter_map(turns).collect()
    }

    /// Records that are in lanes or at the disk, and records that are durable.
    pub fn waiting_and_durable(&self) -> (u64, u64) {
        self.berths.iter().fold((0, 0), |(waiting, durable), berth| {
            let pushed = berth.lane.next().sequence.saturating_sub(1);
            let kept = self.watermarks.durable(berth.lane.id());
            (waiting + pushed.saturating_sub(kept), durable + kept)
        })
    }

    /// Adds what workers and ports have counted.
    pub fn count_into(&self, snapshot: &mut Snapshot) {
        for berth in &self.berths {
            snapshot.add_worker(&berth.counters);
        }
        let open = self.berths.iter().filter_map(|berth| Some(&berth.running.as_ref()?.net));
        for (name, value) in open.chain(&self.closed).flat_map(|net| net.iter()) {
            snapshot.add(name, value);
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.stop_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::{
        lease::stamp::Now,
        net::{Handler, PortError},
        server::testing,
    };

    /// A port whose interface vanishes when it is told to.
    #[derive(Default)]
    struct DoomedPort {
        gone: Arc<AtomicBool>,
        counters: Arc<NetCounters>,
    }

    impl Port for DoomedPort {
        type Reply = ();

        fn capacity(&self) -> usize {
            1
        }

        fn burst<H: Handler<()>>(&mut self, _limit: usize, _handler: &mut H) -> usize {
            0
        }

        fn send(&mut self, (): ()) {}

        fn discard(&mut self, (): ()) {}

        fn flush(&mut self) -> Result<(), PortError> {
            let gone = self.gone.load(Ordering::Acquire);
            let error = || PortError {
                operation: "send",
                interface: "eth1".to_owned(),
                source: io::Error::from_raw_os_error(libc::ENODEV),
            };
            if gone { Err(error()) } else { Ok(()) }
        }

        fn has_outstanding(&self) -> bool {
            false
        }

        fn wait(&mut self, timeout_ms: u32, wake: &WakeFd) -> Result<(), PortError> {
            wake.wait(timeout_ms);
            Ok(())
        }

        fn tick(&mut self) {}

        fn counters(&self) -> &Arc<NetCounters> {
            &self.counters
        }
    }

    #[test]
    fn a_worker_whose_port_is_gone_says_so_and_another_takes_its_berth() {
        let watermarks = Arc::new(Watermarks::new(1));
        let engine = testing::engine(watermarks.clone());
        let clock = Clock::new();
        let pace = Arc::new(Pace::new(1, Now(u64::MAX)));
        let (sender, events) = channel();
        let mut crew = Crew::new(watermarks, clock, pace, sender, vec![]).unwrap();

        let doomed = DoomedPort::default();
        let gone = doomed.gone.clone();
        crew.start(0, "eth1/0", None, engine.clone(), doomed).unwrap();
        assert_eq!(crew.working(), 1);
        gone.store(true, Ordering::Release);
        let Event::Ended { berth: 0, edition, outcome: Err(error) } = events.recv().unwrap() else {
            panic!("a worker without a port goes on");
        };
        assert!(error.to_string().contains("eth1"));
        assert_eq!(crew.ended(0, edition), Some("eth1/0"));

        crew.stop([0]);
        assert_eq!((crew.working(), crew.ended(0, edition)), (0, None));
        crew.start(0, "eth1/0", None, engine, DoomedPort::default()).unwrap();
        assert_eq!(crew.ended(0, edition), None, "the old worker's end is not the new one's");
        crew.stop_all();
        assert!(matches!(events.recv().unwrap(), Event::Ended { outcome: Ok(()), .. }));
    }
}
