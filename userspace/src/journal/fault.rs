//! A disk that fails: it loses, tears and reorders what was not synced, and stops at any write or sync that it is told.

use std::{
    collections::HashSet,
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    log::{Access, LogError},
    storage::Storage,
};

/// What is written at once, or not at all, when the power fails.
const SECTOR_OCTETS: usize = 512;

/// A written sector that is in some cache.
#[derive(Clone, Debug)]
struct Pending {
    offset: usize,
    octets: Vec<u8>,
    /// The handle that wrote it: a sync reaches only its own writes.
    handle: u64,
}

#[derive(Clone, Debug)]
struct Disk {
    durable: Vec<u8>,
    pending: Vec<Pending>,
    handle: u64,
    /// Writes and syncs until the power fails; `None`: it does not.
    steps_left: Option<u64>,
    steps: u64,
    failed: bool,
    deaf_to_sync: bool,
    /// Where sectors begin that cannot be read any more.
    lost: Vec<usize>,
    random: fastrand::Rng,
}

/// A simulated disk. Clones share it; a value sees the disk as long as nobody opens it anew.
#[derive(Clone, Debug)]
pub struct FaultyDisk {
    disk: Arc<Mutex<Disk>>,
    handle: u64,
}

impl FaultyDisk {
    /// A disk of zeros. `seed` decides what survives each failure.
    pub fn new(octets: u64, seed: u64) -> Self {
        let octets = usize::try_from(octets).unwrap_or(usize::MAX);
        let disk = Disk {
            durable: vec![0; octets],
            pending: Vec::new(),
            handle: 0,
            steps_left: None,
            steps: 0,
            failed: false,
            deaf_to_sync: false,
            lost: Vec::new(),
            random: fastrand::Rng::with_seed(seed),
        };
        Self { disk: Arc::new(Mutex::new(disk)), handle: 0 }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another disk with the same content, the same fate and nothing in common.
    #[must_use]
    pub fn copy(&self) -> Self {
        let disk = self.disk().clone();
        Self { disk: Arc::new(Mutex::new(disk)), handle: self.handle }
    }

    /// The power fails at the write or sync that follows `steps` others.
    pub fn fail_after(&self, steps: u64) {
        self.disk().steps_left = Some(steps);
    }

    /// Writes and syncs so far.
    pub fn steps(&self) -> u64 {
        self.disk().steps
    }

    /// From now on sync says yes and does nothing: a log that survives this does not need it.
    pub fn ignore_syncs(&self) {
        self.disk().deaf_to_sync = true;
    }

    /// Overwrites octets where nobody looks.
    pub fn damage(&self, offset: u64, octets: &[u8]) {
        let mut disk = self.disk();
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        if let Some(place) = disk.durable.get_mut(at..at.saturating_add(octets.len())) {
            place.copy_from_slice(octets);
        }
    }

    /// From now on the sector at `offset` cannot be read.
    pub fn lose_sector(&self, offset: u64) {
        self.disk().lost.push(usize::try_from(offset).unwrap_or(usize::MAX));
    }

    /// The disk after a power failure: of what was not synced, any sector may be there or not, whatever the order it
    /// was written in.
    #[must_use]
    pub fn after_power_failure(&self) -> Self {
        let mut disk = self.disk();
        let mut pending = std::mem::take(&mut disk.pending);
        let mut random = disk.random.clone();
        random.shuffle(&mut pending);
        // Now and then all is lost, or only little.
        let kept = *random.choice(&[0.0, 0.1, 0.5, 0.9, 1.0]).unwrap_or(&0.5);
        for sector in pending {
            if random.f64() < kept {
                disk.store(&sector);
            }
        }
        disk.random = random;
        drop(disk);
        self.reopened()
    }

    /// The disk after the process died and the machine went on: what was written is in the cache, still unsynced.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        self.reopened()
    }

    fn reopened(&self) -> Self {
        let mut disk = self.disk();
        disk.handle += 1;
        disk.failed = false;
        disk.steps_left = None;
        let handle = disk.handle;
        drop(disk);
        Self { disk: self.disk.clone(), handle }
    }
}

impl Disk {
    fn store(&mut self, sector: &Pending) {
        let end = sector.offset + sector.octets.len();
        if let Some(place) = self.durable.get_mut(sector.offset..end) {
            place.copy_from_slice(&sector.octets);
        }
    }

    /// Counts a step; true if the power fails in it.
    fn step(&mut self, handle: u64) -> io::Result<bool> {
        if self.failed || handle != self.handle {
            return Err(power_failure());
        }
        self.steps += 1;
        if let Some(left) = &mut self.steps_left {
            if *left == 0 {
                self.failed = true;
                return Ok(true);
            }
            *left -= 1;
        }
        Ok(false)
    }
}

fn power_failure() -> io::Error {
    io::Error::other("the power has failed")
}

impl Storage for FaultyDisk {
    fn path(&self) -> &Path {
        Path::new("faulty-disk")
    }

    fn octets(&self) -> u64 {
        self.disk().durable.len() as u64
    }

    fn access(&self) -> Access {
        Access::Memory
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let disk = self.disk();
        if disk.failed {
            return Err(power_failure());
        }
        let begin = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = begin.saturating_add(into.len());
        if disk.lost.iter().any(|&lost| lost < end && begin < lost.saturating_add(SECTOR_OCTETS)) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        let durable = disk.durable.get(begin..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        into.copy_from_slice(durable);
        for sector in &disk.pending {
            let last = sector.offset + sector.octets.len();
            let (from, to) = (begin.max(sector.offset), end.min(last));
            if from < to {
                into[from - begin..to - begin]
                    .copy_from_slice(&sector.octets[from - sector.offset..to - sector.offset]);
            }
        }
        Ok(())
    }

    fn write_at(&mut self, offset: u64, octets: &[u8]) -> io::Result<()> {
        let mut disk = self.disk();
        let fails = disk.step(self.handle)?;
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        if offset.saturating_add(octets.len()) > disk.durable.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        // A write in which the power fails may be on the disk all the same, whole or in part.
        disk.pending.extend(octets.chunks(SECTOR_OCTETS).enumerate().map(|(sector, octets)| {
            Pending {
                offset: offset + sector * SECTOR_OCTETS,
                octets: octets.to_vec(),
                handle: self.handle,
            }
        }));
        if fails { Err(power_failure()) } else { Ok(()) }
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut disk = self.disk();
        if disk.step(self.handle)? {
            return Err(power_failure());
        }
        if disk.deaf_to_sync {
            return Ok(());
        }
        let (synced, mut others): (Vec<_>, Vec<_>) = std::mem::take(&mut disk.pending)
            .into_iter()
            .partition(|sector| sector.handle == self.handle);
        // A cache has one state of a sector: what was left by another handle is overwritten.
        let places: HashSet<usize> = synced.iter().map(|sector| sector.offset).collect();
        others.retain(|sector| !places.contains(&sector.offset));
        disk.pending = others;
        for sector in &synced {
            disk.store(sector);
        }
        Ok(())
    }

    fn successor(&self, octets: u64) -> Result<Self, LogError> {
        let seed = self.disk().random.u64(..);
        Ok(Self::new(octets, seed))
    }

    fn succeed(&mut self, successor: Self) -> Result<(), LogError> {
        let content = successor.disk().durable.clone();
        let mut disk = self.disk();
        disk.durable = content;
        disk.pending.clear();
        disk.lost.clear();
        Ok(())
    }
}
