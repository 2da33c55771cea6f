//! The client whole, over real sockets on the loopback: no privilege is needed.

use std::{collections::VecDeque, net::UdpSocket, path::PathBuf};

use clap::Parser;
use serde_json::Value;

use super::*;
use crate::{
    client::tests::{Answer, Sent, shared},
    wire::dhcpv4::{self, MessageType},
};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

/// What happens after a line.
#[derive(Clone, Debug)]
enum Then {
    Nothing,
    Signal(i32),
    /// A file gets this content.
    Write(PathBuf, &'static str),
}

/// Standard output that, after each line, has the next thing happen.
struct Terminal {
    lines: Vec<Value>,
    script: VecDeque<Then>,
    sender: SyncSender<Input>,
}

impl Write for Terminal {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.lines.push(serde_json::from_slice(octets)?);
        match self.script.pop_front() {
            None | Some(Then::Nothing) => {}
            Some(Then::Signal(signal)) => self.sender.send(Input::Signal(signal)).unwrap(),
            Some(Then::Write(path, text)) => std::fs::write(path, text)?,
        }
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs a client on the loopback and returns how it ended and the events that it printed.
fn run_client(line: &str, signals: &[i32]) -> (Result<ExitCode, ClientError>, Vec<Value>) {
    let script = signals.iter().map(|&signal| Then::Signal(signal)).collect();
    run_script(&format!("--server ::1 {line}"), script)
}

/// The same, with other things that happen and without a server.
fn run_script(line: &str, script: VecDeque<Then>) -> (Result<ExitCode, ClientError>, Vec<Value>) {
    let common = "client --interface lo --port 0 --initial-delay 0 --offer-wait 0 \
                  --duid 00030001020000000001 --iaid 1 --output json";
    let words = common.split_whitespace().chain(line.split_whitespace());
    let arguments = Line::parse_from(words).arguments;
    let (sender, inputs) = mpsc::sync_channel(QUEUE_LENGTH);
    let mut terminal = Terminal { lines: Vec::new(), script, sender: sender.clone() };
    let outcome =
        Client::new(&arguments, sender, inputs, &mut terminal).and_then(|mut client| client.run());
    (outcome, terminal.lines)
}

/// A server on the loopback that grants everything, until it has answered a RELEASE with silence. Returns its
/// port and, joined, the kinds of the queries.
fn start_server() -> (u16, thread::JoinHandle<Vec<MessageType>>) {
    let socket = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
    let port = socket.local_addr().unwrap().port();
    let serve = move || {
        let mut kinds = Vec::new();
        let mut buffer = [0; 1500];
        while kinds.last() != Some(&MessageType::Release) {
            let (length, peer) = socket.recv_from(&mut buffer).unwrap();
            let query = Sent { at: Moment::default(), octets: buffer[..length].to_vec() };
            kinds.push(query.kind());
            let answer = match query.kind() {
                MessageType::Discover => Answer::offer(shared()),
                MessageType::Request => Answer::ack(shared()),
                _ => continue,
            };
            socket.send_to(&answer.to(&query), peer).unwrap();
        }
        kinds
    };
    (port, thread::spawn(serve))
}

fn names(lines: &[Value]) -> Vec<&str> {
    lines.iter().filter_map(|line| line["event"].as_str()).collect()
}

#[test]
fn over_real_sockets_a_lease_is_obtained_kept_over_a_restart_renewed_and_released() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.json");
    let (port, server) = start_server();
    let line = format!("--server-port {port} --state {}", state.display());
    let (outcome, lines) = run_client(&format!("{line} --once"), &[]);
    assert_eq!(format!("{:?}", outcome.unwrap()), format!("{:?}", ExitCode::SUCCESS));
    assert_eq!(names(&lines), ["obtained"]);
    assert_eq!((&lines[0]["psid"], &lines[0]["port_count"]), (&0x34.into(), &252.into()));

    let (outcome, lines) = run_client(&line, &[SIGUSR1, SIGTERM]);
    assert_eq!(format!("{:?}", outcome.unwrap()), format!("{:?}", ExitCode::SUCCESS));
    assert_eq!(names(&lines), ["obtained", "renewed", "released"]);
    let saved: Value = serde_json::from_slice(&std::fs::read(&state).unwrap()).unwrap();
    assert_eq!(saved["client_id"], "ff0000000100030001020000000001");
    assert!(saved.get("lease").is_none(), "{saved}");
    let kinds = server.join().unwrap();
    // The second run confirms what the first one left: no DISCOVER.
    let request = MessageType::Request;
    assert_eq!(kinds, [MessageType::Discover, request, request, request, MessageType::Release]);
}

#[test]
fn with_no_release_the_lease_stays_in_the_state_file() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.json");
    let (port, server) = start_server();
    let line = format!("--server-port {port} --state {}", state.display());
    let (outcome, lines) = run_client(&format!("{line} --no-release"), &[SIGINT]);
    assert!(outcome.is_ok());
    assert_eq!(names(&lines), ["obtained"]);
    let saved: Value = serde_json::from_slice(&std::fs::read(&state).unwrap()).unwrap();
    assert_eq!(saved["lease"]["address"], "192.0.2.18");
    assert_eq!(saved["lease"]["sources"], serde_json::json!(["::1"]));
    let (outcome, lines) = run_client(&line, &[SIGTERM]);
    assert!(outcome.is_ok());
    assert_eq!(names(&lines), ["obtained", "released"]);
    assert_eq!(server.join().unwrap().len(), 4);
}

#[test]
fn a_client_that_nobody_answers_gives_up_when_it_is_told_to() {
    let silent = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
    let port = silent.local_addr().unwrap().port();
    let (outcome, lines) = run_client(&format!("--server-port {port} --timeout 0.1"), &[]);
    assert!(matches!(outcome, Err(ClientError::Timeout { .. })));
    assert!(lines.is_empty());
    let mut buffer = [0; 1500];
    let length = silent.recv(&mut buffer).unwrap();
    let query = Sent { at: Moment::default(), octets: buffer[..length].to_vec() };
    assert_eq!(query.kind(), MessageType::Discover);
    assert!(query.view().requests(dhcpv4::OPTION_PORT_PARAMS));
}

#[test]
fn k04_a_client_that_is_fed_option_88_by_a_file_follows_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("servers");
    std::fs::write(&file, "::1\n").unwrap();
    let (port, server) = start_server();
    let line = format!("--servers-file {} --server-port {port} --on-loss now", file.display());
    let script = [
        Then::Nothing,
        Then::Write(file.clone(), ""),
        Then::Nothing,
        Then::Write(file, "::1"),
        Then::Nothing,
        Then::Signal(SIGTERM),
    ];
    let (outcome, lines) = run_script(&line, script.into());
    outcome.unwrap();
    let expected =
        ["native-stop", "obtained", "lost", "native-start", "native-stop", "obtained", "released"];
    assert_eq!(names(&lines), expected);
    assert_eq!((&lines[2]["reason"], &lines[3]["interface"]), (&"withdrawn".into(), &"lo".into()));
    let (discover, request) = (MessageType::Discover, MessageType::Request);
    let kinds = [discover, request, discover, request, MessageType::Release];
    assert_eq!(server.join().unwrap(), kinds, "nothing while there was no server");
}

#[test]
fn a_servers_file_that_is_none_is_named_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("servers");
    std::fs::write(&file, "192.0.2.1\n").unwrap();
    let (outcome, _) = run_script(&format!("--servers-file {}", file.display()), VecDeque::new());
    let error = outcome.unwrap_err().to_string();
    assert!(error.starts_with("servers file ") && error.contains("servers:1:"), "{error}");
}
