//! Ctrl-C and SIGTERM as an error, so that guards are dropped and everything is cleaned up.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

use crate::error::{Doing as _, Result, RigError};

static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on an interrupt is noted instead of ending the process. A second one ends it.
pub fn catch() -> Result<()> {
    let noted = INTERRUPTED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_default(signal, Arc::clone(noted)).doing("catch signals")?;
        flag::register(signal, Arc::clone(noted)).doing("catch signals")?;
    }
    Ok(())
}

/// Whether there was an interrupt.
pub fn was_noted() -> bool {
    INTERRUPTED.get().is_some_and(|noted| noted.load(Ordering::Relaxed))
}

/// Fails if there was an interrupt.
pub fn check() -> Result<()> {
    if was_noted() { Err(RigError::unexpected("interrupted")) } else { Ok(()) }
}

/// Waits until `done` says so; fails after `timeout` or at an interrupt, saying what was waited for.
pub fn wait_until(
    what: &str,
    timeout: Duration,
    mut done: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let deadline = Instant::now() + timeout;
    while !done()? {
        check()?;
        if Instant::now() > deadline {
            return Err(RigError::unexpected(format!("{what}: not within {timeout:?}")));
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
