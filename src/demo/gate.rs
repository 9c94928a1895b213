//! The gateway of the small world: the same as `gatehouse run` makes of the same file.

use std::path::Path;

use tokio::runtime::Handle;
use tokio::sync::Mutex;

use super::{Told, Trouble};
use crate::config;
use crate::gateway::reading::Reading;
use crate::gateway::{Gateway, Inherited};
use crate::run::workers::Threads;

/// A gateway that runs until it is stopped.
pub struct Gate {
    gateway: Mutex<Option<Gateway>>,
    /// Two of its own, whatever the machine has: relays on different threads must do, too.
    _threads: Threads,
}

impl Gate {
    /// Reads the configuration and starts.
    pub async fn start(configuration: &Path) -> Told<Self> {
        let (settings, _warnings) = config::load(configuration).map_err(|findings| {
            let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
            Trouble(format!("the configuration is refused: {}", lines.join("; ")))
        })?;
        let threads = Threads::beside(&Handle::current(), 2);
        let threads = threads.map_err(|error| Trouble(format!("the gateway gets no threads: {error}")))?;
        let given = Inherited { workers: threads.workers(), ..Inherited::default() };
        let gateway = Gateway::start_with(Reading::of_settings(settings, Vec::new()), given)
            .await
            .map_err(|fault| Trouble(format!("the gateway does not start: {fault}")))?;
        Ok(Self { gateway: Mutex::new(Some(gateway)), _threads: threads })
    }

    /// Reads policies and certificates again.
    pub async fn reload(&self) -> Told<()> {
        let gateway = self.gateway.lock().await;
        let running = gateway.as_ref().ok_or_else(|| Trouble::new("the gateway has stopped"))?;
        running.reload().await.map(drop).map_err(|findings| {
            let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
            Trouble(format!("the reload is refused: {}", lines.join("; ")))
        })
    }

    /// Drains, and waits for the end of it.
    pub async fn stop(&self) -> Told<()> {
        let gateway = self
            .gateway
            .lock()
            .await
            .take()
            .ok_or_else(|| Trouble::new("the gateway has stopped already"))?;
        gateway.stop();
        gateway.stopped().await;
        Ok(())
    }
}
