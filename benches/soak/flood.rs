//! Callers in great number.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gatehouse::demo::dial;
use gatehouse::demo::session::Greeting;
use gatehouse::demo::world::World;
use rustls::client::Resumption;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::apart::Apart;
use crate::sockets::HALL;
use crate::{Witness, gateway, hospitable, kib, mib, patient, shown, source, usual};

const CALLERS: usize = 10_000;

/// Handshakes that are under way at a time.
const HANDS: usize = 64;

/// The first half of a ClientHello.
fn half_hello() -> Vec<u8> {
    let mut hello = vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    hello.resize(200, 7);
    hello
}

async fn heard(stream: &mut TcpStream, words: &str) -> bool {
    let mut heard = Vec::new();
    while !String::from_utf8_lossy(&heard).contains(words) {
        if !matches!(stream.read_buf(&mut heard).await, Ok(1..)) {
            return false;
        }
    }
    true
}

/// As far as `<proceed/>`, and then half a ClientHello.
async fn begun(stream: &mut TcpStream) -> bool {
    let header = Greeting::of("stranger.example", HALL).octets();
    let _ = stream.write_all(header.as_bytes()).await;
    if !heard(stream, "features>").await {
        return false;
    }
    let _ = stream.write_all(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await;
    heard(stream, "<proceed").await && stream.write_all(&half_hello()).await.is_ok()
}

/// All that an unproven peer may send before it proves anything: a header, and one element without an end.
async fn fed(stream: &mut TcpStream) -> bool {
    let header = Greeting::of("stranger.example", HALL).octets();
    let octets = format!("{header}<x xmlns='urn:x'>{}", "y".repeat(16_000));
    stream.write_all(octets.as_bytes()).await.is_ok() && heard(stream, "features>").await
}

/// So many callers, each brought as far as this. `crowd` tells them from others, who have used up the rates of their sources.
async fn callers<F: AsyncFn(&mut TcpStream) -> bool>(
    world: &World,
    crowd: usize,
    prepare: F,
) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for n in 0..CALLERS {
        let Ok(mut stream) = dial(source(crowd * CALLERS + n, 20).into(), world.at.public).await else {
            continue;
        };
        if prepare(&mut stream).await {
            held.push(stream);
        }
        if (n + 1) % 2000 == 0 {
            println!("  {} are there", held.len());
        }
    }
    held
}

async fn measured(name: &str, apart: &Apart, witness: &mut Witness, held: Vec<TcpStream>, before: u64) {
    let count = held.len() as u64;
    let (work, begun) = (apart.worked(), Instant::now());
    let latency = witness.latency(&apart.world, 400).await;
    let share = (apart.worked() - work).as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0;
    let grown = apart.memory("VmRSS").saturating_sub(before);
    let each = match count {
        0 => "-".to_owned(),
        count => kib(grown / count),
    };
    let open = apart.world.metrics().await.unwrap().sum("connections", &[]);
    println!(
        "| {name} | {count} held, {open} open | {} | {each} | {share:.0} % | {} |",
        mib(apart.memory("VmRSS")),
        shown(latency)
    );
    drop(held);
    let end = Instant::now() + Duration::from_secs(60);
    while apart.world.metrics().await.unwrap().sum("connections", &[]) > 1.5 && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

const HEAD: &str =
    "| unproven peers | count | resident | more, of each | processor | a stanza of the stream that stands |";

pub async fn silent() {
    let apart = gateway(&hospitable()).await;
    let mut witness = Witness::new(&apart.world).await;
    witness.latency(&apart.world, 50).await;
    let before = apart.memory("VmRSS");
    println!("{HEAD}");
    measured("none", &apart, &mut witness, Vec::new(), before).await;
    let held = callers(&apart.world, 0, async |_| true).await;
    measured("silent", &apart, &mut witness, held, before).await;
    let held = callers(&apart.world, 1, begun).await;
    measured("TLS begun", &apart, &mut witness, held, before).await;
    measured("all gone", &apart, &mut witness, Vec::new(), before).await;
    println!("with `conn-unproven` as it is by default:");
    let apart = gateway(&patient()).await;
    let mut witness = Witness::new(&apart.world).await;
    let before = apart.memory("VmRSS");
    let held = callers(&apart.world, 0, async |_| true).await;
    measured("silent", &apart, &mut witness, held, before).await;
}

pub async fn greedy() {
    let tight = patient().limit("conn-unproven", "20000").limit("memory-unproven", "64MiB");
    let plans = [
        ("places for all", hospitable()),
        ("ceilings as by default", patient()),
        ("memory-unproven: 64MiB", tight),
    ];
    for (words, plan) in plans {
        let apart = gateway(&plan).await;
        let mut witness = Witness::new(&apart.world).await;
        let before = apart.memory("VmRSS");
        let held = callers(&apart.world, 0, fed).await;
        println!("{words}:\n{HEAD}");
        measured("greedy", &apart, &mut witness, held, before).await;
        println!("peak: {}", mib(apart.memory("VmHWM")));
    }
}

pub async fn handshakes() {
    let apart = gateway(
        &usual().limit("rate", "60000/min").limit("conn-s2s", "100000").limit("tls-handshakes", "100000/s"),
    )
    .await;
    let mut witness = Witness::new(&apart.world).await;
    let quiet = witness.latency(&apart.world, 200).await;
    let mut config = (*apart.world.authority.client(None, true).unwrap()).clone();
    config.resumption = Resumption::disabled();
    let (connector, done, failed) =
        (TlsConnector::from(Arc::new(config)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (target, end) = (apart.world.at.direct, Instant::now() + Duration::from_secs(60));
    let (work, begun, before) = (apart.worked(), Instant::now(), apart.memory("VmRSS"));
    // On threads of their own: the witness is to wait for the gateway, and not for them.
    let crowd = std::thread::spawn({
        let (done, failed) = (Arc::clone(&done), Arc::clone(&failed));
        move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let tasks: Vec<_> = (0..HANDS)
                .map(|first| {
                    let (connector, done, failed) =
                        (connector.clone(), Arc::clone(&done), Arc::clone(&failed));
                    runtime.spawn(async move {
                        let mut turn = first;
                        while Instant::now() < end {
                            turn += HANDS;
                            let Ok(stream) = dial(source(turn, 20).into(), target).await else { continue };
                            let name = rustls::pki_types::ServerName::try_from(HALL).unwrap();
                            match connector.connect(name, stream).await {
                                Ok(_) => done.fetch_add(1, Ordering::Relaxed),
                                Err(_) => failed.fetch_add(1, Ordering::Relaxed),
                            };
                        }
                    })
                })
                .collect();
            for task in tasks {
                runtime.block_on(task).unwrap();
            }
        }
    });
    let busy = witness.latency(&apart.world, 400).await;
    tokio::task::block_in_place(|| crowd.join().unwrap());
    let seconds = begun.elapsed().as_secs_f64();
    let done = done.load(Ordering::Relaxed) as f64;
    let spent = (apart.worked() - work).as_secs_f64();
    println!(
        "| handshakes | per second | failed | processor of the gateway | of one handshake | resident before, after |"
    );
    println!(
        "| {done} in {seconds:.0} s | {:.0} | {} | {:.0} % | {:.2} ms | {}, {} |",
        done / seconds,
        failed.load(Ordering::Relaxed),
        spent / seconds * 100.0,
        spent / done * 1000.0,
        mib(before),
        mib(apart.memory("VmRSS"))
    );
    println!("a stanza of the stream that stands: {} before, {} meanwhile", shown(quiet), shown(busy));
}

/// What a caller does before it goes; the last one is rare, for it costs a handshake.
async fn come_and_go(world: &World, n: usize, tls: &TlsConnector) {
    let target = if n % 4 == 3 { world.at.clients } else { world.at.public };
    let header = Greeting::of("stranger.example", HALL).octets();
    if n % 50 == 49 {
        let Ok(stream) = dial(source(n, 20).into(), world.at.direct).await else { return };
        let _ = tls.connect(rustls::pki_types::ServerName::try_from(HALL).unwrap(), stream).await;
        return;
    }
    let Ok(mut stream) = dial(source(n, 20).into(), target).await else { return };
    // The gateway may have gone first, which is its right.
    let _ = match n % 4 {
        0 => Ok(()),
        1 => stream.write_all(b"<").await,
        _ => stream.write_all(header.as_bytes()).await,
    };
}

pub async fn churn() {
    const CYCLES: usize = 200_000;
    let apart = Arc::new(gateway(&usual()).await);
    let mut witness = Witness::new(&apart.world).await;
    let tls = TlsConnector::from(apart.world.authority.client(None, true).unwrap());
    println!("| cycles | resident | open files | seconds |");
    println!("| 0 | {} | {} | 0 |", mib(apart.memory("VmRSS")), apart.open_files());
    let begun = Instant::now();
    for step in 0..10 {
        let next = Arc::new(AtomicUsize::new(step * CYCLES / 10));
        let tasks: Vec<_> = (0..64)
            .map(|_| {
                let (apart, next, tls) = (Arc::clone(&apart), Arc::clone(&next), tls.clone());
                tokio::spawn(async move {
                    loop {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        if n >= (step + 1) * CYCLES / 10 {
                            return;
                        }
                        come_and_go(&apart.world, n, &tls).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let seconds = begun.elapsed().as_secs();
        let end = Instant::now() + Duration::from_secs(30);
        while apart.world.metrics().await.unwrap().sum("connections", &[]) > 1.5 && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        println!(
            "| {} | {} | {} | {seconds} |",
            (step + 1) * CYCLES / 10,
            mib(apart.memory("VmRSS")),
            apart.open_files()
        );
    }
    let arrived = apart.world.metrics().await.unwrap().sum("connections_total", &[("outcome", "allow")]);
    println!(
        "{arrived} were let in; a stanza of the stream that stands: {}",
        shown(witness.latency(&apart.world, 200).await)
    );
}

/// The processor that a thousand callers use while they wait for their deadline, for each way to say next to nothing.
pub async fn quick() {
    let apart = gateway(&hospitable()).await;
    let tls = TlsConnector::from(apart.world.authority.client(None, true).unwrap());
    println!("| a thousand callers that | processor while they wait, in 5 s |");
    let ways: [(&str, usize); 4] = [
        ("say nothing", 0),
        ("say one octet", 1),
        ("say all but the end of a header", 2),
        ("end TLS and say nothing", 3),
    ];
    for (words, way) in ways {
        let mut plain = Vec::new();
        let mut secured = Vec::new();
        for n in 0..1000 {
            let source = source(way * 1000 + n, 20).into();
            if way == 3 {
                let stream = dial(source, apart.world.at.direct).await.unwrap();
                let name = rustls::pki_types::ServerName::try_from(HALL).unwrap();
                secured.push(tls.connect(name, stream).await.unwrap());
            } else {
                let mut stream = dial(source, apart.world.at.public).await.unwrap();
                let header = Greeting::of("stranger.example", HALL).octets();
                let octets = header.get(..[0, 1, header.len() - 1][way]).unwrap();
                stream.write_all(octets.as_bytes()).await.unwrap();
                plain.push(stream);
            }
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        let work = apart.worked();
        tokio::time::sleep(Duration::from_secs(5)).await;
        println!("| {words} | {:?} |", apart.worked() - work);
    }
    let (work, done) = (apart.worked(), AtomicU64::new(0));
    for n in 0..1000 {
        let stream = dial(source(8000 + n, 20).into(), apart.world.at.direct).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from(HALL).unwrap();
        drop(tls.connect(name, stream).await.unwrap());
        done.fetch_add(1, Ordering::Relaxed);
    }
    println!(
        "| close right after the handshake | {:?} for all, handshakes included |",
        apart.worked() - work
    );
    tokio::time::sleep(Duration::from_secs(1)).await;
    let work = apart.worked();
    tokio::time::sleep(Duration::from_secs(5)).await;
    println!("| (after that) | {:?} |", apart.worked() - work);
}
