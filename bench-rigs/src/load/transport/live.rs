//! Frames that leave past the kernel's socket buffers.
//!
//! An AF_XDP socket in copy mode makes a socket buffer of every frame; over a virtual link that is most of what a frame
//! costs. Here a program runs on frames of the kernel's own (`BPF_F_TEST_XDP_LIVE_FRAMES`, Linux 5.18), copies ours
//! into them and redirects them to the interface, many at a time.

use std::{io, os::fd::OwnedFd};

use super::program::{
    FIRST_OCTETS_AT, FRAME_AT, FRAME_OCTETS_MAX, FRAME_OCTETS_MIN, NEXT_AT, SLOT_OCTETS, SLOTS,
};
use crate::{
    error::{Doing as _, Result},
    sys::{DeviceMap, LiveFrames, SharedArray},
};

/// Frames that the kernel passes on at a time.
const BATCH: usize = 64;

/// One interface's way out.
#[derive(Debug)]
pub(super) struct Outlet {
    frames: LiveFrames,
    device: DeviceMap,
    written: usize,
    longest: usize,
}

impl Outlet {
    /// For an interface of the calling thread's namespace. Nothing leaves before there is a program:
    /// see [`run_by`](Self::run_by).
    pub(super) fn new(interface: &str) -> Result<Self> {
        let device = DeviceMap::new(interface).doing("make a map for an interface")?;
        let octets = u32::try_from((SLOTS + 1) * SLOT_OCTETS).unwrap_or(u32::MAX);
        let array = SharedArray::new(octets).doing("make a map for frames")?;
        let frames = LiveFrames::new(array);
        Ok(Self { frames, device, written: 0, longest: FRAME_OCTETS_MIN })
    }

    /// The descriptors that the program names the array and the interface by.
    pub(super) fn numbers(&self) -> (i32, i32) {
        (self.frames.array_number(), self.device.number())
    }

    /// This program sends from now on.
    pub(super) fn run_by(&mut self, program: OwnedFd) {
        self.frames.run_by(program);
    }

    /// Frames that can be written before some have to be [flushed](Self::flush).
    pub(super) fn capacity(&self) -> usize {
        SLOTS - self.written
    }

    /// Has `fill` write a frame, to leave with the next flush. It gives the length, or `None` to send nothing.
    #[inline]
    pub(super) fn send(&mut self, fill: impl FnOnce(&mut [u8]) -> Option<usize>) {
        let begin = (self.written + 1) * SLOT_OCTETS;
        let octets = self.frames.octets();
        let Some(slot) = octets.get_mut(begin..begin + FRAME_AT + FRAME_OCTETS_MAX) else { return };
        let (head, frame) = slot.split_at_mut(FRAME_AT);
        let Some(length) = fill(frame) else { return };
        let length = length.max(FRAME_OCTETS_MIN);
        put(head, 0, length);
        self.longest = self.longest.max(length);
        self.written += 1;
    }

    /// Frames that are written and have not left.
    #[inline]
    pub(super) fn written(&self) -> usize {
        self.written
    }

    /// Gives the frames away instead of sending them. Gives the number of those that were not taken.
    pub(super) fn drain(&mut self, mut take: impl FnMut(&[u8]) -> bool) -> u64 {
        let written = std::mem::take(&mut self.written);
        self.longest = FRAME_OCTETS_MIN;
        let slots = self.frames.octets().chunks_exact(SLOT_OCTETS).skip(1).take(written);
        let frames = slots.filter_map(|slot| slot.get(FRAME_AT..)?.get(..number_at(slot, 0)));
        frames.map(|frame| u64::from(!take(frame))).sum()
    }

    /// Sends what was written.
    ///
    /// # Errors
    ///
    /// The kernel cannot do this. What was written is lost.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let (written, longest) = (self.written, self.longest);
        (self.written, self.longest) = (0, FRAME_OCTETS_MIN);
        let mut sent = 0;
        while sent < written {
            let octets = self.frames.octets();
            put(octets, NEXT_AT, sent);
            put(octets, FIRST_OCTETS_AT, longest);
            let left = written - sent;
            match self.frames.run(left, longest, left.min(BATCH)) {
                Ok(()) => return Ok(()),
                // A signal: the program has counted how far it came.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    sent = number_at(self.frames.octets(), NEXT_AT);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn put(octets: &mut [u8], at: usize, number: usize) {
    if let Some(place) = octets.get_mut(at..at + 4) {
        place.copy_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_ne_bytes());
    }
}

fn number_at(octets: &[u8], at: usize) -> usize {
    let number = octets.get(at..).and_then(<[u8]>::first_chunk);
    number.map_or(usize::MAX, |&octets| u32::from_ne_bytes(octets) as usize)
}
