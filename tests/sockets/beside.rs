//! Listeners at addresses of which one takes in the other, on one port: each has who calls it, at a start, over a reload and a
//! restart, and beside sockets that a supervisor has opened.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::steering::{PROGRAM, Running, prepare, run};

/// The listener of the world at all addresses, the one for the servers behind at one of them, and another address that is called.
struct Pair {
    wide: IpAddr,
    narrow: IpAddr,
    other: IpAddr,
}

const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 42, 1));
const TWO: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 42, 2));
const PAIRS: [Pair; 3] = [
    Pair { wide: IpAddr::V4(Ipv4Addr::UNSPECIFIED), narrow: ONE, other: TWO },
    Pair { wide: IpAddr::V6(Ipv6Addr::UNSPECIFIED), narrow: ONE, other: TWO },
    Pair { wide: IpAddr::V6(Ipv6Addr::UNSPECIFIED), narrow: IpAddr::V6(Ipv6Addr::LOCALHOST), other: ONE },
];

/// Not one that the kernel gives away: whoever gets it at another address of this machine stands in the way of all addresses.
fn port(first: u32) -> u16 {
    let mut ports = (0..1_000).map(|n| u16::try_from(first + (std::process::id() + n) % 1_000).unwrap());
    ports.find(|port| TcpListener::bind(("0.0.0.0", *port)).is_ok()).unwrap()
}

impl Pair {
    fn world(&self, port: u16) -> String {
        format!("{{ flow: s2s, address: \"{}\" }}", SocketAddr::new(self.wide, port))
    }

    fn inside(&self, port: u16) -> String {
        let at = SocketAddr::new(self.narrow, port);
        format!("{{ flow: inside, address: \"{at}\", from: [127.0.0.0/8, \"::1/128\"] }}")
    }

    /// That each of the two answers who calls it, several times: the system does not choose anew.
    fn answers(&self, port: u16, when: &str) {
        for _ in 0..3 {
            // The world is told that a.example is not here; the servers behind hear of dialback (DB-08).
            let inside = says(SocketAddr::new(self.narrow, port));
            assert!(
                inside.contains("<stream:stream") && !inside.contains("host-unknown"),
                "{when}: {inside}"
            );
            let world = says(SocketAddr::new(self.other, port));
            assert!(world.contains("host-unknown"), "{when}, {}: {world}", self.wide);
        }
    }
}

fn says(at: SocketAddr) -> String {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let header = "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' \
                  xmlns:db='jabber:server:dialback' from='b.example' to='a.example'>";
    stream.write_all(header.as_bytes()).unwrap();
    let mut heard = [0; 4096];
    let count = stream.read(&mut heard).unwrap_or(0);
    String::from_utf8_lossy(&heard[..count]).into_owned()
}

/// The file with these listeners and no others.
fn listen(folder: &Path, listeners: &[String]) {
    let path = folder.join("gatehouse.yaml");
    let text = fs::read_to_string(&path).unwrap();
    let line = format!("listen: [{}]", listeners.join(", "));
    let lines = text.lines().map(|old| if old.starts_with("listen:") { line.as_str() } else { old });
    fs::write(&path, lines.map(|line| format!("{line}\n")).collect::<String>()).unwrap();
}

fn ordered(running: &Running, command: &str) {
    let said = run(&[command, "--socket", &running.socket().display().to_string()]);
    assert_eq!(said.code, 0, "{said:?}");
}

fn ends_well(mut running: Running) {
    let (code, log) = running.stop();
    assert!(code == 0 && !log.contains("ERROR"), "{log}");
}

// Contract 3: whichever stands first in the file.
#[test]
fn each_of_two_has_its_own_over_a_start_a_reload_and_a_restart() {
    for (at, pair) in PAIRS.iter().enumerate() {
        for wide_first in [true, false] {
            let port = port(20_000 + 1_000 * u32::try_from(at).unwrap());
            let both = |wide_first| match wide_first {
                true => [pair.world(port), pair.inside(port)],
                false => [pair.inside(port), pair.world(port)],
            };
            let (folder, _) = prepare("");
            listen(folder.path(), &both(wide_first));
            let command = Running::command(folder.path());
            let running = Running::of(folder, SocketAddr::new(pair.narrow, port), command);
            pair.answers(port, "at the start");
            ordered(&running, "restart");
            pair.answers(port, "after a restart");
            listen(running.folder.path(), &both(!wide_first));
            ordered(&running, "reload");
            pair.answers(port, "after a reload in the other order");
            ordered(&running, "restart");
            pair.answers(port, "after a restart in the other order");
            // One goes, and comes again.
            for (gone, back) in [("reload", "restart"), ("restart", "reload")] {
                for kept in both(wide_first) {
                    listen(running.folder.path(), &[kept]);
                    ordered(&running, gone);
                    listen(running.folder.path(), &both(wide_first));
                    ordered(&running, back);
                    pair.answers(port, &format!("gone by {gone}, back by {back}"));
                }
            }
            ends_well(running);
        }
    }
}

// What is at all addresses of IPv4 gives way to all of both kinds, and another one stays within it.
#[test]
fn the_wide_one_changes_by_a_restart_while_the_narrow_one_stays() {
    let port = port(23_000);
    let (folder, _) = prepare("");
    listen(folder.path(), &[PAIRS[0].world(port), PAIRS[0].inside(port)]);
    let command = Running::command(folder.path());
    let running = Running::of(folder, SocketAddr::new(ONE, port), command);
    for command in ["restart", "reload"] {
        for pair in [&PAIRS[1], &PAIRS[0]] {
            listen(running.folder.path(), &[pair.world(port), pair.inside(port)]);
            ordered(&running, command);
            pair.answers(port, command);
        }
    }
    ends_well(running);
}

/// As a supervisor opens them, so that more than one may overlap.
fn opened(at: SocketAddr) -> OwnedFd {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, None).unwrap();
    if at.is_ipv6() {
        socket.set_only_v6(!at.ip().is_unspecified()).unwrap();
    }
    socket.set_reuse_address(true).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&at.into()).unwrap();
    socket.listen(64).unwrap();
    socket.into()
}

/// The program with these sockets, as systemd hands them over: from descriptor 3 on, and `LISTEN_PID` the process itself.
fn activated(folder: &Path, sockets: &[OwnedFd]) -> Command {
    let moved = if sockets.len() == 2 { "3<&0 4<&1 0</dev/null 1>/dev/null" } else { "3<&0 0</dev/null" };
    let count = sockets.len();
    let script = format!("export LISTEN_PID=$$ LISTEN_FDS={count}; exec \"$0\" run --config \"$1\" {moved}");
    let mut command = Command::new("sh");
    command.args(["-c", &script, PROGRAM]).arg(folder.join("gatehouse.yaml"));
    let mut all = sockets.iter().map(|socket| Stdio::from(socket.try_clone().unwrap()));
    command.stdin(all.next().unwrap());
    if let Some(second) = all.next() {
        command.stdout(second);
    }
    command
}

#[test]
fn sockets_of_a_supervisor_stand_beside_each_other_and_beside_our_own() {
    for (at, pair) in PAIRS.iter().enumerate() {
        let port = port(26_000 + 1_000 * u32::try_from(at).unwrap());
        let (wide, narrow) = (SocketAddr::new(pair.wide, port), SocketAddr::new(pair.narrow, port));
        for handed in [&[wide][..], &[narrow], &[wide, narrow]] {
            for listeners in [[pair.world(port), pair.inside(port)], [pair.inside(port), pair.world(port)]] {
                let sockets: Vec<OwnedFd> = handed.iter().map(|at| opened(*at)).collect();
                let (folder, _) = prepare("");
                listen(folder.path(), &listeners);
                let command = activated(folder.path(), &sockets);
                let running = Running::of(folder, narrow, command);
                pair.answers(port, "activated");
                ordered(&running, "restart");
                pair.answers(port, "activated, and restarted");
                ends_well(running);
            }
        }
    }
}

// The kernel lets no two users share a port: systemd opens as root what a user of its own then finds in its way.
#[test]
fn a_socket_that_another_user_opened_is_named_as_what_is_in_the_way() {
    let port = port(24_000);
    let pair = &PAIRS[0];
    let nobody = rustix::process::Uid::from_raw(65_534);
    let wide = SocketAddr::new(pair.wide, port);
    // Of this thread alone.
    let made = std::thread::spawn(move || rustix::thread::set_thread_uid(nobody).map(|()| opened(wide)));
    let Ok(socket) = made.join().unwrap() else {
        return println!("only root can be two users: not tried");
    };
    let (folder, _) = prepare("");
    listen(folder.path(), &[pair.inside(port), pair.world(port)]);
    let output = activated(folder.path(), &[socket]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    let words =
        format!("cannot listen on {ONE}:{port} beside {wide}, which the supervisor opened as another user");
    assert!(said.contains(&words) && said.contains("ListenStream="), "{said}");
    assert!(!said.contains("end what holds the address"), "{said}");
}
