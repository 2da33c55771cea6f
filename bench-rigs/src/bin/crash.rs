//! crash: kills the daemon with SIGKILL at random moments under load and asks for every lease again.

use std::{path::PathBuf, process::ExitCode};

use bench_rigs::{crash::Ordeal, daemon, interrupt};
use clap::Parser;

/// Kills the daemon at random moments under load, some times while it recovers, and after each kill renews every
/// lease that was acknowledged. Exits with 1 if one is lost or a tuple is held by two; with 3 if none is, but the log
/// did not come round as often as demanded, so that this says little.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Kills under load
    #[arg(long, default_value_t = 50)]
    kills: u32,

    /// ACKs before each kill, at least
    #[arg(long, default_value_t = 10_000)]
    acks: u64,

    /// Number of clients; the pool and the log are sized for twice as many
    #[arg(long, default_value_t = 5_000)]
    clients: u32,

    /// Share of the starts that are killed once more before they serve
    #[arg(long, default_value_t = 0.3)]
    recovery_kills: f64,

    /// Times that the log must come round in all
    #[arg(long, default_value_t = 3)]
    wraps: u64,

    /// xdp-native, xdp-generic or socket
    #[arg(long, default_value = "xdp-native")]
    datapath: String,

    /// Folder for the store, on a real file system; without it the folder of this program
    #[arg(long)]
    folder: Option<PathBuf>,
}

/// Exit status: no promise was broken, but too few were tried. (2 is for arguments that nobody understands.)
const NOT_PROVEN: u8 = 3;

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    interrupt::catch()?;
    let folder = match arguments.folder {
        Some(folder) => folder,
        None => daemon::target_folder()?,
    };
    let ordeal = Ordeal {
        kills: arguments.kills,
        acknowledged_min: arguments.acks,
        clients: arguments.clients,
        recovery_kill_share: arguments.recovery_kills,
        datapath: arguments.datapath,
        folder,
    };
    println!(
        "{:>5} {:>10} {:>16} {:>12} {:>15}",
        "kill", "ACKs", "killed recovering", "start ms", "leases renewed"
    );
    let outcome = ordeal.run(|number, blow| {
        println!(
            "{number:>5} {:>10} {:>16} {:>12} {:>15}",
            blow.acknowledged,
            blow.recovery_kills,
            blow.start.as_millis(),
            blow.renewed,
        );
    })?;
    println!("\n{outcome}");
    if !outcome.kept_every_promise() {
        println!("PROMISES WERE BROKEN");
        return Ok(ExitCode::FAILURE);
    }
    println!("every promise was kept");
    if outcome.wraps_min() < arguments.wraps {
        println!(
            "NOT PROVEN ENOUGH: the log came round less often than {} times; more kills or ACKs would do",
            arguments.wraps
        );
        return Ok(ExitCode::from(NOT_PROVEN));
    }
    Ok(ExitCode::SUCCESS)
}
