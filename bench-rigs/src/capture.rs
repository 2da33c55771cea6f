//! What crosses an interface: tcpdump writes it down, tshark says what it is.

use std::{
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::{
    daemon::{Process, STOP_TIMEOUT},
    error::{Result, RigError},
    netns::Netns,
    pcap, shell,
};

/// How long tcpdump may take to begin.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A running capture of the DHCPv6 ports of an interface.
#[derive(Debug)]
pub struct Capture {
    tcpdump: Process,
    file: PathBuf,
}

impl Capture {
    /// Starts to write into `file`. From the return on nothing is missed.
    pub fn start(namespace: &Netns, interface: &str, file: PathBuf) -> Result<Self> {
        let mut command = namespace.command("tcpdump");
        command
            .args(["-i", interface, "-U", "--immediate-mode", "-B", "16384", "-Z", "root", "-w"])
            .arg(&file)
            .args(["udp", "and", "portrange", "546-547"]);
        let tcpdump = Process::start("tcpdump", command)?;
        tcpdump.wait_for("listening on", 0, START_TIMEOUT)?;
        Ok(Self { tcpdump, file })
    }

    /// The frames so far.
    pub fn frames(&self) -> Result<Vec<Vec<u8>>> {
        Ok(pcap::read(&self.file)?.into_iter().map(|(_, _, octets)| octets).collect())
    }

    /// Waits until the frames are `enough`, and gives them.
    pub fn wait(
        &self,
        timeout: Duration,
        enough: impl Fn(&[Vec<u8>]) -> bool,
    ) -> Result<Vec<Vec<u8>>> {
        let deadline = Instant::now() + timeout;
        loop {
            let frames = self.frames()?;
            if enough(&frames) {
                return Ok(frames);
            }
            if Instant::now() > deadline {
                return Err(RigError::unexpected(format!(
                    "what was waited for is not among the {} frames of the capture",
                    frames.len()
                )));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it and gives the file.
    pub fn stop(mut self) -> Result<PathBuf> {
        self.tcpdump.terminate(STOP_TIMEOUT)?;
        Ok(self.file)
    }
}

/// What tshark says of a capture file. Names of addresses and ports are not looked up.
pub fn tshark(file: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("tshark");
    command.arg("-n").arg("-r").arg(file).args(arguments);
    shell::output_of(command)
}

/// Fails if tshark finds anything in a capture file malformed or worth an error, and says what.
pub fn expect_well_formed(file: &Path) -> Result<()> {
    // The severities of `_ws.expert` from error on; a warning may be about what is merely unusual.
    let bad = tshark(
        file,
        &["-Y", "_ws.malformed || _ws.unreassembled || _ws.expert.severity >= error"],
    )?;
    if bad.trim().is_empty() {
        return Ok(());
    }
    Err(RigError::unexpected(format!("tshark finds these malformed:\n{bad}")))
}
