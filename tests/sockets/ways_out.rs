//! Ways out: through a SOCKS5 or an HTTP proxy, by domain, wildcard or all, and from an address of a domain's own. The proxies
//! are microsocks and tinyproxy.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use gatehouse::demo::node::Node;
use gatehouse::demo::peer::Peer;
use gatehouse::demo::world::World;
use gatehouse::reason::Reason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::sockets::*;

const USER: &str = "gate";
const PASSWORD: &str = "s3cret.of-proxy";

/// A proxy of the real kind, on a free port, with what it has logged.
struct Proxy {
    process: Child,
    port: u16,
    log: std::path::PathBuf,
}

impl Proxy {
    fn start(world: &World, name: &str, command: impl Fn(u16, &std::path::Path) -> Command) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = world.folder.path().join(format!("{name}-{port}.log"));
        let file = File::create(&log).unwrap();
        let mut command = command(port, world.folder.path());
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let process = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        let proxy = Self { process, port, log };
        for _ in 0..1000 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return proxy;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{name} does not listen");
    }

    fn socks(world: &World, login: bool) -> Self {
        Self::start(world, "microsocks", |port, _| {
            let mut command = Command::new("microsocks");
            command.args(["-i", "127.0.0.1", "-p", &port.to_string()]);
            if login {
                command.args(["-u", USER, "-P", PASSWORD]);
            }
            command
        })
    }

    fn http(world: &World) -> Self {
        Self::start(world, "tinyproxy", |port, folder| {
            let file = folder.join(format!("tinyproxy-{port}.conf"));
            let text = format!(
                "Port {port}\nListen 127.0.0.1\nTimeout 60\nLogLevel Connect\nBasicAuth {USER} {PASSWORD}\n"
            );
            std::fs::write(&file, text).unwrap();
            let mut command = Command::new("tinyproxy");
            command.arg("-d").arg("-c").arg(file);
            command
        })
    }

    /// What it has logged, once that has come.
    async fn says(&self, words: &str) {
        for _ in 0..1000 {
            if std::fs::read_to_string(&self.log).unwrap().contains(words) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{words:?} is not in:\n{}", std::fs::read_to_string(&self.log).unwrap());
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

fn file(world: &World) -> std::path::PathBuf {
    world.folder.path().join("gatehouse.yaml")
}

/// Takes over these routes.
async fn route(world: &World, routes: &[String]) {
    let text = std::fs::read_to_string(file(world)).unwrap();
    let (before, rest) = text.split_once("routes: [").unwrap();
    let (_, after) = rest.split_once("] }\n").unwrap();
    std::fs::write(file(world), format!("{before}routes: [{}] }}\n{after}", routes.join(", "))).unwrap();
    world.gate.reload().await.unwrap();
}

/// Ends what stands, so that the next message takes the way that now holds.
async fn anew(world: &World, domain: &str) {
    let cli = gatehouse(world, &["close", domain]).await;
    assert!(cli.0 == 0 || cli.0 == 1, "{}", cli.1);
}

/// The binary beside this world; its exit code, and all that it said.
async fn gatehouse(world: &World, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatehouse"));
    command.args(arguments).arg("--config").arg(file(world));
    let done = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let said = [done.stdout, done.stderr].concat();
    (done.status.code().unwrap(), String::from_utf8(said).unwrap())
}

async fn goes_out(world: &World, peer: &Peer, to: &str, body: &str) {
    world.legacy.message("j@hall.example", to, body);
    peer.inbox.wait_body(body).await.unwrap();
}

/// The latest of so many stanzas that came back from this address.
async fn bounced(world: &World, from: &str, count: usize) -> Node {
    for _ in 0..1500 {
        let all = world.legacy.bounces.all();
        let mut those = all.into_iter().filter(|n| n.attr("from") == Some(from));
        if let Some(last) = those.nth(count - 1) {
            return last;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{count} stanzas did not come back from {from}");
}

/// A door on loopback to this address: what a name that only a proxy knows leads to. It is the machine that says which address
/// `localhost` has first, and microsocks tries that one alone.
async fn door(to: SocketAddr) -> u16 {
    let (port, doors) = loop {
        let four = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = four.local_addr().unwrap().port();
        match tokio::net::TcpListener::bind(("::1", port)).await {
            Ok(six) => break (port, vec![four, six]),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
            // A machine without IPv6.
            Err(_) => break (port, vec![four]),
        }
    };
    for listener in doors {
        tokio::spawn(async move {
            while let Ok((mut one, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut other = tokio::net::TcpStream::connect(to).await.unwrap();
                    let _ended = tokio::io::copy_bidirectional(&mut one, &mut other).await;
                });
            }
        });
    }
    port
}

// The DNS is asked here and its answer judged here; the proxy is asked for the address. And for the dialback question as well.
#[tokio::test]
async fn what_the_dns_names_is_reached_through_each_proxy() {
    let world = border().await;
    let friend = world.old_peer(10, &[FRIEND]).await.unwrap();
    let (socks, closed, http) =
        (Proxy::socks(&world, false), Proxy::socks(&world, true), Proxy::http(&world));
    let login = format!("{USER}:{PASSWORD}");
    let at = friend.address.to_string();
    let table = [
        (&socks, format!("socks5://127.0.0.1:{}", socks.port), format!("connected to {at}")),
        (&closed, format!("socks5h://{login}@127.0.0.1:{}", closed.port), format!("connected to {at}")),
        (&http, format!("http://{login}@127.0.0.1:{}", http.port), format!("CONNECT {at}")),
    ];
    for (index, (proxy, via, words)) in table.iter().enumerate() {
        anew(&world, FRIEND).await;
        route(&world, &[format!("{{ domain: \"*\", via: \"{via}\" }}")]).await;
        goes_out(&world, &friend, "a@friend.example", &format!("way {index}")).await;
        proxy.says(words).await;
        // An inbound claim leads to a question on the same way.
        let before = proxy.said().matches(words.as_str()).count();
        let _stream = by_dialback(&friend, HALL).await;
        assert!(proxy.said().matches(words.as_str()).count() > before, "{}", proxy.said());
        let (code, told) = gatehouse(&world, &["probe", FRIEND]).await;
        assert!(code == 0 && told.contains("\nvia  ") && !told.contains("s3cret"), "{told}");
    }
}

// A name of a route is looked up by the proxy (socks5h, http), or here (socks5), where the DNS knows none of it.
#[tokio::test]
async fn a_named_target_is_looked_up_by_the_proxy() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let port = door(friend.address).await;
    let (socks, http) = (Proxy::socks(&world, false), Proxy::http(&world));
    let login = format!("{USER}:{PASSWORD}@");
    let table = [
        (&socks, "socks5h", String::new(), "connected to localhost".to_owned()),
        (&http, "http", login, format!("CONNECT localhost:{port}")),
    ];
    for (index, (proxy, scheme, login, words)) in table.iter().enumerate() {
        anew(&world, FRIEND).await;
        let via = format!("{scheme}://{login}127.0.0.1:{}", proxy.port);
        route(&world, &[format!("{{ domain: {FRIEND}, target: \"localhost:{port}\", via: \"{via}\" }}")])
            .await;
        goes_out(&world, &friend, "a@friend.example", &format!("by name {index}")).await;
        proxy.says(words).await;
    }
    anew(&world, FRIEND).await;
    let via = format!("socks5://127.0.0.1:{}", socks.port);
    route(&world, &[format!("{{ domain: {FRIEND}, target: \"localhost:{port}\", via: \"{via}\" }}")]).await;
    world.legacy.message("j@hall.example", "a@friend.example", "looked up here");
    let bounce = bounced(&world, "a@friend.example", 1).await;
    assert_eq!(condition(&bounce), Some("remote-server-not-found"), "{}", bounce.raw);
}

// A rule's own way goes before that of a route: for mail, for questions about keys, in `probe`, `explain` and the plan of a reload.
#[tokio::test]
async fn the_proxy_of_a_rule_goes_before_that_of_a_route() {
    let world = border().await;
    let friend = world.old_peer(10, &[FRIEND]).await.unwrap();
    let cousin = peer(&world, 12, COUSIN).await;
    let (socks, routed, http) =
        (Proxy::socks(&world, false), Proxy::socks(&world, false), Proxy::http(&world));
    let rules = |via: &str| {
        POLICY.replacen("    domains: [friend", &format!("    via: \"{via}\"\n    domains: [friend"), 1)
    };
    let policy = world.folder.path().join("policies/hall.example.yaml");
    let by_socks = rules(&format!("socks5://127.0.0.1:{}", socks.port));
    std::fs::write(&policy, &by_socks).unwrap();
    let all = format!("{{ domain: \"*\", via: \"socks5://127.0.0.1:{}\" }}", routed.port);
    route(&world, &[all]).await;
    goes_out(&world, &friend, "a@friend.example", "by the rule").await;
    let words = format!("connected to {}", friend.address);
    socks.says(&words).await;
    let before = socks.said().matches(words.as_str()).count();
    let _stream = by_dialback(&friend, HALL).await;
    assert!(socks.said().matches(words.as_str()).count() > before, "{}", socks.said());
    assert!(!routed.said().contains(&words), "{}", routed.said());
    // Of two hosted domains each has the way of its own policy.
    world.legacy.message("j@annex.example", "a@cousin.example", "by the route");
    cousin.inbox.wait_body("by the route").await.unwrap();
    routed.says(&format!("connected to {}", cousin.address)).await;
    world.legacy.message("j@hall.example", "a@cousin.example", "by the rule");
    cousin.inbox.wait_body("by the rule").await.unwrap();
    socks.says(&format!("connected to {}", cousin.address)).await;

    let shown = format!("socks5://127.0.0.1:{}, by the rule", socks.port);
    let (code, told) = gatehouse(&world, &["probe", FRIEND]).await;
    assert!(code == 0 && told.contains(&shown), "{told}");
    for direction in [["a@friend.example", "j@hall.example"], ["j@hall.example", "a@friend.example"]] {
        let question = ["policy", "explain", "--from", direction[0], "--to", direction[1]];
        let (code, told) = gatehouse(&world, &question).await;
        assert!(code == 0 && told.contains(&format!("via:        {shown}\n")), "{told}");
        let (_, live) = gatehouse(&world, &[&question[..], &["--live"]].concat()).await;
        assert!(live.contains(&format!("via:        {shown}\n")), "{live}");
    }
    let question = ["policy", "explain", "--from", "j@annex.example", "--to", "a@cousin.example"];
    let (_, told) = gatehouse(&world, &question).await;
    assert!(
        told.contains(&format!("via:        socks5://127.0.0.1:{}, by the route\n", routed.port)),
        "{told}"
    );

    std::fs::write(&policy, rules(&format!("http://{USER}:{PASSWORD}@127.0.0.1:{}", http.port))).unwrap();
    let (code, told) = gatehouse(&world, &["reload", "--plan"]).await;
    let line =
        format!("rule partners, via: socks5://127.0.0.1:{} -> http://127.0.0.1:{}", socks.port, http.port);
    assert!(code == 0 && told.contains(&line) && !told.contains(PASSWORD), "{told}");
    world.gate.reload().await.unwrap();
    anew(&world, FRIEND).await;
    goes_out(&world, &friend, "a@friend.example", "by the other").await;
    http.says(&format!("CONNECT {}", friend.address)).await;
}

// The target of a route holds for the proxy of a rule, too: named by a host, the proxy looks that up.
#[tokio::test]
async fn the_proxy_of_a_rule_goes_where_the_route_leads() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let port = door(friend.address).await;
    let socks = Proxy::socks(&world, false);
    let via = format!("    via: \"socks5h://127.0.0.1:{}\"\n    domains: [friend", socks.port);
    let policy = POLICY.replacen("    domains: [friend", &via, 1);
    std::fs::write(world.folder.path().join("policies/hall.example.yaml"), policy).unwrap();
    route(&world, &[format!("{{ domain: {FRIEND}, target: \"localhost:{port}\" }}")]).await;
    goes_out(&world, &friend, "a@friend.example", "by name").await;
    socks.says("connected to localhost").await;
}

// What a proxy does not do comes back like what a server does not do, and the operator reads which proxy it was, never its login.
#[tokio::test]
async fn a_proxy_that_makes_no_connection_is_named() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let (closed, http) = (Proxy::socks(&world, true), Proxy::http(&world));
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (login, down) = ("proxy-login", "remote-unreachable");
    let table = [
        (format!("socks5://127.0.0.1:{free}"), down),
        (format!("socks5://127.0.0.1:{}", closed.port), login),
        (format!("socks5://{USER}:wr0ng@127.0.0.1:{}", closed.port), login),
        (format!("http://127.0.0.1:{}", http.port), login),
        (format!("http://{USER}:wr0ng@127.0.0.1:{}", http.port), login),
        // A server that is no proxy at all.
        (format!("http://{}", world.at.admin), down),
        (format!("socks5://{}", friend.address), down),
        ("http://no-such-proxy.example:3128".to_owned(), down),
    ];
    for (index, (via, reason)) in table.iter().enumerate() {
        route(&world, &[format!("{{ domain: {FRIEND}, via: \"{via}\" }}")]).await;
        let _cleared = gatehouse(&world, &["circuits", "--clear", FRIEND]).await;
        let body = format!("lost {index}");
        world.legacy.message("j@hall.example", "a@friend.example", &body);
        let bounce = bounced(&world, "a@friend.example", index + 1).await;
        assert_eq!(condition(&bounce), Some("remote-server-timeout"), "{via}: {}", bounce.raw);
        // Those behind read the label and nothing of whose proxy it is.
        let words = bounce.raw.replace(&format!("({reason})"), "");
        assert!(
            words != bounce.raw && !words.contains("proxy") && !words.contains("wr0ng"),
            "{}",
            bounce.raw
        );
        let shown = via.replace(&format!("{USER}:wr0ng@"), "");
        let (_, told) = gatehouse(&world, &["refusals", "--domain", FRIEND, "--last", "1"]).await;
        assert!(told.contains(&shown) && told.contains(reason) && !told.contains("wr0ng"), "{via}: {told}");
        let (_, circuits) = gatehouse(&world, &["circuits"]).await;
        assert!(circuits.contains(reason), "{via}: {circuits}");
        let (code, probed) = gatehouse(&world, &["probe", FRIEND]).await;
        let guess = if *reason == login { Reason::ProxyLogin.remedy() } else { "what it may reach" };
        assert!(code != 0 && probed.contains(guess) && !probed.contains("wr0ng"), "{via}: {probed}");
        let (_, dumped) = gatehouse(&world, &["config", "dump"]).await;
        assert!(dumped.contains(&shown) && !dumped.contains("wr0ng"), "{dumped}");
    }
    assert!(friend.inbox.all().is_empty());
}

// A login that a proxy refuses is shown once, however many servers the domain has: some count how often.
#[tokio::test]
async fn a_login_that_is_refused_is_shown_once() {
    let world = border().await;
    let friend = peer(&world, 10, COUSIN).await;
    for target in 1..=4 {
        let host = format!("t{target}.friend.example");
        world.names.srv("_xmpp-server._tcp.friend.example", target, 0, &host, 5269 + target).unwrap();
        world.names.host(&host, friend.address.ip());
    }
    let asked = Arc::new(AtomicUsize::new(0));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut one, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            let mut request = [0; 1024];
            let _read = one.read(&mut request).await;
            let answer = "HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n";
            let _written = one.write_all(answer.as_bytes()).await;
        }
    });
    route(&world, &[format!("{{ domain: {FRIEND}, via: \"http://{USER}:wr0ng@127.0.0.1:{port}\" }}")]).await;
    world.legacy.message("j@hall.example", "a@friend.example", "lost");
    let bounce = bounced(&world, "a@friend.example", 1).await;
    assert!(bounce.raw.contains("(proxy-login)"), "{}", bounce.raw);
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    // Others count it as what it is.
    world.counted("stanzas_refused_total", &[("reason", "proxy-login")], 1.0).await.unwrap();
}

// One deadline for all that a proxy is asked for: four targets cost what one does.
#[tokio::test]
async fn a_silent_proxy_costs_one_deadline_for_all_targets() {
    let world = World::build(&plan().timeout("connect", "2s").timeout("connect-total", "2s")).await.unwrap();
    let friend = peer(&world, 10, COUSIN).await;
    // It takes connections, and answers none.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    for target in 1..=4 {
        let host = format!("t{target}.friend.example");
        world.names.srv("_xmpp-server._tcp.friend.example", target, 0, &host, 5269 + target).unwrap();
        world.names.host(&host, friend.address.ip());
    }
    for (index, via) in ["socks5", "http"].into_iter().enumerate() {
        route(&world, &[format!("{{ domain: {FRIEND}, via: \"{via}://127.0.0.1:{port}\" }}")]).await;
        let _cleared = gatehouse(&world, &["circuits", "--clear", FRIEND]).await;
        let begun = std::time::Instant::now();
        world.legacy.message("j@hall.example", "a@friend.example", &format!("lost {index}"));
        let bounce = bounced(&world, "a@friend.example", index + 1).await;
        let took = begun.elapsed();
        assert_eq!(condition(&bounce), Some("remote-server-timeout"), "{}", bounce.raw);
        assert!(
            (Duration::from_millis(1900)..Duration::from_millis(3900)).contains(&took),
            "{via}: {took:?}"
        );
        let (_, told) = gatehouse(&world, &["refusals", "--domain", FRIEND, "--last", "1"]).await;
        assert!(
            told.contains("no connection to ")
                && told.contains(" in time")
                && told.contains(&format!("127.0.0.1:{port}")),
            "{told}"
        );
    }
}

// The most specific route holds, and one with a target alone leads straight there.
#[tokio::test]
async fn the_most_specific_route_holds() {
    let world = border().await;
    let friend = peer(&world, 10, FRIEND).await;
    let child = peer(&world, 11, "child.friend.example").await;
    let socks = Proxy::socks(&world, false);
    let nowhere = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    route(
        &world,
        &[
            format!("{{ domain: \"*\", via: \"socks5://127.0.0.1:{nowhere}\" }}"),
            format!("{{ domain: \"*.friend.example\", via: \"socks5://127.0.0.1:{}\" }}", socks.port),
            format!("{{ domain: {FRIEND}, target: \"{}\" }}", friend.address),
        ],
    )
    .await;
    goes_out(&world, &friend, "a@friend.example", "straight").await;
    assert!(!socks.said().contains(&friend.address.to_string()), "{}", socks.said());
    goes_out(&world, &child, "a@child.friend.example", "through").await;
    socks.says(&format!("connected to {}", child.address)).await;
    let _cousin = peer(&world, 12, COUSIN).await;
    world.legacy.message("j@hall.example", "a@cousin.example", "nowhere");
    let bounce = bounced(&world, "a@cousin.example", 1).await;
    assert_eq!(condition(&bounce), Some("remote-server-timeout"), "{}", bounce.raw);
}

// Each hosted domain calls from its own address; another one at the same server from the system's.
#[tokio::test]
async fn a_domain_calls_from_its_own_address() {
    let world = border().await;
    let called = TcpListener::bind("127.0.0.1:0").unwrap();
    called.set_nonblocking(true).unwrap();
    let called = tokio::net::TcpListener::from_std(called).unwrap();
    let text = std::fs::read_to_string(file(&world)).unwrap();
    let (head, annex) = text.split_once(&format!("- name: {ANNEX}")).unwrap();
    let head = head.replace("    federation: listed\n", "    federation: listed\n    source: [127.0.0.77]\n");
    std::fs::write(file(&world), format!("{head}- name: {ANNEX}{annex}")).unwrap();
    let target = called.local_addr().unwrap();
    route(&world, &[format!("{{ domain: {COUSIN}, target: \"{target}\" }}")]).await;
    for (from, source) in [("j@hall.example", "127.0.0.77"), ("j@annex.example", "127.0.0.1")] {
        world.legacy.message(from, "a@cousin.example", "from here");
        let (_stream, address) =
            tokio::time::timeout(Duration::from_secs(30), called.accept()).await.unwrap().unwrap();
        assert_eq!(address.ip().to_string(), source, "{from}");
    }
}

#[test]
fn check_tells_what_is_wrong_with_a_way_out() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let world = runtime.block_on(border());
    let good = std::fs::read_to_string(file(&world)).unwrap();
    let routes = |entry: &str| good.replace("routes: []", &format!("routes: [{entry}]"));
    let source = |list: &str| {
        good.replacen("federation: listed", &format!("federation: listed\n    source: {list}"), 1)
    };
    let table = [
        (routes("{ domain: a.example, via: \"ftp://u:s3cret@10.0.0.9:1\" }"), "the scheme is none of"),
        (routes("{ domain: a.example, via: \"socks5://u:s3cret@10.0.0.9\" }"), "it has no port"),
        (routes("{ domain: a.example, via: \"socks5://s3cret@10.0.0.9:1\" }"), "no user, colon and password"),
        (routes("{ domain: a.example, via: \"http://:1\" }"), "`via` is no proxy"),
        (routes("{ domain: a.example, via: \"10.0.0.9:1080\" }"), "it has no scheme"),
        (routes("{ domain: a.example, via: \"http://10.0.0.9:1\", tls: direct }"), "`tls` without `target`"),
        (routes("{ domain: a.example }"), "target"),
        (routes("{ domain: \"*example\", via: \"http://10.0.0.9:1\" }"), "is no domain"),
        (
            routes(
                "{ domain: \"*\", via: \"http://10.0.0.9:1\" }, { domain: \"*\", via: \"http://10.0.0.8:1\" }",
            ),
            "* has a route already",
        ),
        (routes(&format!("{{ domain: {HALL}, via: \"http://10.0.0.9:1\" }}")), "is served here"),
        (source("[198.51.100.77]"), "cannot call other servers from 198.51.100.77"),
        (source("[127.0.0.1, 127.0.0.2]"), "127.0.0.2 is the second address of its family"),
        (source("[friend]"), "no IP address"),
        (source("[0.0.0.0]"), "nobody calls from 0.0.0.0"),
        (source("[\"::ffff:127.0.0.1\"]"), "nobody calls from ::ffff:127.0.0.1"),
        (source("[224.0.0.1]"), "nobody calls from 224.0.0.1"),
    ];
    for (text, words) in table {
        std::fs::write(file(&world), &text).unwrap();
        let (code, told) = runtime.block_on(gatehouse(&world, &["check"]));
        assert!(code == 78 && told.contains(words) && !told.contains("s3cret"), "{words}: {told}");
    }
    std::fs::write(file(&world), source("[127.0.0.1, \"::1\"]")).unwrap();
    let (code, told) = runtime.block_on(gatehouse(&world, &["check"]));
    assert!(code == 0 || told.contains("::1"), "{told}");

    // What is no mistake by itself, and yet can never hold or changes nothing.
    let both = |entry: &str| {
        routes(entry).replacen("federation: listed", "federation: listed\n    source: [127.0.0.1]", 1)
    };
    let proxy = "via: \"socks5://10.0.0.9:1080\"";
    let table = [
        (
            both("{ domain: a.example, target: \"[2001:db8::1]:5269\" }"),
            "has no IPv6 address to call from, so it never reaches [2001:db8::1]:5269",
        ),
        (
            routes(&format!("{{ domain: \"*\", {proxy} }}, {{ domain: a.example, {proxy} }}")),
            "the route of a.example says what that of * says",
        ),
        (
            routes(&format!(
                "{{ domain: \"*.B.a.example\", {proxy} }}, {{ domain: \"*.a.example\", {proxy} }}"
            )),
            "the route of *.b.a.example says what that of *.a.example says",
        ),
        (
            both(&format!("{{ domain: \"*\", {proxy} }}")),
            "changes nothing: every route leads through a proxy",
        ),
    ];
    for (text, words) in table {
        std::fs::write(file(&world), &text).unwrap();
        let (code, told) = runtime.block_on(gatehouse(&world, &["check"]));
        assert!(code == 0 && told.contains(words), "{words}: {told}");
    }
    // An exact one over a wildcard, and one that leads elsewhere, are as they are meant.
    let meant = [
        format!("{{ domain: \"*\", {proxy} }}, {{ domain: a.example, target: \"127.0.0.2:5269\" }}"),
        format!("{{ domain: a.example, {proxy} }}, {{ domain: \"*.a.example\", {proxy} }}"),
    ];
    for entry in meant {
        std::fs::write(file(&world), both(&entry)).unwrap();
        let (code, told) = runtime.block_on(gatehouse(&world, &["check"]));
        assert!(code == 0 && !told.contains("route of") && !told.contains("changes nothing"), "{told}");
    }
    std::fs::write(file(&world), &good).unwrap();
    let policy = world.folder.path().join("policies/hall.example.yaml");
    let rule = |more: &str| format!("version: v1\nrules:\n  - {{ name: a, domains: [a.example], {more} }}\n");
    for (more, words) in [
        ("via: \"socks5://u:s3cret@10.0.0.9\"", "`via` is no proxy: it has no port"),
        ("via: \"http://10.0.0.9:1\", verdict: deny", "`via` in a rule that denies changes nothing"),
    ] {
        std::fs::write(&policy, rule(more)).unwrap();
        let (code, told) = runtime.block_on(gatehouse(&world, &["check"]));
        assert!(code == 78 && told.contains(words) && !told.contains("s3cret"), "{words}: {told}");
    }
}
