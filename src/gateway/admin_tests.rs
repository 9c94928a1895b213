use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Instant;

use super::*;

struct World {
    admin: Admin,
    registry: Arc<Registry>,
}

fn world() -> World {
    let registry = Registry::new(crate::run::tests::policy(), Duration::ZERO, 1);
    let metrics = Arc::new(crate::metrics::Metrics::new([]).unwrap());
    let observe = Arc::new(Observe::new(metrics, None, crate::run::now()));
    let admin = Admin::start("127.0.0.1:0".parse().unwrap(), observe, Arc::clone(&registry)).unwrap();
    World { admin, registry }
}

impl World {
    fn ask(&self, line: &str) -> String {
        let mut stream = TcpStream::connect(self.admin.address()).unwrap();
        write!(stream, "{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
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
fn nothing_but_get_is_answered() {
    let world = world();
    for method in ["POST", "PUT", "DELETE", "HEAD", "OPTIONS"] {
        assert!(world.ask(&format!("{method} /metrics")).starts_with("HTTP/1.1 405"), "{method}");
    }
    assert!(world.ask("GET /").starts_with("HTTP/1.1 404"));
}
