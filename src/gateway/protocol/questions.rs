//! Which requests only ask.

use super::Request;

impl Request {
    /// Whether a node may ask it of another: it changes nothing.
    pub const fn is_question(&self) -> bool {
        matches!(
            self,
            Self::Streams { cluster: false }
                | Self::Refusals { cluster: false, .. }
                | Self::Status { cluster: false, .. }
        )
    }

    /// Whether it changes nothing, here or elsewhere. Whoever looks every second must not write the log; each request is named, so that
    /// a new one is not forgotten.
    pub const fn only_asks(&self) -> bool {
        match self {
            Self::Bans {}
            | Self::Circuits { clear: None }
            | Self::Cluster {}
            | Self::Config {}
            | Self::Explain(_)
            | Self::Peers { .. }
            | Self::Promotion {}
            | Self::Quarantine {}
            | Self::Refusals { .. }
            | Self::Reload { plan: true }
            | Self::Shadow {}
            | Self::Status { .. }
            | Self::Streams { .. }
            | Self::Target { .. }
            | Self::Unused { .. } => true,
            Self::Ban { .. }
            | Self::Circuits { clear: Some(_) }
            | Self::Close { .. }
            | Self::Drain {}
            | Self::Forget { .. }
            | Self::Log { .. }
            | Self::Recognise { .. }
            | Self::Reload { plan: false }
            | Self::Restart {}
            | Self::Settle { .. }
            | Self::Unban { .. } => false,
        }
    }
}
