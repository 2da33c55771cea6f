//! Option 88 as another DHCPv6 client received it: a file with an address a line, read again when it
//! changes.

use std::{
    fs, io,
    net::Ipv6Addr,
    path::{Path, PathBuf},
};

use super::servers::Servers;

/// In place of addresses: option 88 came and was empty.
const GROUP: &str = "multicast";

/// The file.
#[derive(Debug)]
pub(super) struct ServersFile {
    path: PathBuf,
    /// What it held when it was last read.
    text: Option<String>,
}

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// The same as when it was last read.
    Same,
    /// Option 88 was not received: there is no file, or no address in it.
    Absent,
    /// Option 88.
    Present(Servers),
}

/// Why the file says nothing.
#[derive(Debug, thiserror::Error)]
pub enum ServersFileError {
    /// It cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is not a list of addresses.
    #[error(
        "{}:{line}: {seen:?}, expected an IPv6 address, or {GROUP:?} for an option without addresses",
        path.display()
    )]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What stands there.
        seen: String,
    },
}

impl ServersFile {
    /// The file of that name, which need not exist yet.
    pub(super) fn new(path: &Path) -> Self {
        ServersFile { path: path.to_owned(), text: None }
    }

    /// Reads it.
    pub(super) fn read(&mut self) -> Result<Content, ServersFileError> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(source) => {
                return Err(ServersFileError::Read { path: self.path.clone(), source });
            }
        };
        if self.text.as_ref() == Some(&text) {
            return Ok(Content::Same);
        }
        let content = self.parse(&text);
        // What is wrong is said once, not as long as it stays so.
        self.text = Some(text);
        content
    }

    fn parse(&self, text: &str) -> Result<Content, ServersFileError> {
        let (mut addresses, mut group) = (Vec::new(), false);
        for (line, number) in text.lines().zip(1..) {
            let content = line.split('#').next().unwrap_or_default().trim();
            match content.parse::<Ipv6Addr>() {
                _ if content.is_empty() => {}
                _ if content == GROUP => group = true,
                Ok(address) if !address.is_unspecified() => addresses.push(address),
                _ => {
                    let seen = content.to_owned();
                    return Err(ServersFileError::Line {
                        path: self.path.clone(),
                        line: number,
                        seen,
                    });
                }
            }
        }
        let is_there = group || !addresses.is_empty();
        Ok(if is_there { Content::Present(Servers::new(addresses)) } else { Content::Absent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_again_when_they_change_and_none_is_no_option() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("servers");
        let mut file = ServersFile::new(&path);
        assert_eq!(file.read().unwrap(), Content::Absent, "no file");
        assert_eq!(file.read().unwrap(), Content::Same, "still none");
        fs::write(&path, "# option 88\n2001:db8::a\n 2001:db8::b # second\n2001:db8::a\n").unwrap();
        let addresses = ["2001:db8::a", "2001:db8::b"].map(|text| text.parse().unwrap());
        assert_eq!(file.read().unwrap(), Content::Present(Servers::new(addresses)));
        assert_eq!(file.read().unwrap(), Content::Same);
        fs::write(&path, "multicast\n").unwrap();
        assert_eq!(file.read().unwrap(), Content::Present(Servers::Group));
        fs::write(&path, "").unwrap();
        assert_eq!(file.read().unwrap(), Content::Absent);
    }

    #[test]
    fn what_is_no_address_is_named_once_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("servers");
        let mut file = ServersFile::new(&path);
        fs::write(&path, "2001:db8::a\n192.0.2.1\n").unwrap();
        let error = file.read().unwrap_err().to_string();
        assert!(error.contains("servers:2: \"192.0.2.1\", expected an IPv6 address"), "{error}");
        assert_eq!(file.read().unwrap(), Content::Same);
    }
}
