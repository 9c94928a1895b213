//! Clients that say something now and then, and what others have them wait for: those who flood, and reloads.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use super::meter::resident;
use super::mix::{Way, chat, mix};
use super::scene::{Run, Scene, Who};
use super::talk::Line;
use super::work::{Figures, MIB, Size, clients};

/// Whom calm clients are beside.
const HOT: usize = 8;

/// After how long a gateway has given back what a reload has replaced.
const LET_GO: Duration = Duration::from_secs(1);

/// Clients that say something now and then, alone and beside some that send as fast as they can: how long an echo takes them.
pub async fn beside_hot(scene: &Scene, who: Who, size: &Size) -> Figures {
    let mut figures = Vec::new();
    for (hot, keys) in [(0, ["calm alone", "calm alone 99th"]), (HOT, ["calm", "calm 99th"])] {
        let subject = scene.start(who, Run::default());
        let tls = scene.client(false, false);
        let lines = clients(&subject, &tls, hot, "swallow").await;
        let octets = Arc::new(mix(size.stanzas, Way::ToServer));
        let mut senders = JoinSet::new();
        for mut line in lines {
            let octets = Arc::clone(&octets);
            senders.spawn(async move {
                loop {
                    for record in octets.as_bytes().chunks(16 * 1024) {
                        line.tls.write_all(record).await.expect("the other side listens");
                    }
                }
            });
        }
        let watch = size.watch;
        let times = calm(subject.c2s, tls, move |begun| begun.elapsed() >= watch).await;
        senders.abort_all();
        figures.extend([(keys[0], micros(&times, 50)), (keys[1], micros(&times, 99))]);
    }
    figures
}

/// So many reloads of many rules, one after the other, and calm clients beside them: what has happened to memory between the
/// first few and the last, and how long an echo takes while they go on, to how long it takes without.
pub async fn while_reloading(scene: &Scene, who: Who, size: &Size) -> Figures {
    let subject = scene.start(who, Run { rules: size.rules, ..Run::default() });
    let (tls, watch) = (scene.client(false, false), size.watch);
    let without = calm(subject.c2s, Arc::clone(&tls), move |begun| begun.elapsed() >= watch).await;
    let over = Arc::new(AtomicBool::new(false));
    let during = tokio::spawn(calm(subject.c2s, tls, {
        let over = Arc::clone(&over);
        move |_| over.load(Ordering::Relaxed)
    }));
    let (first, last) = tokio::task::block_in_place(|| {
        let reload = |count| {
            for _ in 0..count {
                scene.reload(&subject);
            }
            // What the last of them replaced is given back by then: otherwise it would be a matter of chance whether that counts.
            std::thread::sleep(LET_GO);
            resident(subject.process.pid())
        };
        let few = (size.reloads / 10).max(1);
        (reload(few), reload(size.reloads - few))
    });
    over.store(true, Ordering::Relaxed);
    let during = during.await.expect("heard");
    vec![
        ("reloads", last as f64 / first as f64),
        ("reloads memory", last as f64 / MIB),
        ("reloads 99th", micros(&during, 99) / micros(&without, 99)),
    ]
}

/// How long each word of calm clients takes, until it is over; in order. On a thread of its own: those who flood do not keep it
/// from looking at the clock.
async fn calm(
    to: SocketAddr,
    tls: Arc<ClientConfig>,
    is_over: impl Fn(Instant) -> bool + Clone + Send + 'static,
) -> Vec<Duration> {
    let talk = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(echoed(to, tls, is_over))
    };
    let mut times = tokio::task::spawn_blocking(talk).await.expect("heard");
    times.sort_unstable();
    times
}

/// So many of a hundred take no longer than that.
fn micros(times: &[Duration], share: usize) -> f64 {
    times[times.len() * share / 100].as_secs_f64() * 1e6
}

/// Eight clients that say a word every 20 ms, and how long each word has taken.
async fn echoed(
    to: SocketAddr,
    tls: Arc<ClientConfig>,
    is_over: impl Fn(Instant) -> bool + Clone + Send + 'static,
) -> Vec<Duration> {
    let message = chat(300, Way::ToServer);
    let mut talkers = JoinSet::new();
    for _ in 0..8 {
        let (tls, message, is_over) = (Arc::clone(&tls), message.clone(), is_over.clone());
        talkers.spawn(async move {
            let mut line = Line::login(to, &tls, "echo").await;
            let (mut space, mut times) = ([0; 4096], Vec::new());
            let start = Instant::now();
            while !is_over(start) || times.is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
                let begun = Instant::now();
                line.say(&message).await;
                line.drain(message.len(), &mut space).await;
                times.push(begun.elapsed());
            }
            times
        });
    }
    talkers.join_all().await.into_iter().flatten().collect()
}
