//! The client agrees with the server on both ends of its softwire (RFC 8539), after it found it by option 88.

use bench_rigs::{
    daemon::{Process, portlease_binary},
    error::Result,
    sys::Signal,
};
use serde_json::Value;

use crate::scene::{CLIENT_AT, ONE, ONE_AT, PATIENCE, SHARED, Scene, WAN};

fn start(scene: &Scene) -> Result<Process> {
    let mut command = scene.client.namespace.command(portlease_binary()?);
    command.args(["client", "--interface", WAN, "--output", "json", "--initial-delay", "0"]);
    command.args(["--softwire-source", "auto"]);
    Process::start("portlease client", command)
}

/// The line of an event.
fn told(client: &Process, event: &str, from: usize) -> Value {
    let line = client.wait_for(&format!("\"event\":\"{event}\""), from, PATIENCE).unwrap();
    serde_json::from_str(&line).unwrap()
}

#[test]
fn the_ends_of_the_softwire_come_with_the_lease_and_stay() {
    let mut scene = Scene::new().unwrap();
    let _ours = scene
        .ours_with(ONE, ONE_AT, &[SHARED], |config| {
            let text = format!(
                "[information]\nservers = [\"{ONE_AT}\"]\n\
                 [softwire]\nbr = [\"2001:db8::b1\"]\nbind-prefix = \"2001:db8:1::/48\"\n"
            );
            config.links.push_str(&text);
        })
        .unwrap();
    let mut client = start(&scene).unwrap();
    let obtained = told(&client, "obtained", 0);
    assert_eq!(obtained["softwire_source"], CLIENT_AT.to_string());
    assert_eq!(obtained["border_relays"], serde_json::json!(["2001:db8::b1"]));
    let log = client.log();
    let stopped = log.find("\"native-stop\"").expect("plain DHCPv4 has to stop");
    assert!(stopped < log.find("\"obtained\"").unwrap(), "{log}");

    let from = client.log_length();
    client.signal(Signal::User1).unwrap();
    let renewed = told(&client, "renewed", from);
    for name in ["address", "psid", "softwire_source", "border_relays"] {
        assert_eq!(renewed[name], obtained[name], "{name}");
    }
    assert!(client.terminate(PATIENCE).unwrap().success(), "{}", client.log());
}
