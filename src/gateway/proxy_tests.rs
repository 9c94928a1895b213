//! Listeners behind a proxy, and those that are not.

use super::*;

/// A gateway whose one listener wants a PROXY header from 127.0.0.1, and lets in two connections of each source.
async fn behind_proxy() -> (TempDir, Gateway) {
    let (dir, settings) =
        world("  - { flow: s2s, address: \"127.0.0.1:1111\", proxy-protocol: [127.0.0.1/32] }\n");
    let mut settings = settings.unwrap_or_else(|findings| panic!("{findings:?}"));
    settings.limits.conn_s2s = 2;
    settings.timeouts.header = Duration::from_secs(1);
    let gateway = Gateway::start(settings).await.unwrap_or_else(|fault| panic!("{fault}"));
    (dir, gateway)
}

/// Whether a connection that says this is greeted; else not one octet came.
async fn greeted(gateway: &Gateway, source: &str, before: &[u8]) -> Option<TcpStream> {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(source.parse().unwrap()).unwrap();
    let mut stream = socket.connect(gateway.listening()[0].1).await.unwrap();
    // Refused connections may be gone before all is said.
    let _said = stream.write_all(&[before, HEADER].concat()).await;
    let mut octets = [0; 4096];
    match tokio::time::timeout(Duration::from_secs(10), stream.read(&mut octets)).await.unwrap() {
        Ok(0) | Err(_) => None,
        Ok(n) => {
            assert!(octets[..n].starts_with(b"<?xml"), "{:?}", String::from_utf8_lossy(&octets[..n]));
            Some(stream)
        }
    }
}

// ACC-03, ACC-04, ACC-09: "requires the sender to be in the trusted-proxy list", "it never guesses"; `RST`. The source that
// is counted is the one that the proxy tells.
#[tokio::test]
async fn a_listener_behind_a_proxy_takes_no_other_word() {
    let (_dir, gateway) = behind_proxy().await;
    let header = |source: &str| format!("PROXY TCP4 {source} 203.0.113.1 4000 5269\r\n").into_bytes();
    let mut open = Vec::new();
    for source in ["192.0.2.1", "192.0.2.1", "192.0.2.2"] {
        open.push(greeted(&gateway, "127.0.0.1:0", &header(source)).await.expect(source));
    }
    assert!(
        greeted(&gateway, "127.0.0.1:0", &header("192.0.2.1")).await.is_none(),
        "the third of one source"
    );
    assert!(greeted(&gateway, "127.0.0.1:0", b"").await.is_none(), "no header");
    assert!(
        greeted(&gateway, "127.0.0.1:0", b"PROXY TCP4 192.0.2.3 203.0.113.1 04000 5269\r\n").await.is_none()
    );
    assert!(greeted(&gateway, "127.0.0.2:0", &header("192.0.2.4")).await.is_none(), "not a trusted proxy");
    let text = metrics(&gateway);
    assert!(text.contains("gatehouse_limited_total{limit=\"connections\"} 1"), "{text}");
    assert!(text.contains("gatehouse_connections{listener=\"s2s-starttls\"} 3"), "{text}");
    // LOG-05's kind: what was wrong with each is counted.
    for (reason, count) in [("bad-proxy-header", 2), ("not-from-here", 1), ("too-many-connections", 1)] {
        let counted = format!(
            "gatehouse_connections_refused_total{{listener=\"s2s-starttls\",reason=\"{reason}\"}} {count}"
        );
        assert!(text.contains(&counted), "{text}");
    }
    // ACC-04: an incomplete header is waited for, no longer than T-header.
    let mut slow = peer(&gateway).await;
    slow.write_all(b"PROXY TCP4 192.0.2.9").await.unwrap();
    let mut heard = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(5), slow.read_to_end(&mut heard)).await;
    assert!(ended.is_ok() && heard.is_empty());
    drop(open);
    gateway.stop();
    gateway.stopped().await;
}

// ACC-03: a listener without proxies refuses the header as what it is there: no XML.
#[tokio::test]
async fn a_listener_without_proxies_takes_no_proxy_header() {
    let (_dir, gateway) = gateway().await;
    let mut stream = peer(&gateway).await;
    stream.write_all(b"PROXY TCP4 192.0.2.1 203.0.113.1 4000 5269\r\n").await.unwrap();
    stream.write_all(HEADER).await.unwrap();
    let mut heard = Vec::new();
    let _end = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut heard)).await;
    assert!(!String::from_utf8_lossy(&heard).contains("<starttls"), "{heard:?}");
    gateway.stop();
    gateway.stopped().await;
}
