//! The first flight of a client of TLS: it comes to an end however it is cut, and why it failed is told from what stands in it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test that cannot go on says so

#[path = "../../tls/pki.rs"]
mod pki;

use std::future::Future;
use std::io::{self, Cursor};
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use gatehouse::reason::{Cause, Detail, Reason};
use gatehouse::tls::{Acceptor, Alpn, Certificates, Mode, TrustStore, server};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The first octet tells which door: of STARTTLS if it is even, of direct TLS if it is odd. The rest is what comes, and nothing more.
pub fn hello(data: &[u8]) {
    let Some((&door, octets)) = data.split_first() else { return };
    let acceptor = &doors()[usize::from(door & 1)];
    // No client is done before it has heard us.
    let (reason, detail) = told(acceptor, octets, octets.len());
    assert!([Reason::TlsFailed, Reason::WrongTransport].contains(&reason), "{reason:?}");
    assert!(detail.particulars.len() < 4096 && !detail.particulars.contains(char::is_control), "{detail}");
    for size in [1, 7] {
        let cut = told(acceptor, octets, size);
        // What the form of SSL 2.0 offers is read where it came at once; the library gives up before it has seen it whole.
        let old = octets.first().is_some_and(|first| *first >= 0x80) && cut.1.cause == Cause::NotTls;
        assert!(old || cut == (reason, detail.clone()), "{detail}, and in portions of {size} {}", cut.1);
    }
    stands_there(&detail, octets);
}

/// A listener of each kind.
fn doors() -> &'static [Acceptor; 2] {
    static DOORS: OnceLock<[Acceptor; 2]> = OnceLock::new();
    DOORS.get_or_init(|| {
        let identity = pki::Authority::new("root").issue(&["a.example"]).identity();
        let certificates = Arc::new(Certificates::from_identities([(pki::domain("a.example"), identity)]));
        [(Mode::Starttls, Some(pki::domain("a.example"))), (Mode::Direct, None)].map(|(mode, default)| {
            Acceptor::new(server::Params {
                mode,
                alpn: vec![Alpn::Server],
                default,
                ask_certificate: true,
                certificates: Arc::clone(&certificates),
                trust: Arc::new(TrustStore::default()),
            })
            .unwrap()
        })
    })
}

/// What is told of a client that says this, in portions of that size, and hangs up.
fn told(acceptor: &Acceptor, octets: &[u8], size: usize) -> (Reason, Detail) {
    let line = Line { octets: Cursor::new(octets), size: size.max(1) };
    let mut accepting = pin!(acceptor.accept(line, None));
    // Whatever is asked of the line is there at once.
    match accepting.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Err(fault)) => (fault.reason(), fault.detail()),
        Poll::Ready(Ok(_)) => panic!("a handshake without an answer to ours"),
        Poll::Pending => panic!("it waits, and nothing more comes"),
    }
}

/// What is told of a client was said by it: the name that it asked for, and the newest version.
fn stands_there(detail: &Detail, octets: &[u8]) {
    let heard = [without_records(octets), octets.to_vec()].map(|octets| octets.to_ascii_lowercase());
    let says = |what: &[u8]| heard.iter().any(|octets| octets.windows(what.len()).any(|at| at == what));
    if let Some((_, name)) = detail.particulars.split_once("server name ")
        && !name.contains(['\\', '…'])
    {
        assert!(says(name.as_bytes()) && *name == name.to_ascii_lowercase(), "{detail}");
    }
    let versions = [("SSL 2.0", [0, 2]), ("SSL 3.0", [3, 0]), ("TLS 1.0", [3, 1]), ("TLS 1.1", [3, 2])];
    if let Some((_, newest)) = detail.particulars.split_once("it offers ") {
        assert_eq!(detail.cause, Cause::NoCommonVersion, "{detail}");
        let (_, version) = versions.iter().find(|(name, _)| newest.starts_with(name)).expect("a version");
        assert!(says(version), "{detail}");
    }
}

/// What the records hold, one behind the other.
fn without_records(octets: &[u8]) -> Vec<u8> {
    let (mut all, mut rest) = (Vec::new(), octets);
    while let [_, _, _, high, low, behind @ ..] = rest {
        let (record, later) =
            behind.split_at((usize::from(*high) << 8 | usize::from(*low)).min(behind.len()));
        all.extend_from_slice(record);
        rest = later;
    }
    all
}

/// A connection whose other end has said all that it says, and takes whatever it is told.
struct Line<'a> {
    octets: Cursor<&'a [u8]>,
    size: usize,
}

impl AsyncRead for Line<'_> {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let line = self.get_mut();
        let at = usize::try_from(line.octets.position()).unwrap();
        let rest = &line.octets.get_ref()[at..];
        let now = rest.len().min(line.size).min(buf.remaining());
        buf.put_slice(&rest[..now]);
        line.octets.set_position((at + now) as u64);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Line<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(octets.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
