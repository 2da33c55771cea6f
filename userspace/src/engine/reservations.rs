//! Tuples that are reserved for clients, and which of them the sender of a query may have.
//!
//! The leases withhold a reserved tuple from everybody; this directory says whom it is for. A reservation wins over
//! whatever else a DISCOVER could be offered. It ends nobody's lease: its client keeps another tuple that it has until
//! it asks anew, and whoever has the reserved tuple from before keeps it to its end, but cannot extend it.

use super::{
    exchange::Exchange,
    policy::{Reservation, ReservedFor},
};
use crate::lease::{
    key::{IdentityKind, IdentitySecret, LinkId},
    pools::{Location, Pools},
};

/// The reserved slots of all links, by the keyed hash of whom they are for.
#[derive(Default)]
pub(super) struct Directory {
    by_client: Box<[(u128, Location)]>,
    by_remote_id: Box<[(u128, Location)]>,
}

impl Directory {
    /// The directory of `reservations`, whose tuples are of `pools`.
    pub(super) fn new(
        reservations: &[Reservation],
        pools: &Pools,
        secret: &IdentitySecret,
    ) -> Directory {
        let (mut by_client, mut by_remote_id) = (Vec::new(), Vec::new());
        for reservation in reservations {
            let Some(at) = pools.locate_tuple(reservation.tuple) else { continue };
            let (kind, octets, list) = match &reservation.client {
                ReservedFor::ClientIdentifier(octets) => {
                    (IdentityKind::ClientIdentifier, octets, &mut by_client)
                }
                ReservedFor::RemoteId(octets) => {
                    (IdentityKind::RemoteId, octets, &mut by_remote_id)
                }
            };
            list.push((secret.identify(kind, octets).on(reservation.link).0, at));
        }
        by_client.sort_unstable();
        by_remote_id.sort_unstable();
        Directory { by_client: by_client.into(), by_remote_id: by_remote_id.into() }
    }

    /// What is reserved for the sender of this query on `link`; by its identifier before that of its line.
    pub(super) fn find(
        &self,
        exchange: &Exchange<'_>,
        link: LinkId,
        secret: &IdentitySecret,
    ) -> Option<Location> {
        let of = |list: &[(u128, Location)], key: u128| {
            let found = list.binary_search_by_key(&key, |(key, _)| *key).ok();
            found.and_then(|at| list.get(at)).map(|(_, at)| *at)
        };
        if !self.by_client.is_empty()
            && let Some(at) = of(&self.by_client, exchange.client.identity.on(link).0)
        {
            return Some(at);
        }
        if self.by_remote_id.is_empty() {
            return None;
        }
        let remote_id = exchange.relays.innermost()?.remote_id()?;
        of(&self.by_remote_id, secret.identify(IdentityKind::RemoteId, remote_id).on(link).0)
    }
}
