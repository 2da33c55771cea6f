//! A cursor over a caller's buffer that cannot fail in the middle.
//!
//! An emitter writes a message as if the buffer had no end and asks once, at the end, whether it
//! had one.

/// Writes octets one after the other and remembers an overflow instead of panicking.
///
/// After the first write that does not fit nothing more is written, so the octets that are there
/// are always a prefix of the message, never a message with a hole in it.
#[derive(Debug)]
pub struct Writer<'b> {
    buffer: &'b mut [u8],
    length: usize,
    overflowed: bool,
}

impl<'b> Writer<'b> {
    /// Starts at the beginning of `buffer`.
    pub fn new(buffer: &'b mut [u8]) -> Self {
        Self { buffer, length: 0, overflowed: false }
    }

    /// Octets written so far.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing has been written yet.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Octets that still fit: 0 after an overflow.
    pub fn room(&self) -> usize {
        self.buffer.len().saturating_sub(self.length)
    }

    /// What has been written so far.
    pub fn written(&self) -> &[u8] {
        self.buffer.get(..self.length).unwrap_or_default()
    }

    /// Whether something did not fit.
    pub fn overflowed(&self) -> bool {
        self.overflowed
    }

    /// The number of octets written, or `None` if the message did not fit.
    pub fn finish(self) -> Option<usize> {
        (!self.overflowed).then_some(self.length)
    }

    /// Declares that the message does not fit, for limits other than the buffer's: a length field
    /// of 16 bits.
    #[cold]
    pub fn overflow(&mut self) {
        self.overflowed = true;
        // Without room nothing more is written, and no write has to ask.
        let buffer = std::mem::take(&mut self.buffer);
        self.buffer = buffer.get_mut(..self.length).unwrap_or_default();
    }

    /// One octet.
    #[inline]
    pub fn u8(&mut self, value: u8) {
        self.array([value]);
    }

    /// Two octets in network order.
    #[inline]
    pub fn u16(&mut self, value: u16) {
        self.array(value.to_be_bytes());
    }

    /// Four octets in network order.
    #[inline]
    pub fn u32(&mut self, value: u32) {
        self.array(value.to_be_bytes());
    }

    /// Octets whose number is known when the program is compiled.
    #[inline]
    pub fn array<const N: usize>(&mut self, octets: [u8; N]) {
        if let Some(place) = self.reserve::<N>() {
            *place = octets;
        }
    }

    /// Octets as they are.
    #[inline]
    pub fn bytes(&mut self, octets: &[u8]) {
        if let Some(place) = self.reserve_slice(octets.len()) {
            place.copy_from_slice(octets);
        }
    }

    /// `count` zero octets.
    #[inline]
    pub fn zeros(&mut self, count: usize) {
        if let Some(place) = self.reserve_slice(count) {
            place.fill(0);
        }
    }

    /// Overwrites two octets that have already been written, in network order. Elsewhere it does
    /// nothing.
    #[inline]
    pub fn patch_u16(&mut self, at: usize, value: u16) {
        if let Some(place) = self.written_mut(at) {
            *place = value.to_be_bytes();
        }
    }

    /// Reads back two octets that have already been written.
    #[inline]
    pub fn peek_u16(&self, at: usize) -> Option<u16> {
        self.written().get(at..)?.first_chunk().copied().map(u16::from_be_bytes)
    }

    /// The next `N` octets, to be filled by the caller. Their content is undefined before.
    #[inline]
    pub fn reserve<const N: usize>(&mut self) -> Option<&mut [u8; N]> {
        self.reserve_slice(N)?.first_chunk_mut()
    }

    /// The next `count` octets, to be filled by the caller. Their content is undefined before.
    #[inline]
    pub fn reserve_slice(&mut self, count: usize) -> Option<&mut [u8]> {
        let start = self.length;
        // Below the length of a slice: cannot wrap.
        let end = start.wrapping_add(count);
        if self.buffer.get(start..end).is_none() {
            self.overflow();
            return None;
        }
        self.length = end;
        self.buffer.get_mut(start..end)
    }

    #[inline]
    fn written_mut(&mut self, at: usize) -> Option<&mut [u8; 2]> {
        self.buffer.get_mut(..self.length)?.get_mut(at..)?.first_chunk_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_in_network_order_and_counts() {
        let mut buffer = [0xee; 16];
        let mut w = Writer::new(&mut buffer);
        w.u8(1);
        w.u16(0x0203);
        w.u32(0x0405_0607);
        w.bytes(&[8, 9]);
        w.zeros(2);
        w.patch_u16(1, 0xaabb);
        assert_eq!(w.peek_u16(1), Some(0xaabb));
        assert_eq!(w.room(), 5);
        assert_eq!(w.finish(), Some(11));
        assert_eq!(buffer[..12], [1, 0xaa, 0xbb, 4, 5, 6, 7, 8, 9, 0, 0, 0xee]);
    }

    #[test]
    fn an_overflow_is_remembered_and_leaves_a_prefix() {
        let mut buffer = [0; 4];
        let mut w = Writer::new(&mut buffer);
        w.u16(0x0102);
        w.u32(0xdead_beef);
        w.u8(3);
        assert!(w.overflowed());
        assert_eq!((w.len(), w.room()), (2, 0));
        assert_eq!(w.finish(), None);
        assert_eq!(buffer, [1, 2, 0, 0]);
    }

    #[test]
    fn a_buffer_can_be_filled_to_the_last_octet() {
        let mut buffer = [0; 3];
        let mut w = Writer::new(&mut buffer);
        w.bytes(&[1, 2, 3]);
        w.bytes(&[]);
        assert_eq!(w.finish(), Some(3));
    }

    #[test]
    fn patches_outside_of_what_is_written_change_nothing() {
        let mut buffer = [7; 4];
        let mut w = Writer::new(&mut buffer);
        w.u16(0);
        w.patch_u16(1, 0xffff);
        w.patch_u16(usize::MAX, 0xffff);
        assert_eq!(w.peek_u16(1), None);
        assert_eq!(buffer, [0, 0, 7, 7]);
    }
}
