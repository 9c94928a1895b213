//! What failed handshakes lacked, as told of clients and servers of OpenSSL: the cause is what is wrong with them, not the first
//! thing that a library misses.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crate::pki::*;
use gatehouse::reason::{Cause, Detail};
use gatehouse::stream::dane::Published;
use gatehouse::tls::{Acceptor, Alpn, Certificates, Connector, Mode, TrustStore, client, keys, server};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// One that ends with the test.
struct OpenSsl(Child);

impl OpenSsl {
    fn run(args: &[&str], stdout: Stdio) -> OpenSsl {
        let mut command = Command::new("openssl");
        command.args(args).stdin(Stdio::piped()).stdout(stdout).stderr(Stdio::null());
        OpenSsl(command.spawn().unwrap())
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// A folder with a key and a certificate of this kind.
fn certificate(kind: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (key, chain) = (dir.path().join("key.pem"), dir.path().join("chain.pem"));
    let (key, chain) = (key.to_str().unwrap(), chain.to_str().unwrap());
    let request =
        ["req", "-x509", "-nodes", "-subj", "/CN=a.example", "-addext", "subjectAltName=DNS:a.example"];
    let args = [&request, kind, &["-keyout", key, "-out", chain]].concat();
    assert!(OpenSsl::run(&args, Stdio::null()).0.wait().unwrap().success());
    dir
}

const RSA: [&str; 2] = ["-newkey", "rsa:2048"];
const ECDSA: [&str; 4] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];

/// What the gateway tells of a client with these settings that calls it.
async fn calls(acceptor: &Acceptor, settings: &[&str]) -> Detail {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let args = [&["s_client", "-connect", &at, "-servername", "a.example"], settings].concat();
    let _client = OpenSsl::run(&args, Stdio::null());
    let accepting = async {
        let (stream, _) = listener.accept().await.unwrap();
        acceptor.accept(stream, None).await.unwrap_err().detail()
    };
    timeout(Duration::from_secs(20), accepting).await.unwrap()
}

/// What the gateway tells of a server with these settings that it calls.
async fn called(folder: &tempfile::TempDir, settings: &[&str]) -> Detail {
    let (key, chain) = (folder.path().join("key.pem"), folder.path().join("chain.pem"));
    let (key, chain) = (key.to_str().unwrap(), chain.to_str().unwrap());
    let args = [&["s_server", "-accept", "127.0.0.1:0", "-key", key, "-cert", chain], settings].concat();
    let mut server = OpenSsl::run(&args, Stdio::piped());
    let mut lines = BufReader::new(server.0.stdout.take().unwrap()).lines();
    let at: SocketAddr = loop {
        let line = lines.next().unwrap().unwrap();
        if let Some(at) = line.strip_prefix("ACCEPT ") {
            break at.parse().unwrap();
        }
    };
    let certificates = Arc::new(Certificates::default());
    let trust = Arc::new(TrustStore::default());
    let connector = Connector::new(client::Params { certificates, trust }).unwrap();
    let (remote, unpublished) = (domain("a.example"), Published::default());
    let connecting = async {
        let stream = TcpStream::connect(at).await.unwrap();
        connector.connect(stream, None, (&remote, &unpublished), Mode::Direct).await.unwrap_err().detail()
    };
    timeout(Duration::from_secs(20), connecting).await.unwrap()
}

fn acceptor(folder: &tempfile::TempDir) -> Acceptor {
    let identity = keys::load(&folder.path().join("chain.pem"), &folder.path().join("key.pem")).unwrap();
    let certificates = Arc::new(Certificates::from_identities([(domain("a.example"), identity)]));
    Acceptor::new(server::Params {
        mode: Mode::Direct,
        alpn: vec![Alpn::Server],
        default: None,
        ask_certificate: true,
        certificates,
        trust: Arc::new(TrustStore::default()),
    })
    .unwrap()
}

/// Old versions and weak suites are there for these tests alone.
const WEAK: [&str; 2] = ["-cipher", "ALL:@SECLEVEL=0"];

#[tokio::test]
async fn a_client_that_lacks_something_is_told_for_what_it_lacks() {
    let (ecdsa, rsa) = (certificate(&ECDSA), certificate(&RSA));
    let (ecdsa, rsa) = (acceptor(&ecdsa), acceptor(&rsa));
    let suite = |suite| ["-tls1_2", "-cipher", suite];
    let table: Vec<(&Acceptor, Vec<&str>, Cause, &str)> = vec![
        (&ecdsa, [&["-tls1"][..], &WEAK].concat(), Cause::NoCommonVersion, "TLS 1.0"),
        (&ecdsa, [&["-tls1_1"][..], &WEAK].concat(), Cause::NoCommonVersion, "TLS 1.1"),
        (&ecdsa, suite("AES128-SHA").to_vec(), Cause::NoCommonSuite, ""),
        (&ecdsa, suite("DHE-RSA-AES128-GCM-SHA256").to_vec(), Cause::NoCommonSuite, ""),
        (&ecdsa, suite("ECDHE-ECDSA-AES128-SHA").to_vec(), Cause::NoCommonSuite, ""),
        (&ecdsa, vec!["-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_SHA256"], Cause::NoCommonSuite, ""),
        (&ecdsa, vec!["-tls1_2", "-curves", "P-521"], Cause::NoCommonGroup, ""),
        (&ecdsa, vec!["-tls1_3", "-curves", "X448"], Cause::NoCommonGroup, ""),
        (&ecdsa, suite("ECDHE-RSA-AES128-GCM-SHA256").to_vec(), Cause::NoCommonScheme, "ECDSA"),
        (&rsa, suite("ECDHE-ECDSA-AES128-GCM-SHA256").to_vec(), Cause::NoCommonScheme, "RSA"),
        (&ecdsa, vec!["-tls1_2", "-sigalgs", "RSA+SHA256"], Cause::NoCommonScheme, "ECDSA"),
        (&ecdsa, vec!["-tls1_3", "-sigalgs", "rsa_pss_rsae_sha256"], Cause::NoCommonScheme, "ECDSA"),
        (&rsa, vec!["-tls1_3", "-sigalgs", "ECDSA+SHA256"], Cause::NoCommonScheme, "RSA"),
        (&ecdsa, vec!["-alpn", "h2"], Cause::NoCommonProtocol, ""),
    ];
    for (acceptor, settings, cause, word) in table {
        let detail = calls(acceptor, &settings).await;
        assert_eq!(detail.cause, cause, "{settings:?}: {detail}");
        assert!(detail.particulars.contains(word), "{settings:?}: {detail}");
        assert!(detail.particulars.ends_with("server name a.example"), "{settings:?}: {detail}");
    }
    // The way out of it is another key, or a server that takes it: no newer version of TLS.
    let remedy = Cause::NoCommonScheme.remedy();
    assert!(remedy.contains("ECDSA") && remedy.contains("RSA") && !remedy.contains("TLS 1.2"), "{remedy}");
}

#[tokio::test]
async fn a_server_that_lacks_something_is_told_for_what_it_says() {
    let (ecdsa, rsa) = (certificate(&ECDSA), certificate(&RSA));
    let other = ["-servername", "b.example", "-servername_fatal"];
    let (key, chain) = (ecdsa.path().join("key.pem"), ecdsa.path().join("chain.pem"));
    let second = ["-key2", key.to_str().unwrap(), "-cert2", chain.to_str().unwrap()];
    let table: Vec<(&tempfile::TempDir, Vec<&str>, Cause)> = vec![
        (&ecdsa, [&["-tls1"][..], &WEAK].concat(), Cause::NoCommonVersion),
        (&ecdsa, [&["-tls1_1"][..], &WEAK].concat(), Cause::NoCommonVersion),
        (&rsa, vec!["-tls1_2", "-cipher", "AES128-SHA"], Cause::NothingInCommon),
        (&ecdsa, vec!["-tls1_3", "-curves", "P-521"], Cause::NothingInCommon),
        (&rsa, vec!["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"], Cause::NothingInCommon),
        (&ecdsa, vec!["-alpn", "h2"], Cause::NoCommonProtocol),
        (&ecdsa, [&other[..], &second].concat(), Cause::NameNotThere),
    ];
    for (folder, settings, cause) in table {
        let detail = called(folder, &settings).await;
        assert_eq!(detail.cause, cause, "{settings:?}: {detail}");
    }
}
