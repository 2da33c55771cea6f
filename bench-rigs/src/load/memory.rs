//! The memory of a run in a file: one line a lease, so that a later run can ask for the same leases again.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, BufWriter, Write as _},
    net::Ipv4Addr,
    path::Path,
};

use portlease::wire::portparams::PortParams;

use crate::{
    error::{Doing as _, Result, RigError},
    message::Lease,
};

/// First line of the file: the format, and the population that the numbers belong to.
const HEADER: &str = "perf4o6 leases 1 seed";

/// Writes leases with their clients' numbers.
pub(super) fn save(
    path: &Path,
    seed: u8,
    leases: impl Iterator<Item = (u32, Lease)>,
) -> Result<()> {
    let doing = || format!("write {}", path.display());
    let mut file = BufWriter::new(File::create(path).doing(doing())?);
    writeln!(file, "{HEADER} {seed}").doing(doing())?;
    for (client, lease) in leases {
        let Lease { address, ports, server, lease_seconds } = lease;
        let ports = ports.map_or("-".to_owned(), |ports| {
            format!("{}/{}/{}", ports.offset, ports.psid_length, ports.psid)
        });
        writeln!(file, "{client} {address} {ports} {server} {lease_seconds}").doing(doing())?;
    }
    file.flush().doing(doing())
}

/// Reads what [`save`] wrote: the seed, and leases with their clients' numbers.
pub(super) fn load(path: &Path) -> Result<(u8, Vec<(u32, Lease)>)> {
    let file = File::open(path).doing(format!("open {}", path.display()))?;
    let mut lines = BufReader::new(file).lines().enumerate();
    let bad = |number: usize, line: &str| {
        let number = number + 1;
        RigError::unexpected(format!(
            "{}, line {number}: `{line}` is not a lease: expected a client's number, an address, \
             offset/length/PSID or `-`, a server and seconds",
            path.display()
        ))
    };
    let mut seed = None;
    let mut leases = Vec::new();
    for (number, line) in &mut lines {
        let line = line.doing(format!("read {}", path.display()))?;
        if number == 0 {
            let text = line.strip_prefix(HEADER).ok_or_else(|| bad(number, &line))?;
            seed = Some(text.trim().parse().map_err(|_| bad(number, &line))?);
        } else {
            leases.push(parse(&line).ok_or_else(|| bad(number, &line))?);
        }
    }
    Ok((seed.ok_or_else(|| bad(0, ""))?, leases))
}

fn parse(line: &str) -> Option<(u32, Lease)> {
    let mut words = line.split_whitespace();
    let client = words.next()?.parse().ok()?;
    let address: Ipv4Addr = words.next()?.parse().ok()?;
    let ports = match words.next()? {
        "-" => None,
        text => {
            let mut parts = text.split('/');
            Some(PortParams {
                offset: parts.next()?.parse().ok()?,
                psid_length: parts.next()?.parse().ok()?,
                psid: parts.next()?.parse().ok()?,
            })
        }
    };
    let server = words.next()?.parse().ok()?;
    let lease_seconds = words.next()?.parse().ok()?;
    Some((client, Lease { address, ports, server, lease_seconds }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_come_back_as_they_were_written() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let shared = Lease {
            address: Ipv4Addr::new(192, 0, 2, 18),
            ports: Some(PortParams { offset: 6, psid_length: 8, psid: 0x34 }),
            server: Ipv4Addr::new(192, 0, 2, 254),
            lease_seconds: 3600,
        };
        let whole = Lease { ports: None, ..shared };
        save(file.path(), 7, [(3, shared), (9, whole)].into_iter()).unwrap();
        assert_eq!(load(file.path()).unwrap(), (7, vec![(3, shared), (9, whole)]));
    }

    #[test]
    fn a_file_of_something_else_is_refused_with_its_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{HEADER} 1\n3 192.0.2.18 nonsense\n")).unwrap();
        let error = load(file.path()).unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
    }
}
