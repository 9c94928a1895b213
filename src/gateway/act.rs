//! What an operator has asked for, and what came of it, as it is written down.

use serde::Serialize;

use super::protocol::{Answer, Request};
use crate::run::observe::capped;

/// Who calls, by the kernel's word.
pub(super) struct Caller {
    pub(super) uid: u32,
    pub(super) pid: Option<i32>,
}

/// A request of an operator, in the log and in the audit log.
#[derive(Debug, Serialize)]
pub struct Act {
    time: String,
    event: &'static str,
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<u64>,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

impl Act {
    /// What this one has asked for.
    pub(super) fn of(
        caller: &Caller,
        action: &'static str,
        request: Option<&Request>,
        answer: &Answer,
    ) -> Self {
        let seconds = match request {
            Some(Request::Ban { seconds, .. }) => Some(*seconds),
            _ => None,
        };
        let target = request.and_then(Request::target).map(capped);
        Self { uid: Some(caller.uid), pid: caller.pid, target, seconds, ..Self::by_signal(action, answer) }
    }

    /// What a signal of the process asked for: the kernel does not say who sent it.
    pub fn by_signal(action: &'static str, answer: &Answer) -> Self {
        let message = match answer {
            Answer::Refused { message, .. } => Some(capped(message)),
            _ => None,
        };
        Self {
            time: jiff::Timestamp::now().to_string(),
            event: "control",
            action,
            uid: None,
            pid: None,
            target: None,
            seconds: None,
            outcome: if message.is_none() { "done" } else { "refused" },
            message,
        }
    }

    /// One line of the log.
    pub fn log(&self) {
        tracing::info!(
            action = self.action,
            uid = self.uid,
            target = self.target,
            outcome = self.outcome,
            "control"
        );
    }
}
