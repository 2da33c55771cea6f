//! The first two blocks of a ring: twice the same, so that one bad sector costs nothing.

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{U32, U64},
};

use super::{
    log::LogError,
    storage::{AlignedBuffer, BLOCK_OCTETS, Storage},
};

/// The version of all that is written: superblock, batches and records.
pub const FORMAT_VERSION: u32 = 1;

/// Blocks before the first batch.
pub(super) const SUPERBLOCKS: u64 = 2;

const MAGIC: [u8; 8] = *b"plring\xE1\x0A";

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Image {
    magic: [u8; 8],
    version: U32,
    block_octets: U32,
    blocks: U64,
    capacity: U64,
    epoch: U64,
    secret: [u8; 16],
    /// Over all that stands before it.
    checksum: U32,
}

const CHECKED_LENGTH: usize = size_of::<Image>() - 4;

/// What a ring says of itself. Never changes once the ring is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Superblock {
    /// Blocks for batches, after the superblocks.
    pub(super) blocks: u64,
    /// Leases that it was made for.
    pub(super) capacity: u64,
    /// Drawn when the ring was made: batches of another ring are not taken for ours.
    pub(super) epoch: u64,
    /// The secret under which identities are hashed.
    pub(super) secret: [u8; 16],
}

/// What one of the two blocks holds.
enum Found {
    Whole(Superblock),
    Version(u32),
    Damaged,
    Foreign,
}

impl Superblock {
    /// Octets of the whole ring; more than any file has if the number of blocks makes no sense.
    pub(super) fn octets(&self) -> u64 {
        self.blocks.saturating_add(SUPERBLOCKS).saturating_mul(BLOCK_OCTETS as u64)
    }

    /// Writes both copies, one after the other, each durable before the next.
    pub(super) fn write<S: Storage>(&self, storage: &mut S) -> std::io::Result<()> {
        let mut image = Image {
            magic: MAGIC,
            version: FORMAT_VERSION.into(),
            block_octets: 4096.into(),
            blocks: self.blocks.into(),
            capacity: self.capacity.into(),
            epoch: self.epoch.into(),
            secret: self.secret,
            checksum: 0.into(),
        };
        image.checksum = crc32c::crc32c(&image.as_bytes()[..CHECKED_LENGTH]).into();
        let mut buffer = AlignedBuffer::new(1);
        buffer.octets_mut()[..size_of::<Image>()].copy_from_slice(image.as_bytes());
        for copy in 0..SUPERBLOCKS {
            storage.write_at(copy * BLOCK_OCTETS as u64, buffer.octets())?;
            storage.sync()?;
        }
        Ok(())
    }

    /// Reads the first copy that is whole; says whether the other one is not.
    pub(super) fn read<S: Storage>(storage: &S) -> Result<(Self, bool), LogError> {
        let path = storage.path().to_path_buf();
        if storage.octets() < SUPERBLOCKS * BLOCK_OCTETS as u64 {
            let fault = format!("it has only {} octets", storage.octets());
            return Err(LogError::Foreign { path, fault });
        }
        let mut buffer = AlignedBuffer::new(2);
        storage.read_at(0, buffer.octets_mut()).map_err(|source| LogError::Io {
            action: "read",
            path: path.clone(),
            source,
        })?;
        let (first, second) = buffer.octets().split_at(BLOCK_OCTETS);
        let superblock = match (find(first), find(second)) {
            (Found::Whole(superblock), Found::Whole(same)) if superblock == same => {
                (superblock, false)
            }
            (Found::Whole(superblock), _) | (_, Found::Whole(superblock)) => (superblock, true),
            (Found::Version(found), _) | (_, Found::Version(found)) => {
                return Err(LogError::Version { path, found, known: FORMAT_VERSION });
            }
            (Found::Damaged, _) | (_, Found::Damaged) => {
                let fault = "both superblocks are unreadable".to_owned();
                return Err(LogError::Foreign { path, fault });
            }
            (Found::Foreign, Found::Foreign) => {
                let fault = "it does not begin with a superblock".to_owned();
                return Err(LogError::Foreign { path, fault });
            }
        };
        let (found, expected) = (storage.octets(), superblock.0.octets());
        if found < expected {
            return Err(LogError::TooShort { path, found, expected });
        }
        Ok(superblock)
    }
}

fn find(block: &[u8]) -> Found {
    let Ok((image, _)) = Image::read_from_prefix(block) else { return Found::Foreign };
    if image.magic != MAGIC {
        return Found::Foreign;
    }
    let whole = image.checksum.get() == crc32c::crc32c(&image.as_bytes()[..CHECKED_LENGTH]);
    match image.version.get() {
        // Another version's checksum may stand elsewhere, so it cannot be asked.
        version if version != FORMAT_VERSION => Found::Version(version),
        _ if !whole || image.block_octets.get() as usize != BLOCK_OCTETS => Found::Damaged,
        _ => Found::Whole(Superblock {
            blocks: image.blocks.get(),
            capacity: image.capacity.get(),
            epoch: image.epoch.get(),
            secret: image.secret,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{LeaseLog as _, Options, RingLog, fault::FaultyDisk};

    const OPTIONS: Options = Options {
        capacity_leases: 500,
        hold_down_seconds: 10,
        accept_loss: false,
        ring_octets: Some(66 * 4096),
    };

    fn disk() -> FaultyDisk {
        let disk = FaultyDisk::new(OPTIONS.octets(), 3);
        RingLog::create(disk.clone(), OPTIONS).unwrap();
        disk.after_power_failure()
    }

    #[test]
    fn either_copy_will_do_and_the_other_is_mended() {
        for copy in 0..2 {
            let disk = disk();
            let secret = RingLog::mount(disk.clone(), OPTIONS).unwrap().identity_secret().0;
            disk.damage(copy * 4096 + 30, b"spoiled");
            let mut log = RingLog::mount(disk.clone(), OPTIONS).unwrap();
            assert_eq!(log.identity_secret().0, secret);
            assert!(log.recover(&mut |_| ()).unwrap().superblock_mended);
            let mut log = RingLog::mount(disk.after_power_failure(), OPTIONS).unwrap();
            assert!(!log.recover(&mut |_| ()).unwrap().superblock_mended);
        }
    }

    fn refusal(disk: &FaultyDisk) -> String {
        RingLog::mount(disk.clone(), OPTIONS).unwrap_err().to_string()
    }

    #[test]
    fn another_version_is_refused_by_name() {
        let disk = disk();
        for copy in 0..2 {
            disk.damage(copy * 4096 + 8, &7_u32.to_le_bytes());
        }
        let text = refusal(&disk);
        assert!(text.contains("format version 7") && text.contains("knows version 1"), "{text}");
    }

    #[test]
    fn foreign_and_ruined_files_are_told_apart() {
        let blank = FaultyDisk::new(OPTIONS.octets(), 3);
        assert!(refusal(&blank).contains("does not begin with a superblock"));
        let tiny = FaultyDisk::new(512, 3);
        assert!(refusal(&tiny).contains("only 512 octets"));
        let ruined = disk();
        ruined.damage(30, b"spoiled");
        ruined.damage(4096 + 30, b"spoiled");
        assert!(refusal(&ruined).contains("both superblocks are unreadable"));
    }

    #[test]
    fn a_ring_that_was_cut_is_refused() {
        let mut cut = FaultyDisk::new(60 * 4096, 3);
        Superblock { blocks: 64, capacity: 500, epoch: 1, secret: [2; 16] }
            .write(&mut cut)
            .unwrap();
        let text = refusal(&cut);
        assert!(text.contains("245760 octets") && text.contains("says 270336"), "{text}");
    }
}
