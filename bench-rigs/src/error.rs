//! The one error of the rigs.

use std::{
    fmt::{self, Debug, Display},
    io,
};

/// What went wrong, with what was tried.
#[derive(thiserror::Error)]
pub enum RigError {
    /// A command could not be run or did not succeed.
    #[error("`{command}`: {outcome}")]
    Command {
        /// The command line.
        command: String,
        /// Its exit status and what it wrote to standard error.
        outcome: String,
    },
    /// The system refused something.
    #[error("{doing}: {source}")]
    System {
        /// What was tried.
        doing: String,
        /// The system's answer.
        source: io::Error,
    },
    /// Something did not behave as it must.
    #[error("{0}")]
    Unexpected(String),
}

/// As it is displayed: a test that fails shows its error this way, and logs in it must stay readable.
impl Debug for RigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

impl RigError {
    /// An error that says what was seen and what was expected.
    pub fn unexpected(text: impl Into<String>) -> Self {
        RigError::Unexpected(text.into())
    }
}

/// What everything here returns.
pub type Result<T, E = RigError> = std::result::Result<T, E>;

/// Says what was tried when the system refuses.
pub trait Doing<T> {
    /// Adds `what` to an error.
    fn doing(self, what: impl Display) -> Result<T>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, what: impl Display) -> Result<T> {
        self.map_err(|source| RigError::System { doing: what.to_string(), source })
    }
}
