//! What the ring is written on: a fixed number of octets that can be read, written and synced.

use std::{io, path::Path};

use super::log::{Access, LogError};

/// The unit of everything on a storage: offsets, lengths and memory of reads and writes are multiples of it, which is
/// what direct access asks for.
pub const BLOCK_OCTETS: usize = 4096;

/// A place of fixed size. [`RingLog`](super::RingLog) is the same over a file and over a simulated disk.
pub trait Storage: Send + Sync + Sized {
    /// The file, for messages.
    fn path(&self) -> &Path;

    /// The size, in octets.
    fn octets(&self) -> u64;

    /// How it is written.
    fn access(&self) -> Access;

    /// Fills `into` from `offset` on.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;

    /// Writes at `offset`. Durable only after [`sync`](Self::sync); until then any part of it may be on the disk,
    /// in any order.
    fn write_at(&mut self, offset: u64, octets: &[u8]) -> io::Result<()>;

    /// Makes durable what this value has written so far.
    fn sync(&mut self) -> io::Result<()>;

    /// A storage of `octets` zeros that can take this one's place.
    fn successor(&self, octets: u64) -> Result<Self, LogError>;

    /// Takes a synced successor: all or nothing, and durable when it returns. The old content is gone.
    fn succeed(&mut self, successor: Self) -> Result<(), LogError>;
}

/// Memory that begins at a multiple of [`BLOCK_OCTETS`], as direct access asks for.
#[derive(Debug)]
pub(super) struct AlignedBuffer {
    octets: Vec<u8>,
    start: usize,
    length: usize,
}

impl AlignedBuffer {
    /// `blocks` blocks of zeros.
    pub(super) fn new(blocks: usize) -> Self {
        let length = blocks * BLOCK_OCTETS;
        let octets = vec![0; length + BLOCK_OCTETS];
        // The vector never grows, so its memory stays where it is.
        let start = octets.as_ptr().align_offset(BLOCK_OCTETS).min(BLOCK_OCTETS);
        Self { octets, start, length }
    }

    pub(super) fn octets(&self) -> &[u8] {
        &self.octets[self.start..self.start + self.length]
    }

    pub(super) fn octets_mut(&mut self) -> &mut [u8] {
        &mut self.octets[self.start..self.start + self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_aligned_and_zero() {
        for blocks in [1, 3, 256] {
            let mut buffer = AlignedBuffer::new(blocks);
            assert_eq!(buffer.octets().as_ptr() as usize % BLOCK_OCTETS, 0);
            assert_eq!(buffer.octets_mut().len(), blocks * BLOCK_OCTETS);
            assert!(buffer.octets().iter().all(|octet| *octet == 0));
        }
    }
}
