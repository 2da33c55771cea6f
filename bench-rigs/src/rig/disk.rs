//! What the disk can do by itself, measured beside the server on the same file system.

use std::{
    fs::{File, OpenOptions},
    io::Read as _,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

use crate::error::{Doing as _, Result, RigError};

/// What direct I/O has to be aligned to.
const ALIGNMENT: usize = 4096;

/// Octets of one read: as many as the server reads of its log at a time.
const READ_OCTETS: usize = 4 << 20;

/// Octets that have the alignment of direct I/O.
struct Aligned {
    octets: Vec<u8>,
    from: usize,
    length: usize,
}

impl Aligned {
    fn new(length: usize) -> Self {
        let octets = vec![0x5a; length + ALIGNMENT];
        let from = octets.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Self { octets, from, length }
    }

    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.octets[self.from..][..self.length]
    }
}

/// How long a write and a sync take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SyncTime {
    /// Half of them took no longer, in microseconds.
    pub p50_us: f64,
    /// Ninety-nine of a hundred took no longer, in microseconds.
    pub p99_us: f64,
}

/// Writes 4 KiB by direct I/O and syncs it (`fdatasync`), over and over for `duration`, within a file of 16 MiB that
/// was written before: nothing but data has to reach the disk.
pub fn sync_time(folder: &Path, duration: Duration) -> Result<SyncTime> {
    const BLOCKS: u64 = 4096;
    let path = folder.join("sync-time");
    let doing = || format!("write {}", path.display());
    std::fs::write(&path, vec![0; ALIGNMENT * 4096]).doing(doing())?;
    let file = direct(&path, true)?;
    file.sync_all().doing(doing())?;
    let mut block = Aligned::new(ALIGNMENT);
    // Up to ten seconds, in nanoseconds.
    let mut times = Histogram::<u64>::new_with_bounds(1, 10_000_000_000, 3)
        .map_err(|error| RigError::unexpected(format!("no histogram: {error}")))?;
    let began = Instant::now();
    let mut number = 0;
    while began.elapsed() < duration {
        let before = Instant::now();
        file.write_all_at(block.as_mut(), number % BLOCKS * ALIGNMENT as u64).doing(doing())?;
        file.sync_data().doing(doing())?;
        times.saturating_record(u64::try_from(before.elapsed().as_nanos()).unwrap_or(u64::MAX));
        number += 1;
    }
    std::fs::remove_file(&path).doing(format!("remove {}", path.display()))?;
    Ok(SyncTime { p50_us: at(&times, 0.5), p99_us: at(&times, 0.99) })
}

#[expect(clippy::cast_precision_loss, reason = "times far below 2^52 ns")]
fn at(times: &Histogram<u64>, quantile: f64) -> f64 {
    times.value_at_quantile(quantile) as f64 / 1e3
}

/// Reads files from end to end by direct I/O, one request at a time. Gives the seconds that it took and the octets.
pub fn read_time(files: &[PathBuf]) -> Result<(f64, u64)> {
    let mut buffer = Aligned::new(READ_OCTETS);
    let began = Instant::now();
    let mut total = 0;
    for path in files {
        let mut file = direct(path, false)?;
        loop {
            let count = file.read(buffer.as_mut()).doing(format!("read {}", path.display()))?;
            if count == 0 {
                break;
            }
            total += count as u64;
        }
    }
    Ok((began.elapsed().as_secs_f64(), total))
}

/// Opens a file for direct I/O, or an ordinary one where the file system has none.
fn direct(path: &Path, write: bool) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(write);
    let mut direct = options.clone();
    let opened = direct.custom_flags(libc::O_DIRECT).open(path).or_else(|_| options.open(path));
    opened.doing(format!("open {}", path.display()))
}

/// The files in a folder, with those in folders in it.
pub fn files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).doing(folder.display())? {
        let path = entry.doing(folder.display())?.path();
        if path.is_dir() {
            files.extend(files_in(&path)?);
        } else if path.is_file() {
            files.push(path);
        }
    }
    Ok(files)
}

/// Makes the kernel forget what it has read of any file, as after a start of the machine.
pub fn forget_cached() -> Result<()> {
    // Only clean pages can be dropped.
    crate::shell::run("sync")?;
    std::fs::write("/proc/sys/vm/drop_caches", "3").doing("drop the page cache")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_takes_time_and_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let time = sync_time(folder.path(), Duration::from_millis(20)).unwrap();
        assert!(time.p50_us > 0.0 && time.p99_us >= time.p50_us, "{time:?}");
        assert_eq!(files_in(folder.path()).unwrap(), Vec::<PathBuf>::new());
    }

    #[test]
    fn all_octets_of_all_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("inner")).unwrap();
        std::fs::write(folder.path().join("a"), vec![1; 3 * READ_OCTETS]).unwrap();
        std::fs::write(folder.path().join("inner/b"), vec![1; 5]).unwrap();
        let files = files_in(folder.path()).unwrap();
        assert_eq!(files.len(), 2);
        assert_eq!(read_time(&files).unwrap().1, 3 * READ_OCTETS as u64 + 5);
    }
}
