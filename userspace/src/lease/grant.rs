//! What a client is granted, and what it gives up: everything that makes a record.

use super::{
    bindings::{RESTING_MAX, RESTING_MAX_DECLINED},
    client::{Client, GrantError, Granted, Holder, QuarantineError, Records, Standing},
    entry::Resting,
    pools::Location,
    promise::Promise,
    record::{Content, Record, State, lasts},
    rules::{Rule, holds},
    softwires::EndError,
    stamp::{Now, Stamp},
};

/// A client that has got the slot that it is to be granted: all that can fail has succeeded.
struct Taken {
    place: u16,
    /// The slot that it leaves for it, which rests already.
    left: Option<Resting>,
    /// How the slot rested that it is granted.
    woken: Option<Resting>,
    /// The stamp of the record in which the softwire's address was another's, if it may have been.
    softwire: Option<Stamp>,
}

impl Client<'_> {
    /// Leases `at` to this client until `expires`; an offer is fulfilled or dropped by it.
    ///
    /// A slot that the client has now is left in the same transaction and rests. An expiry never moves backwards.
    /// `promise` is that of the first record; the binding keeps that of the last.
    pub fn grant(
        &mut self,
        at: Location,
        expires: u32,
        holder: &Holder<'_>,
        promise: Promise,
        now: Now,
    ) -> Result<Granted, GrantError> {
        let mut records = Records::default();
        let expires = self.grant_into(at, expires, holder, promise, now, &mut records)?;
        Ok(Granted { records, expires })
    }

    /// The same, with the records written where the caller has room for them. The end of the lease as recorded.
    pub fn grant_into(
        &mut self,
        at: Location,
        expires: u32,
        holder: &Holder<'_>,
        promise: Promise,
        now: Now,
        records: &mut Records,
    ) -> Result<u32, GrantError> {
        debug_assert_eq!(holder.identity.on(self.leases.pools().link_of(at.pool)), self.key);
        let Taken { place, left, woken, softwire } = self.take(at, expires, holder, now)?;
        let stock = self.leases.stock();
        let entry = self.shard.entry(place);
        let was_active = entry.is_active(now);
        let renews = was_active && entry.held_at() == Some(at);
        let rises = renews && holds(Rule::ExpiriesRise);
        let expires = if rises { expires.max(entry.expires()) } else { expires };
        let former = left
            .filter(|_| was_active)
            .map(|left| self.content(left.at, left.stamp, State::Former, entry.expires(), holder));
        // Bound(new) exceeds Former(old): a client's newest record says what it has.
        let rested = [left, woken].into_iter().flatten().map(|resting| resting.stamp).max();
        let others = softwire.max(rested).unwrap_or_default();
        let mut last = entry.stamp().max(others);
        if entry.held_at() != Some(at) {
            last = last.max(stock.last_stamp(at));
            if left.is_none() {
                self.shard.end_hold(place, stock);
            }
        }
        let stamp = Stamp::after(last, now);
        let kept = self.shard.softwire(place).filter(|_| was_active);
        let source = self.leases.source(holder.source);
        let entry = self.shard.entry_mut(place);
        entry.bind(at, State::Bound, expires, stamp);
        let sequence = promise.sequence + u64::from(former.is_some());
        entry.promised(source, Promise { sequence, ..promise });
        self.shard.end_offer(place, stock);
        if !renews {
            stock.mark(at, stamp);
        }
        self.note_softwire(place, holder, kept, expires, now);
        let bound = self.content(at, stamp, State::Bound, expires, holder);
        match former {
            Some(former) => records.fill_pair(&bound, &former),
            None => records.fill(&bound),
        }
        Ok(expires)
    }

    /// Takes what the lease needs that others may have taken, and lets the slot rest that the client leaves for it.
    fn take(
        &mut self,
        at: Location,
        expires: u32,
        holder: &Holder<'_>,
        now: Now,
    ) -> Result<Taken, GrantError> {
        let softwire = self.claim_softwire(holder, expires, now).map_err(|error| match error {
            EndError::Held => GrantError::SoftwireTaken,
            EndError::Full => GrantError::TableFull,
        })?;
        let taken = self.take_slot(at, now);
        if taken.is_err() && softwire.is_some() {
            self.unclaim_softwire(holder.softwire);
        }
        Ok(Taken { softwire, ..taken? })
    }

    /// Takes the slot.
    fn take_slot(&mut self, at: Location, now: Now) -> Result<Taken, GrantError> {
        let stock = self.leases.stock();
        if self.quarantines(at) || self.is_barred_from(at) {
            return Err(GrantError::Taken);
        }
        let left = self.leaving(at, now);
        if left.is_some() && self.is_crowded(at, RESTING_MAX) {
            return Err(GrantError::Crowded);
        }
        let link = stock.pools.link_of(at.pool);
        let admission = self.admit(link, now).ok_or(GrantError::SiteFull)?;
        // req-S30 (RFC 7618 §5): a slot has one bit, and whoever sets it is alone with the tuple.
        let claims = !self.holds(at);
        if claims && !stock.claim(at) {
            self.retreat(admission);
            return Err(GrantError::Taken);
        }
        // Wake before resting: what wakes up leaves its place to what lies down.
        let place = self.place_or_insert();
        let woken = place.and_then(|place| self.shard.wake(place, at));
        let place = place.filter(|&place| left.is_none_or(|left| self.shard.rest(place, left)));
        let Some(place) = place else {
            if claims {
                stock.give_back(at);
            }
            self.retreat(admission);
            return Err(GrantError::TableFull);
        };
        self.enter(place, admission);
        self.follow_site(place, link);
        Ok(Taken { place, left, woken, softwire: None })
    }

    /// How the slot that the client has will rest if it leaves it for `at` now; `None` if it has none to leave.
    fn leaving(&self, at: Location, now: Now) -> Option<Resting> {
        let hold_down_seconds = self.hold_down_seconds();
        let entry = self.entry()?;
        let left = entry.held_at().filter(|&held| held != at)?;
        let (stamp, until) = if entry.is_active(now) {
            let stamp = Stamp::after(entry.stamp(), now);
            (stamp, stamp.hold_end(hold_down_seconds))
        } else {
            (entry.stamp(), entry.hold_end(hold_down_seconds))
        };
        let resting = Resting { at: left, until, stamp, state: State::Former };
        (entry.is_active(now) || lasts(until, now)).then_some(resting)
    }

    /// Ends the lease at the client's wish: its slot is kept for it until the hold-down is over.
    ///
    /// `None` if no lease of the client runs.
    // req-S74 (RFC 2131 §4.3.4): the binding stays, so that the same client gets the tuple again.
    pub fn release(&mut self, holder: &Holder<'_>, promise: Promise, now: Now) -> Option<Record> {
        let place = self.place?;
        let source = self.leases.source(holder.source);
        let entry = self.shard.entry_mut(place);
        let at = entry.held_at().filter(|_| entry.is_active(now))?;
        let stamp = Stamp::after(entry.stamp(), now);
        let expires = entry.expires();
        entry.bind(at, State::Former, expires, stamp);
        entry.promised(source, promise);
        let record = Record::new(&self.content(at, stamp, State::Former, expires, holder));
        if self.shard.entry(place).offered_at() == Some(at) {
            // Of its own slot, which it leaves.
            self.shard.end_offer(place, self.leases.stock());
        }
        self.end_softwire(place);
        self.settle(place);
        Some(record)
    }

    /// Takes a slot out of use that the client says is in use by another (RFC 2131 §3.1 step 5).
    ///
    /// It must be the client's lease, which ends with it, or offered to it. Nobody gets it before the time is over.
    ///
    /// The record is nobody's promise: a lease of another slot goes on to wait for its own.
    pub fn quarantine(
        &mut self,
        at: Location,
        holder: &Holder<'_>,
        now: Now,
    ) -> Result<Record, QuarantineError> {
        let place = match self.standing(at, now) {
            Standing::Active | Standing::Offered => self.place,
            _ => None,
        };
        let place = place.ok_or(QuarantineError::NotHeld)?;
        if self.is_crowded(at, RESTING_MAX_DECLINED) {
            return Err(QuarantineError::Crowded);
        }
        let stock = self.leases.stock();
        let woken = self.shard.wake(place, at).map(|woken| woken.stamp);
        let last = self.shard.entry(place).stamp().max(woken.unwrap_or_default());
        let stamp = Stamp::after(last.max(stock.last_stamp(at)), now);
        let decline_hold_seconds = self.leases.settings().decline_hold_seconds;
        let rests = holds(Rule::DeclinedTuplesRest);
        let until = now.seconds().saturating_add(if rests { decline_hold_seconds } else { 0 });
        let state = State::Quarantined;
        if !self.shard.rest(place, Resting { at, until, stamp, state }) {
            return Err(QuarantineError::TableFull);
        }
        if self.shard.entry(place).offered_at() == Some(at) {
            self.shard.end_offer(place, stock);
        }
        let record = Record::new(&self.content(at, stamp, state, until, holder));
        if self.shard.entry(place).at() == Some(at) {
            self.shard.entry_mut(place).unbind();
            self.end_softwire(place);
        }
        stock.mark(at, stamp);
        self.settle(place);
        Ok(record)
    }

    /// The image of a slot, as a record has it.
    #[expect(clippy::inline_always, reason = "an image is large, and only its parts are wanted")]
    #[inline(always)]
    fn content<'h>(
        &self,
        at: Location,
        stamp: Stamp,
        state: State,
        expires: u32,
        holder: &Holder<'h>,
    ) -> Content<'h> {
        Content {
            stamp,
            identity: holder.identity,
            tuple: self.leases.pools().tuple_of(at),
            state,
            expires,
            source: holder.source,
            client: holder.client,
            hardware: holder.hardware,
            site: self.recorded_site(at),
            softwire: self.softwire_at(at),
        }
    }
}
