//! What must hold of a log whatever stands on the disk, and of leases whatever the log gives back.
//!
//! An input is a list of steps: an octet that says what to do, its length in two octets, and its content. Records
//! are committed, the power fails, octets are overwritten, and checksums are mended, so that what was overwritten is
//! believed.

use std::{collections::HashMap, sync::Arc};

use portlease::{
    journal::{LeaseLog, Options, RingLog, Storage, fault::FaultyDisk},
    lease::{
        promise::Watermarks,
        record::{RECORD_LENGTH, Record, Tuple},
        stamp::{Now, Stamp},
    },
};
use zerocopy::FromBytes;

use crate::common::{leases, pool};

/// Octets of a block, of a ring's superblock up to its checksum, and of a batch's header up to its checksum.
const BLOCK: usize = 4096;
const SUPERBLOCK_CHECKED: usize = 56;
const HEADER_CHECKED: usize = 124;

/// Records of a batch that an input can ask for.
const BATCH_RECORDS_MAX: usize = 40;

/// When everything happens, in milliseconds.
const NOW: Now = Now(1_700_000_000_000);

/// A small ring, for a few leases.
const OPTIONS: Options = Options {
    capacity_leases: 64,
    hold_down_seconds: 120,
    accept_loss: false,
    ring_octets: Some(34 * BLOCK as u64),
};

/// One step, as the octets of an input.
pub(crate) fn step(what: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("a short step");
    let [high, low] = length.to_be_bytes();
    [&[what, high, low], content].concat()
}

/// The first step of an input and the rest.
fn take_step(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[what, high, low], rest) = input.split_first_chunk()?;
    let length = usize::from(u16::from_be_bytes([high, low])).min(rest.len());
    let (content, rest) = rest.split_at(length);
    Some((what, content, rest))
}

/// What the log was promised to keep: the newest record of each tuple.
type Kept = HashMap<Tuple, Stamp>;

/// Any life of a log.
pub(crate) fn log(input: &[u8]) {
    let mut disk = created();
    let (mut kept, mut damaged) = (Kept::new(), false);
    let mut rest = input;
    while let Some((what, content, after)) = take_step(rest) {
        rest = after;
        match what & 3 {
            0 if !damaged => commit(&mut disk, content, what >> 2, &mut kept),
            0 | 1 => damaged |= overwrite(&disk, content),
            2 => damaged |= mend(&disk),
            _ => disk = disk.after_power_failure(),
        }
    }
    let strict = recover(&disk, OPTIONS);
    if !damaged {
        let found = strict.expect("nothing was damaged").1;
        for (tuple, stamp) in kept {
            let newest = found.iter().filter(|record| record.tuple() == tuple);
            let newest = newest.map(Record::stamp).max();
            assert!(newest >= Some(stamp), "{tuple:?} has {newest:?}, {stamp:?} was promised");
        }
        restore(&found);
        return;
    }
    let Ok((mut log, found)) = recover(&disk, Options { accept_loss: true, ..OPTIONS }) else {
        return;
    };
    restore(&found);
    // What was accepted is whole again, and goes on.
    let added = record(&[7; RECORD_LENGTH]);
    log.commit(&[added], NOW).expect("a log that was recovered takes records");
    drop(log);
    let (_, again) = recover(&disk.after_kill(), OPTIONS).expect("a log that was mended is whole");
    assert!(again.contains(&added));
}

/// A disk with an empty ring.
fn created() -> FaultyDisk {
    let disk = FaultyDisk::new(OPTIONS.octets(), 1);
    RingLog::create(disk.clone(), OPTIONS).expect("a disk that works");
    disk.after_kill()
}

/// A record for a tuple that a pool may have, of a kind that is known; everything else is as in `octets`.
fn record(octets: &[u8; RECORD_LENGTH]) -> Record {
    let mut octets = *octets;
    let address = 0xc000_0212_u32 + u32::from(octets[28] & 1);
    octets[28..32].copy_from_slice(&address.to_le_bytes());
    octets[32] = if octets[32] & 7 == 7 { 6 } else { 0 };
    octets[33] = 6;
    octets[35] = 0;
    octets[34] &= 63;
    octets[36] = octets[36] % 3 + 1;
    // A stamp is a time that has been; the far future would only stop the server.
    octets[5..8].fill(0);
    Record::read_from_bytes(&octets).expect("as long as a record")
}

/// Commits a batch of records, and lets the power fail in it after so many writes, if it does.
fn commit(disk: &mut FaultyDisk, content: &[u8], steps: u8, kept: &mut Kept) {
    let (chunks, _) = content.as_chunks::<RECORD_LENGTH>();
    let batch: Vec<Record> = chunks.iter().take(BATCH_RECORDS_MAX).map(record).collect();
    let Ok((mut log, _)) = recover(disk, OPTIONS) else { panic!("nothing was damaged") };
    if steps > 0 {
        disk.fail_after(u64::from(steps));
    }
    let done = log.commit(&batch, Now(0)).is_ok();
    drop(log);
    *disk = disk.after_power_failure();
    if done {
        for record in &batch {
            let newest = kept.entry(record.tuple()).or_default();
            *newest = record.stamp().max(*newest);
        }
    }
}

/// Overwrites octets: place in 16-octet units in two octets, then what. Says whether there was anything.
fn overwrite(disk: &FaultyDisk, content: &[u8]) -> bool {
    let Some((&[high, low], octets)) = content.split_first_chunk() else { return false };
    let place = u64::from(u16::from_be_bytes([high, low])) * 16 % disk.octets();
    disk.damage(place, octets);
    !octets.is_empty()
}

/// Makes every checksum right. Says whether one was not: a batch that the power cut short is believed then, and is
/// damage.
fn mend(disk: &FaultyDisk) -> bool {
    let mut octets = vec![0; usize::try_from(disk.octets()).expect("a small disk")];
    disk.read_at(0, &mut octets).expect("a disk that works");
    let mut changed = false;
    for start in (0..octets.len()).step_by(BLOCK) {
        let word = |at: usize| {
            octets[start + at..].first_chunk().map_or(0, |word| u32::from_le_bytes(*word))
        };
        if octets[start..].starts_with(b"plring\xe1\x0a") {
            changed |= seal(disk, &octets, start, SUPERBLOCK_CHECKED);
        } else if octets[start..].starts_with(b"plbatch\xe1") {
            let units = usize::try_from(word(32)).unwrap_or(0).saturating_add(1);
            let length = units.saturating_mul(RECORD_LENGTH).div_ceil(BLOCK).saturating_mul(BLOCK);
            let Some(body) = octets[start..].get(RECORD_LENGTH..length) else { continue };
            let sum = crc32c::crc32c(body).to_le_bytes();
            octets[start + 36..start + 40].copy_from_slice(&sum);
            disk.damage(start as u64 + 36, &sum);
            // The header's own checksum is over that of the records.
            changed |= seal(disk, &octets, start, HEADER_CHECKED);
        }
    }
    changed
}

/// Writes the checksum of `length` octets behind them, and says whether another one stood there.
fn seal(disk: &FaultyDisk, octets: &[u8], start: usize, length: usize) -> bool {
    let end = start + length;
    let sum = crc32c::crc32c(&octets[start..end]).to_le_bytes();
    disk.damage(end as u64, &sum);
    octets[end..end + 4] != sum
}

/// Mounts and reads a log.
fn recover(
    disk: &FaultyDisk,
    options: Options,
) -> Result<(RingLog<FaultyDisk>, Vec<Record>), String> {
    let mut log = RingLog::mount(disk.clone(), options).map_err(|error| error.to_string())?;
    let mut found = Vec::new();
    let report =
        log.recover(&mut |record| found.push(*record)).map_err(|error| error.to_string())?;
    assert_eq!(report.records, found.len() as u64);
    Ok((log, found))
}

/// Leases that are made of these records are sound, whatever the records say.
fn restore(records: &[Record]) {
    let pools = [pool("P", 1, ("192.0.2.18", "192.0.2.18"), 0, 6)];
    let leases = leases(&pools, &Arc::new(Watermarks::new(1)));
    let mut recovery = leases.recover();
    for record in records {
        recovery.adopt(record);
    }
    if recovery.finish(NOW).is_ok() {
        leases.check_invariants().expect("sound leases");
        leases.sweep_all(NOW);
        leases.check_invariants().expect("sound leases after a sweep");
    }
}
