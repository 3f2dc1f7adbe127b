//! The names of subresources: the last segment of a path below an object.

text_enum! {
    /// Which subresource a request is about.
    ///
    /// What a kind has there, and for which verbs, is in its `KindInfo`.
    pub enum SubresourceName {
        /// The object, of which only the status is written.
        Status = "status",
        /// A workload's replica count.
        Scale = "scale",
        /// A pod's node.
        Binding = "binding",
        /// The deletion of a pod that budgets may refuse.
        Eviction = "eviction",
        /// Containers added to a running pod.
        EphemeralContainers = "ephemeralcontainers",
        /// A container's process: its standard streams.
        Attach = "attach",
        /// A command in a container.
        Exec = "exec",
        /// A container's output.
        Log = "log",
        /// A pod's ports.
        PortForward = "portforward",
        /// HTTP passed on to a pod, a node or a service.
        Proxy = "proxy",
        /// Resources of a running pod.
        Resize = "resize",
        /// A service account's tokens.
        Token = "token",
        /// The decision about a certificate signing request.
        Approval = "approval",
        /// A namespace's finalizers.
        Finalize = "finalize",
    }
}

impl SubresourceName {
    /// Whether a request lasts as long as its client wants: upstream's `LongRunningFunc`.
    ///
    /// Such requests have no deadline, and places of their own.
    pub const fn is_long_running(self) -> bool {
        match self {
            Self::Attach | Self::Exec | Self::Log | Self::PortForward | Self::Proxy => true,
            Self::Status
            | Self::Scale
            | Self::Binding
            | Self::Eviction
            | Self::EphemeralContainers
            | Self::Resize
            | Self::Token
            | Self::Approval
            | Self::Finalize => false,
        }
    }

    /// Whether a write there may change what pods run: a pod's spec, or the template of pods.
    ///
    /// Admission judges such a write by what it sends. A new subresource does not compile before it is
    /// decided here.
    pub const fn writes_spec(self) -> bool {
        match self {
            Self::EphemeralContainers | Self::Resize => true,
            // A binding writes a pod's node, and a Scale the number of pods.
            Self::Status
            | Self::Scale
            | Self::Binding
            | Self::Eviction
            | Self::Attach
            | Self::Exec
            | Self::Log
            | Self::PortForward
            | Self::Proxy
            | Self::Token
            | Self::Approval
            | Self::Finalize => false,
        }
    }
}
