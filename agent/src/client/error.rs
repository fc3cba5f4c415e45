//! Why a request failed, and, what a caller needs most, whether it changed anything.
//!
//! It never guesses: what may have been applied is [`ClientError::Unknown`].

use crate::api::{Code, Effect, Failure};
use quorate_certs::CertsError;

/// What went wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No agent could be reached in time. Nothing was applied.
    #[error("no agent answers ({why})")]
    Unreachable {
        /// Per address, what happened.
        why: String,
    },
    /// This identity is refused. Nothing was applied.
    #[error("not authorised ({why})")]
    NotAuthorised {
        /// By whom and why.
        why: String,
    },
    /// A record breaks a limit; nothing was sent.
    #[error("{why}")]
    Invalid {
        /// Which limit.
        why: String,
    },
    /// The agent answered that it failed. [`Failure::effect`] says whether anything was changed.
    #[error("{0}")]
    Failed(Failure),
    /// It was sent, and no answer came: nobody can say whether it was applied.
    #[error("the outcome is unknown ({why})")]
    Unknown {
        /// What happened to the answer.
        why: String,
    },
    /// The time was over before it was applied; surely nothing was.
    #[error("not done in time ({why})")]
    TimedOut {
        /// What it was waiting for.
        why: String,
    },
    /// Bytes that are not what was written.
    #[error("damaged data ({why})")]
    Corrupt {
        /// What and from whom.
        why: String,
    },
    /// An agent that does not keep to the protocol.
    #[error("an agent answered something unexpected ({why})")]
    Protocol {
        /// What.
        why: String,
    },
}

impl ClientError {
    /// Did the request change anything?
    #[must_use]
    pub fn effect(&self) -> Effect {
        match self {
            Self::Failed(failure) => failure.effect,
            Self::Unknown { .. } => Effect::Unknown,
            Self::Corrupt { .. } | Self::Protocol { .. } => Effect::Unknown,
            Self::Unreachable { .. } | Self::NotAuthorised { .. } | Self::Invalid { .. } | Self::TimedOut { .. } => {
                Effect::NotApplied
            }
        }
    }
}

/// May the same request succeed a moment later, or at another agent?
pub(crate) fn may_pass(code: Code) -> bool {
    match code {
        Code::NoQuorum | Code::Busy | Code::Unavailable => true,
        Code::Unknown
        | Code::NotAuthorised
        | Code::Invalid
        | Code::NotFound
        | Code::Refused
        | Code::Conflict
        | Code::Corrupt
        // It has been waited for already.
        | Code::Late
        // It may pass when a person has made room: nobody is kept waiting for that.
        | Code::NoSpace => false,
    }
}

/// Why a client cannot even start. Nothing was sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// No address was given.
    #[error("no address of an agent is known; name at least one")]
    NoAddress,
    /// The identity cannot be used for TLS.
    #[error(transparent)]
    Identity(#[from] CertsError),
    /// No UDP socket could be had.
    #[error("cannot open a socket ({0}); check the limits of this process")]
    Socket(String),
}
