//! Network namespaces: each host has its own addresses, standard ports and resolver, and no way out.
//!
//! One namespace holds two bridges, the open network ([`Net::World`]) and the one behind the gateway
//! ([`Net::Inside`]); each host is a namespace with a leg on one or both. Names carry this process's id, so worlds
//! of parallel runs do not meet, and what a killed run left behind is found and removed by the next.

#![allow(clippy::disallowed_methods)]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::release::Release;
use super::{make_dir, wait_for, write};

/// One of the two networks of a world.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Net {
    /// Behind the gateway: 198.51.100.0/24.
    Inside,
    /// The open network: 192.0.2.0/24.
    World,
}

impl Net {
    fn bridge(self) -> &'static str {
        match self {
            Self::Inside => "inside",
            Self::World => "world",
        }
    }

    /// The address with that last number.
    pub fn address(self, last: u8) -> Ipv4Addr {
        match self {
            Self::Inside => Ipv4Addr::new(198, 51, 100, last),
            Self::World => Ipv4Addr::new(192, 0, 2, last),
        }
    }
}

/// Two networks, the hosts on them, and a directory for their files.
pub struct World {
    prefix: String,
    hosts: Vec<Host>,
    directory: tempfile::TempDir,
}

impl World {
    /// Two empty networks.
    pub fn new() -> Self {
        static SWEEP: Once = Once::new();
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        SWEEP.call_once(sweep);
        let prefix = format!("{FAMILY}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let directory = tempfile::Builder::new().prefix("gatehouse-").tempdir().expect("a scratch directory");
        let world = Self { prefix, hosts: Vec::new(), directory };
        let wire = world.wire();
        ip(&["netns", "add", &wire]);
        for net in [Net::World, Net::Inside] {
            // A bridge learns and forwards at once; without spanning tree there is no waiting.
            ip(&["-n", &wire, "link", "add", net.bridge(), "type", "bridge", "forward_delay", "0"]);
            ip(&["-n", &wire, "link", "set", net.bridge(), "up"]);
        }
        world
    }

    /// A host with a leg on each of the networks named, asking the resolver named.
    pub fn host(&mut self, name: &str, legs: &[(Net, u8)], resolver: Ipv4Addr) -> Host {
        let host = Host {
            namespace: format!("{}-{name}", self.prefix),
            directory: make_dir(&self.directory.path().join(name)),
        };
        let etc = make_dir(&Path::new("/etc/netns").join(&host.namespace));
        write(&etc.join("resolv.conf"), &format!("nameserver {resolver}\noptions timeout:1 attempts:2\n"));
        // No name of the real machine's files may answer here.
        write(&etc.join("hosts"), "127.0.0.1 localhost\n");
        write(&etc.join("nsswitch.conf"), NSSWITCH);
        self.hosts.push(host.clone());
        let (wire, space) = (self.wire(), host.namespace.as_str());
        ip(&["netns", "add", space]);
        ip(&["-n", space, "link", "set", "lo", "up"]);
        for (net, last) in legs {
            let (device, peer) = (net.bridge(), format!("{}{last}", net.bridge()));
            let address = format!("{}/24", net.address(*last));
            ip(&["-n", space, "link", "add", device, "type", "veth", "peer", "name", &peer, "netns", &wire]);
            ip(&["-n", space, "address", "add", &address, "dev", device]);
            ip(&["-n", space, "link", "set", device, "up"]);
            ip(&["-n", &wire, "link", "set", &peer, "master", net.bridge(), "up"]);
        }
        host
    }

    fn wire(&self) -> String {
        format!("{}-wire", self.prefix)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for host in &self.hosts {
            remove(&host.namespace);
        }
        remove(&self.wire());
        if thread::panicking() && std::env::var_os("GATEHOUSE_KEEP").is_some() {
            let kept =
                std::mem::replace(&mut self.directory, tempfile::tempdir().expect("a scratch directory"));
            eprintln!("files kept in {}", kept.keep().display());
        }
    }
}

/// A namespace with its directory.
#[derive(Clone)]
pub struct Host {
    namespace: String,
    directory: PathBuf,
}

impl Host {
    /// Where this host's files lie.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// From now on programs that start here find this name at this address, without asking the DNS.
    pub fn knows(&self, name: &str, address: Ipv4Addr) {
        let path = Path::new("/etc/netns").join(&self.namespace).join("hosts");
        let hosts = fs::read_to_string(&path).expect("the hosts of a namespace");
        write(&path, &format!("{hosts}{address} {name}\n"));
    }

    /// Starts a program on this host; its output goes to `LABEL.log` in the host's directory.
    pub fn spawn(
        &self,
        label: &str,
        program: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Process {
        let path = self.directory.join(format!("{label}.log"));
        let log = OpenOptions::new().create(true).append(true).open(&path).expect("a log file");
        let child = Command::new("ip")
            // `ip netns exec` becomes the program, so the child's id is the program's.
            .args(["netns", "exec", &self.namespace, program])
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", &self.directory)
            .envs(environment.iter().copied())
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {program}: {e}"));
        Process { label: label.to_owned(), child, log: path, began: Instant::now() }
    }

    /// The same for a program of that Debian release.
    pub fn spawn_of(
        &self,
        release: Release,
        label: &str,
        program: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Process {
        let words = release.command(program, arguments);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (program, arguments) = words.split_first().expect("a program");
        self.spawn(label, program, arguments, environment)
    }

    /// A TCP connection as this host would make it, usable from anywhere in this process.
    pub fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        self.within(move || TcpStream::connect_timeout(&address, Duration::from_secs(5)))
    }

    /// Runs a piece of work in this host's network, on a thread of its own. Sockets keep the network they were made in.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        let space = File::open(Path::new("/run/netns").join(&self.namespace))?;
        thread::scope(|scope| {
            let done = scope.spawn(move || {
                move_into_link_name_space(
                    std::os::fd::AsFd::as_fd(&space),
                    Some(LinkNameSpaceType::Network),
                )?;
                work()
            });
            done.join().expect("work inside a namespace does not panic")
        })
    }

    /// Pulls this host's plug to the open network: from now on nothing comes and nothing goes, and nobody is told.
    pub fn unplug(&self) {
        ip(&["-n", &self.namespace, "link", "set", Net::World.bridge(), "down"]);
    }

    /// Pulls the plug of one of its networks, or puts it in again.
    pub fn plug(&self, net: Net, up: bool) {
        ip(&["-n", &self.namespace, "link", "set", net.bridge(), if up { "up" } else { "down" }]);
    }

    /// From its next program on it asks these resolvers, in this order.
    pub fn asks(&self, resolvers: &[Ipv4Addr]) {
        let lines: String = resolvers.iter().map(|resolver| format!("nameserver {resolver}\n")).collect();
        let file = Path::new("/etc/netns").join(&self.namespace).join("resolv.conf");
        write(&file, &format!("{lines}options timeout:1 attempts:2\n"));
    }

    /// The body of an HTTP answer with its status.
    pub fn http(&self, address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
        let mut stream = self.connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let answer = io::read_to_string(stream)?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
        let chunked = lines.any(|line| line.to_ascii_lowercase().starts_with("transfer-encoding: chunked"));
        assert!(!chunked, "{path} answers in chunks, which this reader does not read");
        Ok((status.unwrap_or(0), body.to_owned()))
    }
}

/// A program on a host; killed by its id and waited for when dropped.
pub struct Process {
    label: String,
    child: Child,
    log: PathBuf,
    began: Instant,
}

impl Process {
    /// Waits until the program is ready, as `poll` tells; panics at once if it ends before.
    pub fn ready<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut poll: impl FnMut() -> Result<T, String>,
    ) -> T {
        let value = wait_for(what, limit, || {
            if let Some(status) = self.status() {
                panic!("{} ended ({status}) while waiting for {what}; its log:\n{}", self.label, self.tail());
            }
            poll().map_err(|e| format!("{e}; its log:\n{}", self.tail()))
        });
        if std::env::var_os("GATEHOUSE_TIMES").is_some() {
            eprintln!("{} ready after {:?}", self.label, self.began.elapsed());
        }
        value
    }

    /// Waits until the host takes connections at that address.
    pub fn listening(&mut self, host: &Host, address: SocketAddr, limit: Duration) {
        let what = format!("{} to listen at {address}", self.label);
        self.ready(&what, limit, || host.connect(address).map(drop).map_err(|e| e.to_string()));
    }

    /// Waits until whoever takes connections at that address answers the header of a client, in whatever way: a server that is busy
    /// with starting listens long before, and the gateway waits ten seconds for it.
    pub fn answering(&mut self, host: &Host, (domain, address): (&str, SocketAddr), limit: Duration) {
        let what = format!("{} to answer at {address}", self.label);
        let header = format!(
            "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='{domain}' version='1.0'>"
        );
        self.ready(&what, limit, || {
            let mut stream = host.connect(address).map_err(|e| e.to_string())?;
            let asked =
                stream.set_read_timeout(Some(limit)).and_then(|()| stream.write_all(header.as_bytes()));
            asked.map_err(|e| e.to_string())?;
            match stream.read(&mut [0]) {
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    Err(e.to_string())
                }
                // An end is an answer, too: it may want to hear first who calls.
                Ok(_) | Err(_) => Ok(()),
            }
        });
    }

    /// The exit status, if the program has ended.
    pub fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be asked")
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(id, signal).unwrap_or_else(|e| panic!("cannot signal {}: {e}", self.label));
    }

    /// Waits for the program to end by itself.
    pub fn ended(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("{} to end", self.label);
        wait_for(&what, limit, || {
            self.status().ok_or_else(|| format!("still running; its log:\n{}", self.tail()))
        })
    }

    /// All the program has written so far.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|octets| String::from_utf8_lossy(&octets).into_owned()).unwrap_or_default()
    }

    /// The end of what the program has written.
    pub fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines
            .iter()
            .skip(lines.len().saturating_sub(TAIL))
            .map(|line| clip(line))
            .collect::<Vec<_>>()
            .join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let early = self.status();
        if thread::panicking() {
            let end = early.map_or_else(|| "running".to_owned(), |status| format!("ended, {status}"));
            eprintln!("---- {} ({end}), end of its log:\n{}\n", self.label, self.tail());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `ip`, which must succeed.
fn ip(arguments: &[&str]) {
    let done = Command::new("ip")
        .args(arguments)
        .output()
        .unwrap_or_else(|e| panic!("cannot run ip ({e}); tests/run installs what these tests need"));
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(
        done.status.success(),
        "ip {}: {}(these tests make network namespaces, so they need root: see tests/run)",
        arguments.join(" "),
        said
    );
}

/// Ends what still runs in a namespace of ours and removes it.
fn remove(namespace: &str) {
    if let Ok(listed) = Command::new("ip").args(["netns", "pids", namespace]).output() {
        for id in String::from_utf8_lossy(&listed.stdout).lines().filter_map(|line| line.trim().parse().ok())
        {
            if let Some(id) = Pid::from_raw(id) {
                let _ = kill_process(id, Signal::KILL);
            }
        }
    }
    let _ = Command::new("ip").args(["netns", "del", namespace]).output();
    let _ = fs::remove_dir_all(Path::new("/etc/netns").join(namespace));
}

/// Removes the namespaces of runs whose process is gone.
fn sweep() {
    for directory in ["/run/netns", "/etc/netns"] {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let mut words = name.split('-');
            let ours = words.next() == Some(FAMILY);
            let owner = words.next().and_then(|word| word.parse::<u32>().ok());
            if let Some(owner) = owner.filter(|_| ours)
                && !Path::new("/proc").join(owner.to_string()).exists()
            {
                remove(&name);
            }
        }
    }
}

/// Cuts a log line that carries a whole stanza.
fn clip(line: &str) -> &str {
    line.char_indices().nth(400).map_or(line, |(at, _)| line.get(..at).unwrap_or(line))
}

const FAMILY: &str = "gatehouse";
const TAIL: usize = 60;
const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files dns\n";
