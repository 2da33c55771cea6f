//! A log that keeps nothing: `store.kind = "memory"`, for tests and benchmarks. A restart forgets every lease.

use std::path::PathBuf;

use super::log::{Access, LeaseLog, LogError, RecoveryReport};
use crate::lease::{key::IdentitySecret, record::Record, stamp::Now};

/// A log without durability: a batch is "durable" at once.
#[derive(Debug)]
pub struct MemoryLog {
    secret: [u8; 16],
}

impl MemoryLog {
    /// A log with a fresh secret. Fails only if the system has no random numbers.
    pub fn new() -> Result<Self, LogError> {
        Ok(Self { secret: random_octets()? })
    }

    /// The secret under which identities are hashed, as long as this process lives.
    pub fn identity_secret(&self) -> IdentitySecret {
        IdentitySecret(self.secret)
    }
}

/// Random octets from the system.
pub(super) fn random_octets<const N: usize>() -> Result<[u8; N], LogError> {
    let mut octets = [0; N];
    getrandom::fill(&mut octets).map_err(|error| LogError::Io {
        action: "draw random numbers from",
        path: PathBuf::from("the kernel"),
        source: std::io::Error::other(error),
    })?;
    Ok(octets)
}

impl LeaseLog for MemoryLog {
    fn recover(&mut self, _each: &mut dyn FnMut(&Record)) -> Result<RecoveryReport, LogError> {
        Ok(RecoveryReport::empty(Access::Memory))
    }

    fn commit(&mut self, _batch: &[Record], _now: Now) -> Result<(), LogError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::testing::record;

    #[test]
    fn a_memory_log_takes_all_and_gives_nothing_back() {
        let mut log = MemoryLog::new().unwrap();
        log.commit(&[record(1, 1)], Now(1)).unwrap();
        let report = log.recover(&mut |_| panic!("it kept a record")).unwrap();
        assert_eq!(report.records, 0);
        assert!(report.messages().is_empty());
        let other = MemoryLog::new().unwrap();
        assert_ne!(log.identity_secret().0, other.identity_secret().0);
    }
}
