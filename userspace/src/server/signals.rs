//! Signals and the ends of workers reach the control thread as events of one queue.

use std::io;
use std::sync::mpsc::Sender;

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::{Handle, Signals};

use crate::net::PortError;

/// What the control thread is woken for.
#[derive(Debug)]
pub enum Event {
    /// SIGTERM or SIGINT: drain, detach, go.
    Stop,
    /// SIGUSR1: show the counters.
    Show,
    /// A worker has ended; with an error, unless it was told to.
    Ended {
        /// The worker's berth.
        berth: usize,
        /// Which of the workers that have had this berth.
        edition: u64,
        /// Why it could not go on.
        outcome: Result<(), PortError>,
    },
}

/// Turns signals into events for as long as it lives.
#[derive(Debug)]
pub struct SignalThread(Handle);

impl SignalThread {
    /// Handles SIGTERM, SIGINT and SIGUSR1 from now on.
    pub fn start(events: Sender<Event>) -> io::Result<Self> {
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGUSR1])?;
        let handle = signals.handle();
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in signals.forever() {
                let event = if signal == SIGUSR1 { Event::Show } else { Event::Stop };
                if events.send(event).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self(handle))
    }
}

impl Drop for SignalThread {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use super::*;

    #[test]
    fn signals_become_events() {
        let (sender, events) = mpsc::channel();
        let _signals = SignalThread::start(sender).unwrap();
        let wait = || events.recv_timeout(Duration::from_mins(1)).unwrap();
        signal_hook::low_level::raise(SIGUSR1).unwrap();
        assert!(matches!(wait(), Event::Show));
        signal_hook::low_level::raise(SIGTERM).unwrap();
        assert!(matches!(wait(), Event::Stop));
    }
}
