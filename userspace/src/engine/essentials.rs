//! The options that a reply bears whether they are asked for or not.

use std::net::Ipv6Addr;

use crate::wire::{
    dhcpv4::{
        self, OPTION_CLIENT_ID, OPTION_LEASE_TIME, OPTION_MESSAGE, OPTION_PORT_PARAMS,
        OPTION_REBINDING_TIME, OPTION_RENEWAL_TIME, OPTION_SOFTWIRE_SOURCE, PAD, View,
    },
    portparams::PortParams,
    writer::Writer,
};

/// Their codes, in the order in which they go if the client does not ask for them. The place in it is an essential's
/// number.
const CODES: [u8; NUMBERS_MAX] = [
    OPTION_LEASE_TIME,
    OPTION_RENEWAL_TIME,
    OPTION_REBINDING_TIME,
    OPTION_MESSAGE,
    OPTION_CLIENT_ID,
    OPTION_SOFTWIRE_SOURCE,
    OPTION_PORT_PARAMS,
    PAD,
];

/// Numbers: places in [`CODES`].
const LEASE_TIME: u32 = 0;
const RENEWAL_TIME: u32 = 1;
const REBINDING_TIME: u32 = 2;
const MESSAGE: u32 = 3;
const CLIENT_ID: u32 = 4;
const SOFTWIRE: u32 = 5;
const PORT_PARAMS: u32 = 6;

/// The bit of an essential in a set of them.
const fn bit(number: u32) -> u32 {
    1 << number
}

/// The number that every other option has. There is never such an essential.
const NONE: u8 = 7;

/// More than any number: a power of two, so that no number is out of bounds.
const NUMBERS_MAX: usize = 8;

/// The number of each code.
static NUMBERS: [u8; 256] = {
    let mut numbers = [NONE; 256];
    let mut number = 0;
    while number < NONE {
        numbers[CODES[number as usize] as usize] = number;
        number += 1;
    }
    numbers
};

/// Octets of an option of four octets, code and length included.
const FOUR_LENGTH: usize = 6;

/// The essentials that are four octets long.
const FOURS: u32 = bit(LEASE_TIME) | bit(RENEWAL_TIME) | bit(REBINDING_TIME) | bit(PORT_PARAMS);

/// Octets of an option with `content` octets of content, code and length included; it is split after every 255 of them.
#[inline]
pub(super) fn option_length(content: usize) -> usize {
    const HEADER: usize = 2;
    let pieces = if content <= 255 { 1 } else { content.div_ceil(255) };
    content + HEADER * pieces
}

/// What a reply says whether it is asked for or not.
#[derive(Debug)]
pub(super) struct Essentials<'a> {
    /// What is answered: the client's identifier is written as it stands there.
    query: &'a View<'a>,
    /// By their numbers.
    fours: [[u8; 4]; NUMBERS_MAX],
    message: &'static str,
    softwire: Ipv6Addr,
    /// Octets of those that are not four octets long, codes and lengths included.
    others_length: usize,
    /// Numbers of those that there are: a bit each.
    present: u32,
}

impl<'a> Essentials<'a> {
    /// The client's identifier, if it has sent one. The rest is added where it will stay.
    #[inline]
    pub(super) fn new(query: &'a View<'a>) -> Self {
        let identifier_length = query.client_identifier().map(|value| option_length(value.len()));
        Self {
            query,
            fours: [[0; 4]; NUMBERS_MAX],
            message: "",
            softwire: Ipv6Addr::UNSPECIFIED,
            others_length: identifier_length.unwrap_or(0),
            present: u32::from(identifier_length.is_some()) << CLIENT_ID,
        }
    }

    /// Adds a text that says why there is no lease.
    pub(super) fn set_message(&mut self, message: &'static str) {
        self.message = message;
        self.others_length += option_length(message.len());
        self.present |= bit(MESSAGE);
    }

    /// Adds the times of a lease, in seconds.
    #[inline]
    pub(super) fn set_times(&mut self, lease: u32, renewal_and_rebinding: Option<(u32, u32)>) {
        self.set_four(LEASE_TIME, lease.to_be_bytes());
        if let Some((renewal, rebinding)) = renewal_and_rebinding {
            self.set_four(RENEWAL_TIME, renewal.to_be_bytes());
            self.set_four(REBINDING_TIME, rebinding.to_be_bytes());
        }
    }

    /// Adds the other end of the lease's softwire.
    #[inline]
    pub(super) fn set_softwire(&mut self, address: Ipv6Addr) {
        self.softwire = address;
        self.others_length += option_length(size_of::<Ipv6Addr>());
        self.present |= bit(SOFTWIRE);
    }

    /// Adds the port set of a shared address.
    #[inline]
    pub(super) fn set_port_params(&mut self, params: PortParams) {
        self.set_four(PORT_PARAMS, params.encode());
    }

    #[inline]
    fn set_four(&mut self, number: u32, octets: [u8; 4]) {
        self.fours[number as usize % NUMBERS_MAX] = octets;
        self.present |= bit(number);
    }

    /// Octets that they take.
    #[inline]
    pub(super) fn length(&self) -> usize {
        (self.present & FOURS).count_ones() as usize * FOUR_LENGTH + self.others_length
    }

    /// Begins to write them.
    #[inline]
    pub(super) fn pour(&self) -> Pouring<'_, 'a> {
        Pouring { essentials: self, left: self.present }
    }

    /// Writes one that is not four octets long.
    #[inline(never)]
    fn put(&self, w: &mut Writer<'_>, number: u32) {
        match number {
            MESSAGE => dhcpv4::put_option(w, OPTION_MESSAGE, self.message.as_bytes()),
            CLIENT_ID => {
                if let Some(value) = self.query.client_identifier() {
                    dhcpv4::put_value(w, OPTION_CLIENT_ID, &value);
                }
            }
            _ => dhcpv4::put_option(w, OPTION_SOFTWIRE_SOURCE, &self.softwire.octets()),
        }
    }
}

/// Essentials that are being written, each once.
pub(super) struct Pouring<'e, 'a> {
    essentials: &'e Essentials<'a>,
    /// Numbers of those that are still to be written.
    left: u32,
}

impl Pouring<'_, '_> {
    /// Writes the option `code`. False if it is none of these, or there is none, or it has been written.
    #[expect(clippy::inline_always, reason = "a call for each code would cost more than this")]
    #[inline(always)]
    pub(super) fn put(&mut self, w: &mut Writer<'_>, code: u8) -> bool {
        let number = u32::from(NUMBERS[usize::from(code)]);
        if self.left & bit(number) == 0 {
            return false;
        }
        self.left &= !bit(number);
        if FOURS & bit(number) != 0 {
            let [first, second, third, fourth] =
                self.essentials.fours[number as usize % NUMBERS_MAX];
            w.array([code, 4, first, second, third, fourth]);
        } else {
            self.essentials.put(w, number);
        }
        true
    }

    /// Writes all that are left.
    #[inline]
    pub(super) fn finish(mut self, w: &mut Writer<'_>) {
        while self.left != 0 {
            self.put(w, CODES[self.left.trailing_zeros() as usize % NUMBERS_MAX]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::dhcpv4::{Header, MessageType};

    /// A query with these options behind the message type.
    fn query(options: &[u8]) -> Vec<u8> {
        let mut octets = vec![0; 300 + options.len()];
        let mut w = Writer::new(&mut octets);
        Header { op: dhcpv4::BOOT_REQUEST, ..Header::default() }.emit(&mut w);
        dhcpv4::put_message_type(&mut w, MessageType::Request);
        w.bytes(options);
        octets
    }

    #[test]
    fn each_is_written_once_in_the_order_asked_for_and_then_in_its_own() {
        // In two pieces, which become one.
        let octets = query(&[61, 2, 9, 8, 61, 1, 7]);
        let query = View::parse_request(&octets).unwrap();
        let mut essentials = Essentials::new(&query);
        essentials.set_times(3600, Some((1800, 3150)));
        essentials.set_softwire(Ipv6Addr::LOCALHOST);
        essentials.set_port_params(PortParams { offset: 6, psid_length: 8, psid: 0x34 });
        let mut buffer = [0; 64];
        let mut w = Writer::new(&mut buffer);
        let mut pouring = essentials.pour();
        let asked =
            [(59, true), (61, true), (61, false), (51, true), (1, false), (7, false), (59, false)];
        for (code, is_written) in asked {
            assert_eq!(pouring.put(&mut w, code), is_written, "{code}");
        }
        pouring.finish(&mut w);
        let expected = [
            &[59, 4, 0, 0, 12, 78, 61, 3, 9, 8, 7, 51, 4, 0, 0, 14, 16, 58, 4, 0, 0, 7, 8][..],
            &[109, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 159, 4, 6, 8, 0x34, 0],
        ];
        assert_eq!(w.written(), expected.concat());
        assert_eq!(w.len(), essentials.length());
    }

    #[test]
    fn lengths_count_every_piece() {
        for (content, expected) in [(0, 2), (1, 3), (255, 257), (256, 260), (510, 514), (511, 517)]
        {
            assert_eq!(option_length(content), expected);
        }
        let octets = query(&[]);
        let query = View::parse_request(&octets).unwrap();
        let mut refusal = Essentials::new(&query);
        refusal.set_message("no");
        assert_eq!(refusal.length(), 4);
        let mut buffer = [0; 9];
        let mut w = Writer::new(&mut buffer);
        refusal.pour().finish(&mut w);
        assert_eq!(w.written(), [56, 2, b'n', b'o']);
    }
}
