//! Numbers that look random, cheaply: a bench measures what it calls, not its dice.

use portlease::lease::pool::Pick;

/// Marsaglia's xorshift64, the cheapest generator that leads anywhere. The state must not be 0.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// The next number below `count`.
    pub fn below(&mut self, count: usize) -> usize {
        usize::try_from(((self.draw() >> 32) * count as u64) >> 32).unwrap_or(0)
    }

    /// A random place to look for a free slot.
    pub fn pick(&mut self) -> Pick {
        Pick::Random(self.draw())
    }
}
