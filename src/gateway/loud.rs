//! How much is logged while the process runs, by an operator's word: louder or quieter, in all or in one area, for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Has the process log by these directives besides its configuration, or by its configuration alone.
pub type Louder = Arc<dyn Fn(Option<String>) + Send + Sync>;

/// The knob.
#[derive(Default)]
pub struct Loudness {
    louder: Option<Louder>,
    /// How often it was turned: who turns it back after a while must not undo what came since.
    turns: Arc<AtomicU64>,
}

impl std::fmt::Debug for Loudness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loudness").finish_non_exhaustive()
    }
}

impl Loudness {
    /// A process that can log otherwise; none: it cannot.
    pub fn new(louder: Option<Louder>) -> Self {
        Self { louder, turns: Arc::default() }
    }

    /// Logs at this level in this area, or everywhere, for this time, or until the next word or reload.
    ///
    /// # Errors
    /// In words, what is not known.
    pub fn turn(&self, level: &str, area: Option<&str>, time: Option<Duration>) -> Result<(), String> {
        let directives = directives(level, area)?;
        let Some(louder) = &self.louder else { return Err("this process has no log of its own".to_owned()) };
        louder(Some(directives));
        let turn = self.turns.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let (Some(time), louder, turns) = (time, Arc::clone(louder), Arc::clone(&self.turns)) else {
            return Ok(());
        };
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            if turns.load(Ordering::Relaxed) == turn {
                louder(None);
                tracing::info!("logging as the configuration says again");
            }
        });
        Ok(())
    }
}

/// What the filter of the log is told.
fn directives(level: &str, area: Option<&str>) -> Result<String, String> {
    if !LEVELS.contains(&level) {
        return Err(format!("levels are {}", LEVELS.join(", ")));
    }
    let Some(area) = area else { return Ok(format!("gatehouse={level}")) };
    let known = AREAS.iter().find(|(name, _)| *name == area);
    let Some((_, modules)) = known else {
        let names: Vec<&str> = AREAS.iter().map(|(name, _)| *name).collect();
        return Err(format!("areas are {}", names.join(", ")));
    };
    let all: Vec<String> = modules.iter().map(|module| format!("gatehouse::{module}={level}")).collect();
    Ok(all.join(","))
}

/// The levels, the quietest first.
pub const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// The areas, each with the modules that have something to say of it.
pub const AREAS: [(&str, &[&str]); 8] = [
    ("audit", &["run::audit"]),
    ("backend", &["gateway::doctor", "run::checkup", "run::world"]),
    ("config", &["config", "gateway::reload", "gateway::reading"]),
    ("control", &["gateway::control", "gateway::operations", "gateway::admin"]),
    ("dns", &["dns", "run::world", "run::circuit"]),
    ("listeners", &["gateway::accept", "gateway::doors", "net"]),
    ("streams", &["run::observe", "run::pump", "run::effects"]),
    ("tls", &["tls", "run::world", "gateway::accept"]),
];

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn an_area_is_its_modules_and_a_slip_is_told_with_what_there_is() {
        assert_eq!(directives("debug", None).unwrap(), "gatehouse=debug");
        assert_eq!(directives("trace", Some("audit")).unwrap(), "gatehouse::run::audit=trace");
        assert!(directives("debug", Some("dns")).unwrap().contains("gatehouse::dns=debug,"));
        assert!(directives("loud", None).unwrap_err().contains("debug"));
        assert!(directives("debug", Some("moon")).unwrap_err().contains("dns"));
    }

    // A word that ends after a while must not take back a newer one.
    #[tokio::test(start_paused = true)]
    async fn after_its_time_the_configuration_holds_again_unless_somebody_spoke_since() {
        let heard: Arc<Mutex<Vec<Option<String>>>> = Arc::default();
        let into = Arc::clone(&heard);
        let loudness = Loudness::new(Some(Arc::new(move |word| into.lock().unwrap().push(word))));
        let minute = Some(Duration::from_secs(60));
        loudness.turn("debug", None, minute).unwrap();
        tokio::time::sleep(Duration::from_secs(30)).await;
        loudness.turn("trace", Some("audit"), minute).unwrap();
        tokio::time::sleep(Duration::from_secs(45)).await;
        assert_eq!(heard.lock().unwrap().len(), 2, "the first one's time is over, and nothing happens");
        tokio::time::sleep(Duration::from_secs(45)).await;
        assert_eq!(heard.lock().unwrap().last(), Some(&None));
        assert!(Loudness::default().turn("debug", None, None).is_err());
    }
}
