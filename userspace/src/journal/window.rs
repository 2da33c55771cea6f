//! Reads batches through one large buffer, so that a sequential walk makes few and large reads.

use std::io;

use super::storage::{AlignedBuffer, BLOCK_OCTETS, Storage};
use super::{space::Extent, superblock::SUPERBLOCKS};

/// What becomes of blocks that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// An error that names the first of them.
    Refused,
    /// They are taken for blank: nothing that was there is found.
    Blank,
}

/// Fills `into` from the block `start` on, and says which blocks could not be read.
pub(super) fn read_blocks<S: Storage>(
    storage: &S,
    start: u32,
    into: &mut [u8],
    unreadable: Unreadable,
) -> io::Result<Vec<u32>> {
    let mut blank = Vec::new();
    if storage.read_at(offset_of(start), into).is_ok() {
        return Ok(blank);
    }
    for (block, octets) in (start..).zip(into.chunks_exact_mut(BLOCK_OCTETS)) {
        let offset = offset_of(block);
        match (storage.read_at(offset, octets), unreadable) {
            (Ok(()), _) => {}
            (Err(error), Unreadable::Refused) => {
                return Err(io::Error::new(error.kind(), format!("{error}, at offset {offset}")));
            }
            (Err(_), Unreadable::Blank) => {
                octets.fill(0);
                blank.push(block);
            }
        }
    }
    Ok(blank)
}

/// Blocks of a storage after its superblocks, seen through a buffer that moves forward.
#[derive(Debug)]
pub(super) struct Window {
    buffer: AlignedBuffer,
    capacity: u32,
    /// What the buffer holds.
    seen: Extent,
    unreadable: Unreadable,
}

impl Window {
    /// A window of at most `blocks` blocks.
    pub(super) fn new(blocks: u32, unreadable: Unreadable) -> Self {
        Self {
            buffer: AlignedBuffer::new(blocks as usize),
            capacity: blocks,
            seen: Extent { start: 0, blocks: 0 },
            unreadable,
        }
    }

    /// The blocks `wanted`. If they are not here yet, as many as fit are read from there on, but none past `limit`.
    pub(super) fn read<S: Storage>(
        &mut self,
        storage: &S,
        wanted: Extent,
        limit: u32,
    ) -> io::Result<&[u8]> {
        if wanted.start < self.seen.start || wanted.end() > self.seen.end() {
            let blocks = self.capacity.min(limit.saturating_sub(wanted.start));
            if blocks < wanted.blocks {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("{wanted:?} does not fit into {blocks} blocks"),
                ));
            }
            // A read that fails leaves nothing to be seen.
            self.seen.blocks = 0;
            let octets = &mut self.buffer.octets_mut()[..blocks as usize * BLOCK_OCTETS];
            read_blocks(storage, wanted.start, octets, self.unreadable)?;
            self.seen = Extent { start: wanted.start, blocks };
        }
        let begin = (wanted.start - self.seen.start) as usize * BLOCK_OCTETS;
        Ok(&self.buffer.octets()[begin..begin + wanted.blocks as usize * BLOCK_OCTETS])
    }
}

/// Where a block is on the storage.
pub(super) fn offset_of(block: u32) -> u64 {
    (SUPERBLOCKS + u64::from(block)) * BLOCK_OCTETS as u64
}
