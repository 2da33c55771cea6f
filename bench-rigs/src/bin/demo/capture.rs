//! A capture of the access node's uplink, decoded by tshark.

use std::path::PathBuf;

use bench_rigs::{
    capture::{self, expect_well_formed, tshark},
    error::{Result, RigError},
    interrupt, pcap,
};

use crate::{
    PATIENCE,
    story::Story,
    town::{Town, UPLINK},
};

/// DHCPv4 message types that the story needs, with their names (RFC 2132 §9.6).
const KINDS: [(u32, &str); 5] =
    [(1, "DISCOVER"), (2, "OFFER"), (3, "REQUEST"), (5, "ACK"), (7, "RELEASE")];

/// A running capture.
pub(crate) struct Capture {
    running: capture::Capture,
    inner: PathBuf,
}

impl Capture {
    /// Starts it.
    pub(crate) fn start(town: &Town) -> Result<Self> {
        let outer = town.folder().join("outer.pcap");
        let running = capture::Capture::start(&town.access, UPLINK, outer)?;
        Ok(Self { running, inner: town.folder().join("inner.pcap") })
    }

    /// Stops it when it has all `packets` of the relay, and has every one decoded.
    pub(crate) fn read(self, story: &Story, homes: usize, packets: usize) -> Result<()> {
        interrupt::wait_until("the whole capture", PATIENCE, || {
            Ok(self.running.frames()?.len() >= packets)
        })?;
        let outer = self.running.stop()?;
        let messages = pcap::unwrap(&outer, &self.inner)?;
        if messages != packets {
            return Err(RigError::unexpected(format!(
                "the relay passed {packets} messages, the capture has {messages}"
            )));
        }
        for file in [&outer, &self.inner] {
            expect_well_formed(file)?;
        }
        story.say(&format!(
            "{packets} packets between relay and server, {messages} DHCPv4 messages in their options \
             87.\ntshark decoded all of them, none is malformed:"
        ));
        let kinds = tshark(&self.inner, &["-T", "fields", "-e", "dhcp.option.dhcp"])?;
        for (number, name) in KINDS {
            let number = number.to_string();
            let count = kinds.lines().filter(|line| *line == number).count();
            story.say(&format!("  {count:>5} {name}"));
            if count < homes {
                return Err(RigError::unexpected(format!("only {count} {name} of {homes} homes")));
            }
        }
        let acks = tshark(&self.inner, &["-Y", "dhcp.option.dhcp==5", "-c", "400", "-O", "dhcp"])?;
        let shown = acks.lines().skip_while(|line| !line.contains("Dynamic Host")).filter(|line| {
            ["Your (client)", "DHCP: ACK", "Lease Time:", "Offset", "PSID"]
                .iter()
                .any(|wanted| line.contains(wanted))
        });
        story.say("The first ACK, in tshark's words:");
        for line in shown.take(7) {
            story.say(&format!("  | {}", line.trim()));
        }
        Ok(())
    }
}
