//! Finds the chain of batches that a ring still needs.
//!
//! Of all headers (`survey`) the greatest sequence number is the last batch that was begun. Only one batch is ever on
//! its way to the disk, so that one alone may be torn, and it was never acknowledged. The newest whole batch names the
//! oldest one that is needed; every batch between them must be there, whole, each behind the one before it or at
//! block 0. Anything else is damage.

use std::{collections::VecDeque, io};

use super::{
    append::failed,
    batch::BATCH_BLOCKS_MAX,
    log::{Damage, LogError},
    space::Extent,
    storage::Storage,
    superblock::Superblock,
    survey::{Found, Seen, Survey, Visitor},
    window::{Unreadable, Window, offset_of},
};

/// Blocks read at once: four megabytes.
const WINDOW_BLOCKS: u32 = 4 * BATCH_BLOCKS_MAX;

fn damage(found: &Found, fault: &str) -> Damage {
    Damage {
        sequence: found.header.sequence,
        offset: offset_of(found.start),
        fault: fault.to_owned(),
    }
}

/// What a ring still needs.
#[derive(Debug)]
pub(super) struct Chain {
    /// The sequence number of the first extent.
    pub(super) oldest: u64,
    /// The batches, from the oldest to the newest. Not one behind the other if something is lost.
    pub(super) extents: VecDeque<Extent>,
    /// The last batch, if it was cut short.
    pub(super) torn: Option<Damage>,
    /// What is missing.
    pub(super) lost: Vec<Damage>,
    /// Records in them.
    pub(super) records: u64,
}

impl Chain {
    fn empty() -> Self {
        Chain { oldest: 1, extents: VecDeque::new(), torn: None, lost: Vec::new(), records: 0 }
    }
}

/// Reads a ring.
pub(super) struct Reader<'s, S: Storage> {
    storage: &'s S,
    blocks: u32,
    epoch: u64,
    accept_loss: bool,
    unreadable: Unreadable,
    window: Window,
}

impl<'s, S: Storage> Reader<'s, S> {
    /// A reader that stops at the first damage, unless `accept_loss`.
    pub(super) fn new(storage: &'s S, superblock: &Superblock, accept_loss: bool) -> Self {
        let blocks = u32::try_from(superblock.blocks).unwrap_or(u32::MAX);
        let unreadable = if accept_loss { Unreadable::Blank } else { Unreadable::Refused };
        let window = Window::new(WINDOW_BLOCKS.min(blocks), unreadable);
        Self { unreadable, storage, blocks, epoch: superblock.epoch, accept_loss, window }
    }

    /// Shows every record of the chain; batches come in any order. A ring without damage is read once.
    pub(super) fn walk(&mut self, visitor: &mut dyn Visitor) -> Result<Chain, LogError> {
        let survey = Survey::new(self.storage, self.blocks, self.epoch, self.unreadable);
        let needed = survey.guess().map_err(|source| self.cannot_read(source))?;
        let seen = survey.pass(needed.as_ref(), visitor);
        let seen = seen.map_err(|source| self.cannot_read(source))?;
        let (found, shown) = sorted(seen.found);
        let (mut chain, batches) = self.chain(&found)?;
        lose_unreadable(&mut chain, &seen.unreadable);
        if batches.len() == shown && batches.iter().all(|batch| batch.shown) {
            chain.records = batches.iter().map(|batch| u64::from(batch.header.count)).sum();
            return Ok(chain);
        }
        if shown > 0 {
            visitor.begin_anew();
        }
        self.show(&batches, &mut chain, visitor)?;
        Ok(chain)
    }

    /// The same, batches in their order and each record once. A ring is read twice.
    pub(super) fn walk_in_order(&mut self, visitor: &mut dyn Visitor) -> Result<Chain, LogError> {
        let survey = Survey::new(self.storage, self.blocks, self.epoch, self.unreadable);
        let seen = survey.pass(None, visitor);
        let Seen { found, .. } = seen.map_err(|source| self.cannot_read(source))?;
        let (found, _) = sorted(found);
        let (mut chain, batches) = self.chain(&found)?;
        self.show(&batches, &mut chain, visitor)?;
        Ok(chain)
    }

    /// The batches that are needed, of all headers sorted by sequence number.
    fn chain(&mut self, found: &[Found]) -> Result<(Chain, Vec<Found>), LogError> {
        let (mut chain, mut batches) = (Chain::empty(), Vec::new());
        let Some(newest) = self.newest(found, &mut chain)? else { return Ok((chain, batches)) };
        chain.oldest = newest.header.oldest;
        let mut at = found.partition_point(|found| found.header.sequence < chain.oldest);
        let mut end: Option<u32> = None;
        for sequence in chain.oldest..=newest.header.sequence {
            let begin = at;
            while found.get(at).is_some_and(|found| found.header.sequence == sequence) {
                at += 1;
            }
            let follows =
                |found: &&Found| found.start == 0 || end.is_none_or(|end| found.start == end);
            let mut candidates = found.get(begin..at).unwrap_or_default().iter().filter(follows);
            let whole = loop {
                match candidates.next() {
                    Some(candidate) if self.is_whole(candidate)? => break Some(*candidate),
                    Some(_) => {}
                    None => break None,
                }
            };
            if let Some(whole) = whole {
                chain.extents.push_back(whole.extent());
                batches.push(whole);
                end = Some(whole.extent().end());
            } else {
                let next = found.get(begin).map_or(newest.start, |found| found.start);
                self.lose(&mut chain, missing(sequence, end.unwrap_or(next)))?;
                end = None;
            }
        }
        Ok((chain, batches))
    }

    /// The newest whole batch. One torn batch may follow it.
    fn newest(&mut self, found: &[Found], chain: &mut Chain) -> Result<Option<Found>, LogError> {
        let mut expected = None;
        let mut candidates = found.iter().rev();
        let mut faults: Vec<Damage> = Vec::new();
        let newest = loop {
            let Some(candidate) = candidates.next() else { break None };
            let last = *expected.get_or_insert(candidate.header.sequence);
            if self.is_whole(candidate)? {
                break Some((*candidate, last));
            }
            faults.push(damage(candidate, "its checksum does not match"));
        };
        let Some((newest, last)) = newest else {
            self.lose(chain, missing(1, 0))?;
            return Ok(None);
        };
        // Another try at the same number, which then succeeded elsewhere, is of no interest.
        faults.retain(|fault| fault.sequence > newest.header.sequence);
        if last <= newest.header.sequence + 1 {
            chain.torn = faults.pop();
        } else {
            // A batch is begun only when the one before it is durable: these were acknowledged. Of more than the
            // ring has room for, the last ones are named.
            let first = last.saturating_sub(u64::from(self.blocks));
            for sequence in first.max(newest.header.sequence + 1)..last {
                let at = newest.extent().end();
                let fault = faults.iter().find(|fault| fault.sequence == sequence).cloned();
                self.lose(chain, fault.unwrap_or_else(|| missing(sequence, at)))?;
            }
        }
        Ok(Some(newest))
    }

    fn is_whole(&mut self, found: &Found) -> Result<bool, LogError> {
        match found.whole {
            Some(whole) => Ok(whole),
            None => Ok(found.header.is_whole(self.read(found.extent())?)),
        }
    }

    /// Shows the records of these batches. Those that nobody understands are lost.
    fn show(
        &mut self,
        batches: &[Found],
        chain: &mut Chain,
        visitor: &mut dyn Visitor,
    ) -> Result<(), LogError> {
        for batch in batches {
            let records = batch.header.records(self.read(batch.extent())?);
            let mut unknown = 0;
            for part in records.split_inclusive(|record| record.state().is_none()) {
                let known = part.iter().take_while(|record| record.state().is_some()).count();
                unknown += part.len() - known;
                chain.records += known as u64;
                visitor.visit(part.get(..known).unwrap_or_default(), batch.header.sequence);
            }
            if unknown > 0 {
                let fault =
                    format!("{unknown} records are in a state that this program does not know");
                self.lose(chain, damage(batch, &fault))?;
            }
        }
        Ok(())
    }

    fn lose(&self, chain: &mut Chain, damage: Damage) -> Result<(), LogError> {
        if !self.accept_loss {
            return Err(LogError::Damaged { path: self.storage.path().to_path_buf(), damage });
        }
        chain.lost.push(damage);
        Ok(())
    }

    fn read(&mut self, wanted: Extent) -> Result<&[u8], LogError> {
        let storage = self.storage;
        let read = self.window.read(storage, wanted, self.blocks);
        read.map_err(|source| failed("read", storage, source))
    }

    fn cannot_read(&self, source: io::Error) -> LogError {
        failed("read", self.storage, source)
    }
}

/// What stood in blocks that could not be read may have been needed: the newest of all batches, perhaps.
fn lose_unreadable(chain: &mut Chain, unreadable: &[u32]) {
    let next = chain.oldest + chain.extents.len() as u64;
    chain.lost.extend(unreadable.iter().map(|&block| Damage {
        sequence: next,
        offset: offset_of(block),
        fault: "cannot be read, and what was there may be lost".to_owned(),
    }));
}

/// Headers by sequence number, and of how many the batches were shown.
fn sorted(mut found: Vec<Found>) -> (Vec<Found>, usize) {
    found.sort_by_key(|found| (found.header.sequence, found.start));
    let shown = found.iter().filter(|found| found.shown).count();
    (found, shown)
}

fn missing(sequence: u64, block: u32) -> Damage {
    Damage {
        sequence,
        offset: offset_of(block),
        fault: "no whole batch of this number is where it should begin".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        journal::{
            LeaseLog as _, Options, RecoveryReport, Rewrite, RingLog, fault::FaultyDisk,
            testing::record,
        },
        lease::{record::Record, stamp::Now},
    };
    use zerocopy::{FromBytes as _, IntoBytes as _};

    const OPTIONS: Options = Options {
        capacity_leases: 500,
        hold_down_seconds: 10,
        accept_loss: false,
        ring_octets: Some(66 * 4096),
    };
    const MENDING: Options = Options { accept_loss: true, ..OPTIONS };

    type Found = BTreeMap<u64, u64>;

    fn recover(
        disk: &FaultyDisk,
        options: Options,
    ) -> Result<(RingLog<FaultyDisk>, RecoveryReport, Found), LogError> {
        let mut log = RingLog::mount(disk.clone(), options)?;
        let mut found = Found::new();
        let report = log.recover(&mut |record| {
            let newest = found.entry(record.tuple().packed()).or_default();
            *newest = record.stamp().0.max(*newest);
        })?;
        Ok((log, report, found))
    }

    fn expected(slots: impl IntoIterator<Item = u32>) -> Found {
        slots.into_iter().map(|slot| (record(slot, 1).tuple().packed(), 1)).collect()
    }

    /// A ring with the empty batch 1 in block 0, and the batches 2 to 6 in one block each: batch `n` has slot `n`.
    fn six_batches() -> FaultyDisk {
        let disk = FaultyDisk::new(OPTIONS.octets(), 3);
        let mut log = RingLog::create(disk.clone(), OPTIONS).unwrap();
        log.recover(&mut |_| ()).unwrap();
        for slot in 2..=6 {
            log.commit(&[record(slot, 1)], Now(1)).unwrap();
        }
        disk.after_power_failure()
    }

    /// Where batch `n` of these begins.
    fn offset(batch: u32) -> u64 {
        offset_of(batch - 1)
    }

    /// Spoils the records of a batch and leaves its header.
    fn spoil(disk: &FaultyDisk, batch: u32) {
        disk.damage(offset(batch) + 1000, b"spoiled");
    }

    /// Spoils the header of a batch.
    fn behead(disk: &FaultyDisk, batch: u32) {
        disk.damage(offset(batch), b"beheaded");
    }

    fn refused(disk: &FaultyDisk) -> (Damage, String) {
        match recover(disk, OPTIONS).map(|(_, report, _)| report) {
            Err(LogError::Damaged { path, damage }) => {
                let text = LogError::Damaged { path, damage: damage.clone() }.to_string();
                (damage, text)
            }
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn a_whole_ring_gives_back_all() {
        let (_, report, found) = recover(&six_batches(), OPTIONS).unwrap();
        assert_eq!(found, expected(2..=6));
        assert_eq!((report.records, report.tuples, report.batches), (5, 5, 6));
        assert!(report.messages().is_empty(), "{report:?}");
    }

    #[test]
    fn a_torn_last_batch_is_cut_off_with_a_message() {
        let disk = six_batches();
        spoil(&disk, 6);
        let (mut log, report, found) = recover(&disk, OPTIONS).unwrap();
        assert_eq!(found, expected(2..=5));
        let torn = report.torn.as_ref().unwrap();
        assert_eq!((torn.sequence, torn.offset), (6, offset(6)));
        assert!(report.messages()[0].contains("batch 6 at offset 28672"), "{report:?}");
        log.commit(&[record(9, 1)], Now(1)).unwrap();
        let (_, report, found) = recover(&disk.after_power_failure(), OPTIONS).unwrap();
        assert_eq!(found, expected([2, 3, 4, 5, 9]));
        assert_eq!(report.torn, None, "the next batch stands in its place");
    }

    #[test]
    fn a_last_batch_without_its_header_was_never_there() {
        let disk = six_batches();
        behead(&disk, 6);
        let (_, report, found) = recover(&disk, OPTIONS).unwrap();
        assert_eq!((found, report.torn), (expected(2..=5), None));
    }

    #[test]
    fn a_bad_batch_in_the_middle_stops_the_start() {
        for spoiler in [spoil, behead] {
            for batch in [2, 4, 5] {
                let disk = six_batches();
                spoiler(&disk, batch);
                let (damage, text) = refused(&disk);
                assert_eq!((damage.sequence, damage.offset), (u64::from(batch), offset(batch)));
                assert!(text.contains("faulty-disk"), "{text}");
                assert!(text.contains(&format!("offset {}", offset(batch))), "{text}");
                assert!(text.contains("--accept-loss"), "{text}");
            }
        }
    }

    #[test]
    fn a_batch_that_does_not_follow_the_one_before_it_does_not_count() {
        let disk = six_batches();
        let mut moved = vec![0; 4096];
        disk.read_at(offset(4), &mut moved).unwrap();
        disk.damage(offset(20), &moved);
        recover(&disk, OPTIONS).unwrap();
        behead(&disk, 4);
        assert_eq!(refused(&disk).0.sequence, 4);
    }

    #[test]
    fn two_bad_batches_at_the_end_are_no_torn_write() {
        for first in [spoil, behead] {
            let disk = six_batches();
            first(&disk, 5);
            spoil(&disk, 6);
            assert_eq!(refused(&disk).0.sequence, 5);
        }
    }

    #[test]
    fn a_sector_that_cannot_be_read_is_named_and_is_a_loss_that_can_be_accepted() {
        for (batch, kept) in
            [(3, vec![2, 4, 5, 6]), (6, vec![2, 3, 4, 5]), (40, vec![2, 3, 4, 5, 6])]
        {
            let disk = six_batches();
            disk.lose_sector(offset(batch) + 512);
            let error = recover(&disk, OPTIONS).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(&format!("at offset {}", offset(batch))), "{error}");
            let (mut log, report, found) = recover(&disk, MENDING).unwrap();
            assert_eq!(found, expected(kept));
            assert_eq!(report.rewritten, Some(Rewrite::Mended), "the bad sector is left behind");
            assert!(report.lost.iter().any(|lost| lost.offset == offset(batch)), "{report:?}");
            log.commit(&[record(9, 1)], Now(1)).unwrap();
            assert!(recover(&disk.after_power_failure(), OPTIONS).unwrap().2.len() > 4);
        }
    }

    #[test]
    fn accepted_loss_keeps_the_rest_in_a_whole_ring() {
        let disk = six_batches();
        spoil(&disk, 3);
        behead(&disk, 5);
        let secret = RingLog::mount(disk.clone(), OPTIONS).unwrap().identity_secret().0;
        let (mut log, report, found) = recover(&disk, MENDING).unwrap();
        assert_eq!(found, expected([2, 4, 6]));
        assert_eq!(report.rewritten, Some(Rewrite::Mended));
        let lost: Vec<_> = report.lost.iter().map(|damage| damage.sequence).collect();
        assert_eq!(lost, [3, 5]);
        log.commit(&[record(9, 1)], Now(1)).unwrap();
        let (log, report, found) = recover(&disk.after_power_failure(), OPTIONS).unwrap();
        assert_eq!(found, expected([2, 4, 6, 9]));
        assert!(report.messages().is_empty(), "{report:?}");
        assert_eq!(log.identity_secret().0, secret);
    }

    #[test]
    fn a_ring_without_any_batch_has_lost_all() {
        let disk = six_batches();
        disk.damage(offset(1), &vec![0; 6 * 4096]);
        assert_eq!(refused(&disk).0.offset, offset(1));
        let (_, report, found) = recover(&disk, MENDING).unwrap();
        assert_eq!((found.len(), report.lost.len()), (0, 1));
        recover(&disk.after_power_failure(), OPTIONS).unwrap();
    }

    #[test]
    fn a_record_in_an_unknown_state_is_not_guessed_at() {
        let disk = six_batches();
        let (mut log, ..) = recover(&disk, OPTIONS).unwrap();
        let mut octets = record(9, 1).as_bytes().to_vec();
        octets[36] = 9;
        let later = Record::read_from_bytes(&octets).unwrap();
        assert_eq!(later.state(), None, "the octet is the state");
        log.commit(&[later, record(10, 1)], Now(1)).unwrap();
        let disk = disk.after_power_failure();
        let (damage, text) = refused(&disk);
        assert_eq!(damage.sequence, 7);
        assert!(text.contains("1 records are in a state"), "{text}");
        let (_, _, found) = recover(&disk, MENDING).unwrap();
        assert_eq!(found, expected([2, 3, 4, 5, 6, 10]));
    }

    #[test]
    fn another_size_keeps_what_counts_and_the_secret() {
        for blocks in [34, 130] {
            let disk = six_batches();
            let (mut log, ..) = recover(&disk, OPTIONS).unwrap();
            for stamp in 1..400 {
                let slots = 10..25;
                let batch: Vec<_> = slots.map(|slot| record(slot, stamp)).collect();
                log.commit(&batch, Now(1)).unwrap();
            }
            let secret = log.identity_secret().0;
            let resized = Options { ring_octets: Some(blocks * 4096), ..OPTIONS };
            let disk = disk.after_power_failure();
            let (mut log, report, found) = recover(&disk, resized).unwrap();
            assert_eq!(
                report.rewritten,
                Some(Rewrite::Resized { from: 66 * 4096, to: blocks * 4096 })
            );
            assert_eq!(found.len(), 20);
            log.commit(&[record(30, 1)], Now(1)).unwrap();
            let disk = disk.after_power_failure();
            let (log, report, again) = recover(&disk, resized).unwrap();
            assert_eq!((report.rewritten, again.len()), (None, 21));
            assert!(found.iter().all(|(tuple, stamp)| again[tuple] == *stamp));
            assert_eq!(log.identity_secret().0, secret);
        }
    }

    #[test]
    fn a_smaller_size_that_cannot_hold_the_leases_is_refused_and_changes_nothing() {
        let disk = FaultyDisk::new(OPTIONS.octets(), 3);
        let mut log = RingLog::create(disk.clone(), OPTIONS).unwrap();
        log.recover(&mut |_| ()).unwrap();
        let slots: Vec<_> = (0..1000).map(|slot| record(slot, 1)).collect();
        log.commit(&slots, Now(1)).unwrap();
        let disk = disk.after_power_failure();
        let smaller = Options { ring_octets: Some(34 * 4096), capacity_leases: 100, ..OPTIONS };
        match recover(&disk, smaller).map(|(_, report, _)| report) {
            Err(LogError::Full { capacity: 100, .. }) => {}
            other => panic!("not refused: {other:?}"),
        }
        assert_eq!(recover(&disk, OPTIONS).unwrap().2, expected(0..1000));
    }

    #[test]
    fn what_is_written_once_stays_while_the_ring_comes_round() {
        let disk = FaultyDisk::new(OPTIONS.octets(), 3);
        let mut log = RingLog::create(disk.clone(), OPTIONS).unwrap();
        log.recover(&mut |_| ()).unwrap();
        let once: Vec<_> = (0..300).map(|slot| record(slot, 1)).collect();
        log.commit(&once, Now(1)).unwrap();
        for stamp in 1..=3000_u64 {
            let slot = 300 + u32::try_from(stamp % 50).unwrap();
            log.commit(&[record(slot, stamp)], Now(1)).unwrap();
        }
        let (_, report, mut found) = recover(&disk.after_power_failure(), OPTIONS).unwrap();
        for slot in 300..350 {
            let stamp = found.remove(&record(slot, 1).tuple().packed()).unwrap();
            assert!(stamp > 2950, "slot {slot} has stamp {stamp}");
        }
        assert_eq!(found, expected(0..300));
        assert!(report.batches < 64);
    }
}
