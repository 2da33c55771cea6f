//! Who holds what. No I/O; the only shared mutable state of the hot path.

pub mod key;
pub mod pool;
pub mod promise;
pub mod record;
pub mod stamp;
