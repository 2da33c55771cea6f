//! restart: how long the daemon takes to its first reply with very many leases, and how much memory it takes.

use std::path::PathBuf;

use bench_rigs::{
    daemon,
    restart::{Restart, Start},
};
use clap::Parser;

/// Makes a store with very many leases and starts the daemon on it again and again: time to the first reply beside a
/// direct read of the store's file, and resident memory.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Leases in the store; 0: there is none yet, and each start makes one
    #[arg(long, default_value_t = 1_000_000)]
    clients: u32,

    /// Leases that the store is sized for, if that is more
    #[arg(long, default_value_t = 0)]
    capacity: u32,

    /// Records of each lease in the store
    #[arg(long, default_value_t = 1)]
    rounds: u32,

    /// Starts of each program
    #[arg(long, default_value_t = 5)]
    runs: u32,

    /// xdp-native, xdp-generic or socket
    #[arg(long, default_value = "xdp-native")]
    datapath: String,

    /// Folder for the store, on a real file system; without it the folder of this program
    #[arg(long)]
    folder: Option<PathBuf>,

    /// A daemon to start; several are started in turns. Without it the one that is built beside this program
    #[arg(long)]
    program: Vec<PathBuf>,

    /// Also write what the daemon says at each start
    #[arg(long)]
    log: bool,

    /// Write the starts as JSON, one a line
    #[arg(long)]
    json: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let folder = match arguments.folder {
        Some(folder) => folder,
        None => daemon::target_folder()?,
    };
    let mut programs = arguments.program;
    if programs.is_empty() {
        programs.push(daemon::portlease_binary()?);
    }
    let clients = arguments.clients;
    let restart = Restart {
        programs: programs.clone(),
        clients,
        capacity: arguments.capacity,
        rounds: arguments.rounds,
        runs: arguments.runs,
        datapath: arguments.datapath,
        folder,
    };
    let starts = restart.run(|start| {
        if arguments.log {
            println!("{}", start.log);
        }
        if arguments.json {
            println!("{}", serde_json::to_string(start).unwrap_or_default());
        } else {
            println!("{}", line(&start.program.display().to_string(), &[start], clients));
        }
    })?;
    if !arguments.json {
        for program in &programs {
            let own: Vec<&Start> = starts.iter().filter(|one| one.program == *program).collect();
            println!("{}", line(&format!("median of {}", program.display()), &own, clients));
        }
    }
    Ok(())
}

/// The medians of these starts.
fn line(title: &str, starts: &[&Start], clients: u32) -> String {
    let median = |value: fn(&Start) -> f64| {
        let mut values: Vec<f64> = starts.iter().map(|start| value(start)).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let above = median(|start| start.reply_seconds - start.read_seconds);
    #[expect(clippy::cast_precision_loss, reason = "for display")]
    let resident = median(|start| start.resident_octets as f64);
    format!(
        "{title}: first reply {:.3} s, direct read {:.3} s, above it {above:.3} s, \
         resident {:.1} MB, {:.0} octets a lease",
        median(|start| start.reply_seconds),
        median(|start| start.read_seconds),
        resident / 1e6,
        resident / f64::from(clients.max(1)),
    )
}
