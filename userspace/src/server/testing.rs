//! What several tests of this layer need: an engine over the reference configuration.

use std::sync::Arc;

use crate::{
    engine::Engine,
    journal::MemoryLog,
    lease::{Features, Leases, Settings, promise::Watermarks},
};

use super::config::Compiled;

/// The reference configuration.
const REFERENCE: &str = include_str!("../../examples/reference.toml");

/// An engine that decides by the reference configuration over leases of which none is held.
pub(super) fn engine(watermarks: Arc<Watermarks>) -> Arc<Engine> {
    let compiled = Compiled::parse("reference.toml", REFERENCE).unwrap();
    let settings = Settings {
        capacity: 1000,
        offers_max: 1000,
        hold_down_seconds: 120,
        decline_hold_seconds: 86_400,
        watermarks,
        shards: None,
        features: Features::default(),
    };
    let leases = Arc::new(Leases::new(&compiled.pools, settings).unwrap());
    let secret = MemoryLog::new().unwrap().identity_secret();
    Arc::new(Engine::new(compiled.policy, leases, secret))
}
