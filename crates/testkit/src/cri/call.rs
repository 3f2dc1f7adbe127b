//! The calls that a runtime gets: which there are, and what was asked.

use std::time::Duration;

use k8s_cri::v1 as cri;

/// A method of CRI, of those that are scripted and recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // They are CRI's own names.
pub enum Call {
    Version,
    Status,
    RunPodSandbox,
    StopPodSandbox,
    RemovePodSandbox,
    PodSandboxStatus,
    ListPodSandbox,
    CreateContainer,
    StartContainer,
    StopContainer,
    RemoveContainer,
    ListContainers,
    ContainerStatus,
    ExecSync,
    ReopenContainerLog,
    PullImage,
    ImageStatus,
    ListImages,
}

impl Call {
    /// Whether it only looks: such calls come all the time and are not recorded.
    pub fn is_query(self) -> bool {
        matches!(
            self,
            Self::Version
                | Self::Status
                | Self::PodSandboxStatus
                | Self::ListPodSandbox
                | Self::ListContainers
                | Self::ContainerStatus
                | Self::ImageStatus
                | Self::ListImages
        )
    }
}

/// What a recorded call asked for.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Request {
    RunPodSandbox(Box<cri::RunPodSandboxRequest>),
    CreateContainer(Box<cri::CreateContainerRequest>),
    StopContainer {
        grace: Duration,
    },
    ExecSync {
        command: Vec<String>,
    },
    PullImage {
        image: String,
        auth: Option<cri::AuthConfig>,
    },
    /// About a container, a sandbox or an image and nothing else.
    Plain,
}

/// A call that came in, in the order in which they came.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Which.
    pub call: Call,
    /// What it is about: a pod's name for a sandbox, `pod/container` for a container, an image.
    pub about: String,
    /// The id of the sandbox or container; empty where it does not exist yet.
    pub id: String,
    /// What was asked.
    pub request: Request,
}

impl Recorded {
    /// `StartContainer p/c`: what a test compares.
    pub fn line(&self) -> String {
        format!("{:?} {}", self.call, self.about)
    }
}
