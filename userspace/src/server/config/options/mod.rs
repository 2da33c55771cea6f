//! DHCPv4 options for clients: `[options]`, and the same for a link, a pool and a reservation.

mod names;
mod values;

use std::ops::Range;

use toml::{Spanned, Value};

use crate::engine::options::{Codes, OptionSet};

use self::names::Kind;
use super::file;
use super::report::Problems;

/// The longest content. More would not leave the server in one packet with the rest of a reply.
const CONTENT_LENGTH_MAX: usize = 800;

/// Octets that options may take in all, so that clients that do not say how much they can read (option 57) get all of
/// them: 576 less headers, fixed fields, and what a lease needs with an identifier of 32 octets.
const OCTETS_FOR_ALL: usize = 576 - 28 - 240 - 70;

/// An interface's MTU is at least that of RFC 791 (RFC 2132 §5.1).
const MTU_MIN: u32 = 68;

/// The mask of one address.
const HOST_MASK: [u8; 4] = [255; 4];

const MASK: u8 = crate::wire::dhcpv4::OPTION_SUBNET_MASK;
const MTU: u8 = 26;

/// One level of options: what it sets, and what it takes away from the levels around it.
#[derive(Debug, Default)]
pub(super) struct Level {
    set: OptionSet,
    removed: Codes,
}

impl Level {
    /// Compiles what is written for a level, noting what is wrong.
    pub(super) fn compile(written: &file::Options, problems: &mut Problems<'_>) -> Level {
        let (mut options, mut removed) = (Vec::new(), Codes::default());
        let mut seen: Vec<(u8, Range<usize>)> = Vec::new();
        let mut written: Vec<_> = written.iter().collect();
        written.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in written {
            let Some(code) = code_of(key, problems) else { continue };
            if let Some((_, other)) = seen.iter().find(|(other, _)| *other == code) {
                let place = problems.place(other);
                let what = format!("option {code} is here already ({place})");
                problems.add(key.span(), what, "each option once, by its name or by its code");
                continue;
            }
            seen.push((code, key.span()));
            if value.get_ref().as_array().is_some_and(Vec::is_empty) {
                removed.insert(code);
            } else if let Some(content) = content_of(code, value, problems) {
                options.push((code, content));
            }
        }
        Level { set: OptionSet::new(options), removed }
    }

    /// These options within those of `outer`.
    pub(super) fn within(&self, outer: &OptionSet) -> OptionSet {
        let kept = outer.without(self.removed);
        kept.overlaid(&self.set)
    }
}

/// For leases of a shared address: its mask is that of one address, unless something else is configured.
///
/// A client that is told no mask takes that of the address's old class, and a shared address has no neighbours.
pub(super) fn for_shared(configured: &OptionSet) -> OptionSet {
    OptionSet::new([(MASK, HOST_MASK)]).overlaid(configured)
}

/// What deserves a second look in the options that come with a pool's leases.
pub(super) fn notices(pool: &str, shared: bool, options: &OptionSet) -> Vec<String> {
    let mut notices = Vec::new();
    if shared && options.content(MASK).is_some_and(|mask| mask != HOST_MASK) {
        let mask = values::show(Kind::Address, &options.content(MASK).unwrap_or_default());
        notices.push(format!(
            "pool {pool}: subnet-mask {mask} with shared addresses; a client would take others for its neighbours"
        ));
    }
    let octets = options.octets();
    if octets > OCTETS_FOR_ALL {
        notices.push(format!(
            "pool {pool}: {octets} octets of options; a client that does not say that it can read more than 576 \
             octets (option 57) gets the first {OCTETS_FOR_ALL} or so of those that it asks for"
        ));
    }
    notices
}

/// The options with their values, for a person to read.
pub(super) fn show(options: &OptionSet) -> String {
    let one = |(code, _): (u8, &[u8])| {
        let content = options.content(code).unwrap_or_default();
        match names::by_code(code) {
            Some(known) => format!("{} {}", known.name, values::show(known.kind, &content)),
            None => format!("{code} {}", values::show(Kind::Octets, &content)),
        }
    };
    options.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// The code that a key names, if it is one that can be configured.
fn code_of(key: &Spanned<String>, problems: &mut Problems<'_>) -> Option<u8> {
    const ALLOWED: &str = "a name that docs/OPTIONS.md lists, or a code such as \"252\"";
    let text = key.get_ref().as_str();
    let code = if text.bytes().all(|c| c.is_ascii_digit()) {
        text.parse().ok()
    } else {
        names::by_name(text).map(|known| known.code)
    };
    let Some(code) = code else {
        let like = names::like(text).map(|name| format!("; is it {name}?")).unwrap_or_default();
        problems.add(key.span(), format!("no option has this name or code{like}"), ALLOWED);
        return None;
    };
    match names::not_configurable(code) {
        Some(why) => {
            problems.add(key.span(), format!("option {code} {why}"), "options for clients");
            None
        }
        None => Some(code),
    }
}

/// The content of option `code` as it is written.
fn content_of(code: u8, value: &Spanned<Value>, problems: &mut Problems<'_>) -> Option<Vec<u8>> {
    const TYPED: &str = "{ type = \"octets\", value = \"0102ff\" }, or a type of text, u8, u16, u32, i32, \
                         flag, address";
    let kind = names::by_code(code).map(|known| known.kind);
    let (content, allowed) = match (value.get_ref(), kind) {
        (Value::Table(table), _) => (values::encode_typed(table), TYPED),
        (value, Some(kind)) => (values::encode(kind, value), values::allowed(kind)),
        (_, None) => (Err(format!("option {code} has no name, so its type is needed")), TYPED),
    };
    let kind = kind.unwrap_or(Kind::Octets);
    let (what, allowed) = match content {
        Err(what) => (what, allowed.to_owned()),
        Ok(content) => match unfit(code, kind, &content) {
            Some(problem) => problem,
            None => return Some(content),
        },
    };
    problems.add(value.span(), what, &allowed);
    None
}

/// What is wrong with the content of option `code`, and what it may be.
fn unfit(code: u8, kind: Kind, content: &[u8]) -> Option<(String, String)> {
    let number = || content.iter().fold(0_u32, |number, octet| number << 8 | u32::from(*octet));
    let octets = content.len();
    let what = if content.is_empty() {
        ("empty".to_owned(), values::allowed(kind).to_owned())
    } else if octets > CONTENT_LENGTH_MAX {
        (
            format!("{octets} octets"),
            format!("at most {CONTENT_LENGTH_MAX}: a reply has no more room"),
        )
    } else if !values::fits(kind, content) {
        let what = format!("{octets} octets cannot be option {code}");
        (what, values::allowed(kind).to_owned())
    } else if code == MASK && number().leading_ones() + number().trailing_zeros() < u32::BITS {
        ("ones after zeros".to_owned(), "a mask such as \"255.255.255.0\"".to_owned())
    } else if code == MTU && number() < MTU_MIN {
        ("too small".to_owned(), format!("{MTU_MIN} to 65535 (RFC 2132 §5.1)"))
    } else {
        return None;
    };
    Some(what)
}

#[cfg(test)]
mod tests;
