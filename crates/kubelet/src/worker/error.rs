//! Why a round of a pod's work ended early, by the part that failed.
//!
//! Only a [`RuntimeError`] may say that the container runtime is down. What fails on this machine names
//! itself, so that no operator restarts a runtime because of a volume in use.

use std::io;

use crate::redact::Redactor;
use crate::runtime::RuntimeError;

#[derive(Debug, thiserror::Error)]
pub(super) enum WorkerError {
    /// A call to the container runtime. `Display` leaves its words out.
    #[error("{0}")]
    Runtime(#[from] RuntimeError),
    /// Unmounting the pod's volumes, or removing its directory.
    #[error("failed to remove its volumes: {0}")]
    Volumes(io::Error),
    /// Making the directory of the pod's logs.
    #[error("failed to make the log directory: {0}")]
    LogDirectory(io::Error),
    /// Ending a process of a container that the runtime has lost.
    #[error("failed to end what is left of a container: {0}")]
    Remains(io::Error),
}

impl WorkerError {
    /// Whether it is an outage of the runtime, which concerns every pod, and not this pod's own trouble.
    pub(super) fn is_outage(&self) -> bool {
        matches!(self, Self::Runtime(error) if error.is_outage())
    }

    /// The whole error, with the runtime's words redacted.
    pub(super) fn redacted(&self, redactor: &Redactor) -> String {
        match self {
            Self::Runtime(error) => error.redacted(redactor),
            Self::Volumes(_) | Self::LogDirectory(_) | Self::Remains(_) => self.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::{Code, Status};

    use super::*;

    /// An operator who reads that the runtime is down restarts it.
    #[test]
    fn only_a_runtime_that_cannot_be_reached_is_called_down() {
        let busy = || io::Error::from(io::ErrorKind::ResourceBusy);
        let redactor = Redactor::without_values();
        for error in [
            WorkerError::Volumes(busy()),
            WorkerError::LogDirectory(busy()),
            WorkerError::Remains(busy()),
            WorkerError::Runtime(Status::new(Code::Unavailable, "plugin").into()),
            WorkerError::Runtime(Status::new(Code::NotFound, "no such sandbox").into()),
            WorkerError::Runtime(Status::new(Code::DeadlineExceeded, "late").into()),
        ] {
            assert!(!error.is_outage(), "{error}");
            assert!(!error.redacted(&redactor).contains("container runtime is down"), "{error}");
        }
        let broken = Status::from_error("connection reset".into());
        let outage = WorkerError::Runtime(broken.into());
        assert!(outage.is_outage());
        assert!(outage.redacted(&redactor).starts_with("container runtime is down"));
    }
}
