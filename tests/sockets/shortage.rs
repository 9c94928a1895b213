//! What runs out on the gateway's own machine, and a clock that jumps: descriptors, memory, the disk under the audit file,
//! whoever reads the log. The gateway is a process of its own, and what stands goes on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use gatehouse::demo::dial;
use gatehouse::demo::legacy::Habit;
use gatehouse::demo::session::{Greeting, Login};
use gatehouse::demo::wire::Wire;
use gatehouse::demo::world::{Plan, World};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::apart::*;
use crate::sockets::*;

const PROGRAM: &str = env!("CARGO_BIN_EXE_gatehouse");

/// A program that becomes `gatehouse` in the end.
fn through(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).arg(PROGRAM);
    command
}

async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(Instant::now() < end, "{what} does not come about");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

// ------------------------------------------------------------------------------------------------ descriptors

// "accept errors end no listener, service resumes"; and nobody spins while there are none.
#[tokio::test]
async fn without_descriptors_what_stands_goes_on_and_the_doors_open_again() {
    // The backend has one stream for all its pairs, which stands: it needs no door.
    let plan = plan().habit(Habit::Jabberd2).timeout("first-byte", "1m");
    let plan = plan.timeout("connect", "500ms").timeout("connect-total", "1s");
    let plan = Plan { log: "warn", ..plan };
    let few = through("prlimit", &["--nofile=100:100"]);
    let mut apart = Apart::build_with(&plan, |text, _| text, few).await;
    let mut bystander = Bystander::of(&apart.world, "j@hall.example").await;
    bystander.unharmed(&apart.world).await;
    let world = &apart.world;
    let friend = peer(world, 10, FRIEND).await;
    let standing = apart.open_files();
    // Each door is held open by callers that say nothing, until none is let in any more.
    let mut callers = Vec::new();
    for (n, target) in
        [world.at.public, world.at.direct, world.at.clients].into_iter().cycle().take(150).enumerate()
    {
        let source = Ipv4Addr::new(127, 60, 1, u8::try_from(1 + n % 250).unwrap());
        callers.push(dial(source.into(), target).await.unwrap());
    }
    apart.logged("accepting pauses").await;
    // The last sixteen are kept for what stands.
    assert!((84..95).contains(&apart.open_files()), "{}", apart.open_files());
    bystander.unharmed(world).await;
    // What needs a descriptor that is not there comes back, and is not waited for; unless one has become free just then.
    world.legacy.message("j@hall.example", "a@friend.example", "no way out");
    let back = |n: &gatehouse::demo::node::Node| n.attr("from") == Some("a@friend.example");
    eventually("an account of the stanza", || async {
        let there = friend.inbox.all().iter().any(|n| n.body() == Some("no way out"));
        there || world.legacy.bounces.all().iter().chain(&world.legacy.inbox.all()).any(back)
    })
    .await;
    let (before, begun) = (apart.worked(), Instant::now());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let share = (apart.worked() - before).as_secs_f64() / begun.elapsed().as_secs_f64();
    assert!(share < 0.2, "{share} of a processor is spent on waiting");
    bystander.unharmed(world).await;
    callers.clear();
    // Until it has seen them go, it has no room.
    eventually("the end of all callers", async || apart.open_files() < standing + 16).await;
    // Every door again, the admin's and the operator's too.
    for mut call in [friend.call(HALL).unwrap(), friend.call_bare(HALL).unwrap()] {
        call.source = Ipv4Addr::new(127, 60, 2, 1).into();
        let mut stream = call.open().await.unwrap();
        stream.send("</stream:stream>").await.unwrap();
        assert!(stream.ending().await.unwrap().closed);
    }
    let identity = world.authority.issue(&gatehouse::demo::pki::Leaf::of(&[FRIEND])).unwrap();
    let direct = world.directly(friend.call(HALL).unwrap(), Some(&identity)).unwrap();
    assert_eq!(direct.open().await.unwrap().external(FRIEND).await.unwrap(), Login::Success);
    world.login_from_outside("j", HALL, None).await.unwrap();
    world.legacy.message("j@hall.example", "a@friend.example", "out again");
    eventually("the way out", || async {
        world.legacy.message("j@hall.example", "a@friend.example", "out again");
        friend.inbox.wait_for(Duration::from_secs(1), |n| n.body() == Some("out again")).await.is_ok()
    })
    .await;
    assert_eq!(world.get("/healthz").await.unwrap().0, 200);
    std::os::unix::net::UnixStream::connect(world.socket()).unwrap();
    bystander.unharmed(world).await;
    // Told once by each door, and not with a line for each try.
    for door in ["s2s-starttls", "s2s-direct", "c2s-starttls"] {
        let log = apart.log();
        let lines: Vec<&str> =
            log.lines().filter(|line| line.contains("pauses") && line.contains(door)).collect();
        assert!(lines.len() <= 2, "{lines:#?}");
    }
    assert!(apart.lives());
}

// What is looked up, what is called and who is brought to the server behind: nobody is blamed for what is lacking here.
#[tokio::test]
async fn without_descriptors_for_a_call_nobody_else_is_blamed() {
    // The backend has one stream for all its pairs, which stands: it needs no door.
    let plan = Plan { log: "warn", ..plan().habit(Habit::Jabberd2) };
    let apart = Apart::build(&plan).await;
    let mut bystander = Bystander::of(&apart.world, "j@hall.example").await;
    bystander.unharmed(&apart.world).await;
    let world = &apart.world;
    let friend = peer(world, 10, FRIEND).await;
    let allow = |files: usize| {
        let limit = format!("--nofile={files}:");
        let set =
            Command::new("prlimit").args(["--pid", &apart.id().as_raw_pid().to_string(), &limit]).status();
        assert!(set.unwrap().success());
    };
    // No more than the standard streams: whatever it closes meanwhile makes no room.
    allow(3);
    world.legacy.message("j@hall.example", "a@friend.example", "no way out");
    apart.logged("a connection cannot be opened: this machine has no file descriptor").await;
    bystander.unharmed(world).await;
    // Longer than a backend that refuses is tried again for.
    tokio::time::sleep(Duration::from_secs(6)).await;
    allow(4096);
    // Not even for the error there was one; its sender hears it now.
    let back = |n: &gatehouse::demo::node::Node| n.attr("from") == Some("a@friend.example");
    let bounce = world.legacy.bounces.wait_for(Duration::from_secs(20), back).await.unwrap();
    assert_eq!(condition(&bounce), Some("resource-constraint"), "{bounce:?}");
    // What the DNS is thought to have said is remembered for a second; nothing else is held against the domain.
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.legacy.message("j@hall.example", "a@friend.example", "out");
    friend.inbox.wait_for(Duration::from_secs(5), |n| n.body() == Some("out")).await.unwrap();
}

// Shells and containers begin with 1,024, which is far below `conn-total`.
#[tokio::test]
async fn the_limit_of_open_files_is_raised_as_far_as_allowed_and_told_if_that_is_not_enough() {
    let plan = Plan { log: "warn", ..plan() };
    let mut apart = Apart::build_with(&plan, |text, _| text, through("prlimit", &["--nofile=64:4096"])).await;
    let limits = fs::read_to_string(format!("/proc/{}/limits", apart.id().as_raw_pid())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(files.split_whitespace().nth(3), Some("4096"), "{files}");
    apart.logged("open files may run out").await;
    assert!(apart.stop().success());
}

// ------------------------------------------------------------------------------------------------ ports

/// All connections that this machine has room for to an address. None of them says anything.
async fn all_ports_to(address: SocketAddr) -> Vec<TcpStream> {
    let mut held = Vec::new();
    loop {
        match TcpStream::connect(address).await {
            Ok(stream) => held.push(stream),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::AddrNotAvailable, "{error}");
                return held;
            }
        }
        assert!(held.len() <= PORTS, "more connections than ports");
    }
}

/// Ends them at once: the kernel keeps the ports of those that are closed in good order for a while.
async fn free(held: Vec<TcpStream>) {
    for stream in held {
        stream.set_zero_linger().unwrap();
    }
    // So long the gateway takes the kernel's word for it that there is none.
    tokio::time::sleep(Duration::from_millis(300)).await;
}

/// How many ports the test leaves the machine.
const PORTS: usize = 16;

/// Where the kernel keeps which they are, for each network namespace.
const RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// Runs this test alone in a network of its own, as the range of ports is that of all who live there.
#[allow(clippy::disallowed_methods)] // tests ask the environment
fn in_a_network_of_its_own<F: Future<Output = ()>>(test: &str, inside: F) {
    if std::env::var_os(INSIDE).is_some_and(|name| name == *test) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        return runtime.unwrap().block_on(inside);
    }
    let done = Command::new("unshare")
        .args(["--net", "sh", "-ec", "ip link set lo up; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, test)
        .output()
        .unwrap();
    let told = [done.stdout, done.stderr].concat();
    let told = String::from_utf8_lossy(&told);
    assert!(done.status.success() && told.contains("1 passed"), "in a network of its own:\n{told}");
}

/// Tells a test that it is there.
const INSIDE: &str = "GATEHOUSE_TEST_INSIDE";

// Where no port is left towards an address, its server was not asked and is not down: who comes hears that there is no room here, the
// operator hears what to widen, once, and what stands goes on. The server behind for clients, the one for servers, a remote
// server.
#[test]
fn without_ports_nobody_else_is_blamed_and_what_stands_goes_on() {
    let test = "shortage::without_ports_nobody_else_is_blamed_and_what_stands_goes_on";
    in_a_network_of_its_own(test, async {
        let plan = Plan { log: "warn", check: "1s", ..plan() };
        let mut apart = Apart::build(&plan).await;
        let mut bystander = Bystander::of(&apart.world, "j@hall.example").await;
        bystander.unharmed(&apart.world).await;
        let world = &apart.world;
        let friend = peer(world, 10, FRIEND).await;
        fs::write(RANGE, format!("61000 {}", 61000 + PORTS - 1)).unwrap();

        let to_clients = all_ports_to(world.legacy.c2s).await;
        let refused = world.login_from_outside("k", HALL, None).await.err().expect("there is no port for it");
        assert!(refused.0.contains("resource-constraint"), "{refused}");
        apart.logged("a connection cannot be opened: this machine has no port left").await;
        let _again = world.login_from_outside("k", HALL, None).await.err().expect("there is no port for it");
        free(to_clients).await;
        world.login_from_outside("k", HALL, None).await.unwrap();

        let to_servers = all_ports_to(world.legacy.s2s).await;
        let mut stream = friend.call(HALL).unwrap().open().await.unwrap();
        let login = stream.external(FRIEND).await.unwrap();
        assert_eq!(login, Login::Failure("temporary-auth-failure".to_owned()));
        let mut stream = friend.call_bare(HALL).unwrap().open().await.unwrap();
        assert_eq!(stream.dialback(FRIEND, HALL).await.unwrap(), error("resource-constraint"));
        // It is looked at once a second.
        tokio::time::sleep(Duration::from_secs(4)).await;
        let up = world.metrics().await.unwrap().sum("backend_up", &[("domain", HALL)]);
        assert_eq!(up, 2.0, "for clients and for servers");
        free(to_servers).await;
        let mut stream = by_certificate(&friend, HALL).await;
        stream.message("a@friend.example", "j@hall.example", "in").await.unwrap();
        world.legacy.inbox.wait_for(Duration::from_secs(5), |n| n.body() == Some("in")).await.unwrap();

        let to_friend = all_ports_to(friend.address).await;
        world.legacy.message("j@hall.example", "a@friend.example", "no way out");
        let back = |n: &gatehouse::demo::node::Node| n.attr("from") == Some("a@friend.example");
        let bounce = world.legacy.bounces.wait_for(Duration::from_secs(20), back).await.unwrap();
        assert_eq!(condition(&bounce), Some("resource-constraint"), "{bounce:?}");
        free(to_friend).await;
        // Nothing is held against the other server: it is called at once.
        world.legacy.message("j@hall.example", "a@friend.example", "out");
        friend.inbox.wait_for(Duration::from_secs(5), |n| n.body() == Some("out")).await.unwrap();

        bystander.unharmed(world).await;
        let log = apart.log();
        assert_eq!(log.matches("a connection cannot be opened").count(), 1, "{log}");
        assert!(log.contains("ip_local_port_range"), "{log}");
        for untrue in ["backend is down", "backend not reached"] {
            assert!(!log.contains(untrue), "{log}");
        }
        assert!(apart.stop().success());
    });
}

// "tried in order": that is how more clients are served than one address has ports for.
#[test]
fn where_an_address_has_no_ports_left_the_next_is_called_and_nobody_is_told() {
    let test = "shortage::where_an_address_has_no_ports_left_the_next_is_called_and_nobody_is_told";
    in_a_network_of_its_own(test, async {
        let plan = Plan { log: "warn", ..plan() };
        let first = std::net::TcpListener::bind("127.0.0.9:0").unwrap();
        let at = first.local_addr().unwrap();
        let both = |text: String, world: &World| {
            let second = format!("[\"{}\"]", world.legacy.c2s);
            assert!(text.contains(&second), "{text}");
            text.replace(&second, &format!("[\"{at}\", \"{}\"]", world.legacy.c2s))
        };
        let mut apart = Apart::build_with(&plan, both, Command::new(PROGRAM)).await;
        fs::write(RANGE, format!("61000 {}", 61000 + PORTS - 1)).unwrap();
        let _all = all_ports_to(at).await;
        for user in ["j", "k"] {
            apart.world.login_from_outside(user, HALL, None).await.unwrap();
        }
        assert!(!apart.log().contains("cannot be opened"), "{}", apart.log());
        assert!(apart.stop().success());
    });
}

// ------------------------------------------------------------------------------------------------ memory

// LIM-02: unproven peers cost little, whatever they send; under a limit of memory that leaves room for that little, the process
// lives and the streams that stand do not notice.
#[tokio::test]
async fn unproven_peers_who_send_all_they_may_do_not_use_up_the_memory() {
    const UNPROVEN: usize = 400;
    let plan = plan().timeout("first-byte", "1m").timeout("header", "2m").timeout("unauth", "10m");
    let mut apart = Apart::build(&plan).await;
    let mut bystander = Bystander::of(&apart.world, "j@hall.example").await;
    bystander.unharmed(&apart.world).await;
    let world = &apart.world;
    // What it has, and so much more for each of them: L-preauth-element and its own upkeep.
    let (before, each) = (apart.memory("VmData"), 64 << 10);
    let allowed = before + each * UNPROVEN as u64;
    let limit = format!("--data={allowed}:{allowed}");
    let set = Command::new("prlimit").args(["--pid", &apart.id().as_raw_pid().to_string(), &limit]).status();
    assert!(set.unwrap().success());
    let mut callers = Vec::new();
    for n in 0..UNPROVEN {
        let source = Ipv4Addr::new(127, 60, 3, u8::try_from(1 + n % 250).unwrap());
        let mut stream = dial(source.into(), world.at.public).await.unwrap();
        let header = Greeting::of("stranger.example", HALL).octets();
        // A header, and an element that never ends.
        let element = format!("{header}<x xmlns='urn:x'>{}", "y".repeat(15_000));
        stream.write_all(element.as_bytes()).await.unwrap();
        callers.push(stream);
    }
    // All of it has been read, and answered by a header and features.
    for stream in &mut callers {
        let mut heard = Vec::new();
        while !String::from_utf8_lossy(&heard).contains("features>") {
            let got = tokio::time::timeout(Duration::from_secs(20), stream.read_buf(&mut heard)).await;
            assert!(got.unwrap().unwrap() > 0, "{}", String::from_utf8_lossy(&heard));
        }
    }
    bystander.unharmed(world).await;
    let grown = apart.memory("VmData").saturating_sub(before);
    assert!(apart.lives(), "it ended under the flood");
    assert!(grown <= each * UNPROVEN as u64, "{grown}");
}

// ------------------------------------------------------------------------------------------------ the disk

/// A gateway that sees a small disk of its own at this folder. What is on it is seen at the path that comes back.
async fn with_small_disk(plan: &Plan, disk: &Path) -> (Apart, PathBuf) {
    let script = "mount -t tmpfs -o size=16k,mode=700 small \"$0\" && exec \"$@\"";
    let command = through("unshare", &["--mount", "sh", "-c", script, disk.to_str().unwrap()]);
    let line = format!("audit: {{ file: \"{}\" }}\n", disk.join("audit.jsonl").display());
    let edit = |text: String, _: &World| text.replace("audit: { file: audit.jsonl }\n", &line);
    let apart = Apart::build_with(plan, edit, command).await;
    let seen = PathBuf::from(format!("/proc/{}/root{}", apart.id().as_raw_pid(), disk.display()));
    (apart, seen)
}

/// An unproven peer that is turned away after a word, which is a record.
async fn visit(world: &World, n: u8) {
    let mut wire = Wire::new(dial(Ipv4Addr::new(127, 60, 4, n).into(), world.at.public).await.unwrap());
    wire.send("<nonsense/>").await.unwrap();
    wire.ending().await.unwrap();
}

// A disk that fills up in the middle of a record: nothing is half written, traffic goes on, and when there is room again
// the chain goes on too and tells of what it lost, if it lost anything.
#[tokio::test]
async fn a_disk_that_fills_up_costs_no_traffic_and_breaks_no_chain() {
    let plan = Plan { log: "warn", ..plan().timeout("close", "100ms") };
    let folder = tempfile::tempdir().unwrap();
    let (mut apart, disk) = with_small_disk(&plan, folder.path()).await;
    let mut bystander = Bystander::of(&apart.world, "j@hall.example").await;
    bystander.unharmed(&apart.world).await;
    let mut visits = 0;
    while !apart.log().contains("audit records cannot be written") {
        visits += 1;
        assert!(visits < 250, "16 KiB hold more than they can");
        visit(&apart.world, visits).await;
    }
    bystander.unharmed(&apart.world).await;
    let file = disk.join("audit.jsonl");
    let whole = fs::read(&file).unwrap();
    assert!(whole.ends_with(b"\n"), "half a record");
    apart.world.counted("audit_failing", &[], 1.0).await.unwrap();
    visit(&apart.world, 251).await;
    let id = apart.id().as_raw_pid().to_string();
    let folder = folder.path().to_str().unwrap();
    let grow = ["--target", &id, "--mount", "mount", "-o", "remount,size=4m", folder];
    assert!(Command::new("nsenter").args(grow).status().unwrap().success());
    apart.logged("audit records are written again").await;
    bystander.unharmed(&apart.world).await;
    // Everybody who came is in it: what did not fit has waited.
    let seen = || fs::read_to_string(&file).unwrap().matches("\"event\":\"closed\"").count();
    let all = usize::from(visits) + 1;
    eventually("every visit on record", || async { seen() >= all }).await;
    let said = Command::new(PROGRAM).args(["audit", "verify"]).arg(&file).output().unwrap();
    assert!(said.status.success(), "{said:?}");
    assert!(apart.stop().success());
}

// ------------------------------------------------------------------------------------------------ the log

// A log that cannot be written costs lines and nothing else.
#[tokio::test]
async fn a_log_on_a_full_disk_costs_lines_and_nothing_else() {
    let plan = Plan { log: "debug", ..plan().timeout("close", "100ms") };
    let mut apart = Apart::build(&plan).await;
    let full = File::options().write(true).open("/dev/full").unwrap();
    apart.replace(Command::new(PROGRAM), Stdio::from(full)).await;
    let mut bystander = Bystander::of(&apart.world, "j@hall.example").await;
    bystander.unharmed(&apart.world).await;
    for n in 1..20 {
        visit(&apart.world, n).await;
        bystander.unharmed(&apart.world).await;
    }
    assert!(apart.stop().success());
}

// Whoever reads our log may be stopped as any other process: nobody waits for it, and it hears later what it missed.
#[tokio::test]
async fn a_log_that_nobody_reads_holds_up_nobody_and_tells_what_was_lost() {
    let plan = Plan { log: "debug", ..plan().timeout("close", "100ms") };
    let mut apart = Apart::build(&plan).await;
    let (mut reader, writer) = std::io::pipe().unwrap();
    apart.replace(Command::new(PROGRAM), Stdio::from(writer)).await;
    let mut bystander = Bystander::of(&apart.world, "j@hall.example").await;
    bystander.unharmed(&apart.world).await;
    // A pipe holds 64 KiB, and the queue 4,096 lines.
    let mut flood = Vec::new();
    for n in 0..6000_u32 {
        let [_, _, c, d] = n.to_be_bytes();
        let source = Ipv4Addr::new(127, 70, c, d.max(1));
        // Turned away at the inside door, which takes the backend alone: a line each.
        flood.push(dial(source.into(), apart.world.at.inside).await.unwrap());
        if flood.len() == 100 {
            flood.clear();
            bystander.unharmed(&apart.world).await;
        }
    }
    let reading = std::thread::spawn(move || {
        let mut text = Vec::new();
        reader.read_to_end(&mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    });
    bystander.unharmed(&apart.world).await;
    // One more line, so that there is one to be told behind.
    visit(&apart.world, 1).await;
    assert!(apart.stop().success());
    let log = reading.join().unwrap();
    assert!(log.contains("log lines were lost"), "{}", log.len());
    assert!(log.contains("stopped"), "the end is told too");
}

// ------------------------------------------------------------------------------------------------ the clock

/// libfaketime, from the Debian package of that name.
fn faketime() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").unwrap().flatten().map(|entry| entry.path());
    let places = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    places.into_iter().find(|place| place.exists()).expect("libfaketime: tests/run installs it")
}

/// Moves the wall clock of the gateway so far from the true time; its other clocks go on.
fn jump(hands: &Path, by: &str) {
    // Replaced whole: it is read at any moment.
    let next = hands.with_extension("next");
    File::create(&next).unwrap().write_all(by.as_bytes()).unwrap();
    fs::rename(next, hands).unwrap();
}

// Deadlines, rates and bans go by the monotonic clock; certificates and time stamps by the wall clock, as it is now.
#[tokio::test]
async fn a_clock_that_jumps_moves_no_deadline_and_judges_certificates_by_the_new_time() {
    let plan = plan().timeout("first-byte", "2s").timeout("close", "500ms");
    let hands = tempfile::tempdir().unwrap();
    let hands = hands.path().join("hands");
    jump(&hands, "+0d");
    let mut command = Command::new(PROGRAM);
    command
        .env("LD_PRELOAD", faketime())
        .env("FAKETIME_TIMESTAMP_FILE", &hands)
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let mut apart = Apart::build_with(&plan, |text, _| text, command).await;
    let mut bystander = Bystander::of(&apart.world, "j@hall.example").await;
    bystander.unharmed(&apart.world).await;
    let world = &apart.world;
    let friend = peer(world, 10, FRIEND).await;
    let silence = async || -> Duration {
        let mut stream = dial(friend.address.ip(), world.at.public).await.unwrap();
        let begun = Instant::now();
        let mut space = [0; 16];
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut space)).await;
        assert!(matches!(read, Ok(Ok(0) | Err(_))), "{read:?}");
        begun.elapsed()
    };
    let mut proven = by_certificate(&friend, HALL).await;
    for by in ["+30000d", "-20000d", "+0d"] {
        jump(&hands, by);
        bystander.unharmed(world).await;
        let took = silence().await;
        assert!(took > Duration::from_millis(1900), "{by}: shown out after {took:?}");
        // In eighty years no certificate of this world holds, and fifty years ago none did yet.
        let mut stream = friend.call(HALL).unwrap().open().await.unwrap();
        let login = stream.external(FRIEND).await.unwrap();
        assert_eq!(login == Login::Success, by == "+0d", "{by}: {login:?}");
        still_passes(world, &mut proven, "a@friend.example", "j@hall.example", by).await;
    }
    let audit = fs::read_to_string(world.folder.path().join("audit.jsonl")).unwrap();
    for year in ["\"time\":\"19", "\"time\":\"20", "\"time\":\"21"] {
        assert!(audit.contains(year), "{audit}");
    }
    let file = world.folder.path().join("audit.jsonl");
    assert!(apart.stop().success());
    let said = Command::new(PROGRAM).args(["audit", "verify"]).arg(file).output().unwrap();
    assert!(said.status.success(), "the chain goes by numbers, not by times: {said:?}");
}
