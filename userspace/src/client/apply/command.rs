//! Running a program to its end, but not for longer than it may take.

use std::{
    ffi::OsStr,
    io::{self, Read, Write as _},
    os::unix::process::CommandExt as _,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use crate::net::sys::boottime;

/// How often a program that runs is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// How long what a program wrote is waited for once it has ended. Its own children may keep the pipe open.
const OUTPUT_WAIT: Duration = Duration::from_millis(500);

/// What is kept of what a program writes.
const OUTPUT_LENGTH_MAX: u64 = 1 << 16;

/// How a program ended.
#[derive(Debug)]
pub(super) struct Outcome {
    /// `None`: it took too long and was killed.
    pub(super) status: Option<ExitStatus>,
    /// What it wrote to standard output.
    pub(super) output: String,
    /// What it wrote to standard error.
    pub(super) errors: String,
}

/// Runs `command` with `input` as its standard input, for `limit` at most. It is then killed, it alone.
///
/// It leads a process group of its own: an interrupt at the terminal is for the client, which still needs it.
/// Fails if it cannot be started.
pub(super) fn run(mut command: Command, input: String, limit: Duration) -> io::Result<Outcome> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let end = boottime() + limit;
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read all of it says itself what is wrong.
        thread::Builder::new().spawn(move || stdin.write_all(input.as_bytes()))?;
    }
    let output = collect(child.stdout.take())?;
    let errors = collect(child.stderr.take())?;
    let status = wait(&mut child, end)?;
    let read = |pipe: Receiver<String>| pipe.recv_timeout(OUTPUT_WAIT).unwrap_or_default();
    Ok(Outcome { status, output: read(output), errors: read(errors) })
}

/// Waits for the end of `child`, and kills it when its time is up.
fn wait(child: &mut Child, end: Duration) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if boottime() >= end {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::park_timeout(LOOK_INTERVAL);
    }
}

/// Reads a pipe on a thread of its own.
fn collect(pipe: Option<impl Read + Send + 'static>) -> io::Result<Receiver<String>> {
    let (sender, receiver) = mpsc::channel();
    let read = move || {
        let mut octets = Vec::new();
        if let Some(pipe) = pipe {
            let mut pipe = pipe.take(OUTPUT_LENGTH_MAX);
            // What was read before an error is worth showing.
            let _ = pipe.read_to_end(&mut octets);
            // The rest is read too, so that the program is not stopped by a full pipe or killed by a closed one.
            let _ = io::copy(&mut pipe.into_inner(), &mut io::sink());
        }
        // Whoever asked may have lost patience.
        let _ = sender.send(String::from_utf8_lossy(&octets).into_owned());
    };
    thread::Builder::new().spawn(read)?;
    Ok(receiver)
}

/// A command of words.
pub(super) fn command<S: AsRef<OsStr>>(
    program: &str,
    arguments: impl IntoIterator<Item = S>,
) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(line: &str, input: &str, limit: Duration) -> Outcome {
        run(command("sh", ["-c", line]), input.to_owned(), limit).unwrap()
    }

    #[test]
    fn what_goes_in_and_comes_out_is_passed_on() {
        let outcome = shell("cat; echo bad >&2; exit 3", "text", Duration::from_secs(10));
        assert_eq!(outcome.status.unwrap().code(), Some(3));
        assert_eq!((outcome.output.as_str(), outcome.errors.as_str()), ("text", "bad\n"));
    }

    #[test]
    fn a_program_that_reads_nothing_and_writes_much_ends_all_the_same() {
        let input = "x".repeat(1 << 20);
        let outcome = shell("yes | head -c 300000", &input, Duration::from_secs(10));
        assert!(outcome.status.unwrap().success());
        assert_eq!(outcome.output.len(), 1 << 16);
    }

    #[test]
    fn a_program_that_takes_too_long_is_killed() {
        let before = boottime();
        let outcome = shell("echo begun; exec sleep 60", "", Duration::from_millis(200));
        assert_eq!((outcome.status, outcome.output.as_str()), (None, "begun\n"));
        assert!(boottime().saturating_sub(before) < Duration::from_secs(20));
    }

    #[test]
    fn what_is_left_running_by_a_program_is_not_waited_for() {
        let before = boottime();
        let outcome = shell("sleep 60 & exit 0", "", Duration::from_secs(30));
        assert!(outcome.status.unwrap().success());
        assert!(boottime().saturating_sub(before) < Duration::from_secs(20));
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let nowhere = command("/nonexistent/program", ["x"]);
        let error = run(nowhere, String::new(), Duration::from_secs(1)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
