//! The reference messages of this directory, for whoever wants them: unit tests, integration tests,
//! fuzz targets and other packages take this file in with `#[path]`.
//!
//! Each is the whole UDP payload in hexadecimal digits. They have been read by Wireshark's
//! dissector too. The client is hardware type 1, 02:00:00:00:00:01, IAID 1, DUID-LL
//! 00030001020000000001; the server is 192.0.2.254.
#![allow(dead_code, unreachable_pub, reason = "every user takes some of it, at its own place")]

macro_rules! vectors {
    ($($(#[$doc:meta])* $name:ident = $file:literal,)*) => {
        $($(#[$doc])* pub const $name: &str = include_str!($file);)*

        /// All of them with their names.
        pub const ALL: &[(&str, &str)] = &[$((stringify!($name), $name),)*];
    };
}

vectors! {
    /// DISCOVER with the hint k = 6.
    DISCOVER = "V01-discover.hex",
    /// OFFER of 192.0.2.18, PSID 1 of k = 6.
    OFFER = "V02-offer.hex",
    /// REQUEST in SELECTING.
    REQUEST_SELECTING = "V03-request-selecting.hex",
    /// ACK.
    ACK = "V04-ack.hex",
    /// REQUEST in RENEWING, U = 1.
    REQUEST_RENEWING = "V05-request-renewing.hex",
    /// REQUEST in REBINDING, U = 0.
    REQUEST_REBINDING = "V06-request-rebinding.hex",
    /// REQUEST in INIT-REBOOT.
    REQUEST_INIT_REBOOT = "V07-request-init-reboot.hex",
    /// NAK.
    NAK = "V08-nak.hex",
    /// RELEASE, U = 1.
    RELEASE = "V09-release.hex",
    /// The DISCOVER through two relays.
    RELAY_FORWARD = "V10-relay-forward.hex",
    /// The OFFER through the same relays.
    RELAY_REPLY = "V11-relay-reply.hex",
    /// OFFER of PSID 0x34 with a = 6, k = 8 (RFC 7597 Appendix A, example 5).
    OFFER_GMA = "V12-offer-gma.hex",
}

/// Option 159 beside the port sets that it means; the columns are named in its first lines.
pub const PORT_PARAMS: &str = include_str!("portparams.txt");

/// The octets of hexadecimal digits; white space is skipped.
///
/// # Panics
///
/// If there is anything else, or half an octet.
pub fn octets(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| u8::try_from(c.to_digit(16).expect("a hexadecimal digit")).expect("below 16"))
        .collect();
    let (pairs, half) = digits.as_chunks::<2>();
    assert!(half.is_empty(), "an odd number of hexadecimal digits");
    pairs.iter().map(|[high, low]| high << 4 | low).collect()
}
