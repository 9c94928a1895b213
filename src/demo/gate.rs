//! The gateway of the small world: the same as `gatehouse run` makes of the same file.

use std::path::Path;

use tokio::sync::Mutex;

use super::{Told, Trouble};
use crate::config;
use crate::gateway::Gateway;

/// A gateway that runs until it is stopped.
pub struct Gate(Mutex<Option<Gateway>>);

impl Gate {
    /// Reads the configuration and starts.
    pub async fn start(configuration: &Path) -> Told<Self> {
        let (settings, _warnings) = config::load(configuration).map_err(|findings| {
            let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
            Trouble(format!("the configuration is refused: {}", lines.join("; ")))
        })?;
        let gateway = Gateway::start(settings)
            .await
            .map_err(|fault| Trouble(format!("the gateway does not start: {fault}")))?;
        Ok(Self(Mutex::new(Some(gateway))))
    }

    /// Reads policies and certificates again.
    pub async fn reload(&self) -> Told<()> {
        let gateway = self.0.lock().await;
        let running = gateway.as_ref().ok_or_else(|| Trouble::new("the gateway has stopped"))?;
        running.reload().await.map(drop).map_err(|findings| {
            let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
            Trouble(format!("the reload is refused: {}", lines.join("; ")))
        })
    }

    /// Drains, and waits for the end of it.
    pub async fn stop(&self) -> Told<()> {
        let gateway =
            self.0.lock().await.take().ok_or_else(|| Trouble::new("the gateway has stopped already"))?;
        gateway.stop();
        gateway.stopped().await;
        Ok(())
    }
}
