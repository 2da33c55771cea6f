//! One pass over a ring, from front to end: finds every header, and shows the batches on the way that are most likely
//! needed, so that the ring need not be read twice.
//!
//! Which batches are needed is known only when all headers are. But in a ring without damage the batches from block 0
//! on have rising numbers up to the newest, and what stands behind that is older: a dozen reads find it. Whether that
//! was right is decided afterwards, by all headers.

use std::{io, ops::RangeInclusive, sync::mpsc};

use super::{
    batch::{BATCH_BLOCKS_MAX, Header},
    space::Extent,
    storage::{AlignedBuffer, BLOCK_OCTETS, Storage},
    window::{Unreadable, Window, read_blocks},
};
use crate::lease::record::Record;

/// Blocks read at once: four megabytes.
const PIECE_BLOCKS: u32 = 4 * BATCH_BLOCKS_MAX;

/// Room in front of each piece for the beginning of a batch that ends in it.
const HEADROOM_BLOCKS: u32 = BATCH_BLOCKS_MAX;

/// Pieces that are on their way at a time.
const PIECES: usize = 3;

/// No log gets so far, and numbers below it can be counted on from.
const SEQUENCE_END: u64 = 1 << 63;

/// A header, and where it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) start: u32,
    pub(super) header: Header,
    /// Whether the batch is as it was written, if that was looked at.
    pub(super) whole: Option<bool>,
    /// Its records were shown.
    pub(super) shown: bool,
}

impl Found {
    pub(super) fn extent(&self) -> Extent {
        // At most BATCH_BLOCKS_MAX.
        let blocks = u32::try_from(self.header.blocks()).unwrap_or(u32::MAX);
        Extent { start: self.start, blocks }
    }
}

/// Sees the records of a ring, a batch at a time.
pub(super) trait Visitor {
    /// The records of the batch `sequence`, all of them in states that are known.
    fn visit(&mut self, records: &[Record], sequence: u64);

    /// What was shown so far was not what the ring needs: it is shown again from its beginning.
    fn begin_anew(&mut self);
}

/// A ring to be looked over.
#[derive(Debug)]
pub(super) struct Survey<'s, S: Storage> {
    storage: &'s S,
    blocks: u32,
    epoch: u64,
    unreadable: Unreadable,
}

/// What a pass over a ring has found.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// All headers.
    pub(super) found: Vec<Found>,
    /// Blocks that could not be read.
    pub(super) unreadable: Vec<u32>,
}

impl<'s, S: Storage> Survey<'s, S> {
    pub(super) fn new(storage: &'s S, blocks: u32, epoch: u64, unreadable: Unreadable) -> Self {
        Self { storage, blocks, epoch, unreadable }
    }

    /// The numbers of the batches that are most likely needed. Wrong or missing where the ring is damaged.
    pub(super) fn guess(&self) -> io::Result<Option<RangeInclusive<u64>>> {
        let mut window = Window::new(BATCH_BLOCKS_MAX.min(self.blocks), self.unreadable);
        let Some(first) = self.next(&mut window, 0)?.filter(|found| found.start == 0) else {
            return Ok(None);
        };
        // Of this lap are the batches before `high` and, as far as is known, those up to `low`.
        let (mut before, mut low, mut high) = (0, 0, self.blocks);
        while high - low > BATCH_BLOCKS_MAX {
            let middle = low + (high - low) / 2;
            match self.next(&mut window, middle)? {
                Some(found) if found.header.sequence >= first.header.sequence => {
                    if found.start >= high {
                        return Ok(None);
                    }
                    (before, low) = (low, found.start);
                }
                _ => high = middle,
            }
        }
        // The last batch may be torn, and nothing whole before it was seen.
        let newest = match self.last_whole(&mut window, low)? {
            None => self.last_whole(&mut window, before)?,
            newest => newest,
        };
        Ok(newest.map(|newest| newest.oldest..=newest.sequence))
    }

    /// The first header at or after a block, if there is one as near as it must be.
    fn next(&self, window: &mut Window, from: u32) -> io::Result<Option<Found>> {
        let blocks = BATCH_BLOCKS_MAX.min(self.blocks - from);
        let octets = window.read(self.storage, Extent { start: from, blocks }, self.blocks)?;
        let mut places = (from..).zip(octets.chunks_exact(BLOCK_OCTETS));
        Ok(places.find_map(|(start, block)| self.header(start, block)))
    }

    /// The last of the whole batches that stand one behind the other from a block on.
    fn last_whole(&self, window: &mut Window, from: u32) -> io::Result<Option<Header>> {
        let (mut last, mut at) = (None::<Header>, from);
        while at < self.blocks {
            let Some(found) = self.next(window, at)?.filter(|found| found.start == at) else {
                break;
            };
            let follows = last.is_none_or(|last| found.header.sequence == last.sequence + 1);
            let octets = window.read(self.storage, found.extent(), self.blocks)?;
            if !follows || !found.header.is_whole(octets) {
                break;
            }
            (last, at) = (Some(found.header), found.extent().end());
        }
        Ok(last)
    }

    /// The header at the beginning of a block, if a batch can be like that: inside the ring, and needing no more
    /// others than the ring has room for. A header whose checksum is right by chance or malice must not make the walk
    /// endless.
    fn header(&self, start: u32, block: &[u8]) -> Option<Found> {
        let header = Header::read(block, self.epoch)?;
        let found = Found { start, header, whole: None, shown: false };
        let Header { sequence, oldest, .. } = header;
        (found.extent().end() <= self.blocks
            && sequence - oldest < u64::from(self.blocks)
            && sequence < SEQUENCE_END)
            .then_some(found)
    }

    /// All headers, in the order of their places. The batches of these numbers are shown on the way.
    pub(super) fn pass(
        &self,
        needed: Option<&RangeInclusive<u64>>,
        visitor: &mut dyn Visitor,
    ) -> io::Result<Seen> {
        let mut seen = Seen::default();
        let mut look = |piece: &mut Piece| {
            seen.unreadable.append(&mut piece.unreadable);
            self.look(piece, needed, &mut seen.found, visitor)
        };
        if self.blocks <= PIECE_BLOCKS {
            let mut piece = Piece::new(self.blocks);
            piece.fetch(self.storage, 0, self.blocks, self.unreadable)?;
            look(&mut piece);
            return Ok(seen);
        }
        std::thread::scope(|scope| {
            let (give, free) = mpsc::channel::<Piece>();
            let (fetched, take) = mpsc::channel();
            for _ in 0..PIECES {
                // It has just been made.
                let _ = give.send(Piece::new(PIECE_BLOCKS));
            }
            std::thread::Builder::new()
                .spawn_scoped(scope, move || self.fetch_all(&free, &fetched))
                .map_err(|error| io::Error::new(error.kind(), format!("no thread: {error}")))?;
            let mut before: Option<Piece> = None;
            // Ends when the other side has sent the last piece, or an error.
            for piece in take {
                let mut piece: Piece = piece?;
                if let Some(before) = before.take() {
                    piece.put_before(&before);
                    // Nobody needs it any more if this fails.
                    let _ = give.send(before);
                }
                piece.looked = look(&mut piece);
                before = Some(piece);
            }
            io::Result::Ok(())
        })?;
        Ok(seen)
    }

    /// Fetches the ring piece by piece into memory that comes back.
    fn fetch_all(&self, free: &mpsc::Receiver<Piece>, fetched: &mpsc::Sender<io::Result<Piece>>) {
        let mut from = 0;
        while from < self.blocks {
            let Ok(mut piece) = free.recv() else { return };
            let blocks = PIECE_BLOCKS.min(self.blocks - from);
            let outcome = piece.fetch(self.storage, from, blocks, self.unreadable);
            let failed = outcome.is_err();
            if fetched.send(outcome.map(|()| piece)).is_err() || failed {
                return;
            }
            from += blocks;
        }
    }

    /// Finds the headers of a piece, and says how far it got: a batch may end in the next piece.
    fn look(
        &self,
        piece: &Piece,
        needed: Option<&RangeInclusive<u64>>,
        found: &mut Vec<Found>,
        visitor: &mut dyn Visitor,
    ) -> u32 {
        let mut at = piece.begin;
        while at < piece.end {
            let Some(mut here) = self.header(at, piece.from(at)) else {
                at += 1;
                continue;
            };
            if here.extent().end() > piece.end {
                return at;
            }
            let header = here.header;
            if needed.is_some_and(|needed| needed.contains(&header.sequence)) {
                let octets = piece.from(at);
                let whole = header.is_whole(octets);
                let records = header.records(octets);
                here.whole = Some(whole);
                here.shown = whole && records.iter().all(|record| record.state().is_some());
                if here.shown {
                    visitor.visit(records, header.sequence);
                }
            }
            found.push(here);
            at = here.extent().end();
        }
        at
    }
}

/// Blocks in memory, with room in front.
#[derive(Debug)]
struct Piece {
    buffer: AlignedBuffer,
    /// The first block that was fetched; others may have been put before it.
    fetched: u32,
    begin: u32,
    end: u32,
    /// How far it was looked at.
    looked: u32,
    /// Of what was fetched last, the blocks that could not be read.
    unreadable: Vec<u32>,
}

impl Piece {
    fn new(blocks: u32) -> Self {
        let buffer = AlignedBuffer::new((HEADROOM_BLOCKS + blocks) as usize);
        let unreadable = Vec::new();
        Self { buffer, fetched: 0, begin: 0, end: 0, looked: 0, unreadable }
    }

    fn fetch<S: Storage>(
        &mut self,
        storage: &S,
        start: u32,
        blocks: u32,
        unreadable: Unreadable,
    ) -> io::Result<()> {
        (self.fetched, self.begin, self.end) = (start, start, start + blocks);
        let place = self.place(start)..self.place(start + blocks);
        let octets = &mut self.buffer.octets_mut()[place];
        self.unreadable = read_blocks(storage, start, octets, unreadable)?;
        Ok(())
    }

    /// Puts what was not looked at in the piece before in front of this one.
    fn put_before(&mut self, before: &Piece) {
        let rest = before.from(before.looked);
        let end = self.place(self.fetched);
        self.buffer.octets_mut()[end - rest.len()..end].copy_from_slice(rest);
        self.begin = before.looked.min(before.end);
    }

    /// The octets from a block on.
    fn from(&self, block: u32) -> &[u8] {
        let end = self.place(self.end);
        &self.buffer.octets()[self.place(block).min(end)..end]
    }

    /// Where a block is in the buffer.
    fn place(&self, block: u32) -> usize {
        (HEADROOM_BLOCKS + block - self.fetched) as usize * BLOCK_OCTETS
    }
}
