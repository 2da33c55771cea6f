//! The ring's file, and the directory it is in.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{
    log::{Access, LogError},
    storage::{AlignedBuffer, BLOCK_OCTETS, Storage},
};

const RING_NAME: &str = "leases.ring";
const LOCK_NAME: &str = "lock";

/// The file holds the secret of identities and who has which address.
const MODE: u32 = 0o600;

/// Octets written at a time while a file is made.
const ZEROS: usize = 4 << 20;

/// How often it is said how far that has come.
const TELL_EVERY: Duration = Duration::from_secs(1);

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LogError {
    let path = path.to_path_buf();
    move |source| LogError::Io { action, path, source }
}

/// Makes the names in a directory durable.
fn sync_directory(path: &Path) -> Result<(), LogError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(failed("sync", path))
}

/// The store's directory.
#[derive(Debug)]
pub(super) struct Directory(PathBuf);

impl Directory {
    /// Enters a directory, which is made if it is not there.
    pub(super) fn enter(path: &Path) -> Result<Self, LogError> {
        if !path.is_dir() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .map_err(failed("make the directory", path))?;
            if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                sync_directory(parent)?;
            }
        }
        Ok(Self(path.to_path_buf()))
    }

    /// Locks the directory, until the file is closed or the process ends, however it ends.
    pub(super) fn lock(&self) -> Result<File, LogError> {
        let path = self.0.join(LOCK_NAME);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(MODE)
            .open(&path)
            .map_err(failed("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Only to name it: if it cannot be read, the message is shorter.
                let _ = file.read_to_string(&mut holder);
                return Err(LogError::InUse {
                    path: self.0.clone(),
                    holder: holder.trim().parse().ok(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(failed("lock", &path)(source)),
        }
        file.set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(failed("write", &path))?;
        Ok(file)
    }

    /// The ring, if there is one. What is left of one that was never finished is removed.
    pub(super) fn open_ring(&self) -> Result<Option<FileStorage>, LogError> {
        let path = self.0.join(RING_NAME);
        let unfinished = unfinished(&path);
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &unfinished)(error));
            }
            _ => {}
        }
        match path.try_exists() {
            Ok(true) => FileStorage::open(path).map(Some),
            Ok(false) => Ok(None),
            Err(error) => Err(failed("look for", &path)(error)),
        }
    }

    /// A file of zeros that becomes the ring when it is [settled](FileStorage::settle).
    pub(super) fn new_ring(&self, octets: u64) -> Result<FileStorage, LogError> {
        FileStorage::create(self.0.join(RING_NAME), octets)
    }
}

fn unfinished(path: &Path) -> PathBuf {
    path.with_extension("ring.new")
}

/// A file of fixed size, written by direct access where the file system has it.
#[derive(Debug)]
pub struct FileStorage {
    file: File,
    /// The file's name, or the one it will have.
    path: PathBuf,
    octets: u64,
    access: Access,
    /// Still under the name of an unfinished file, and removed unless it is settled.
    unfinished: bool,
}

impl FileStorage {
    fn open(path: PathBuf) -> Result<Self, LogError> {
        let (file, access) = open_to_write(&path).map_err(failed("open", &path))?;
        let octets = file.metadata().map_err(failed("look at", &path))?.len();
        Ok(Self { file, path, octets, access, unfinished: false })
    }

    /// Opens the ring of a directory; writing to it fails.
    pub(super) fn open_to_read(directory: &Path) -> Result<Self, LogError> {
        let path = directory.join(RING_NAME);
        let file = File::open(&path).map_err(failed("open", &path))?;
        let octets = file.metadata().map_err(failed("look at", &path))?.len();
        let access = Access::Buffered { reason: "only read".to_owned() };
        Ok(Self { file, path, octets, access, unfinished: false })
    }

    /// Makes a file of zeros, all of it written, so that later writes allocate nothing and cannot fail for space.
    fn create(path: PathBuf, octets: u64) -> Result<Self, LogError> {
        let name = unfinished(&path);
        if let Err(error) = write_zeros(&name, octets) {
            // The message is about the first error; a file that stays is removed by the next start.
            let _ = fs::remove_file(&name);
            return Err(error);
        }
        let (file, access) = open_to_write(&name).map_err(failed("open", &name))?;
        Ok(Self { file, path, octets, access, unfinished: true })
    }

    /// Gives a finished file its name, durably.
    pub(super) fn settle(&mut self) -> Result<(), LogError> {
        self.sync().map_err(failed("sync", &self.path))?;
        fs::rename(unfinished(&self.path), &self.path).map_err(failed("rename to", &self.path))?;
        self.unfinished = false;
        sync_directory(self.path.parent().unwrap_or(Path::new(".")))
    }
}

impl Drop for FileStorage {
    fn drop(&mut self) {
        if self.unfinished {
            // The next start removes it if this fails.
            let _ = fs::remove_file(unfinished(&self.path));
        }
    }
}

/// Opens a file for direct access, or through the cache if that is refused, and says which.
fn open_to_write(path: &Path) -> io::Result<(File, Access)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    let direct =
        options.clone().custom_flags(libc::O_DIRECT | libc::O_DSYNC).open(path).and_then(|file| {
            // Some file systems take the flag and refuse the first access.
            let mut probe = AlignedBuffer::new(1);
            match file.read_at(probe.octets_mut(), 0) {
                Ok(_) => Ok(file),
                Err(error) => Err(error),
            }
        });
    match direct {
        Ok(file) => Ok((file, Access::Direct)),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            Ok((options.open(path)?, Access::Buffered { reason: error.to_string() }))
        }
        Err(error) => Err(error),
    }
}

/// Written blocks, not only reserved ones: a write into a reserved block has the file system note that it is written
/// now, which makes a sync take more than twice as long (measured on ext4).
fn write_zeros(path: &Path, octets: u64) -> Result<(), LogError> {
    let mut options = OpenOptions::new();
    options.write(true).mode(MODE);
    let file = options.clone().create(true).truncate(true).open(path);
    let file = file.map_err(failed("create", path))?;
    let zeros = AlignedBuffer::new(ZEROS / BLOCK_OCTETS);
    // Past the cache if that is possible: through it gigabytes would have to be written back at the end.
    let direct = options.custom_flags(libc::O_DIRECT).open(path).and_then(|file| {
        file.write_all_at(zeros.octets().get(..BLOCK_OCTETS).unwrap_or_default(), 0)?;
        Ok(file)
    });
    let file = direct.unwrap_or(file);
    let (mut written, mut told) = (0, Instant::now());
    let outcome = loop {
        let Ok(length @ 1..) = usize::try_from((octets - written).min(ZEROS as u64)) else {
            break file.sync_all();
        };
        match file.write_all_at(&zeros.octets()[..length], written) {
            Ok(()) => written += length as u64,
            Err(error) => break Err(error),
        }
        if told.elapsed() > TELL_EVERY {
            tracing::info!("making {}: {written} of {octets} octets", path.display());
            told = Instant::now();
        }
    };
    outcome.map_err(|source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            LogError::DiskTooSmall { path: path.to_path_buf(), needed: octets, written, source }
        }
        _ => failed("write", path)(source),
    })
}

impl Storage for FileStorage {
    fn path(&self) -> &Path {
        &self.path
    }

    fn octets(&self) -> u64 {
        self.octets
    }

    fn access(&self) -> Access {
        self.access.clone()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, offset)
    }

    fn write_at(&mut self, offset: u64, octets: &[u8]) -> io::Result<()> {
        debug_assert!(octets.len().is_multiple_of(BLOCK_OCTETS));
        self.file.write_all_at(octets, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        match self.access {
            // O_DSYNC: each write is durable when it returns.
            Access::Direct | Access::Memory => Ok(()),
            Access::Buffered { .. } => self.file.sync_data(),
        }
    }

    fn successor(&self, octets: u64) -> Result<Self, LogError> {
        Self::create(self.path.clone(), octets)
    }

    fn succeed(&mut self, mut successor: Self) -> Result<(), LogError> {
        successor.settle()?;
        *self = successor;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::{fd::AsRawFd as _, unix::fs::symlink};

    use super::*;
    use crate::{
        journal::{LeaseLog as _, Options, Rewrite, RingLog, testing::record},
        lease::stamp::Now,
    };

    const OPTIONS: Options = Options {
        capacity_leases: 500,
        hold_down_seconds: 10,
        accept_loss: false,
        ring_octets: Some(66 * 4096),
    };

    fn open(directory: &Path, options: Options) -> Result<RingLog, LogError> {
        RingLog::open(directory, options)
    }

    fn refusal(directory: &Path) -> LogError {
        open(directory, OPTIONS).expect_err("the store opened")
    }

    /// A store in which slots 0 to 99 are leased.
    fn store(directory: &Path) -> RingLog {
        let mut log = open(directory, OPTIONS).unwrap();
        assert!(log.recover(&mut |_| ()).unwrap().created);
        for slot in 0..100 {
            log.commit(&[record(slot, 1)], Now(1)).unwrap();
        }
        log
    }

    fn recovered(log: &mut RingLog) -> Vec<u32> {
        let mut slots = Vec::new();
        log.recover(&mut |record| {
            slots.push((record.tuple().address.to_bits() << 6) + u32::from(record.tuple().psid));
        })
        .unwrap();
        slots.sort_unstable();
        slots.dedup();
        slots
    }

    #[test]
    fn a_store_keeps_its_leases_and_its_secret() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("made/on/the/way");
        let secret = store(&path).identity_secret().0;
        let mut log = open(&path, OPTIONS).unwrap();
        assert_eq!(log.identity_secret().0, secret);
        assert_eq!(recovered(&mut log).len(), 100);
        assert_eq!(fs::metadata(path.join(RING_NAME)).unwrap().len(), OPTIONS.octets());
        log.commit(&[record(100, 1)], Now(1)).unwrap();
        drop(log);
        let mut seen = 0;
        let report = RingLog::read(&path, &mut |_| seen += 1).unwrap();
        assert_eq!((report.tuples, report.records), (101, seen));
    }

    #[test]
    fn a_second_server_is_refused_and_told_who_is_first() {
        let directory = tempfile::tempdir().unwrap();
        let first = store(directory.path());
        let text = refusal(directory.path()).to_string();
        assert!(text.contains("in use by another process"), "{text}");
        assert!(text.contains(&format!("pid {}", std::process::id())), "{text}");
        drop(first);
        open(directory.path(), OPTIONS).unwrap();
    }

    #[test]
    fn writes_pass_the_cache_and_are_synchronous_where_the_file_system_can() {
        let directory = tempfile::tempdir().unwrap();
        let storage =
            FileStorage::create(directory.path().join(RING_NAME), OPTIONS.octets()).unwrap();
        let info = format!("/proc/self/fdinfo/{}", storage.file.as_raw_fd());
        let info = fs::read_to_string(info).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        let flags = i32::from_str_radix(flags, 8).unwrap();
        let both = libc::O_DIRECT | libc::O_DSYNC;
        match storage.access() {
            Access::Direct => assert_eq!(flags & both, both),
            access => assert_eq!(flags & libc::O_DIRECT, 0, "{access:?}"),
        }
    }

    #[test]
    fn a_disk_without_room_is_named_and_nothing_is_left_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(RING_NAME);
        symlink("/dev/full", unfinished(&path)).unwrap();
        let error = FileStorage::create(path.clone(), 5 << 20).expect_err("there was room");
        let text = error.to_string();
        assert!(matches!(error, LogError::DiskTooSmall { needed: 5_242_880, .. }), "{text}");
        assert!(text.contains("needs 5242880 octets") && text.contains("store.capacity"), "{text}");
        assert!(fs::symlink_metadata(unfinished(&path)).is_err(), "the half-made file stays");
        assert!(!path.exists());
    }

    #[test]
    fn an_unfinished_ring_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(RING_NAME);
        let abandoned = FileStorage::create(path.clone(), OPTIONS.octets()).unwrap();
        assert!(unfinished(&path).exists() && !path.exists());
        drop(abandoned);
        assert!(!unfinished(&path).exists());
        fs::write(unfinished(&path), b"what a crash left").unwrap();
        assert_eq!(recovered(&mut store(directory.path())).len(), 100);
        assert!(!unfinished(&path).exists());
    }

    #[test]
    fn another_file_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(RING_NAME);
        fs::write(&path, b"somebody's letters").unwrap();
        let text = refusal(directory.path()).to_string();
        assert!(text.contains("leases.ring is not a lease log"), "{text}");
        assert_eq!(fs::read(&path).unwrap(), b"somebody's letters");
    }

    #[test]
    fn a_cut_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        drop(store(directory.path()));
        let path = directory.path().join(RING_NAME);
        OpenOptions::new().write(true).open(&path).unwrap().set_len(20 * 4096).unwrap();
        assert!(matches!(
            refusal(directory.path()),
            LogError::TooShort { found: 81_920, expected: 270_336, .. }
        ));
    }

    #[test]
    fn another_capacity_moves_the_leases_into_a_new_file() {
        let directory = tempfile::tempdir().unwrap();
        drop(store(directory.path()));
        let larger = Options { capacity_leases: 1000, ring_octets: None, ..OPTIONS };
        let mut log = open(directory.path(), larger).unwrap();
        let report = log.recover(&mut |_| ()).unwrap();
        assert_eq!(
            report.rewritten,
            Some(Rewrite::Resized { from: OPTIONS.octets(), to: larger.octets() })
        );
        drop(log);
        let path = directory.path().join(RING_NAME);
        assert_eq!(fs::metadata(&path).unwrap().len(), larger.octets());
        assert!(!unfinished(&path).exists());
        assert_eq!(recovered(&mut open(directory.path(), larger).unwrap()).len(), 100);
    }

    #[test]
    fn nothing_is_committed_before_recovery() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = open(directory.path(), OPTIONS).unwrap();
        let error = log.commit(&[record(1, 1)], Now(1)).expect_err("it was committed");
        assert!(error.to_string().contains("not recovered"), "{error}");
    }
}
