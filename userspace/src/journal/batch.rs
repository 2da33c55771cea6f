//! A batch on the storage: one unit of header, then records, then zeros up to a whole block.
//!
//! A header is as long as a record, so inside a batch every block begins with a record, and a record begins with its
//! stamp: milliseconds since 1970. The magic number read as a stamp lies half a billion years ahead, so nothing that
//! a client sends can look like a header. A header has a checksum of its own: what remains of a torn batch still says
//! which batch it was, and a torn one can be told from a damaged one.

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{U32, U64},
};

use super::storage::{AlignedBuffer, BLOCK_OCTETS};
use crate::lease::record::{RECORD_LENGTH, Record};

/// Records and headers that fit into a block.
pub(super) const UNITS_PER_BLOCK: usize = BLOCK_OCTETS / RECORD_LENGTH;

/// Blocks of the largest batch of any ring: one megabyte.
pub(super) const BATCH_BLOCKS_MAX: u32 = 256;

const MAGIC: [u8; 8] = *b"plbatch\xE1";

const HEADER_LENGTH: usize = RECORD_LENGTH;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct HeaderImage {
    magic: [u8; 8],
    epoch: U64,
    sequence: U64,
    oldest: U64,
    count: U32,
    body_checksum: U32,
    reserved: [u8; 84],
    /// Over all that stands before it.
    checksum: U32,
}

const _: () = assert!(size_of::<HeaderImage>() == HEADER_LENGTH);
const CHECKED_LENGTH: usize = HEADER_LENGTH - 4;

/// What a batch says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The place in the order of batches, from 1.
    pub(super) sequence: u64,
    /// The oldest batch that is needed if this one is whole.
    pub(super) oldest: u64,
    /// Records.
    pub(super) count: u32,
    /// Over everything after the header.
    body_checksum: u32,
}

impl Header {
    /// Reads the header of a batch of the ring `epoch`; `None` if no such header is here.
    pub(super) fn read(block: &[u8], epoch: u64) -> Option<Self> {
        let (image, _) = HeaderImage::read_from_prefix(block).ok()?;
        if image.magic != MAGIC
            || image.epoch.get() != epoch
            || image.checksum.get() != crc32c::crc32c(&image.as_bytes()[..CHECKED_LENGTH])
        {
            return None;
        }
        let header = Self {
            sequence: image.sequence.get(),
            oldest: image.oldest.get(),
            count: image.count.get(),
            body_checksum: image.body_checksum.get(),
        };
        (header.blocks() <= BATCH_BLOCKS_MAX as usize
            && (1..=header.sequence).contains(&header.oldest))
        .then_some(header)
    }

    /// Blocks of the whole batch.
    pub(super) fn blocks(&self) -> usize {
        blocks_of(self.count as usize)
    }

    /// Whether `batch`, which begins with this header, is as it was written.
    pub(super) fn is_whole(&self, batch: &[u8]) -> bool {
        batch
            .get(HEADER_LENGTH..self.blocks() * BLOCK_OCTETS)
            .is_some_and(|body| crc32c::crc32c(body) == self.body_checksum)
    }

    /// The records of `batch`, which begins with this header and is whole.
    pub(super) fn records<'a>(&self, batch: &'a [u8]) -> &'a [Record] {
        batch
            .get(HEADER_LENGTH..HEADER_LENGTH + self.count as usize * RECORD_LENGTH)
            .and_then(|records| <[Record]>::ref_from_bytes(records).ok())
            .unwrap_or_default()
    }
}

/// Blocks of a batch of `records`.
pub(super) fn blocks_of(records: usize) -> usize {
    (records + 1).div_ceil(UNITS_PER_BLOCK)
}

/// Records that a batch of `blocks` has room for.
pub(super) fn records_in(blocks: usize) -> usize {
    blocks * UNITS_PER_BLOCK - 1
}

/// A batch in the making.
#[derive(Debug)]
pub(super) struct BatchBuffer {
    buffer: AlignedBuffer,
    count: usize,
    /// Records that this batch may have.
    limit: usize,
}

impl BatchBuffer {
    /// Room for the largest batch of `blocks` blocks.
    pub(super) fn new(blocks: usize) -> Self {
        Self { buffer: AlignedBuffer::new(blocks), count: 0, limit: 0 }
    }

    /// Begins a batch of at most `blocks` blocks.
    pub(super) fn begin(&mut self, blocks: usize) {
        let most = self.buffer.octets().len() / BLOCK_OCTETS;
        self.count = 0;
        self.limit = if blocks == 0 { 0 } else { records_in(blocks.min(most)) };
    }

    /// Adds a record; false if there is no room.
    #[must_use]
    pub(super) fn push(&mut self, record: &Record) -> bool {
        if self.is_full() {
            return false;
        }
        let at = HEADER_LENGTH + self.count * RECORD_LENGTH;
        self.buffer.octets_mut()[at..at + RECORD_LENGTH].copy_from_slice(record.as_bytes());
        self.count += 1;
        true
    }

    pub(super) fn is_full(&self) -> bool {
        self.count == self.limit
    }

    /// Blocks that it takes as it is now.
    pub(super) fn blocks(&self) -> usize {
        blocks_of(self.count)
    }

    /// Puts the header in front and gives the octets to write.
    pub(super) fn seal(&mut self, epoch: u64, sequence: u64, oldest: u64) -> &[u8] {
        let (count, length) = (self.count, self.blocks() * BLOCK_OCTETS);
        let octets = &mut self.buffer.octets_mut()[..length];
        octets[HEADER_LENGTH + count * RECORD_LENGTH..].fill(0);
        let mut image = HeaderImage {
            magic: MAGIC,
            epoch: epoch.into(),
            sequence: sequence.into(),
            oldest: oldest.into(),
            // At most BATCH_BLOCKS_MAX * UNITS_PER_BLOCK.
            count: u32::try_from(count).unwrap_or(u32::MAX).into(),
            body_checksum: crc32c::crc32c(&octets[HEADER_LENGTH..]).into(),
            reserved: [0; 84],
            checksum: 0.into(),
        };
        image.checksum = crc32c::crc32c(&image.as_bytes()[..CHECKED_LENGTH]).into();
        octets[..HEADER_LENGTH].copy_from_slice(image.as_bytes());
        octets
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{journal::testing::record, lease::stamp::Stamp};

    fn sealed(count: u32) -> Vec<u8> {
        let mut batch = BatchBuffer::new(3);
        batch.begin(3);
        assert!(batch.push(&record(999, 999)), "what a former batch left behind");
        batch.begin(3);
        for slot in 0..count {
            assert!(batch.push(&record(slot, 7)));
        }
        batch.seal(5, 9, 4).to_vec()
    }

    #[test]
    fn a_batch_gives_its_records_back() {
        for count in [0, 1, 30, 31, 32, 63, 64, 95] {
            let octets = sealed(count);
            assert_eq!(octets.len() % BLOCK_OCTETS, 0);
            let header = Header::read(&octets, 5).unwrap();
            assert_eq!((header.sequence, header.oldest, header.count), (9, 4, count));
            assert_eq!(header.blocks() * BLOCK_OCTETS, octets.len());
            let expected: Vec<_> = (0..count).map(|slot| record(slot, 7)).collect();
            assert!(header.is_whole(&octets));
            assert_eq!(header.records(&octets), expected);
        }
    }

    #[test]
    fn a_full_batch_takes_no_more() {
        let mut batch = BatchBuffer::new(2);
        batch.begin(1);
        for slot in 0..31 {
            assert!(batch.push(&record(slot, 1)));
        }
        assert!(batch.is_full() && !batch.push(&record(31, 1)));
        assert_eq!(batch.seal(5, 1, 1).len(), BLOCK_OCTETS);
    }

    #[test]
    fn every_changed_octet_is_seen() {
        let octets = sealed(3);
        for at in 0..octets.len() {
            let mut changed = octets.clone();
            changed[at] ^= 0x40;
            let whole = Header::read(&changed, 5).is_some_and(|header| header.is_whole(&changed));
            assert!(!whole, "octet {at}");
        }
        assert!(Header::read(&octets, 6).is_none(), "another ring's batch");
    }

    #[test]
    fn a_record_never_looks_like_a_header() {
        let stamp = u64::from_le_bytes(MAGIC);
        assert!(stamp > Stamp(u64::from(u32::MAX) * 1000).0 * 1000);
        let octets = sealed(95);
        for block in octets.chunks(BLOCK_OCTETS).skip(1) {
            assert!(Header::read(block, 5).is_none());
        }
    }
}
