//! Reads batches through one large buffer, so that a sequential walk makes few and large reads.

use std::io;

use super::storage::{AlignedBuffer, BLOCK_OCTETS, Storage};
use super::{space::Extent, superblock::SUPERBLOCKS};

/// Blocks of a storage after its superblocks, seen through a buffer that moves forward.
#[derive(Debug)]
pub(super) struct Window {
    buffer: AlignedBuffer,
    capacity: u32,
    /// What the buffer holds.
    seen: Extent,
}

impl Window {
    /// A window of at most `blocks` blocks.
    pub(super) fn new(blocks: u32) -> Self {
        Self {
            buffer: AlignedBuffer::new(blocks as usize),
            capacity: blocks,
            seen: Extent { start: 0, blocks: 0 },
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
            storage.read_at(offset_of(wanted.start), octets)?;
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
