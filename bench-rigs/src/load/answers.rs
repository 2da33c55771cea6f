//! What answers do to their clients, and every check of them.

use std::sync::atomic::Ordering;

use portlease::wire::dhcpv4::MessageType;

use super::{
    AnswerKind, Load, Violation,
    fleet::Step,
    run::{Running, micros_between, wrapped},
};
use crate::{
    error::Result,
    message::{Answer, Lease},
    sys,
};

/// Bursts of answers that are taken in at a time, so that what they cause leaves together.
const BURSTS: usize = 4;

impl Load {
    /// Takes in what has arrived, and gives the number of datagrams.
    pub(super) fn receive(&mut self, running: &mut Running<'_>) -> Result<usize> {
        let mut total = 0;
        for inlet in 0..self.transport.inlets() {
            for _ in 0..BURSTS {
                let count = self.transport.receive(inlet)?;
                total += count;
                self.take_burst(running, count)?;
                if count < sys::BATCH {
                    break;
                }
            }
        }
        Ok(total)
    }

    /// Takes in the burst in hand.
    fn take_burst(&mut self, running: &mut Running<'_>, count: usize) -> Result<()> {
        let now = self.now_us();
        for at in 0..count {
            let violations = self.ledger.violation_count();
            let unreadable = self.unreadable;
            let fleet = &self.fleet;
            let known = |xid| Some(fleet.identity(fleet.client_of(xid).0));
            let payload = self.transport.received(at);
            match payload.and_then(|payload| Answer::read(payload, known)) {
                Some(answer) => self.take(running, &answer, now)?,
                None => self.unreadable += 1,
            }
            if (violations, unreadable) != (self.ledger.violation_count(), self.unreadable) {
                self.keep_wrong(at, now)?;
            }
        }
        Ok(())
    }

    /// Keeps an answer of the batch in hand as evidence.
    fn keep_wrong(&mut self, at: usize, now: u64) -> Result<()> {
        match (&mut self.wrong, self.transport.received(at)) {
            (Some(capture), Some(payload)) => capture.add(payload, now),
            _ => Ok(()),
        }
    }

    /// What an answer does to its client.
    fn take(&mut self, running: &mut Running<'_>, answer: &Answer, now: u64) -> Result<()> {
        let (number, round) = self.fleet.client_of(answer.xid);
        let instant = self.instant(now);
        let Some(client) = self.fleet.get_mut(number).filter(|client| client.round == round) else {
            running.tally.late += 1;
            return Ok(());
        };
        match (client.step, answer.kind) {
            (Step::Idle, _) | (Step::Selected, MessageType::Offer) => running.tally.late += 1,
            (Step::Offer, MessageType::Offer) => {
                client.step = Step::Selected;
                client.consider(&answer.lease);
                client.tries = 0;
                running.tally.answered(AnswerKind::Offer, micros_between(client.asked_us, now));
                client.asked_us = wrapped(now);
                self.check(number, answer);
                return self.transmit(running, number, now);
            }
            (Step::Selected, MessageType::Nak) => {
                running.tally.refused += 1;
                running.tally.answered(AnswerKind::Nak, micros_between(client.asked_us, now));
                self.rest(running, number);
            }
            (Step::Selected, MessageType::Ack) => {
                let offered = client.known();
                running.control.bound.fetch_add(1, Ordering::Relaxed);
                self.acknowledge(running, number, answer, now);
                self.compare(number, offered, &answer.lease);
            }
            (Step::Renewed | Step::Rebound | Step::Rebooted, MessageType::Ack) => {
                let held = client.lease();
                self.acknowledge(running, number, answer, now);
                self.compare(number, held, &answer.lease);
            }
            (Step::Renewed | Step::Rebound | Step::Rebooted, MessageType::Nak) => {
                running.tally.refused += 1;
                running.tally.answered(AnswerKind::Nak, micros_between(client.asked_us, now));
                let lost = client.give_up();
                self.rest(running, number);
                if let Some(lease) = lost {
                    self.ledger.refuse(number, &lease, instant);
                }
            }
            (step, kind) => {
                self.ledger.violate(Violation::Unasked, || {
                    format!("client {number}: {kind:?} while it waits in {step:?}")
                });
            }
        }
        Ok(())
    }

    /// Ends an exchange with an ACK.
    fn acknowledge(&mut self, running: &mut Running<'_>, number: u32, answer: &Answer, now: u64) {
        running.control.acknowledged.fetch_add(1, Ordering::Relaxed);
        self.check(number, answer);
        self.ledger.acknowledge(number, &answer.lease, self.instant(now));
        let Some(client) = self.fleet.get_mut(number) else { return };
        let kind = match client.step {
            Step::Renewed => AnswerKind::Renewed,
            Step::Rebound => AnswerKind::Rebound,
            Step::Rebooted => AnswerKind::Rebooted,
            Step::Idle | Step::Offer | Step::Selected => AnswerKind::Ack,
        };
        client.hold(&answer.lease);
        running.tally.answered(kind, micros_between(client.asked_us, now));
        running.tally.complete(micros_between(client.scheduled_us, now));
        self.rest(running, number);
    }

    /// Checks that an ACK has the tuple of the OFFER or the lease before it.
    fn compare(&mut self, number: u32, before: Option<Lease>, acknowledged: &Lease) {
        if let Some(before) = before.filter(|before| before.tuple() != acknowledged.tuple()) {
            self.ledger.forget(number, &before);
            self.ledger.violate(Violation::TupleChanged, || {
                format!("client {number} had {before:?} and was acknowledged {acknowledged:?}")
            });
        }
    }

    /// Checks what every OFFER and ACK must fulfil.
    fn check(&mut self, number: u32, answer: &Answer) {
        if !answer.same_identifier {
            self.ledger.violate(Violation::Identifier, || format!("client {number}: {answer:?}"));
        }
        let server = *self.server.get_or_insert(answer.lease.server);
        if server != answer.lease.server {
            self.ledger.violate(Violation::ServerId, || {
                format!("client {number}: {} instead of {server}", answer.lease.server)
            });
        }
        if answer.invalid_ports {
            self.ledger.violate(Violation::PortParams, || format!("client {number}: {answer:?}"));
        }
        let lease = answer.lease.lease_seconds;
        let rebinding = answer.rebinding_seconds.unwrap_or(lease);
        let renewal = answer.renewal_seconds.unwrap_or(rebinding);
        if lease == 0 || rebinding > lease || renewal > rebinding {
            self.ledger.violate(Violation::Times, || format!("client {number}: {answer:?}"));
        }
    }
}
