//! A server that lets each STARTTLS break just before our deadline: what waits for it is answered within the time of the queue, however
//! often it is tried once more (CLS-02, TLS-04).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gatehouse::demo::session::Greeting;
use gatehouse::demo::world::{Plan, World};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::sockets::*;

const AWAY: &str = "away.example";
/// T-queue; T-header and T-tls are shorter.
const QUEUE: Duration = Duration::from_secs(10);
/// How long the server waits with each word: a little less than T-header and T-tls.
const ALMOST: Duration = Duration::from_millis(2500);

/// How STARTTLS breaks.
#[derive(Clone, Copy, Debug)]
enum Break {
    /// The connection ends in place of an answer.
    Ends,
    /// No XML in place of one.
    Garbage,
    /// No TLS behind the answer.
    NoTls,
}

async fn until(stream: &mut TcpStream, word: &str) -> Option<()> {
    let mut heard = Vec::new();
    while !String::from_utf8_lossy(&heard).contains(word) {
        heard.push(stream.read_u8().await.ok()?);
    }
    tokio::time::sleep(ALMOST).await;
    Some(())
}

async fn breaks(mut stream: TcpStream, how: Break) -> Option<()> {
    let tls = "xmlns='urn:ietf:params:xml:ns:xmpp-tls'";
    let header = Greeting { id: Some("s1".to_owned()), ..Greeting::of(AWAY, HALL) }.octets();
    let features = format!("<stream:features><starttls {tls}><required/></starttls></stream:features>");
    until(&mut stream, "<stream:stream").await?;
    stream.write_all(format!("{header}{features}").as_bytes()).await.ok()?;
    until(&mut stream, "<starttls").await?;
    match how {
        Break::Ends => return None,
        Break::Garbage => stream.write_all(b"<<<").await.ok()?,
        Break::NoTls => {
            stream.write_all(format!("<proceed {tls}/>").as_bytes()).await.ok()?;
            tokio::time::sleep(ALMOST).await;
            stream.write_all(b"no TLS at all").await.ok()?;
        }
    }
    // It reads to the end.
    while stream.read_u8().await.is_ok() {}
    Some(())
}

/// A server that does so with each who calls, and how many have.
async fn serve(ip: Ipv4Addr, how: Break) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((ip, 0)).await.unwrap();
    let (address, visits) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&visits);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(breaks(stream, how));
        }
    });
    (address, visits)
}

async fn answered(how: Break) {
    let plan = Plan::open(HALL).timeout("header", "3s").timeout("tls", "3s").timeout("queue", "10s");
    let world = World::build(&plan.limit("rate", "6000/min")).await.unwrap();
    let (address, visits) = serve(Ipv4Addr::new(127, 0, 55, 9), how).await;
    world.names.announce(AWAY, Some(address), None).unwrap();
    let mut sent = Vec::new();
    for n in 0..4 {
        let id = format!("n{n}");
        world.legacy.send(format!(
            "<message from='j@hall.example' to='a@{AWAY}' id='{id}'><body>{n}</body></message>"
        ));
        sent.push((id, Instant::now()));
        tokio::time::sleep(Duration::from_millis(1300)).await;
    }
    for (id, at) in &sent {
        let about =
            |n: &gatehouse::demo::node::Node| n.attr("id") == Some(id) && n.attr("type") == Some("error");
        let error = world.legacy.inbox.wait(about).await.unwrap_or_else(|_| panic!("{how:?}: {id} is lost"));
        assert!(
            error.raw.contains("remote-server-timeout") || error.raw.contains("not-"),
            "{how:?}: {}",
            error.raw
        );
        println!("{how:?}: {id} after {:?} at most", at.elapsed());
    }
    // All are here, and the first has waited longest; with some room for a busy machine.
    let took = sent[0].1.elapsed();
    assert!(took < QUEUE + Duration::from_secs(2), "{how:?}: {took:?}");
    let visits = visits.load(Ordering::SeqCst);
    assert!((2..=6).contains(&visits), "{how:?}: it is tried once more, and not without end: {visits}");
    let heard = |id: &str| world.legacy.inbox.all().iter().filter(|n| n.attr("id") == Some(id)).count();
    assert!(sent.iter().all(|(id, _)| heard(id) == 1), "{how:?}");
}

#[tokio::test]
async fn what_waits_is_answered_within_the_time_of_the_queue() {
    tokio::join!(answered(Break::Ends), answered(Break::Garbage), answered(Break::NoTls));
}
