//! demo: a hundred homes share two addresses through XDP, and keep their ports over a crash. Told as a story; fails
//! if anything is not as told.

mod capture;
mod homes;
mod story;
mod town;
mod traffic;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use bench_rigs::{
    daemon::Daemon,
    error::{Result, RigError},
    interrupt, netns,
};
use clap::Parser;

use crate::{
    capture::Capture,
    homes::Homes,
    story::Story,
    town::{Town, config},
    traffic::Border,
};

/// Real clients in namespaces of their own behind a real relay obtain shared addresses from the daemon over native
/// XDP; two of them use their ports; the daemon is killed, started again, and everybody renews to the same ports.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Number of homes
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u8).range(3..=126))]
    homes: u8,

    /// Keep the captures and the daemon's log in this folder
    #[arg(long)]
    keep: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut story = Story::begin();
    let told = netns::require_root()
        .and_then(|()| interrupt::catch())
        .and_then(|()| tell(&arguments, &mut story));
    // By now everything that was made is gone again, however it ended.
    match told {
        Ok(()) => {
            story.end();
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("\nThe story does not end as told: {error}");
            ExitCode::FAILURE
        }
    }
}

fn tell(arguments: &Arguments, story: &mut Story) -> Result<()> {
    let count = usize::from(arguments.homes);
    story.chapter("The town");
    let town = Town::build(count)?;
    story.say(&format!(
        "{count} homes, each a network namespace with a link of its own to the access node, where a \
         DHCPv6 relay\n(RFC 8415) adds an Interface-Id for each link. Behind it one server."
    ));

    story.chapter("The server");
    let config = config(town.folder());
    let mut daemon = Daemon::start(&town.server, &config, town.folder())?;
    story.quote(&daemon.log());
    let relay = town.start_relay()?;
    let capture = Capture::start(&town)?;
    let quiet = town.socket_datagrams()?;

    story.chapter("Everybody asks for an address");
    let mut homes = Homes::open(&town)?;
    let first = homes.obtained()?;
    homes::check(&first)?;
    story.table(&first);
    check_path(story, &town, &daemon, quiet)?;

    story.chapter("Two neighbours on one address talk to the world");
    let (one, two) = homes::neighbours(&first)?;
    let border = Border::build(&town, [(one, &first[one]), (two, &first[two])])?;
    border.exchange(story)?;

    story.chapter("The server dies");
    daemon.kill()?;
    story.say("SIGKILL, without warning. The leases stand; packets flow on:");
    border.exchange(story)?;
    daemon = Daemon::start(&town.server, &config, town.folder())?;
    story.say("\nStarted again:");
    story.quote(&daemon.log());
    homes.ask_to_renew()?;
    let second = homes.renewed()?;
    if let Some((before, after)) =
        first.iter().zip(&second).find(|(before, after)| before.tuple() != after.tuple())
    {
        return Err(RigError::unexpected(format!(
            "home {} had {before} and came back with {after}",
            before.home
        )));
    }
    story.say(&format!("All {count} renewed to the same address and the same ports."));
    check_path(story, &town, &daemon, quiet)?;

    story.chapter("Everybody goes");
    homes.release()?;
    let counters =
        daemon.counters_when(|counters| counters.get("promises-without-reply") >= count as u64)?;
    story.say(&format!("{count} clients sent a RELEASE and exited with 0."));
    let (forward, back) = town::stop_relay(relay)?;
    story.say(&format!("The relay passed {forward} messages forward and {back} back."));
    let status = daemon.stop()?;
    if !status.success() {
        return Err(RigError::unexpected(format!("the daemon: {status}; {}", daemon.log())));
    }
    story.say("The server drained and exited with 0. Its counters:");
    story.counters(&counters);

    story.chapter("What went over the wire");
    capture.read(story, count, forward + back)?;
    if let Some(folder) = &arguments.keep {
        town.keep(folder, &daemon.log())?;
        story.say(&format!("Captures and log are in {}.", folder.display()));
    }
    Ok(())
}

/// All went through XDP and nothing through the kernel's UDP socket.
fn check_path(story: &Story, town: &Town, daemon: &Daemon, quiet: u64) -> Result<()> {
    let counters = daemon.counters()?;
    let by_socket = town.socket_datagrams()? - quiet;
    let steered = counters.get("xdp-steered");
    let line = format!(
        "XDP steered {steered} packets to the workers; the kernel's UDP sockets got {by_socket}."
    );
    if steered == 0 || by_socket > 0 {
        return Err(RigError::unexpected(format!("{line} Expected many and 0.")));
    }
    story.say(&line);
    Ok(())
}

/// How long anything in the story may take.
const PATIENCE: Duration = Duration::from_secs(30);
