//! The commands that speak to a running gateway, and a gateway that runs as a process of its own.

// Each test crate uses its own part of it.
#![allow(dead_code)]

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::Value;
use tempfile::TempDir;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_gatehouse");

/// What a command said, and how it ended.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// Runs a command to its end.
pub fn run(arguments: &[&str]) -> Said {
    let output = Command::new(PROGRAM).args(arguments).env("NO_COLOR", "1").output().unwrap();
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The same from an asynchronous test, whose gateway must go on meanwhile.
pub async fn tell(socket: &Path, arguments: &[&str]) -> Said {
    let mut all: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
    all.extend(["--socket".to_owned(), socket.display().to_string()]);
    tokio::task::spawn_blocking(move || run(&all.iter().map(String::as_str).collect::<Vec<_>>()))
        .await
        .unwrap()
}

/// The same with `--format json`: the answer, which must be a good one.
pub async fn ask(socket: &Path, arguments: &[&str]) -> Value {
    let mut all = arguments.to_vec();
    all.extend(["--format", "json"]);
    let said = tell(socket, &all).await;
    assert_eq!(said.code, 0, "{said:?}");
    serde_json::from_str(&said.out).unwrap()
}

/// Waits until this holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < end, "{what} does not come about");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A gateway with one listener and no peers, in a process of its own.
pub struct Running {
    pub child: Child,
    pub folder: TempDir,
    pub address: SocketAddr,
}

/// The files of such a gateway, and the address that it is to listen on.
pub fn prepare(audit: &str) -> (TempDir, SocketAddr) {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["hall.example".to_owned()]).unwrap();
    std::fs::write(folder.path().join("chain.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    std::fs::write(
        folder.path().join("policy.yaml"),
        "version: v1\nrules:\n  - { name: p, domains: [a.example] }\n",
    )
    .unwrap();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = format!(
        "version: v1\nlisten: [{{ flow: s2s, address: \"{address}\" }}]\ndomains:\n  - name: hall.example\n    \
         certificate: {{ chain: chain.pem, key: key.pem }}\n    backend: {{ s2s: [\"127.0.0.1:9\"] }}\n    \
         federation: listed\n    policies: [policy.yaml]\ntrust: {{ roots: chain.pem }}\n\
         dns: {{ servers: [\"127.0.0.1:9\"] }}\nadmin: {{ socket: control.sock }}\n\
         audit: {{ file: audit.jsonl{audit} }}\ntimeouts: {{ drain: 5s, close: 200ms }}\n\
         limits: {{ conn-s2s: 1000, rate: 6000/min }}\n"
    );
    std::fs::write(folder.path().join("gatehouse.yaml"), text).unwrap();
    (folder, address)
}

impl Running {
    /// Runs this command, which ends in `gatehouse run` on these files, and waits until it is ready.
    pub fn of(folder: TempDir, address: SocketAddr, mut command: Command) -> Self {
        let child = command.stderr(Stdio::piped()).env("NO_COLOR", "1").spawn().unwrap();
        let running = Self { child, folder, address };
        running.wait_ready();
        running
    }

    pub fn start(audit: &str) -> Self {
        let (folder, address) = prepare(audit);
        let command = Self::command(folder.path());
        Self::of(folder, address, command)
    }

    pub fn command(folder: &Path) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(["run", "--config"]).arg(folder.join("gatehouse.yaml"));
        command
    }

    /// Starts it once more on the same files.
    pub fn again(&mut self) {
        self.child = Self::command(self.folder.path()).stderr(Stdio::piped()).spawn().unwrap();
        self.wait_ready();
    }

    pub fn wait_ready(&self) {
        let socket = self.socket();
        until("the control socket", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
        until("the listener", || TcpStream::connect(self.address).is_ok());
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("control.sock")
    }

    pub fn audit(&self) -> PathBuf {
        self.folder.path().join("audit.jsonl")
    }

    /// Whether it has this file open.
    pub fn has_open(&self, file: &Path) -> bool {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap();
        open.flatten().filter_map(|fd| std::fs::read_link(fd.path()).ok()).any(|target| target == file)
    }

    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Lets it end; its exit code and its log.
    pub fn stop(&mut self) -> (i32, String) {
        self.signal(Signal::TERM);
        self.wait()
    }

    pub fn wait(&mut self) -> (i32, String) {
        let mut log = String::new();
        let mut code = None;
        until("the end of the process", || {
            code = self.child.try_wait().unwrap();
            code.is_some()
        });
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (code.unwrap().code().unwrap_or(-1), log)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already in every test that went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
