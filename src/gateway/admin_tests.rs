use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Instant;

use super::*;

struct World {
    admin: Admin,
    registry: Arc<Registry>,
}

fn world() -> World {
    world_at(Socket::Tcp(TcpListener::bind("127.0.0.1:0").unwrap()))
}

fn world_at(socket: Socket) -> World {
    let registry = Registry::new(crate::run::tests::policy(), Duration::ZERO, 1);
    let metrics = Arc::new(crate::metrics::Metrics::new([]).unwrap());
    let observe = Arc::new(Observe::new(metrics, None, crate::run::now()));
    let hosts = vec!["gate-1.example.com".to_owned()];
    let view = View { hosts, observe, registry: Arc::clone(&registry), status: None };
    let admin = Admin::start(socket, view).unwrap();
    World { admin, registry }
}

impl World {
    fn ask(&self, line: &str) -> String {
        self.ask_as(line, "Host: localhost\r\n")
    }

    fn ask_as(&self, line: &str, headers: &str) -> String {
        let mut stream = TcpStream::connect(self.admin.address().unwrap()).unwrap();
        write!(stream, "{line} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

#[test]
fn metrics_are_in_the_text_format() {
    let answer = world().ask("GET /metrics");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
    assert!(answer.contains("gatehouse_build_info{version="), "{answer}");
}

// Contract 4: /readyz is 200 when listening and not draining, else 503 with the reason.
#[test]
fn readiness_follows_the_phase_and_health_does_not() {
    let world = world();
    for (phase, status, word) in [
        (Phase::Starting, "503", "starting"),
        (Phase::Running, "200", "ready"),
        (Phase::Draining(Instant::now()), "503", "draining"),
        (Phase::Stopped, "503", "stopped"),
    ] {
        world.registry.enter_phase(phase);
        let answer = world.ask("GET /readyz");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(word), "{answer}");
        assert!(world.ask("GET /healthz").starts_with("HTTP/1.1 200"));
    }
}

#[test]
fn the_policy_is_shown_as_digest_and_rule_names() {
    let world = world();
    let answer = world.ask("GET /policy");
    let body = answer.split("\r\n\r\n").nth(1).unwrap();
    let json: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(json["digest"], world.registry.policy().digest());
    assert!(json["rules"].is_array());
}

// Watching and acting are two doors: this one changes nothing.
#[test]
fn nothing_but_get_and_head_is_answered() {
    let world = world();
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        assert!(world.ask(&format!("{method} /metrics")).starts_with("HTTP/1.1 405"), "{method}");
    }
    assert!(world.ask("GET /").starts_with("HTTP/1.1 404"));
}

// RFC 9110 9.3.2: watchers that ask with HEAD hear what GET says, less the body.
#[test]
fn head_is_answered_as_get_without_a_body() {
    let world = world();
    for path in ["/metrics", "/healthz", "/readyz", "/policy", "/"] {
        let head = |answer: String| {
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            let kept = head
                .lines()
                .filter(|line| !line.starts_with("date:") && !line.starts_with("content-length:"));
            (kept.map(str::to_owned).collect::<Vec<_>>(), body.to_owned())
        };
        let (got, text) = head(world.ask(&format!("GET {path}")));
        let (asked, nothing) = head(world.ask(&format!("HEAD {path}")));
        assert_eq!((got, nothing.as_str()), (asked, ""), "{path}");
        assert!(!text.is_empty(), "{path}");
    }
}

// A page in a browser that has its own name lead here (DNS rebinding) would read what only this machine may.
#[test]
fn a_name_that_nobody_listed_is_not_answered() {
    let world = world();
    for host in [
        "localhost",
        "LOCALHOST:9469",
        "127.0.0.1",
        "127.0.0.1:9469",
        "10.1.2.3:1",
        "[::1]",
        "[::1]:9469",
        "gate-1.example.com",
        "Gate-1.Example.com:9469",
    ] {
        let answer = world.ask_as("GET /healthz", &format!("Host: {host}\r\n"));
        assert!(answer.starts_with("HTTP/1.1 200"), "{host}: {answer}");
    }
    for host in [
        "evil.example",
        "evil.example:9469",
        "localhost.evil.example",
        "gate-1",
        "",
        "127.0.0.1.evil.example",
    ] {
        let answer = world.ask_as("GET /metrics", &format!("Host: {host}\r\n"));
        assert!(
            answer.starts_with("HTTP/1.1 421") && !answer.contains("gatehouse_build"),
            "{host}: {answer}"
        );
    }
    let answer = world.ask_as("GET http://evil.example/metrics", "Host: localhost\r\n");
    assert!(answer.starts_with("HTTP/1.1 421"), "{answer}");
}

// RFC 9112 3.2: "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1 request message that lacks a Host
// header field and to any request message that contains more than one".
#[test]
fn a_request_names_one_host() {
    let world = world();
    for headers in [
        "",
        "Host: localhost\r\nHost: localhost\r\n",
        "Host: localhost\r\nHost: evil.example\r\n",
        "Host: evil.example\r\nhost: localhost\r\n",
    ] {
        for line in ["GET /metrics", "GET http://localhost/metrics", "POST /metrics"] {
            let answer = world.ask_as(line, headers);
            assert!(answer.starts_with("HTTP/1.1 400"), "{line} {headers}: {answer}");
        }
    }
}

// "on a Unix socket": nobody but our user and group gets in, what a process that was killed has left is no hindrance, what lives
// or is something else is, and it goes with us. `Host` is held to the same rule.
#[test]
fn a_unix_socket_serves_the_same_to_our_own() {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::{UnixListener, UnixStream};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("status.sock");
    let take = || SocketFile::take(&path, 0o660);
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "as one leaves it that is killed");
    let first = world_at(Socket::Unix(take().unwrap()));
    let ask = |headers: &str| {
        let mut stream = UnixStream::connect(&path).unwrap();
        write!(stream, "GET /healthz HTTP/1.1\r\n{headers}Connection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    for (headers, status) in [
        ("Host: localhost\r\n", "200"),
        ("Host: localhost:8080\r\n", "200"),
        ("Host: gate-1.example.com\r\n", "200"),
        ("Host: evil.example\r\n", "421"),
        ("", "400"),
    ] {
        assert!(ask(headers).starts_with(&format!("HTTP/1.1 {status}")), "{headers}: {}", ask(headers));
    }
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    assert_eq!(take().unwrap_err().kind(), io::ErrorKind::AddrInUse);
    assert!(ask("Host: localhost\r\n").starts_with("HTTP/1.1 200"), "the first one goes on");
    drop(first);
    assert!(!path.exists());
    std::fs::write(&path, "somebody's file").unwrap();
    assert_eq!(take().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "somebody's file");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left behind");
}

// "Each door has places kept for callers that speak, and deadlines of 2 s for silence."
#[test]
fn many_who_say_nothing_keep_nobody_away() {
    let world = world();
    let connect = || TcpStream::connect(world.admin.address().unwrap()).unwrap();
    let mut silent: Vec<_> = (0..40).map(|_| connect()).collect();
    let mut stuck: Vec<_> = (0..40).map(|_| connect()).collect();
    for stream in &mut stuck {
        write!(stream, "GET /healthz HTTP/1.1\r\nHost: loc").unwrap();
    }
    let began = Instant::now();
    assert!(world.ask("GET /healthz").starts_with("HTTP/1.1 200"));
    assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
    // And the door waits for none of them longer than it says.
    for stream in silent.iter_mut().chain(&mut stuck) {
        stream.set_read_timeout(Some(PATIENCE * 5)).unwrap();
        let mut rest = Vec::new();
        // The end, or a reset where what they sent was never read.
        let gone = stream.read_to_end(&mut rest);
        assert!(gone.is_ok() || gone.is_err_and(|e| e.kind() == io::ErrorKind::ConnectionReset));
    }
}

// A scraper that keeps its connection is not the one to go while others say nothing.
#[test]
fn a_kept_connection_that_speaks_stays_longer_than_those_that_do_not() {
    let world = world();
    let mut kept = TcpStream::connect(world.admin.address().unwrap()).unwrap();
    kept.set_read_timeout(Some(PATIENCE)).unwrap();
    for _ in 0..3 {
        write!(kept, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut answer = [0; 512];
        let n = kept.read(&mut answer).unwrap();
        assert!(answer[..n].starts_with(b"HTTP/1.1 200"));
        let silent: Vec<_> =
            (1..CONNECTIONS).map(|_| TcpStream::connect(world.admin.address().unwrap()).unwrap()).collect();
        assert!(world.ask("GET /healthz").starts_with("HTTP/1.1 200"));
        drop(silent);
    }
}
