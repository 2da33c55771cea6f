//! What the server does in a history: it answers, commits, crashes and starts again.

use std::net::Ipv6Addr;

use portlease::{
    engine::Verdict,
    journal::LogError,
    lease::record::Record,
    wire::{datagram::Datagram, dhcpv4::MessageType},
};

use super::{
    client::{Message, tuple_of},
    oracle::{Invariant, Oracle, Violation},
    plan::short,
    process::{Hindrance, Parked, Process},
    world::{Cargo, World},
};
use crate::common::{Received, START};

impl World<'_> {
    /// Any worker gets the datagram; one without room in its lane would not have taken it.
    pub(super) fn server_answers(
        &mut self,
        client: usize,
        message: &Message,
        payload: &[u8],
        peer: Ipv6Addr,
    ) -> Result<(), Violation> {
        let Some(process) = &mut self.process else { return Ok(()) };
        let now = process.clock(self.now);
        let at = self.random.usize(0..process.workers.len());
        let worker = &mut process.workers[at];
        if worker.lane.room() < 2 || worker.awaiting.room() == 0 {
            return Ok(());
        }
        let local = "2001:db8:ffff::547".parse().unwrap();
        let datagram = Datagram { peer, peer_port: 547, local, interface: 1, payload };
        let mut out = [0; 1500];
        let verdict = process.engine.answer(now, &datagram, worker.lane.next(), &mut out);
        if message.rejects() {
            self.oracle.offer_ends(client);
        }
        let read = |length: usize, port| Received::read(&out[..length], port);
        let (records, reply) = match verdict {
            Verdict::Ignore(reason) => {
                self.log(|_| format!("worker {at} ignores {message}: {}", reason.name()));
                return self.was_heard(client, message, Err(reason.name()));
            }
            Verdict::Reply(reply) => (None, Some(read(reply.length(), reply.port()))),
            Verdict::Promise { records, reply } => {
                (Some(records), reply.map(|reply| read(reply.length(), reply.port())))
            }
        };
        let kind = reply.as_ref().map(|reply| reply.kind);
        self.log(|world| {
            let records = records.as_deref().map(|records| world.told(records));
            let (kind, records) = (kind.unwrap_or(message.query.kind), records.unwrap_or_default());
            format!("worker {at} answers {message}: {kind:?} {records}")
        });
        if let Some(kind) = kind {
            self.was_heard(client, message, Ok(kind))?;
        }
        match (records, reply) {
            (Some(records), reply) => self.promises(client, at, &records, reply),
            (None, Some(reply)) => self.replies(client, reply),
            (None, None) => Ok(()),
        }
    }

    /// If the client wanted to keep what it uses: was it heard?
    fn was_heard(
        &self,
        client: usize,
        message: &Message,
        answer: Result<MessageType, &str>,
    ) -> Result<(), Violation> {
        let Some(process) = &self.process else { return Ok(()) };
        let identity = self.clients[client].identity;
        self.oracle.extended(process, (client, identity), message, answer, self.now)
    }

    fn promises(
        &mut self,
        client: usize,
        at: usize,
        records: &[Record],
        reply: Option<Received>,
    ) -> Result<(), Violation> {
        let Some(process) = &mut self.process else { return Ok(()) };
        let now = process.clock(self.now);
        let limit = self.plan.extras.leases_per_site_max;
        for record in records {
            self.oracle.admits(process, record, limit, self.now)?;
        }
        let worker = &mut process.workers[at];
        let mut sequence = 0;
        for record in records {
            sequence = worker.lane.push(*record).unwrap();
            self.oracle.recorded(client, record, self.now)?;
        }
        if let Some(reply) = reply {
            let parked = Parked { client, reply, sequence };
            worker.awaiting.push(sequence, now, parked).unwrap();
        }
        Ok(())
    }

    /// A reply that need not wait.
    fn replies(&mut self, client: usize, reply: Received) -> Result<(), Violation> {
        match reply.kind {
            MessageType::Offer => {
                let identity = self.clients[client].identity;
                self.oracle.offered(client, identity, tuple_of(&reply), self.now)?;
            }
            MessageType::Ack => {
                if let Some(process) = &self.process {
                    self.oracle.repeated(process, &self.clients[client], &reply, self.now)?;
                }
                self.acknowledges(client, &reply)?;
            }
            _ => {}
        }
        self.launch(client, Cargo::Answer(reply));
        Ok(())
    }

    fn acknowledges(&mut self, at: usize, reply: &Received) -> Result<(), Violation> {
        let client = &self.clients[at];
        let (identity, awaited) = (client.identity, client.awaits(reply));
        self.oracle.acknowledged(at, identity, reply, awaited, self.now)
    }

    /// A worker sends what has become durable.
    pub(super) fn worker_settles(&mut self) -> Result<(), Violation> {
        let Some(process) = &mut self.process else { return Ok(()) };
        let now = process.clock(self.now);
        let waits = |at: &usize| !process.workers[*at].awaiting.is_empty();
        let busy: Vec<usize> = (0..process.workers.len()).filter(waits).collect();
        let Some(at) = self.random.choice(busy) else { return Ok(()) };
        let worker = &mut process.workers[at];
        let (mut sent, mut stale) = (Vec::new(), 0);
        worker.awaiting.settle(
            worker.lane.durable(),
            now,
            |parked| sent.push(parked),
            |_| stale += 1,
        );
        for parked in &sent {
            Oracle::unparked(worker, parked)?;
        }
        if stale > 0 {
            self.log(|_| format!("worker {at} drops {stale} stale replies"));
        }
        for Parked { client, reply, sequence } in sent {
            self.log(|_| format!("worker {at} sends the ACK of record {sequence}"));
            self.acknowledges(client, &reply)?;
            self.launch(client, Cargo::Answer(reply));
        }
        Ok(())
    }

    pub(super) fn server_sweeps(&mut self) {
        let Some(process) = &self.process else { return };
        let leases = process.engine.leases();
        leases.sweep(self.random.usize(0..leases.shards()), process.clock(self.now));
    }

    pub(super) fn journal_commits(&mut self) -> Result<(), Violation> {
        let Some(process) = &mut self.process else { return Ok(()) };
        match process.commit(self.now, &mut self.random) {
            Ok(batch) => {
                for record in &batch {
                    self.oracle.is_durable(record);
                }
                if self.random.u32(0..80) == 0 {
                    self.log(|world| format!("commit of {}", world.told(&batch)));
                    self.crash("killed before anybody heard of a commit");
                } else {
                    process.publish();
                    if !batch.is_empty() {
                        self.log(|world| format!("commit of {}", world.told(&batch)));
                    }
                }
                Ok(())
            }
            Err(error) => self.cannot_commit(&error),
        }
    }

    /// Other servers' worth of commits, so that the ring's tail passes over what is live here.
    pub(super) fn ring_comes_round(&mut self) -> Result<(), Violation> {
        let commits = self.random.usize(1..30);
        let Some(process) = &mut self.process else { return Ok(()) };
        match process.commit_foreign(commits, self.now) {
            Ok(()) => {
                self.log(|_| format!("{commits} foreign commits"));
                Ok(())
            }
            Err(error) => self.cannot_commit(&error),
        }
    }

    fn cannot_commit(&mut self, error: &LogError) -> Result<(), Violation> {
        if self.doomed && matches!(error, LogError::Io { .. }) {
            self.crash("the disk failed");
            return Ok(());
        }
        Invariant::LeaseSurvives.broken(error)
    }

    pub(super) fn disk_is_doomed(&mut self) {
        self.disk.fail_after(self.random.u64(0..6));
        self.doomed = true;
    }

    pub(super) fn crash(&mut self, cause: &str) {
        self.process = None;
        let power = self.random.bool();
        self.log(|_| format!("{cause}; power failure: {power}"));
        self.disk = if power { self.disk.after_power_failure() } else { self.disk.after_kill() };
        self.doomed = false;
        if self.random.u32(0..4) == 0 {
            self.plan.change(&mut self.random);
            self.log(|world| format!("new plan: {:?}", world.plan));
        }
        if self.random.u32(0..12) == 0 {
            // A ring of another size is written anew.
            let larger = 36 * 4096;
            self.options.ring_octets = Some(self.random.choice([0, larger]).unwrap());
        }
        // A step of the wall clock is noticed if it goes behind what is in the log; there is no way to notice another.
        if self.random.u32(0..6) == 0 && self.oracle.has_uses(self.now) {
            self.clock_begins_at = Some(START.0 - self.random.u64(1000..10_000_000));
        }
    }

    pub(super) fn server_starts(&mut self) -> Result<(), Violation> {
        if self.clock_begins_at.is_some() && self.random.bool() {
            self.log(|_| "somebody sets the clock".to_owned());
            self.clock_begins_at = None;
        }
        if self.random.u32(0..4) == 0 {
            self.disk_is_doomed();
        }
        let workers = self.random.usize(2..5);
        let mut found = Vec::new();
        let behind = self.clock_begins_at.map_or(0, |shown| self.now.0 - shown);
        let start = Process::start(
            &self.disk,
            self.options,
            &self.plan,
            workers,
            (self.now, behind),
            &mut |record| {
                found.push(*record);
            },
        );
        self.log(|world| format!("start, clock behind by {behind} ms: {}", world.told(&found)));
        match start {
            Ok(process) => {
                // The machine's clock is set while the server runs; the server's is not.
                self.clock_begins_at = None;
                for record in &found {
                    self.oracle.is_durable(record);
                }
                let reserved = self.plan.reserved();
                let reserved = reserved
                    .map(|(client, tuple)| (self.clients[usize::from(client) - 1].identity, tuple));
                self.oracle.begins_with(&found, reserved);
                self.process = Some(process);
                Ok(())
            }
            Err(Hindrance::Clock) => {
                self.disk = self.disk.after_kill();
                self.doomed = false;
                Ok(())
            }
            Err(Hindrance::Log(LogError::Io { .. })) if self.doomed => {
                self.crash("the disk failed in recovery");
                Ok(())
            }
            Err(Hindrance::Log(error)) => Invariant::LeaseSurvives.broken(error),
        }
    }

    /// Records, for the trace.
    fn told(&self, records: &[Record]) -> String {
        let told = |record: &Record| {
            let holder = self.clients.iter().position(|it| it.identity == record.identity());
            let holder = holder.unwrap_or(usize::MAX);
            let (tuple, state) = (short(record.tuple()), record.state().unwrap());
            let stamp = record.stamp().0.wrapping_sub(START.0);
            let expires = record.expires().wrapping_sub(START.seconds());
            format!(
                "[{tuple} {state:?} by {holder} site {} stamp {stamp} expires {expires} s]",
                record.site().0 % 1000
            )
        };
        records.iter().map(told).collect::<Vec<_>>().join(" ")
    }
}
