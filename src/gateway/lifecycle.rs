//! From running over draining to stopped: signals, phases, and the notices to the supervisor.
//!
//! The first SIGTERM or SIGINT drains: nobody new comes in, every relay says `system-shutdown` and ends in good order
//! (CLS-08). When a part of the time is left, what could not be delivered goes back to its senders; what is left at the
//! deadline, or at the second signal, is cut and told. SIGHUP reloads, SIGUSR1 opens the audit file again.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::run::now;
use crate::run::registry::{Phase, Registry};

/// What an operator or the supervisor says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Read policies and certificates again.
    Reload,
    /// Open the audit file again: it was renamed.
    Reopen,
    /// End: in good order the first time, at once the second.
    Stop,
}

/// The signals of the process, as commands.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user: Signal,
}

impl Signals {
    /// Listens from now on; the signals no longer end the process.
    ///
    /// # Errors
    /// When the system does not let a signal be heard.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined1())?,
        })
    }

    /// Whether the end was asked for and nobody has heard it yet: for whoever is about to put another program in the place of
    /// this one.
    pub async fn was_asked_to_stop(&mut self) -> bool {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => true,
            _ = self.interrupt.recv() => true,
            // Long enough for the system's word to come through.
            () = tokio::time::sleep(Duration::from_millis(1)) => false,
        }
    }

    /// The next one.
    pub async fn next(&mut self) -> Command {
        tokio::select! {
            _ = self.terminate.recv() => Command::Stop,
            _ = self.interrupt.recv() => Command::Stop,
            _ = self.hangup.recv() => Command::Reload,
            _ = self.user.recv() => Command::Reopen,
        }
    }
}

/// The program of this process as it lies on the disk now: an upgrade puts another file in its place.
pub fn program() -> PathBuf {
    match std::env::current_exe() {
        Ok(path) => {
            path.to_str().and_then(|path| path.strip_suffix(" (deleted)")).map_or(path.clone(), PathBuf::from)
        }
        Err(_) => std::env::args_os().next().map(PathBuf::from).unwrap_or_default(),
    }
}

/// What is amiss with the program that would take the place of this one, in words; none if it can be begun.
pub(super) fn unfit(program: &Path) -> Option<String> {
    let why = match std::fs::metadata(program) {
        Err(error) => error.to_string(),
        Ok(file) if !file.is_file() || file.permissions().mode() & 0o111 == 0 => {
            "it is no program".to_owned()
        }
        Ok(_) => return None,
    };
    Some(format!("{} cannot be begun anew: {why}; put the program there first", program.display()))
}

/// The phases of one gateway.
#[derive(Debug)]
pub struct Lifecycle {
    registry: Arc<Registry>,
    /// A reload may say another one; a drain under way keeps its own.
    grace: Mutex<Duration>,
    /// The listening sockets, for the program that is to take the place of this one when the drain is over.
    sockets: Mutex<Option<Vec<OwnedFd>>>,
}

impl Lifecycle {
    /// A gateway that is starting. A drain lasts for `grace` at most.
    pub fn new(registry: Arc<Registry>, grace: Duration) -> Self {
        Self { registry, grace: Mutex::new(grace), sockets: Mutex::new(None) }
    }

    /// The listeners are open. Where the end was asked for meanwhile, nobody is told that it begins.
    pub fn ready(&self) {
        if !self.registry.enter_phase(Phase::Running) {
            return;
        }
        tell(&[NotifyState::Ready]);
        tracing::info!("ready");
    }

    /// How long a drain may last.
    pub fn grace(&self) -> Duration {
        *held(&self.grace)
    }

    /// A drain may last so long from now on.
    pub fn allow(&self, grace: Duration) {
        *held(&self.grace) = grace;
    }

    /// All ends in good order, and then another program takes the place of this one with these sockets, in whose queues whoever
    /// connects meanwhile waits; whether no end was under way already.
    pub fn restart(&self, sockets: Vec<OwnedFd>) -> bool {
        *held(&self.sockets) = Some(sockets);
        // To the supervisor it is a reload: the process stays, and is ready again when the other program is.
        let mut states = vec![NotifyState::Reloading];
        states.extend(NotifyState::monotonic_usec_now().ok());
        if !self.begin(&states) {
            held(&self.sockets).take();
            return false;
        }
        true
    }

    /// Waits until nobody new comes in; whether another program is to take the place of this one, and whoever connects waits for it.
    pub async fn draining(&self) -> bool {
        let mut news = self.registry.news();
        let over = |phase| matches!(phase, Phase::Draining(_) | Phase::Closing(_) | Phase::Stopped);
        // The sender lives in the registry, which we hold.
        let _phase = news.wait_for(|news| over(news.phase)).await;
        held(&self.sockets).is_some()
    }

    /// The sockets for the program that takes the place of this one, if one does.
    pub fn successor(&self) -> Option<Vec<OwnedFd>> {
        held(&self.sockets).take()
    }

    /// Nobody new comes in, and all ends in good order; whether that was not under way already.
    pub fn drain(&self) -> bool {
        self.begin(&[NotifyState::Stopping])
    }

    fn begin(&self, states: &[NotifyState<'_>]) -> bool {
        let grace = self.grace();
        let deadline = now() + grace;
        if !self.registry.begin_drain(deadline) {
            return false;
        }
        tell(states);
        tracing::info!(relays = self.registry.living(), seconds = grace.as_secs(), "draining");
        true
    }

    /// The gateway was told to stop: it drains, and the second time it stops.
    pub fn stop(&self) {
        // Whoever wants it to end wants no other program.
        held(&self.sockets).take();
        if !self.drain() && self.registry.enter_phase(Phase::Stopped) {
            tracing::info!(relays = self.registry.living(), "stopping now");
        }
    }

    /// Waits until a drain is over, one way or the other; every relay has ended then.
    pub async fn stopped(&self) {
        let mut news = self.registry.news();
        loop {
            let phase = news.borrow_and_update().phase;
            match phase {
                Phase::Starting | Phase::Running => {
                    // The sender lives in the registry, which we hold.
                    let _changed = news.changed().await;
                }
                Phase::Draining(deadline) => {
                    let last_part = deadline.checked_sub(self.grace() / 3).unwrap_or(deadline);
                    tokio::select! {
                        () = self.registry.emptied() => { self.registry.enter_phase(Phase::Stopped); }
                        () = tokio::time::sleep_until(last_part.into()) => {
                            tracing::warn!(relays = self.registry.living(), "giving back what cannot be delivered");
                            self.registry.enter_phase(Phase::Closing(deadline));
                        }
                        _ = news.changed() => {}
                    }
                }
                Phase::Closing(deadline) => {
                    tokio::select! {
                        () = self.registry.emptied() => { self.registry.enter_phase(Phase::Stopped); }
                        () = tokio::time::sleep_until(deadline.into()) => {
                            tracing::warn!(relays = self.registry.living(), "the drain took too long; cutting what is left");
                            self.registry.enter_phase(Phase::Stopped);
                        }
                        _ = news.changed() => {}
                    }
                }
                Phase::Stopped => {
                    self.registry.emptied().await;
                    return;
                }
            }
        }
    }
}

fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells the supervisor, if there is one.
pub(super) fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the supervisor cannot be told");
    }
}

/// Tells the supervisor that we live, for as long as it wants to hear it: that this task runs and the registry can be
/// asked is what "alive" means here.
pub(super) async fn keep_alive(registry: Arc<Registry>) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let mut beat = tokio::time::interval(limit / 3);
    loop {
        beat.tick().await;
        tracing::trace!(relays = registry.ids().len(), "alive");
        tell(&[NotifyState::Watchdog]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lifecycle() -> Lifecycle {
        let registry = Registry::new(crate::run::tests::policy(), Duration::from_secs(30), 1);
        Lifecycle::new(registry, Duration::from_secs(20))
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_ends_when_the_last_relay_does() {
        let life = lifecycle();
        life.ready();
        let (relay, _orders) = life.registry.enter();
        life.stop();
        assert!(matches!(life.registry.phase(), Phase::Draining(_)));
        let begun = now();
        let ((), ()) = tokio::join!(life.stopped(), async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            drop(relay);
        });
        assert_eq!(now() - begun, Duration::from_secs(3));
        assert_eq!(life.registry.phase(), Phase::Stopped);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_at_the_deadline_is_cut() {
        let life = lifecycle();
        life.ready();
        let (relay, _orders) = life.registry.enter();
        let mut news = life.registry.news();
        life.stop();
        let begun = now();
        let ((), ()) = tokio::join!(life.stopped(), async {
            // As a pump does: it ends when it hears that all is over.
            let _heard = news.wait_for(|n| n.phase == Phase::Stopped).await;
            drop(relay);
        });
        assert_eq!(now() - begun, Duration::from_secs(20));
    }

    // The control socket answers before the listeners are open.
    #[tokio::test(start_paused = true)]
    async fn a_drain_that_was_asked_for_during_the_start_is_not_forgotten() {
        let life = lifecycle();
        assert!(life.drain());
        life.ready();
        life.stopped().await;
        assert_eq!(life.registry.phase(), Phase::Stopped);
        life.ready();
        assert_eq!(life.registry.phase(), Phase::Stopped, "there is no way back");
    }

    // Contract 1: a second signal stops now.
    #[tokio::test(start_paused = true)]
    async fn the_second_signal_stops_now() {
        let life = lifecycle();
        life.ready();
        life.stop();
        life.stop();
        assert_eq!(life.registry.phase(), Phase::Stopped);
        life.stopped().await;
    }
}
