//! `--script`: a program that is run at each event, with what there is to know in its environment.
//!
//! Runs are in the order of the events, one at a time, on a thread of their own: a slow script keeps neither the
//! lease from being renewed nor its end from being obeyed.

use std::{
    io,
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc::{self, Receiver, SyncSender, TrySendError},
    thread::{self, JoinHandle},
    time::Duration,
};

use tracing::{debug, info, warn};

use super::{
    command,
    environment::{PREFIX, Variables},
};

/// Events that wait for their run.
const QUEUE_LENGTH: usize = 64;

/// The program, and the thread that runs it. Dropped, it ends when all events have had their run.
#[derive(Debug)]
pub(super) struct Script {
    queue: Option<SyncSender<Variables>>,
    thread: Option<JoinHandle<()>>,
}

impl Script {
    /// A script whose runs may take `limit` each.
    pub(super) fn start(program: &Path, limit: Duration) -> io::Result<Self> {
        let (queue, events) = mpsc::sync_channel(QUEUE_LENGTH);
        let program = program.to_owned();
        let run = move || run_all(&program, limit, &events);
        let thread = thread::Builder::new().name("script".into()).spawn(run)?;
        Ok(Script { queue: Some(queue), thread: Some(thread) })
    }

    /// Has the script run with these variables. When far too many events wait, one that says nothing new is left
    /// out; another is waited with.
    pub(super) fn tell(&self, variables: Variables, says_nothing_new: bool) {
        let Some(queue) = &self.queue else { return };
        match queue.try_send(variables) {
            Err(TrySendError::Full(_)) if says_nothing_new => {
                warn!("the script is {QUEUE_LENGTH} events behind: it is not told of a renewal");
            }
            Err(TrySendError::Full(variables)) => {
                // The thread ends only after the queue.
                let _ = queue.send(variables);
            }
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
        }
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            warn!("the thread that runs the script did not end well");
        }
    }
}

fn run_all(program: &PathBuf, limit: Duration, events: &Receiver<Variables>) {
    for variables in events {
        run(program, limit, &variables);
    }
}

/// Runs the script once. Its failure is logged: the lease is as good with it as without.
fn run(program: &PathBuf, limit: Duration, variables: &Variables) {
    let name = program.display();
    let event = variables.event();
    let mut command = Command::new(program);
    // What the caller's environment has under our names would look like ours.
    for (inherited, _) in std::env::vars_os() {
        if inherited.to_string_lossy().starts_with(PREFIX) {
            command.env_remove(inherited);
        }
    }
    // No shell sees the values: they are variables of the program's environment, never words of a command line.
    command.arg(event).envs(variables.iter());
    let outcome = match command::run(command, String::new(), limit) {
        Ok(outcome) => outcome,
        Err(error) => {
            warn!("the script {name} cannot be run at `{event}`: {error}");
            return;
        }
    };
    for line in outcome.output.lines().chain(outcome.errors.lines()) {
        info!("{name}: {line}");
    }
    match outcome.status {
        Some(status) if status.success() => debug!("the script {name} ran at `{event}`"),
        Some(status) => warn!("the script {name} failed at `{event}`: {status}"),
        None => {
            let seconds = limit.as_secs_f64();
            warn!("the script {name} took more than {seconds} s at `{event}` and was killed");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;
    use crate::{client::apply::environment::Occasion, net::sys::boottime};

    fn script(folder: &Path, body: &str) -> PathBuf {
        let path = folder.join("script");
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn event(occasion: Occasion) -> Variables {
        Variables::new(occasion, "eth0")
    }

    #[test]
    fn events_come_one_after_the_other_and_a_failure_stops_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let body = format!(
            "echo \"$1 $PORTLEASE_EVENT $PORTLEASE_INTERFACE\" >> {}; exit 7",
            log.display()
        );
        let program = script(folder.path(), &body);
        let runner = Script::start(&program, Duration::from_secs(10)).unwrap();
        runner.tell(event(Occasion::Bound), false);
        runner.tell(event(Occasion::Renewed), true);
        runner.tell(event(Occasion::Stop), false);
        drop(runner);
        let expected = "bound bound eth0\nrenewed renewed eth0\nstop stop eth0\n";
        assert_eq!(fs::read_to_string(log).unwrap(), expected);
    }

    #[test]
    fn a_script_that_hangs_is_killed_and_the_next_event_has_its_run() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let body = format!("echo $1 >> {}; [ $1 = stop ] || exec sleep 60", log.display());
        let program = script(folder.path(), &body);
        let before = boottime();
        let runner = Script::start(&program, Duration::from_millis(300)).unwrap();
        runner.tell(event(Occasion::Bound), false);
        runner.tell(event(Occasion::Stop), false);
        drop(runner);
        assert_eq!(fs::read_to_string(log).unwrap(), "bound\nstop\n");
        assert!(boottime().saturating_sub(before) < Duration::from_secs(30));
    }

    #[test]
    fn a_program_that_is_not_there_stops_nothing() {
        let runner = Script::start(Path::new("/nonexistent"), Duration::from_secs(1)).unwrap();
        runner.tell(event(Occasion::Bound), false);
        drop(runner);
    }
}
