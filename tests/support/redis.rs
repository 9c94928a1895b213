//! A real Redis or Valkey, nodes that share it, and what is asked of them.

// Each test crate uses its own part of it.
#![allow(dead_code)]

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gatehouse::demo::world::{Plan, World};
use serde_json::Value;

use super::sockets::plan;
use super::steering::ask;

#[path = "release.rs"]
mod release;

/// What a store is: both of them must do. Redis is this system's own (7.0 in Debian 12), Valkey that of Debian 13 (8.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Redis,
    Valkey,
}

impl Program {
    /// Listens alone, keeps nothing on the disk, and lets itself be disturbed.
    pub fn start(self, more: &[&str]) -> Redis {
        self.start_as(&[&["--save", "", "--enable-debug-command", "yes"], more].concat(), "")
    }

    /// With these arguments alone, and this file of its own.
    pub fn start_as(self, more: &[&str], file: &str) -> Redis {
        let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
        std::fs::write(folder.path().join("own.conf"), file).unwrap();
        let more: Vec<String> = more.iter().map(|word| (*word).to_owned()).collect();
        Redis { process: self.run(port, &more, folder.path()), program: self, port, more, folder }
    }

    fn run(self, port: u16, more: &[String], folder: &Path) -> Child {
        let port_word = port.to_string();
        let files = more.iter().filter(|word| word.ends_with(".conf")).map(String::as_str);
        let own = ["--port", &port_word, "--bind", "127.0.0.1"];
        let rest = more.iter().filter(|word| !word.ends_with(".conf")).map(String::as_str);
        let words: Vec<&str> = files.chain(own).chain(rest).collect();
        // In a mount namespace of its own, every word of the way becomes the next program: the process is the server's.
        let all = match self {
            Self::Redis => {
                [&["redis-server"], words.as_slice()].concat().into_iter().map(str::to_owned).collect()
            }
            Self::Valkey => {
                let inside = release::Release::Trixie.command("valkey-server", &words);
                ["unshare", "--mount"].map(str::to_owned).into_iter().chain(inside).collect::<Vec<_>>()
            }
        };
        let mut process = Command::new(&all[0])
            .args(&all[1..])
            .current_dir(folder)
            // Valkey ends where it does not know the locale, and what is unpacked has that of C alone.
            .env("LC_ALL", "C")
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}; tests/run installs it", all[0]));
        let begun = Instant::now();
        while TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_err() {
            assert!(process.try_wait().unwrap().is_none(), "{self:?} has ended");
            assert!(begun.elapsed() < Duration::from_secs(30), "{self:?} does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        process
    }
}

/// A test with each of them: a function of that name takes the program.
#[macro_export]
macro_rules! with_redis_and_valkey {
    ($($name:ident)*) => {$(
        mod $name {
            #[tokio::test]
            async fn with_redis() {
                super::$name(super::Program::Redis).await;
            }

            #[tokio::test]
            async fn with_valkey() {
                super::$name(super::Program::Valkey).await;
            }
        }
    )*};
}

/// A server of a Debian package, ended by its id.
pub struct Redis {
    pub process: Child,
    pub program: Program,
    pub port: u16,
    pub more: Vec<String>,
    pub folder: tempfile::TempDir,
}

impl Redis {
    /// A Redis.
    pub fn start(more: &[&str]) -> Self {
        Program::Redis.start(more)
    }

    /// What redis-cli hears; Valkey speaks with it, too.
    pub fn say(&self, words: &[&str]) -> String {
        let said =
            Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(words).output().unwrap();
        String::from_utf8_lossy(&said.stdout).into_owned()
    }

    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub fn revive(&mut self) {
        self.process = self.program.run(self.port, &self.more, self.folder.path());
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(id, signal).unwrap();
    }

    pub fn store(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}

pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// The secrets that all nodes share, and perhaps the password of their store.
pub fn secrets(password: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("world", "0123456789abcdef".repeat(4)),
        ("inside", "fedcba9876543210".repeat(4)),
        ("store", password.to_owned()),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

/// A node at this store.
pub async fn node(store: &str, secrets: &Path, more: &str) -> World {
    node_of(plan(), store, secrets, more).await
}

/// The same, by this plan.
pub async fn node_of(plan: Plan, store: &str, secrets: &Path, more: &str) -> World {
    let lines = format!(
        "dialback: {{ secrets: {{ world: \"{0}/world\", inside: \"{0}/inside\" }} }}\n\
         cluster: {{ name: gate, store: \"{store}\", password: \"{0}/store\" }}\n{more}",
        secrets.display()
    );
    let lines = if more.contains("no-password") {
        lines.replace(&format!(", password: \"{}/store\"", secrets.display()), "")
    } else {
        lines
    };
    World::build(&plan.with(&lines)).await.unwrap()
}

/// A store that asks for no password.
pub const OPEN: &str = "# no-password\n";

/// Polls until this is so, or half a minute has gone.
pub async fn soon(what: &str, mut is: impl AsyncFnMut() -> Result<(), String>) {
    let begun = Instant::now();
    loop {
        match is().await {
            Ok(()) => return,
            Err(last) => {
                assert!(begun.elapsed() < Duration::from_secs(30), "waited for {what}; last: {last}")
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub async fn bans(world: &World) -> Vec<String> {
    let answer = ask(&world.socket(), &["bans"]).await;
    answer["bans"].as_array().unwrap().iter().map(|ban| ban["target"].as_str().unwrap().to_owned()).collect()
}

pub async fn are_banned(nodes: &[&World], expected: &[&str]) {
    soon(&format!("{expected:?} to be banned on all nodes"), async || {
        for node in nodes {
            let mut found = bans(node).await;
            found.sort();
            if found != expected {
                return Err(format!("{found:?}"));
            }
        }
        Ok(())
    })
    .await;
}

pub async fn cluster(world: &World) -> Value {
    ask(&world.socket(), &["cluster"]).await["cluster"].clone()
}

/// Waits until the store is in order, or in this trouble, for this node; metric and readiness say so.
pub async fn store_is(world: &World, trouble: Option<&str>) {
    soon(&format!("the store to be {trouble:?}"), async || {
        let told = cluster(world).await;
        let (status, ready) = world.get("/readyz").await.unwrap();
        assert_eq!(status, 200, "traffic goes on: {ready}");
        let up = world.metrics().await.unwrap().sum("cluster_store_up", &[]);
        let as_told = match (trouble, told["trouble"].as_str()) {
            (None, None) => up == 1.0 && !ready.contains("cluster:"),
            (Some(words), Some(why)) => {
                why.contains(words) && ready.contains(&format!("cluster: {why}")) && up == 0.0
            }
            _ => false,
        };
        if as_told { Ok(()) } else { Err(format!("{told} {ready} up {up}")) }
    })
    .await;
}
