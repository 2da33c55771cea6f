//! When a worker calls the journal for what it has promised.
//!
//! A commit costs as much processor time as dozens of datagrams, whatever is in it. Where the journal shares the
//! worker's core, it is the worker that stands still meanwhile: commits as often as the disk can would take a third of
//! a core that is half busy, and what comes then waits long. So there is a time from one call to the next. Where the
//! journal has a core of its own, nothing is gained by waiting: what comes while the disk works is the next batch.

use std::time::Duration;

/// From one call to the next, while there are datagrams to be answered meanwhile.
const BUSY: Duration = Duration::from_millis(1);

/// From one call to the next, while there is nothing else to do: clients wait, and the core has time.
const IDLE: Duration = Duration::from_micros(200);

/// What a worker has pushed and not called for, and since when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gathering {
    /// The journal takes its time from the worker.
    shares_core: bool,
    /// Something was pushed since the last call.
    waits: bool,
    /// When the journal was last called.
    called: Duration,
}

impl Gathering {
    /// Nothing was pushed yet. `shares_core`: the journal may run on the worker's core.
    pub(super) fn new(shares_core: bool) -> Self {
        Self { shares_core, waits: false, called: Duration::ZERO }
    }

    /// Something was pushed.
    pub(super) fn push(&mut self) {
        self.waits = true;
    }

    /// Whether something waits for a call. Who waits for the time of it must not sleep.
    pub(super) fn waits(&self) -> bool {
        self.waits
    }

    /// Whether the journal is to be called at `uptime`, which then counts as done. `idle`: there was nothing to answer.
    pub(super) fn is_due(&mut self, uptime: Duration, idle: bool, short_of_room: bool) -> bool {
        let pause = match (self.shares_core, idle) {
            (false, _) => Duration::ZERO,
            (true, true) => IDLE,
            (true, false) => BUSY,
        };
        let is_due = self.waits && (short_of_room || uptime.saturating_sub(self.called) >= pause);
        if is_due {
            self.waits = false;
            self.called = uptime;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times at which the journal is called when something is pushed every 50 microseconds.
    fn calls(shares_core: bool, idle: bool) -> usize {
        let mut gathering = Gathering::new(shares_core);
        let times = (0..200).map(|step| Duration::from_secs(1) + Duration::from_micros(50) * step);
        times
            .filter(|&uptime| {
                gathering.push();
                gathering.is_due(uptime, idle, false)
            })
            .count()
    }

    #[test]
    fn on_a_shared_core_calls_are_rarer_the_more_there_is_to_do() {
        let (idle, busy) = (calls(true, true), calls(true, false));
        assert!((2..idle).contains(&busy) && idle < 200, "{busy} {idle}");
    }

    #[test]
    fn a_journal_with_a_core_of_its_own_is_called_every_time() {
        assert_eq!([calls(false, false), calls(false, true)], [200; 2]);
    }

    #[test]
    fn the_first_record_after_a_while_waits_for_nothing() {
        let mut gathering = Gathering::new(true);
        let later = Duration::from_secs(1);
        assert!(!gathering.is_due(later, true, false), "there is nothing to call for");
        for idle in [true, false] {
            gathering.push();
            assert!(gathering.waits() && gathering.is_due(later, idle, false) == idle);
        }
        assert!(gathering.waits(), "the second came too soon");
        assert!(gathering.is_due(later + BUSY, false, false) && !gathering.waits());
    }

    #[test]
    fn who_runs_out_of_room_does_not_wait() {
        let mut gathering = Gathering::new(true);
        let now = Duration::from_secs(1);
        for _ in 0..2 {
            gathering.push();
            assert!(gathering.is_due(now, false, true));
        }
    }
}
