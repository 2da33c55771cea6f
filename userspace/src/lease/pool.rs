//! Free and held slots of one pool.

/// Numbers a pool of the configuration. Never leaves memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolId(pub u16);

/// Numbers an (address, PSID) of a pool: `address_index << psid_length | psid`. Never leaves memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u32);
