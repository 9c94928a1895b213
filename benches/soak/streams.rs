//! Many streams that stand.

use std::collections::BTreeSet;
use std::ops::Range;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gatehouse::demo::client::{Account, Client};
use gatehouse::demo::legacy::PASSWORD;
use gatehouse::demo::peer::Peer;
use gatehouse::demo::session::{Login, Session};
use gatehouse::demo::world::{Plan, World};
use tokio::sync::Semaphore;

use crate::sockets::{FRIEND, HALL, peer};
use crate::{Witness, gateway, kib, mib, program, shown, source, usual};

const STREAMS: usize = 2000;
const EACH: usize = 10;

/// All streams are of one domain and all stanzas of one name, which is more than one domain and one address may.
pub fn of_one_domain(plan: Plan) -> Plan {
    plan.limit("sender-stanzas", "600000/min").limit("conn-domain", "100000").limit("pairs-domain", "100000")
}

/// Streams of this peer from these sources, each proven.
pub async fn stand(friend: &Arc<Peer>, which: Range<usize>) -> Vec<Session> {
    let room = Arc::new(Semaphore::new(16));
    let opening: Vec<_> = which
        .map(|n| {
            let (friend, room) = (Arc::clone(friend), Arc::clone(&room));
            tokio::spawn(async move {
                let _place = room.acquire().await.unwrap();
                let mut call = friend.call(HALL).unwrap();
                call.source = source(n, 20).into();
                let mut stream = call.open().await.unwrap();
                assert_eq!(stream.external(FRIEND).await.unwrap(), Login::Success);
                stream
            })
        })
        .collect();
    let mut streams = Vec::new();
    for opened in opening {
        streams.push(opened.await.unwrap());
    }
    streams
}

/// Clients of this world from these sources, each logged in.
pub async fn log_in(world: &World, which: Range<usize>) -> Vec<Client> {
    let room = Arc::new(Semaphore::new(16));
    let (target, tls) = (world.at.clients, world.authority.client(None, false).unwrap());
    let opening: Vec<_> = which
        .map(|n| {
            let (room, tls) = (Arc::clone(&room), Arc::clone(&tls));
            tokio::spawn(async move {
                let _place = room.acquire().await.unwrap();
                let user = format!("u{n}");
                let account = Account { user: &user, domain: HALL, password: PASSWORD };
                Client::login_over_tls(source(n, 20).into(), target, account, tls).await.unwrap()
            })
        })
        .collect();
    let mut clients = Vec::new();
    for opened in opening {
        clients.push(opened.await.unwrap());
    }
    clients
}

pub async fn servers() {
    let mut apart = gateway(&of_one_domain(usual())).await;
    let friend = Arc::new(peer(&apart.world, 10, FRIEND).await);
    let mut witness = Witness::new(&apart.world).await;
    let alone = witness.latency(&apart.world, 100).await;
    let (before, data) = (apart.memory("VmRSS"), apart.memory("VmData"));
    let begun = Instant::now();
    let streams = stand(&friend, 0..STREAMS).await;
    println!("{} streams stand after {:.0?}", streams.len(), begun.elapsed());
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (resident, data) = (apart.memory("VmRSS") - before, apart.memory("VmData").saturating_sub(data));
    println!("| idle streams of servers | resident before | more | of each | of data, each |");
    println!(
        "| {STREAMS} | {} | {} | {} | {} |",
        mib(before),
        mib(resident),
        kib(resident / STREAMS as u64),
        kib(data / STREAMS as u64)
    );
    println!(
        "a stanza: {} alone, {} beside them",
        shown(alone),
        shown(witness.latency(&apart.world, 200).await)
    );

    let socket = apart.world.socket();
    let reload = |arguments: &[&str]| {
        let mut command = Command::new(program());
        command.args(arguments).arg("--socket").arg(&socket);
        let begun = Instant::now();
        let said = command.output().unwrap();
        assert!(said.status.success(), "{said:?}");
        begun.elapsed()
    };
    let mut took: Vec<Duration> = Vec::new();
    for _ in 0..7 {
        took.push(tokio::task::block_in_place(|| reload(&["reload"])));
    }
    took.sort_unstable();
    println!(
        "reload with {STREAMS} streams: {:.0?} (the quickest of seven {:.0?}, the slowest {:.0?})",
        took[3], took[0], took[6]
    );

    let room = Arc::new(Semaphore::new(0));
    let senders: Vec<_> = streams
        .into_iter()
        .enumerate()
        .map(|(s, mut stream)| {
            let room = Arc::clone(&room);
            tokio::spawn(async move {
                let _go = room.acquire().await.unwrap();
                let mut said = 0;
                for n in 0..EACH {
                    let body = format!("{s}-{n}");
                    if stream.message("a@friend.example", "j@hall.example", &body).await.is_err() {
                        break;
                    }
                    said += 1;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                // What was said before our closing tag is in the gateway's hand.
                (said, stream.close().await.is_ok_and(|ending| ending.closed))
            })
        })
        .collect();
    let already = apart.world.legacy.inbox.len();
    room.add_permits(STREAMS);
    while apart.world.legacy.inbox.len() - already < STREAMS * EACH / 4 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let begun = Instant::now();
    apart.signal(rustix::process::Signal::TERM);
    while apart.lives() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let drained = begun.elapsed();
    let (mut said, mut orderly) = (0, 0);
    for sender in senders {
        let (words, closed) = sender.await.unwrap();
        said += words;
        orderly += usize::from(closed);
    }
    let bodies = || -> Vec<String> {
        let all = apart.world.legacy.inbox.all();
        all.iter().filter_map(|n| n.body()).filter(|b| b.contains('-')).map(str::to_owned).collect()
    };
    let back = || friend.inbox.all().iter().filter(|n| n.attr("type") == Some("error")).count();
    let end = Instant::now() + Duration::from_secs(20);
    while bodies().len() + back() < said && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let delivered = bodies();
    let different: BTreeSet<&String> = delivered.iter().collect();
    println!(
        "| drain with {STREAMS} streams under traffic | said | delivered | returned | twice | lost | ended with a closing tag |"
    );
    println!(
        "| {drained:.1?} | {said} | {} | {} | {} | {} | {orderly} |",
        different.len(),
        back(),
        delivered.len() - different.len(),
        said.saturating_sub(different.len() + back())
    );
}

pub async fn clients() {
    let mut apart = gateway(&usual()).await;
    let before = apart.memory("VmRSS");
    let begun = Instant::now();
    let clients = log_in(&apart.world, 0..STREAMS).await;
    println!("{} clients are online after {:.0?}", clients.len(), begun.elapsed());
    tokio::time::sleep(Duration::from_secs(5)).await;
    let resident = apart.memory("VmRSS") - before;
    println!("| idle streams of clients | resident before | more | of each |");
    println!("| {STREAMS} | {} | {} | {} |", mib(before), mib(resident), kib(resident / STREAMS as u64));
    let begun = Instant::now();
    apart.signal(rustix::process::Signal::TERM);
    while apart.lives() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("drain with {STREAMS} idle clients: {:.1?}", begun.elapsed());
}
