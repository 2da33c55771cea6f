//! Running other programs, with errors that show what they said.

use std::process::{Command, Stdio};

use crate::error::{Doing as _, Result, RigError};

/// The words of a command line; none of ours contains a quoted blank.
pub fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split_whitespace()
}

/// Runs `command` to its end and gives what it wrote to standard output.
pub fn output_of(mut command: Command) -> Result<String> {
    let shown = format!("{command:?}").replace('"', "");
    let output = command.stdin(Stdio::null()).output().doing(format!("run `{shown}`"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let outcome = format!("{}: {}", output.status, said.trim());
    Err(RigError::Command { command: shown, outcome })
}

/// Runs a command line to its end and gives what it wrote to standard output.
pub fn run(line: &str) -> Result<String> {
    let mut words = words(line);
    let program = words.next().ok_or_else(|| RigError::unexpected("an empty command line"))?;
    let mut command = Command::new(program);
    command.args(words);
    output_of(command)
}
