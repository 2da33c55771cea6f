//! What the client remembers over a restart: who it is, and what it was leased, and from which IPv6 source.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    net::{Ipv4Addr, Ipv6Addr},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    error::ClientError,
    identity,
    lease::{Assignment, INFINITE, Lease, Softwire},
    machine::Memory,
};
use crate::wire::{identity::ClientIdentifier, portparams::PortParams};

/// The form of the file. Another one is refused.
const VERSION: u32 = 1;

/// Content of the state file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    version: u32,
    /// Content of option 61, in hexadecimal. What follows belongs to it.
    pub(super) client_id: String,
    /// DUID in hexadecimal; absent if the identifier was given whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) duid: Option<String>,
    /// IAID; absent if the identifier was given whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) iaid: Option<u32>,
    /// The lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) lease: Option<SavedLease>,
}

/// A lease as the file has it. Times are seconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedLease {
    address: Ipv4Addr,
    /// Option 159: offset, PSID length, PSID.
    port_params: Option<[u16; 3]>,
    server_id: Ipv4Addr,
    obtained_at: u64,
    lease_seconds: u32,
    /// IPv6 addresses that the queries came from, ascending.
    sources: Vec<Ipv6Addr>,
    /// The ends of the softwire, if they were agreed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    softwire: Option<SavedSoftwire>,
}

/// A softwire as the file has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedSoftwire {
    source: Ipv6Addr,
    border_relays: Vec<Ipv6Addr>,
}

impl SavedLease {
    /// A lease that began at `obtained_at`.
    pub(super) fn new(lease: &Lease, obtained_at: u64, sources: Vec<Ipv6Addr>) -> Self {
        let params = lease.assignment.port_params;
        SavedLease {
            address: lease.assignment.address,
            port_params: params
                .map(|params| [params.offset.into(), params.psid_length.into(), params.psid]),
            server_id: lease.server_id,
            obtained_at,
            lease_seconds: lease.terms.lease_seconds,
            sources,
            softwire: lease.softwire.map(|softwire| SavedSoftwire {
                source: softwire.source,
                border_relays: softwire.border_relays.iter().collect(),
            }),
        }
    }

    /// The softwire.
    pub(super) fn softwire(&self) -> Option<Softwire> {
        let SavedSoftwire { source, border_relays } = self.softwire.as_ref()?;
        let border_relays = border_relays.iter().copied().collect();
        Some(Softwire { source: *source, border_relays })
    }

    /// What to start with: INIT-REBOOT if the lease goes on and the source is the same, else a wish (RFC 7618 §7).
    fn memory(&self, sources: &[Ipv6Addr], unix_seconds: u64) -> Option<Memory> {
        let port_params = match self.port_params {
            None => None,
            Some([offset, psid_length, psid]) => {
                let (offset, length) =
                    (u8::try_from(offset).ok()?, u8::try_from(psid_length).ok()?);
                Some(PortParams::new(offset, length, psid)?)
            }
        };
        let assignment = Assignment { address: self.address, port_params };
        let end = self.obtained_at.saturating_add(self.lease_seconds.into());
        let goes_on = self.lease_seconds == INFINITE || unix_seconds < end;
        let same_source = self.sources == sources;
        let reboot = goes_on && same_source;
        Some(if reboot { Memory::Lease(assignment) } else { Memory::Wish(assignment) })
    }
}

impl State {
    /// A state without a lease.
    pub(super) fn new(identifier: &[u8], duid: Option<&[u8]>, iaid: Option<u32>) -> Self {
        State {
            version: VERSION,
            client_id: identity::to_hex(identifier),
            duid: duid.map(identity::to_hex),
            iaid,
            lease: None,
        }
    }

    /// The DUID, which is the same for DHCPv4 and DHCPv6: the one that is kept, or the one inside an
    /// identifier that was given whole.
    pub(super) fn duid(&self) -> Option<Vec<u8>> {
        // req-C10 (RFC 4361 §6.1): one machine has one DUID, whatever it speaks.
        if let Some(duid) = &self.duid {
            return identity::from_hex(duid).ok();
        }
        let identifier = identity::from_hex(&self.client_id).ok()?;
        ClientIdentifier::parse(&identifier).map(|identifier| identifier.duid.to_vec())
    }

    /// What the machine starts with. A lease that goes on comes before `request`, which comes before a former one.
    pub(super) fn memory(
        &self,
        request: Option<Assignment>,
        sources: &[Ipv6Addr],
        unix_seconds: u64,
    ) -> Memory {
        let saved = self.lease.as_ref().and_then(|lease| lease.memory(sources, unix_seconds));
        match (saved, request) {
            (Some(lease @ Memory::Lease(_)), _) => lease,
            (_, Some(request)) => Memory::Wish(request),
            (saved, None) => saved.unwrap_or_default(),
        }
    }
}

/// The state file.
#[derive(Clone, Debug)]
pub(super) struct StateFile {
    path: PathBuf,
}

impl StateFile {
    /// The file of that name, which need not exist.
    pub(super) fn new(path: &Path) -> Self {
        StateFile { path: path.to_owned() }
    }

    /// Reads it. `None` if there is none.
    pub(super) fn read(&self) -> Result<Option<State>, ClientError> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(ClientError::State { path: self.path.clone(), source }),
        };
        let bad = |reason| ClientError::StateContent { path: self.path.clone(), reason };
        let state: State = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
        if state.version != VERSION {
            return Err(bad(format!("version {}, expected {VERSION}", state.version)));
        }
        Ok(Some(state))
    }

    /// Writes it: the old content or the new is there after a crash, never a mixture.
    pub(super) fn write(&self, state: &State) -> Result<(), ClientError> {
        self.replace(state).map_err(|source| ClientError::State { path: self.path.clone(), source })
    }

    fn replace(&self, state: &State) -> io::Result<()> {
        let mut text = serde_json::to_string_pretty(state)?;
        text.push('\n');
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let fresh = self.path.with_file_name(name);
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, &self.path)?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        // The new name is durable once the folder is.
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{lease::Terms, timers::Moment};

    const IDENTIFIER: [u8; 8] = [255, 0, 0, 0, 1, 0, 3, 9];

    fn saved(port_params: Option<PortParams>, lease_seconds: u32) -> State {
        let assignment = Assignment { address: Ipv4Addr::new(192, 0, 2, 18), port_params };
        let terms = Terms::sane(lease_seconds, None, None);
        let mut random = fastrand::Rng::with_seed(1);
        let server = Ipv4Addr::new(192, 0, 2, 254);
        let lease = Lease::new(assignment, server, terms, Moment(7), &mut random);
        let mut state = State::new(&IDENTIFIER, Some(&[0, 3, 9]), Some(1));
        state.lease = Some(SavedLease::new(&lease, 1000, vec!["2001:db8::1".parse().unwrap()]));
        state
    }

    #[test]
    fn what_was_written_is_read_again_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::new(&folder.path().join("state.json"));
        assert_eq!(file.read().unwrap(), None);
        let state = saved(PortParams::new(6, 8, 0x34), 3600);
        file.write(&State::new(&IDENTIFIER, None, None)).unwrap();
        file.write(&state).unwrap();
        assert_eq!(file.read().unwrap(), Some(state));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_softwire_and_the_duid_are_remembered() {
        let state = saved(None, 3600);
        assert_eq!(state.lease.as_ref().unwrap().softwire(), None);
        assert_eq!(state.duid(), Some(vec![0, 3, 9]));
        let whole = State::new(&IDENTIFIER, None, None);
        assert_eq!(whole.duid(), Some(vec![0, 3, 9]), "of the identifier's form of RFC 4361");
        assert_eq!(State::new(&[1, 2, 3], None, None).duid(), None);
        let softwire = Softwire {
            source: "2001:db8::2".parse().unwrap(),
            border_relays: ["2001:db8::b1".parse().unwrap()].into_iter().collect(),
        };
        let mut lease = Lease::new(
            Assignment { address: Ipv4Addr::new(192, 0, 2, 18), port_params: None },
            Ipv4Addr::new(192, 0, 2, 254),
            Terms::sane(60, None, None),
            Moment(7),
            &mut fastrand::Rng::with_seed(1),
        );
        lease.softwire = Some(softwire);
        let text = serde_json::to_string(&SavedLease::new(&lease, 1000, Vec::new())).unwrap();
        let read: SavedLease = serde_json::from_str(&text).unwrap();
        assert_eq!(read.softwire(), Some(softwire));
    }

    #[test]
    fn another_version_and_nonsense_are_refused_with_the_files_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let file = StateFile::new(&path);
        for (text, expected) in [
            ("{\"version\":2,\"client_id\":\"ff\"}", "version 2, expected 1"),
            ("{\"version\":1", "EOF"),
            ("", "EOF"),
        ] {
            fs::write(&path, text).unwrap();
            let error = file.read().unwrap_err().to_string();
            assert!(error.contains("state.json") && error.contains(expected), "{error}");
        }
        let nowhere = StateFile::new(&folder.path().join("missing/state.json"));
        assert!(nowhere.write(&saved(None, 60)).unwrap_err().to_string().contains("missing"));
    }

    #[test]
    fn k22_k23_only_a_running_lease_from_the_same_source_reboots() {
        let params = PortParams::new(6, 8, 0x34);
        let state = saved(params, 3600);
        let assignment = Assignment { address: Ipv4Addr::new(192, 0, 2, 18), port_params: params };
        let (here, there) = (["2001:db8::1".parse().unwrap()], ["2001:db8::2".parse().unwrap()]);
        assert_eq!(state.memory(None, &here, 4599), Memory::Lease(assignment));
        assert_eq!(state.memory(None, &here, 4600), Memory::Wish(assignment), "expired");
        assert_eq!(state.memory(None, &there, 2000), Memory::Wish(assignment), "other source");
        assert_eq!(
            saved(params, INFINITE).memory(None, &here, u64::MAX),
            Memory::Lease(assignment)
        );
        assert_eq!(State::new(&IDENTIFIER, None, None).memory(None, &here, 0), Memory::Nothing);
        let request = Assignment { address: Ipv4Addr::new(192, 0, 2, 19), port_params: None };
        assert_eq!(state.memory(Some(request), &here, 2000), Memory::Lease(assignment));
        assert_eq!(state.memory(Some(request), &there, 2000), Memory::Wish(request));
        let broken = PortParams { offset: 15, psid_length: 15, psid: 1 };
        assert_eq!(saved(Some(broken), 3600).memory(None, &here, 2000), Memory::Nothing);
    }
}
