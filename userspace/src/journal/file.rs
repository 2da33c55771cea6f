//! The ring's file, and the directory it is in.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
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
const ZEROS: usize = 1 << 20;

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

fn write_zeros(path: &Path, octets: u64) -> Result<(), LogError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(MODE)
        .open(path)
        .map_err(failed("create", path))?;
    let zeros = vec![0; ZEROS];
    let mut written = 0;
    let outcome = loop {
        let Ok(length @ 1..) = usize::try_from((octets - written).min(ZEROS as u64)) else {
            break file.sync_all();
        };
        match file.write_all(&zeros[..length]) {
            Ok(()) => written += length as u64,
            Err(error) => break Err(error),
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
