//! A capture of every answer that was wrong, with headers made up around what a socket gave without them.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    net::SocketAddrV6,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    error::{Doing as _, Result},
    frame::Frame,
    pcap,
};

/// Octets of a capture at the most: enough to understand what goes wrong, too little to fill a disk.
pub const CAPTURE_OCTETS_MAX: u64 = 16 << 20;

/// Hardware addresses of headers that are made up: locally administered, so that nobody takes them for real ones.
const SERVER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
const CLIENT_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];

/// An open capture of wrong answers.
#[derive(Debug)]
pub struct WrongCapture {
    file: BufWriter<File>,
    path: PathBuf,
    octets: u64,
    written: u64,
    left_off: u64,
    began: Duration,
    /// Who is shown as the sender and the receiver of answers.
    from: SocketAddrV6,
    to: SocketAddrV6,
}

impl WrongCapture {
    /// Begins a capture. Of an answer only the payload is known: all are shown as sent by `from` to `to`.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn create(path: &Path, from: SocketAddrV6, to: SocketAddrV6) -> Result<Self> {
        let file = File::create(path).doing(format!("create {}", path.display()))?;
        let mut capture = Self {
            file: BufWriter::new(file),
            path: path.to_owned(),
            octets: 0,
            written: 0,
            left_off: 0,
            began: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            from,
            to,
        };
        capture.put(&pcap::header(pcap::LINK_ETHERNET))?;
        capture.flush()?;
        Ok(capture)
    }

    /// Adds the payload of an answer that arrived `at_us` microseconds after the capture began. What does not fit any
    /// more is counted.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn add(&mut self, payload: &[u8], at_us: u64) -> Result<()> {
        let frame = Frame {
            destination_mac: CLIENT_MAC,
            source_mac: SERVER_MAC,
            tags: Vec::new(),
            source: *self.from.ip(),
            destination: *self.to.ip(),
            source_port: self.from.port(),
            destination_port: self.to.port(),
            checksum: None,
            payload: payload.to_vec(),
        };
        let at = self.began + Duration::from_micros(at_us);
        let record = pcap::record(at, &frame.build());
        if self.octets + record.len() as u64 > CAPTURE_OCTETS_MAX {
            self.left_off += 1;
            return Ok(());
        }
        self.put(&record)?;
        self.written += 1;
        Ok(())
    }

    /// Answers in the file, and answers that did not fit any more.
    pub fn counts(&self) -> (u64, u64) {
        (self.written, self.left_off)
    }

    /// Where the capture is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes what is still in memory.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn flush(&mut self) -> Result<()> {
        self.file.flush().doing(format!("write {}", self.path.display()))
    }

    fn put(&mut self, octets: &[u8]) -> Result<()> {
        self.octets += octets.len() as u64;
        self.file.write_all(octets).doing(format!("write {}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_wrong_can_be_read_back_and_the_file_stays_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wrong.pcap");
        let at = |address: &str, port| SocketAddrV6::new(address.parse().unwrap(), port, 0, 0);
        let server = at("2001:db8:ffff::547", 547);
        let mut capture = WrongCapture::create(&path, server, at("2001:db8:1::10", 546)).unwrap();
        capture.add(b"a lie", 2_500_000).unwrap();
        capture.add(b"no answer at all", 2_600_000).unwrap();
        capture.flush().unwrap();
        let packets = pcap::read(&path).unwrap();
        let frames: Vec<_> =
            packets.iter().map(|(_, _, octets)| Frame::read(octets).unwrap()).collect();
        assert_eq!(frames[0].payload, b"a lie");
        assert_eq!((frames[0].source, frames[0].destination_port), (*server.ip(), 546));
        assert!(frames.iter().all(Frame::is_checksum_right));
        let microseconds =
            |at: usize| u64::from(packets[at].0) * 1_000_000 + u64::from(packets[at].1);
        assert_eq!(microseconds(1) - microseconds(0), 100_000);
        let large = vec![0; 1400];
        for _ in 0..12_000 {
            capture.add(&large, 0).unwrap();
        }
        capture.flush().unwrap();
        assert!(path.metadata().unwrap().len() <= CAPTURE_OCTETS_MAX);
        let (written, left_off) = capture.counts();
        assert_eq!(written + left_off, 12_002);
        assert!(left_off > 0);
    }
}
