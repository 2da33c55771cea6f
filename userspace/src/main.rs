//! The command line: verbs, exit codes, the allocator.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use portlease::client;
use portlease::net::link::names;
use portlease::server::{self, config::Compiled};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Leases shared IPv4 addresses, a set of ports for each client, by DHCPv4 over DHCPv6
///
/// RFC 7341 carries DHCPv4 in DHCPv6 messages, RFC 7618 leases an address to many clients at once, each with ports of
/// its own.
#[derive(Parser)]
#[command(version, after_help = AFTER_HELP)]
struct CommandLine {
    #[command(subcommand)]
    verb: Verb,
}

const AFTER_HELP: &str = "\
Exit codes: 0 all went well, 1 it failed while running, 2 the configuration or the command line is wrong.
Environment: RUST_LOG sets how much is logged to stderr, such as RUST_LOG=debug; the default is info.";

#[derive(Subcommand)]
enum Verb {
    /// Serve until SIGTERM or SIGINT
    ///
    /// What is promised to clients is durable first: after a crash, every acknowledged lease is still there.
    /// SIGUSR1 writes all counters to stdout, one `name value` line each; so does the end. At the end, what was
    /// promised is made durable and sent, and the XDP program is detached.
    Run(Run),
    /// Say what a configuration comes to, or all that is wrong with it
    Check(Configuration),
    /// Obtain a lease and keep it
    Client(Box<client::run::Arguments>),
}

#[derive(Args)]
struct Configuration {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/portlease/config.toml")]
    config: PathBuf,
}

#[derive(Args)]
struct Run {
    #[command(flatten)]
    configuration: Configuration,
    /// Start although a part of the lease log is unreadable: clients keep leases that the server has forgotten
    #[arg(long)]
    accept_loss: bool,
    /// Start although the clock is behind the time of the last lease that was granted
    #[arg(long)]
    accept_clock: bool,
}

fn main() -> ExitCode {
    let command_line = CommandLine::parse();
    start_logging();
    let done = match command_line.verb {
        Verb::Run(run) => serve(run),
        Verb::Check(Configuration { config }) => check(&config),
        Verb::Client(arguments) => client::run::run(&arguments).map_err(Into::into),
    };
    done.unwrap_or_else(|error| {
        tracing::error!("{error:#}");
        ExitCode::FAILURE
    })
}

fn serve(run: Run) -> anyhow::Result<ExitCode> {
    let Run { configuration: Configuration { config }, accept_loss, accept_clock } = run;
    let Some(compiled) = compile(&config)? else { return Ok(ExitCode::from(2)) };
    match server::run(compiled, server::Options { accept_loss, accept_clock }) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) if error.is_configuration() => {
            tracing::error!("{error}");
            Ok(ExitCode::from(2))
        }
        Err(error) => Err(error.into()),
    }
}

fn check(config: &std::path::Path) -> anyhow::Result<ExitCode> {
    let Some(compiled) = compile(config)? else { return Ok(ExitCode::from(2)) };
    let mut out = std::io::stdout().lock();
    write!(out, "{compiled}").context("cannot write the result")?;
    for notice in &compiled.plan.notices {
        writeln!(out, "notice: {notice}").context("cannot write the result")?;
    }
    let present = names().unwrap_or_default();
    for named in compiled.plan.interfaces.iter().filter(|named| !present.contains(&named.name)) {
        let missing = named.unknown(present.join(", "));
        writeln!(out, "notice: {missing}").context("cannot write the result")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The configuration, or nothing after its problems were written to stderr.
fn compile(config: &std::path::Path) -> anyhow::Result<Option<Compiled>> {
    match Compiled::load(config) {
        Ok(compiled) => Ok(Some(compiled)),
        Err(error) => {
            writeln!(std::io::stderr(), "{error}").context("cannot write the problems")?;
            Ok(None)
        }
    }
}

fn start_logging() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let stderr = std::io::stderr;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    let log = log.with_writer(stderr).with_ansi(stderr().is_terminal());
    // The journal of systemd stamps the lines itself.
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        log.without_time().init();
    } else {
        log.init();
    }
}
