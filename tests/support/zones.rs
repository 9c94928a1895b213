//! Zones that ldns signs and unbound serves, with validation or without: for tests of DNSSEC.

// Each test crate uses its own part of it.
#![allow(dead_code)]

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A program that ends with the test, by its id.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a program says that runs in this folder and does what it should.
pub fn tool(folder: &Path, program: &str, arguments: &[&str]) -> String {
    let done = Command::new(program).args(arguments).current_dir(folder).output();
    let done = done.unwrap_or_else(|e| panic!("{program} ({e}); tests/run installs it"));
    assert!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

/// Waits until somebody listens there.
pub fn listens(address: SocketAddr) {
    for _ in 0..1000 {
        if TcpStream::connect(address).is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("nobody listens at {address}");
}

/// A new key for this zone; the name of its files.
pub fn key(folder: &Path, zone: &str) -> String {
    tool(folder, "ldns-keygen", &["-k", "-a", "ECDSAP256SHA256", zone])
}

/// The file of a zone without signatures.
pub fn write(folder: &Path, zone: &str, records: &str) -> PathBuf {
    let text = format!(
        "$ORIGIN {zone}.\n$TTL 60\n@ IN SOA ns.{zone}. root.{zone}. 1 3600 600 86400 60\n@ IN NS ns.{zone}.\nns IN A 127.0.0.1\n{records}"
    );
    let path = folder.join(zone);
    std::fs::write(&path, text).unwrap();
    path
}

/// The file of a zone, signed with this key; `more` are arguments of ldns-signzone.
pub fn sign(folder: &Path, zone: &str, records: &str, key: &str, more: &[&str]) -> PathBuf {
    write(folder, zone, records);
    tool(folder, "ldns-signzone", &[more, &[zone, key]].concat());
    folder.join(format!("{zone}.signed"))
}

/// The file of an unbound in that folder which serves these zones there. Those with the file of a key are validated by it; without any
/// it hands on what it has.
pub fn configuration(
    folder: &Path,
    address: SocketAddr,
    zones: &[(&str, PathBuf, Option<PathBuf>)],
) -> PathBuf {
    let (ip, port) = (address.ip(), address.port());
    let validates = zones.iter().any(|(.., key)| key.is_some());
    let module = if validates { "validator iterator" } else { "iterator" };
    let mut text = format!(
        "server:\n  interface: {ip}@{port}\n  access-control: 127.0.0.0/8 allow\n  use-syslog: no\n  chroot: \"\"\n  username: \"\"\n  \
         pidfile: \"\"\n  directory: \"{}\"\n  do-ip6: no\n  num-threads: 1\n  module-config: \"{module}\"\n  local-zone: \".\" static\n",
        folder.display()
    );
    for (zone, _, key) in zones {
        writeln!(text, "  local-zone: \"{zone}.\" transparent").unwrap();
        if let Some(key) = key {
            writeln!(text, "  trust-anchor-file: \"{}\"", key.display()).unwrap();
        }
    }
    text.push_str("remote-control:\n  control-enable: no\n");
    for (zone, file, _) in zones {
        let file = file.display();
        writeln!(text, "auth-zone:\n  name: \"{zone}\"\n  zonefile: \"{file}\"\n  for-downstream: no\n  for-upstream: yes").unwrap();
    }
    let path = folder.join("unbound.conf");
    std::fs::write(&path, text).unwrap();
    path
}

/// unbound with these zones, at a free port of that address.
pub fn unbound(
    folder: &Path,
    ip: IpAddr,
    zones: &[(&str, PathBuf, Option<PathBuf>)],
) -> (Running, SocketAddr) {
    let port = TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap().port();
    let address = SocketAddr::new(ip, port);
    let path = configuration(folder, address, zones);
    let log = std::fs::File::create(folder.join("unbound.log")).unwrap();
    let child = Command::new("unbound")
        .args(["-d", "-c"])
        .arg(&path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|e| panic!("unbound ({e}); tests/run installs it"));
    let running = Running(child);
    listens(address);
    (running, address)
}
