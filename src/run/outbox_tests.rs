use std::num::NonZeroU32;

use tokio::io::{AsyncReadExt as _, duplex};

use super::*;
use crate::limit::{Pace, RateParams, Rates};

async fn send(outbox: &mut Outbox, io: &mut BoxIo, now: Instant) -> io::Result<Sent> {
    std::future::poll_fn(|cx| Poll::Ready(outbox.poll_send(io, cx, now))).await
}

fn stanza(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[tokio::test]
async fn several_elements_go_out_in_order_and_at_once() {
    let (ours, mut theirs) = duplex(4096);
    let mut io: BoxIo = Box::new(ours);
    let mut outbox = Outbox::default();
    outbox.say(stanza("<header>"));
    outbox.pass(stanza("<a/>"));
    outbox.pass(stanza("<b/>"));
    assert!(send(&mut outbox, &mut io, Instant::now()).await.unwrap().moved);
    assert!(outbox.is_empty());
    let mut got = [0; 64];
    let n = theirs.read(&mut got).await.unwrap();
    assert_eq!(&got[..n], b"<header><a/><b/>");
}

// CLS-02: queued output is never lost silently; what we authored is not a stanza and is not given back.
#[tokio::test]
async fn what_did_not_go_out_whole_is_given_back_oldest_first() {
    let (ours, _theirs) = duplex(10);
    let mut io: BoxIo = Box::new(ours);
    let mut outbox = Outbox::default();
    outbox.pass(stanza("<gone/>"));
    outbox.say(stanza("<h>"));
    outbox.pass(stanza("<half-way/>"));
    outbox.pass(stanza("<not-begun/>"));
    let now = Instant::now();
    send(&mut outbox, &mut io, now).await.unwrap();
    assert_eq!(outbox.stuck(), Some(now));
    assert_eq!(outbox.take_unsent(Some(io.held())), [stanza("<half-way/>"), stanza("<not-begun/>")]);
    assert!(outbox.is_empty());
    assert_eq!((outbox.octets(), outbox.stanzas()), (0, 0));
}

// SM-01: "bounced once and never sent again": what has come back does not go out behind it, nor is it given back besides.
#[tokio::test]
async fn what_is_recalled_goes_nowhere_and_what_has_begun_ends() {
    let (ours, mut theirs) = duplex(10);
    let mut io: BoxIo = Box::new(ours);
    let mut outbox = Outbox::default();
    outbox.pass(stanza("<gone/>"));
    outbox.pass(stanza("<half-way/>"));
    outbox.pass(stanza("<not-begun/>"));
    outbox.say(stanza("</s>"));
    let now = Instant::now();
    send(&mut outbox, &mut io, now).await.unwrap();
    outbox.recall(usize::MAX);
    assert_eq!((outbox.octets(), outbox.stanzas()), ("f-way/></s>".len() + 1, 0));
    let mut got = Vec::new();
    for _ in 0..10 {
        let mut some = [0; 64];
        let n = theirs.read(&mut some).await.unwrap();
        got.extend_from_slice(&some[..n]);
        send(&mut outbox, &mut io, now).await.unwrap();
        if outbox.is_empty() {
            break;
        }
    }
    drop(io);
    theirs.read_to_end(&mut got).await.unwrap();
    assert_eq!(String::from_utf8(got).unwrap(), "<gone/><half-way/></s>");
    assert!(outbox.take_unsent(Some(0)).is_empty());
}

/// Takes everything, lets out so many octets and no more, and is never flushed, as TLS above a full socket.
struct Buffering {
    taken: usize,
    out: usize,
}

impl super::super::Io for Buffering {
    fn held(&self) -> usize {
        self.taken.saturating_sub(self.out)
    }
}

fn buffering(out: usize) -> BoxIo {
    Box::new(Buffering { taken: 0, out })
}

impl tokio::io::AsyncRead for Buffering {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl tokio::io::AsyncWrite for Buffering {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.taken += buf.len();
        Poll::Ready(Ok(buf.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

// CLS-02: delivered or given back, and not both, wherever the transport stops.
#[tokio::test]
async fn what_the_transport_has_let_out_is_not_given_back() {
    let all = [stanza("<a/>"), stanza("<bb/>"), stanza("<ccc/>")];
    // What we author lies between them.
    let ends = ["<a/>".len(), "<a/><h><bb/>".len(), "<a/><h><bb/><ccc/>".len()];
    for out in 0..=ends[2] {
        let mut io = buffering(out);
        let mut outbox = Outbox::default();
        outbox.pass(all[0].clone());
        outbox.say(stanza("<h>"));
        outbox.pass(all[1].clone());
        outbox.pass(all[2].clone());
        let now = Instant::now();
        send(&mut outbox, &mut io, now).await.unwrap();
        assert!(!outbox.is_empty());
        assert_eq!(outbox.stuck(), Some(now), "it may yet be stuck");
        let gone = ends.iter().filter(|end| **end <= out).count();
        assert_eq!(outbox.flushed(), gone as u64, "{out}");
        assert_eq!(outbox.take_unsent(Some(io.held())), all[gone..], "{out}");
    }
}

// Of a connection that broke nobody knows what has arrived: what is not flushed is told.
#[tokio::test]
async fn what_is_not_flushed_when_a_connection_breaks_is_given_back() {
    let mut io = buffering(0);
    let mut outbox = Outbox::default();
    outbox.pass(stanza("<a/>"));
    outbox.pass(stanza("<b/>"));
    send(&mut outbox, &mut io, Instant::now()).await.unwrap();
    assert_eq!(outbox.take_unsent(None), [stanza("<a/>"), stanza("<b/>")]);
}

// Law `bounded`: a reader that is always a little behind must not make us remember the whole conversation, nor have it
// repeated when the connection breaks.
#[tokio::test]
async fn a_transport_that_is_never_flushed_takes_little() {
    let mut io = buffering(0);
    let mut outbox = Outbox::default();
    let stanza = Bytes::from(vec![b'x'; 1024]);
    for _ in 0..1024 {
        outbox.pass(stanza.clone());
        send(&mut outbox, &mut io, Instant::now()).await.unwrap();
    }
    assert!(outbox.octets() >= 900 * 1024, "what is not flushed still waits: {}", outbox.octets());
    assert_eq!(outbox.take_unsent(Some(io.held())).len(), 1024);
}

#[tokio::test]
async fn the_valve_holds_stanzas_and_not_what_we_say() {
    let (ours, mut theirs) = duplex(4096);
    let mut io: BoxIo = Box::new(ours);
    let start = Instant::now();
    let mut outbox = Outbox::default();
    let stream = Pace { stanzas: Some(NonZeroU32::MIN), octets: None };
    outbox.shape(Rates::new(RateParams { stream, ..RateParams::default() }).stream(start));
    outbox.say(stanza("<h>"));
    for text in ["<a/>", "<b/>", "<c/>"] {
        outbox.pass(stanza(text));
    }
    let sent = send(&mut outbox, &mut io, start).await.unwrap();
    assert_eq!(sent.shut, Some(Rated::Stanzas));
    let shut = outbox.shut().unwrap();
    assert!(shut.until > start);
    assert_eq!(outbox.stuck(), None, "a shut valve is not a stuck peer");
    let mut got = [0; 64];
    let n = theirs.read(&mut got).await.unwrap();
    assert!(got[..n].starts_with(b"<h><a/>") && !got[..n].ends_with(b"<c/>"));
    let later = start + Duration::from_secs(5);
    let sent = send(&mut outbox, &mut io, later).await.unwrap();
    assert_eq!(sent.waited.map(|w| w.0), Some(Rated::Stanzas));
}
