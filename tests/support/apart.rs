//! The border of the small world with the gateway in a process of its own, and roads that can be killed and frozen.

// Each test crate uses its own part of it.
#![allow(dead_code)]

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use gatehouse::demo::world::{Plan, World};
use rustix::process::{Pid, Signal, kill_process};

const PROGRAM: &str = env!("CARGO_BIN_EXE_gatehouse");

/// A world whose gateway is the built program.
pub struct Apart {
    child: Child,
    /// The world; its own gateway has made room for the process.
    pub world: World,
    log: PathBuf,
}

impl Apart {
    /// Builds the world and puts `gatehouse run`, on the same files and addresses, in the place of its gateway.
    pub async fn build(plan: &Plan) -> Self {
        Self::build_with(plan, |text, _| text, Command::new(PROGRAM)).await
    }

    /// The same with an edited configuration, and by this command: the arguments of `gatehouse` are added to it.
    pub async fn build_with(
        plan: &Plan,
        edit: impl FnOnce(String, &World) -> String,
        command: Command,
    ) -> Self {
        let world = World::build(plan).await.unwrap();
        world.gate.stop().await.unwrap();
        let text = fs::read_to_string(&world.config).unwrap();
        fs::write(&world.config, edit(text, &world)).unwrap();
        let log = world.folder.path().join("log");
        let child = spawn(command, &world.config, Stdio::from(File::create(&log).unwrap()));
        let mut apart = Self { child, world, log };
        apart.ready().await;
        apart
    }

    /// Ends the process and starts another by this command, which logs to `log`.
    pub async fn replace(&mut self, command: Command, log: Stdio) {
        assert!(self.stop().success(), "{}", self.log());
        self.child = spawn(command, &self.world.config, log);
        self.ready().await;
    }

    async fn ready(&mut self) {
        let end = Instant::now() + PATIENCE;
        loop {
            let last = self.world.get("/readyz").await;
            if matches!(last, Ok((200, _))) {
                return;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < end, "{ended:?}, {last:?}: {}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The id of the process.
    pub fn id(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.id(), signal).unwrap();
    }

    /// Whether it still runs.
    pub fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Lets it drain and end.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "the gateway does not end: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it has logged this.
    pub async fn logged(&self, words: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.log().contains(words) {
            assert!(Instant::now() < end, "{words:?} is not logged: {}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The processor time that it has used.
    pub fn worked(&self) -> Duration {
        worked(self.child.id())
    }

    /// A line of `/proc/PID/status`, in octets.
    pub fn memory(&self, line: &str) -> u64 {
        memory(self.child.id(), line)
    }

    /// How many files it has open.
    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the gateway's log:\n{}", self.log());
        }
        // It has ended already where a test has waited for that.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(mut command: Command, config: &Path, log: Stdio) -> Child {
    command.args(["run", "--config"]).arg(config).env("NO_COLOR", "1").stderr(log).spawn().unwrap()
}

/// The processor time that a process has used.
pub fn worked(id: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    // The name of the program, in parentheses, may hold spaces. Field 14 is time of the user, 15 of the system.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    // USER_HZ, which is 100 wherever Linux tells of it.
    Duration::from_millis(ticks * 10)
}

/// A line of `/proc/PID/status`, in octets.
pub fn memory(id: u32, line: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let found = status.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(':')).unwrap();
    found.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// A process through which connections go, and which can be killed and frozen as a server can.
pub struct Road {
    child: Child,
    from: SocketAddr,
}

impl Road {
    /// From this address to that one.
    pub fn lay(from: SocketAddr, to: SocketAddr) -> Self {
        Self::lay_slow(from, to, 0)
    }

    /// The same, letting so many octets through in a second.
    pub fn lay_slow(from: SocketAddr, to: SocketAddr, rate: u32) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/between.py");
        let mut command = Command::new("python3");
        command.arg(script).args([from.to_string(), to.to_string()]).stdout(Stdio::piped());
        if rate > 0 {
            command.arg(rate.to_string());
        }
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "ready", "the road from {from} is not open");
        Self { child, from }
    }

    /// Where it begins.
    pub fn from(&self) -> SocketAddr {
        self.from
    }

    /// SIGKILL: the kernel closes its sockets.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGSTOP: its sockets stay, and nobody reads or writes them.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Road {
    fn drop(&mut self) {
        // A killed one is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const PATIENCE: Duration = Duration::from_secs(30);
