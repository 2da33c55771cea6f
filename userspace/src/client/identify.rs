//! Settles who the client is: by what it is told, what it remembers and what its interface says, in this order.

use std::io;

use super::{
    error::ClientError,
    identity,
    messages::{HardwareAddress, Sender},
    options::Arguments,
    state::State,
};
use crate::net::link::Interface;

/// The sender of all messages, and the state that belongs to it: the saved one if that is the same client's.
pub(super) fn identify(
    arguments: &Arguments,
    interface: &Interface,
    saved: Option<State>,
) -> Result<(Sender, State), ClientError> {
    if arguments.anonymous {
        return anonymous();
    }
    let fresh = match &arguments.client_id {
        Some(identifier) => whole(&identifier.0)?,
        None => composed(arguments, interface, saved.as_ref())?,
    };
    let (identifier, fresh) = fresh;
    let hardware = interface
        .mac
        .and_then(|mac| HardwareAddress::new(u8::try_from(interface.kind).ok()?, &mac))
        .unwrap_or_default();
    // A lease of another identity is none of ours.
    let state = saved.filter(|saved| saved.client_id == fresh.client_id).unwrap_or(fresh);
    Ok((Sender { identifier, hardware }, state))
}

/// Nobody who was ever seen before.
///
/// req-X3 (RFC 7618 §10; 7844 §3.5): the identifier says nothing, and no hardware address does.
fn anonymous() -> Result<(Sender, State), ClientError> {
    let (duid, iaid) = (identity::random_duid(random_octets()?), 0);
    let identifier = identity::identifier(iaid, &duid).unwrap_or_default();
    let state = State::new(&identifier, Some(&duid), Some(iaid));
    Ok((Sender { identifier, hardware: HardwareAddress::default() }, state))
}

fn random_octets() -> Result<[u8; 16], ClientError> {
    let mut octets = [0; 16];
    getrandom::fill(&mut octets).map_err(|error| ClientError::System {
        what: "drawing random numbers",
        source: io::Error::other(error.to_string()),
    })?;
    Ok(octets)
}

fn whole(identifier: &[u8]) -> Result<(Vec<u8>, State), ClientError> {
    if !(2..=255).contains(&identifier.len()) {
        return Err(ClientError::IdentityLength {
            what: "client identifier",
            length: identifier.len(),
            expected: "2 to 255",
        });
    }
    Ok((identifier.to_vec(), State::new(identifier, None, None)))
}

/// An identifier of IAID and DUID (RFC 4361 §6.1).
fn composed(
    arguments: &Arguments,
    interface: &Interface,
    saved: Option<&State>,
) -> Result<(Vec<u8>, State), ClientError> {
    // req-C10 (RFC 4361 §6.1): a DUID outlives a restart, and the interface card that it was made of.
    let remembered = saved.and_then(|state| identity::from_hex(state.duid.as_deref()?).ok());
    let told = arguments.duid.as_ref().map(|octets| octets.0.clone());
    let duid = match (told.or(remembered), interface.mac) {
        (Some(duid), _) => duid,
        (None, Some(mac)) => identity::link_layer_duid(interface.kind, &mac),
        (None, None) => {
            if arguments.state.is_none() {
                tracing::warn!(
                    "{} has no link-layer address to make a DUID from: using a random one, which \
                     without --state is another one next time",
                    interface.name
                );
            }
            identity::random_duid(random_octets()?)
        }
    };
    let iaid = arguments
        .iaid
        .or_else(|| saved?.iaid)
        .unwrap_or_else(|| identity::interface_iaid(interface.mac, interface.index));
    let identifier = identity::identifier(iaid, &duid).ok_or(ClientError::IdentityLength {
        what: "DUID",
        length: duid.len(),
        expected: "3 to 130",
    })?;
    let state = State::new(&identifier, Some(&duid), Some(iaid));
    Ok((identifier, state))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn arguments(line: &str) -> Arguments {
        let words = ["client", "--interface", "wan"].into_iter().chain(line.split_whitespace());
        Line::parse_from(words).arguments
    }

    fn interface(mac: Option<[u8; 6]>) -> Interface {
        Interface { name: "wan".into(), index: 7, kind: 1, mac, addresses: Vec::new() }
    }

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    #[test]
    fn by_default_the_interfaces_address_is_the_identity() {
        let (sender, state) = identify(&arguments(""), &interface(Some(MAC)), None).unwrap();
        assert_eq!(state.client_id, "ff0000000100030001020000000001");
        assert_eq!(identity::to_hex(&sender.identifier), state.client_id);
        assert_eq!(Some(sender.hardware), HardwareAddress::new(1, &MAC));
    }

    #[test]
    fn without_an_address_the_duid_is_random_and_is_remembered() {
        let (one, state) = identify(&arguments("--state s"), &interface(None), None).unwrap();
        let (other, _) = identify(&arguments("--state s"), &interface(None), None).unwrap();
        assert_ne!(one, other);
        let (again, _) = identify(&arguments(""), &interface(None), Some(state)).unwrap();
        assert_eq!(one, again);
        assert_eq!(one.hardware, HardwareAddress::default());
    }

    #[test]
    fn what_is_remembered_outlives_another_address_and_what_is_told_comes_first() {
        let (first, state) = identify(&arguments(""), &interface(Some(MAC)), None).unwrap();
        let other = interface(Some([2, 0, 0, 0, 0, 9]));
        let saved = Some(state);
        let (again, kept) = identify(&arguments(""), &other, saved.clone()).unwrap();
        assert_eq!((first.identifier, saved.clone().unwrap()), (again.identifier, kept));
        for line in ["--iaid 5", "--duid 000300010203", "--client-id 0101"] {
            let (_, state) = identify(&arguments(line), &other, saved.clone()).unwrap();
            assert_ne!(Some(state), saved, "{line}: not the same client, not its lease");
        }
    }

    #[test]
    fn the_anonymous_are_another_client_each_time() {
        let wan = interface(Some(MAC));
        let (one, state) = identify(&arguments("--anonymous"), &wan, None).unwrap();
        let (other, _) = identify(&arguments("--anonymous"), &wan, None).unwrap();
        assert_ne!(one.identifier, other.identifier);
        assert_eq!(one.hardware, HardwareAddress::default());
        assert_eq!(state.duid().unwrap()[..2], [0, 4], "the DHCPv6 side has the same");
        assert!(one.identifier.ends_with(&state.duid().unwrap()));
    }

    #[test]
    fn identities_of_impossible_length_are_refused() {
        for line in ["--client-id 01".to_owned(), format!("--duid {}", "00".repeat(131))] {
            let error = identify(&arguments(&line), &interface(Some(MAC)), None).unwrap_err();
            assert!(error.to_string().contains("expected"), "{error}");
        }
    }
}
