//! The workloads: each drives one process and says what it has cost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use super::calm;
use super::meter::{Reading, Spent, resident};
use super::mix::{Way, chat, mix, stanzas};
use super::scene::{Key, Run, Scene, Subject, Who};
use super::sink;
use super::talk::{Line, Nagle, dial};
use super::web;

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Messages that are echoed.
    pub echoes: usize,
    /// Octets of a throughput, in rounds of this many stanzas of the mix.
    pub octets: usize,
    /// See `octets`.
    pub stanzas: usize,
    /// How long logins are done.
    pub logins: Duration,
    /// Sessions that idle.
    pub idle: usize,
    /// Streams that are open at once, where few and many are compared.
    pub streams: usize,
    /// Pairs of one stream, where one and many are compared.
    pub pairs: usize,
    /// Rules, where few and many are compared; the many come with ten times as many entries of lists.
    pub rules: usize,
    /// Patches that come with the many rules.
    pub patches: usize,
    /// Reloads of many rules, one after the other.
    pub reloads: usize,
    /// How long messages are sent at a fixed rate, and idleness is watched.
    pub watch: Duration,
}

/// One figure, by the key of its row.
pub type Figures = Vec<(&'static str, f64)>;

/// Does this workload once.
pub async fn run(name: &str, scene: &Scene, who: Who, size: &Size) -> Figures {
    let plain = Run::default();
    let rsa = Run { key: Key::Rsa, ..plain };
    match name {
        "echo" => {
            let subject = scene.start(who, plain);
            let mut lines = clients(&subject, &scene.client(false, false), 128, "echo").await;
            vec![("echo", echo(&subject, &mut lines, 128, size.echoes).await.micros())]
        }
        "big" | "mix" | "each" => throughput(name, scene, who, size).await,
        "pour" => pour(scene, who, size).await,
        "rate" => rate(scene, who, size).await,
        "login" => {
            let full = logins(scene, who, plain, Visit::Login, false, size).await;
            let resumed = logins(scene, who, plain, Visit::Login, true, size).await;
            let rsa = logins(scene, who, rsa, Visit::Login, false, size).await;
            vec![("login", full), ("login resumed", resumed), ("login rsa", rsa)]
        }
        "handshake" => {
            let full = logins(scene, who, plain, Visit::Handshake, false, size).await;
            // Each stream takes a port towards the backend, and these come fast.
            let short = Size { logins: size.logins / 4, ..*size };
            let resumed = logins(scene, who, plain, Visit::Stream, true, &short).await;
            let rsa = logins(scene, who, rsa, Visit::Handshake, false, size).await;
            vec![("handshake", full), ("handshake resumed", resumed), ("handshake rsa", rsa)]
        }
        "external" => vec![("external", logins(scene, who, plain, Visit::External, false, size).await)],
        "idle" => idle(scene, who, size).await,
        "silent" => silent(scene, who, size).await,
        "single" => single(scene, who).await,
        "calm" => calm::beside_hot(scene, who, size).await,
        "reloads" => calm::while_reloading(scene, who, size).await,
        "pairs" => pairs(scene, who, size).await,
        "streams" => streams(scene, who, size).await,
        "rules" => rules(scene, who, size).await,
        "shadow" => shadow(scene, who, size).await,
        "web" => web::beside_plain(scene, who, size).await,
        "threads" => threads(scene, who, size).await,
        other => panic!("no workload is named {other}"),
    }
}

/// Processor time, and what was done with it.
#[derive(Clone, Copy)]
pub struct Cost {
    spent: Spent,
    units: f64,
}

impl Cost {
    /// Microseconds for each unit.
    pub fn micros(self) -> f64 {
        self.spent.cpu.as_secs_f64() * 1e6 / self.units
    }
}

/// What the process spends while this goes on.
pub async fn cost(subject: &Subject, units: usize, work: impl Future<Output = ()>) -> Cost {
    let before = Reading::of(subject.process.pid());
    work.await;
    let spent = Reading::of(subject.process.pid()).since(&before);
    Cost { spent, units: units as f64 }
}

/// So many sessions of this user.
pub async fn clients(
    subject: &Subject,
    tls: &Arc<ClientConfig>,
    count: usize,
    user: &'static str,
) -> Vec<Line> {
    let (to, mut lines) = (subject.c2s, Vec::with_capacity(count));
    while lines.len() < count {
        let mut some = JoinSet::new();
        for _ in 0..(count - lines.len()).min(64) {
            let tls = Arc::clone(tls);
            some.spawn(async move { Line::login(to, &tls, user).await });
        }
        lines.extend(some.join_all().await);
    }
    lines
}

/// So many messages of 300 octets, one a write and one under way for each worker, over these streams in turn.
pub async fn echo(subject: &Subject, lines: &mut Vec<Line>, workers: usize, count: usize) -> Cost {
    let message = chat(300, Way::ToServer);
    let rounds = async |lines: &mut Vec<Line>, count: usize| {
        let mut tasks = JoinSet::new();
        let share = lines.len().div_ceil(workers);
        while !lines.is_empty() {
            let mut own = lines.split_off(lines.len().saturating_sub(share));
            let message = message.clone();
            tasks.spawn(async move {
                let mut space = [0; 4096];
                for turn in 0..count.div_ceil(workers) {
                    let at = turn % own.len();
                    own[at].say(&message).await;
                    own[at].drain(message.len(), &mut space).await;
                }
                own
            });
        }
        lines.extend(tasks.join_all().await.into_iter().flatten());
    };
    rounds(lines, count / 10).await;
    cost(subject, count, rounds(lines, count)).await
}

/// Streams that all go one way, from clients and from servers, with large stanzas, or with the mix in full records or one stanza a
/// write.
async fn throughput(name: &str, scene: &Scene, who: Who, size: &Size) -> Figures {
    let (c2s, s2s) = match name {
        "big" => ("big c2s", "big s2s"),
        "mix" => ("mix c2s", "mix s2s"),
        _ => ("each c2s", "each s2s"),
    };
    let writes = |way| match name {
        "big" => full(&chat(64 * 1024, way)),
        "mix" => full(&mix(size.stanzas, way)),
        _ => stanzas(size.stanzas, way).into_iter().map(String::into_bytes).collect(),
    };
    let subject = scene.start(who, Run::default());
    let tls = scene.client(false, false);
    let lines = clients(&subject, &tls, STREAMS, "swallow").await;
    let from_clients = push(&subject, lines, writes(Way::ToServer), size.octets).await;
    let tls = scene.client(true, false);
    let mut lines = Vec::new();
    for _ in 0..STREAMS {
        lines.push(Line::federate(subject.s2s, &tls).await);
    }
    let from_servers = push(&subject, lines, writes(Way::Servers), size.octets).await;
    vec![(c2s, from_clients.micros()), (s2s, from_servers.micros())]
}

/// In as many octets as a record of TLS holds.
fn full(octets: &str) -> Vec<Vec<u8>> {
    octets.as_bytes().chunks(16 * 1024).map(<[u8]>::to_vec).collect()
}

/// Pushes so many octets, these again and again, each in a write and so in a record of its own. The cost is for each MB.
async fn push(subject: &Subject, lines: Vec<Line>, writes: Vec<Vec<u8>>, total: usize) -> Cost {
    let octets: usize = writes.iter().map(Vec::len).sum();
    let times = (total / lines.len()).div_ceil(octets);
    let writes = Arc::new(writes);
    let mut lines = lines;
    let mut spent = None;
    for times in [times.div_ceil(10), times] {
        let before = sink::read_so_far();
        let all = times * octets * lines.len();
        let mut tasks = JoinSet::new();
        let sent = async {
            for mut line in std::mem::take(&mut lines) {
                let writes = Arc::clone(&writes);
                tasks.spawn(async move {
                    for _ in 0..times {
                        for write in writes.iter() {
                            line.tls.write_all(write).await.expect("the other side listens");
                        }
                    }
                    line.tls.flush().await.expect("the other side listens");
                    line
                });
            }
            lines = tasks.join_all().await;
            sink::wait(before, all as u64).await;
        };
        let cost = cost(subject, all, sent).await;
        spent = Some(Cost { units: cost.units / 1e6, ..cost });
    }
    spent.expect("pushed")
}

/// From the backend to its clients.
async fn pour(scene: &Scene, who: Who, size: &Size) -> Figures {
    let subject = scene.start(who, Run::default());
    let mix = mix(size.stanzas, Way::ToClient).len();
    let times = (size.octets / STREAMS).div_ceil(mix);
    let user: &'static str = format!("pour-{}-{times}", size.stanzas).leak();
    let mut lines = clients(&subject, &scene.client(false, false), STREAMS, user).await;
    let all = times * mix;
    let mut figures = Vec::new();
    for _ in 0..2 {
        let poured = async {
            let mut tasks = JoinSet::new();
            for mut line in std::mem::take(&mut lines) {
                tasks.spawn(async move {
                    line.say(&chat(300, Way::ToServer)).await;
                    line.drain(all, &mut vec![0; 64 * 1024]).await;
                    line
                });
            }
            lines = tasks.join_all().await;
        };
        let cost = cost(&subject, all * STREAMS, poured).await;
        figures = vec![("pour", cost.micros() * 1e6)];
    }
    figures
}

/// Messages at a fixed rate, whatever comes back. A message that had to wait counts from when it was due.
async fn rate(scene: &Scene, who: Who, size: &Size) -> Figures {
    const CONNECTIONS: usize = 100;
    let period = Duration::from_secs(1) / 2000;
    let subject = scene.start(who, Run { as_shipped: true, ..Run::default() });
    let lines = clients(&subject, &scene.client(false, false), CONNECTIONS, "echo").await;
    let message = chat(300, Way::ToServer);
    let turns = usize::try_from(size.watch.as_micros() / period.as_micros()).expect("small") / CONNECTIONS;
    let start = Instant::now() + Duration::from_millis(100);
    let due = move |connection: usize, turn: usize| {
        start + period * u32::try_from(turn * CONNECTIONS + connection).expect("small")
    };
    let (mut writers, mut readers) = (Vec::new(), JoinSet::new());
    for (connection, line) in lines.into_iter().enumerate() {
        let (mut reader, writer) = tokio::io::split(line.tls);
        writers.push(writer);
        let len = message.len();
        readers.spawn(async move {
            let (mut space, mut latencies) = (vec![0; len], Vec::with_capacity(turns));
            for turn in 0..turns {
                let read = tokio::time::timeout(super::PATIENCE, reader.read_exact(&mut space)).await;
                read.expect("in time").expect("a connection");
                latencies.push(due(connection, turn).elapsed());
            }
            latencies
        });
    }
    let runtime = tokio::runtime::Handle::current();
    let mut latencies = Vec::new();
    let cost = cost(&subject, turns * CONNECTIONS, async {
        // A thread of its own: the timers of the runtime are too coarse.
        let pace = move || {
            for turn in 0..turns {
                for (connection, writer) in writers.iter_mut().enumerate() {
                    std::thread::sleep(due(connection, turn).saturating_duration_since(Instant::now()));
                    let sent = runtime.block_on(async {
                        writer.write_all(message.as_bytes()).await?;
                        writer.flush().await
                    });
                    sent.expect("the other side listens");
                }
            }
            writers
        };
        let paced = tokio::task::spawn_blocking(pace);
        latencies = readers.join_all().await.into_iter().flatten().collect();
        drop(paced.await.expect("sent"));
    })
    .await;
    latencies.sort_unstable();
    let micros = |share: usize| latencies[latencies.len() * share / 100].as_secs_f64() * 1e6;
    vec![("rate", cost.micros()), ("rate median", micros(50)), ("rate 99th", micros(99))]
}

/// What somebody comes for.
#[derive(Clone, Copy)]
enum Visit {
    External,
    Handshake,
    Login,
    Stream,
}

/// How many of these one second of processor time does.
async fn logins(scene: &Scene, who: Who, run: Run, visit: Visit, resuming: bool, size: &Size) -> f64 {
    let cost = visits(scene, who, run, visit, resuming, size).await;
    cost.units / cost.spent.cpu.as_secs_f64()
}

/// What these cost: some visitors, again and again.
async fn visits(scene: &Scene, who: Who, run: Run, visit: Visit, resuming: bool, size: &Size) -> Cost {
    const VISITORS: usize = 16;
    let subject = scene.start(who, run);
    let to = if matches!(visit, Visit::External) { subject.s2s } else { subject.c2s };
    // Each has tickets of its own.
    let visitors: Vec<_> =
        (0..VISITORS).map(|_| scene.client(matches!(visit, Visit::External), resuming)).collect();
    let rounds = async |end: Instant| {
        let mut tasks = JoinSet::new();
        for tls in &visitors {
            let tls = Arc::clone(tls);
            tasks.spawn(async move {
                let (mut done, mut resumed) = (0usize, 0usize);
                while Instant::now() < end || done == 0 {
                    let line = match visit {
                        Visit::External => Line::federate(to, &tls).await,
                        Visit::Handshake => Line::open(to, &tls).await,
                        Visit::Stream => {
                            let mut line = Line::open(to, &tls).await;
                            // Tickets come with the first answer.
                            line.greet().await;
                            line
                        }
                        Visit::Login => Line::login(to, &tls, "swallow").await,
                    };
                    resumed += usize::from(line.is_resumed());
                    done += 1;
                    line.close().await;
                }
                (done, resumed)
            });
        }
        let all = tasks.join_all().await;
        all.into_iter().fold((0, 0), |sum, (done, resumed)| (sum.0 + done, sum.1 + resumed))
    };
    rounds(Instant::now() + size.logins / 10).await;
    let mut visits = (0, 0);
    let spent = cost(&subject, 1, async { visits = rounds(Instant::now() + size.logins).await }).await.spent;
    let (done, resumed) = visits;
    let right = if resuming { resumed * 20 >= done * 19 } else { resumed == 0 };
    assert!(right, "{who:?}: {resumed} of {done} handshakes were resumed");
    Cost { spent, units: done as f64 }
}

/// Sessions that are logged in and say nothing: memory, and time that passes.
async fn idle(scene: &Scene, who: Who, size: &Size) -> Figures {
    // A third of the ports that there are, so that none is looked for in vain.
    let backends = u8::try_from(size.idle.div_ceil(20_000)).expect("fewer");
    let subject = scene.start(who, Run { backends, ..Run::default() });
    let pid = subject.process.pid();
    let empty = resident(pid);
    let lines = clients(&subject, &scene.client(false, false), size.idle, "swallow").await;
    tokio::time::sleep(size.watch / 4).await;
    let each = (resident(pid).saturating_sub(empty)) as f64 / lines.len() as f64;
    let cost = cost(&subject, 1, tokio::time::sleep(size.watch)).await;
    let busy = cost.spent.cpu.as_secs_f64() / size.watch.as_secs_f64() * 1e3;
    vec![("empty", empty as f64 / MIB), ("idle", each / 1024.0), ("idle cpu", busy)]
}

/// Connections that fall silent: half after the handshake, half after one octet.
async fn silent(scene: &Scene, who: Who, size: &Size) -> Figures {
    let subject = scene.start(who, Run::default());
    let tls = scene.client(false, false);
    let (mut shaken, mut begun) = (Vec::new(), Vec::new());
    for _ in 0..size.idle / 20 {
        shaken.push(Line::open(subject.c2s, &tls).await);
        let mut stream = dial(subject.c2s).await;
        stream.write_all(&[0x16]).await.expect("a connection");
        begun.push(stream);
    }
    tokio::time::sleep(size.watch / 4).await;
    let cost = cost(&subject, 1, tokio::time::sleep(size.watch)).await;
    vec![("silent", cost.spent.cpu.as_secs_f64() / size.watch.as_secs_f64() * 1e3)]
}

/// Messages of a server at a fixed rate, one a write, for one pair of its stream and for many in turn.
async fn pairs(scene: &Scene, who: Who, size: &Size) -> Figures {
    let period = Duration::from_micros(500);
    let mut micros = Vec::new();
    for count in [1, size.pairs] {
        let subject = scene.start(who, Run::default());
        let mut line = Line::federate(subject.s2s, &scene.client(true, false)).await;
        let names: Vec<String> = (0..count).map(|n| format!("d{n}.capulet.example")).collect();
        line.claim(&names).await;
        let message = chat(300, Way::Servers);
        let words = |name: &String| message.replace("@capulet.example", &format!("@{name}"));
        let messages: Vec<String> = names.iter().map(words).collect();
        let turns = usize::try_from(size.watch.as_micros() / period.as_micros()).expect("small");
        let runtime = tokio::runtime::Handle::current();
        let before = sink::read_so_far();
        let all: usize = (0..turns).map(|turn| messages[turn % count].len()).sum();
        let sent = async {
            let start = Instant::now();
            let pace = move || {
                for turn in 0..turns {
                    let due = start + period * u32::try_from(turn).expect("small");
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    runtime.block_on(line.say(&messages[turn % count]));
                }
                line
            };
            let line = tokio::task::spawn_blocking(pace).await.expect("sent");
            sink::wait(before, all as u64).await;
            line
        };
        let mut kept = None;
        micros.push(cost(&subject, turns, async { kept = Some(sent.await) }).await.micros());
    }
    vec![("pairs", micros[1] / micros[0]), ("pairs one", micros[0]), ("pairs many", micros[1])]
}

/// One login after the other, alone; and the first answer, as a client gets it that leaves Nagle's algorithm on.
async fn single(scene: &Scene, who: Who) -> Figures {
    let subject = scene.start(who, Run { as_shipped: true, ..Run::default() });
    let tls = scene.client(false, false);
    let mut times = Vec::new();
    for _ in 0..21 {
        let begun = Instant::now();
        let line = Line::login(subject.c2s, &tls, "swallow").await;
        times.push(begun.elapsed());
        line.close().await;
    }
    let middle = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64() * 1e3
    };
    let mut first = Vec::new();
    for nagle in [Nagle::On, Nagle::Off] {
        let mut times = Vec::new();
        for _ in 0..21 {
            let mut line = Line::open_with(subject.c2s, &tls, nagle).await;
            let begun = Instant::now();
            line.greet().await;
            times.push(begun.elapsed());
            line.close().await;
        }
        first.push(middle(&mut times));
    }
    vec![("single", middle(&mut times)), ("nagle", first[0] - first[1])]
}

/// Ten messages under way, over ten streams and over many.
async fn streams(scene: &Scene, who: Who, size: &Size) -> Figures {
    let mut micros = Vec::new();
    for count in [10, size.streams] {
        let subject = scene.start(who, Run::default());
        let mut lines = clients(&subject, &scene.client(false, false), count, "echo").await;
        // Each stream is used, and more than once.
        let echoes = size.echoes.max(2 * count);
        micros.push(echo(&subject, &mut lines, 10, echoes).await.micros());
    }
    vec![("streams", micros[1] / micros[0]), ("streams few", micros[0]), ("streams many", micros[1])]
}

/// The mix between servers, under ten rules and under many, with long lists and many patches; and how long it takes to
/// read them.
async fn rules(scene: &Scene, who: Who, size: &Size) -> Figures {
    let many = Run { rules: size.rules, entries: 10 * size.rules, patches: size.patches, ..Run::default() };
    let few = scene.start(who, Run { rules: 10, ..Run::default() });
    let full = scene.start(who, many);
    let memory = resident(full.process.pid()) as f64 / MIB;
    let ratio = beside(scene, [&few, &full], size).await;
    let reload = scene.reload(&full).as_secs_f64();
    vec![
        ("rules", ratio),
        ("start", full.started.as_secs_f64()),
        ("reload", reload),
        ("rules memory", memory),
    ]
}

/// The mix between servers, with another policy judged beside the one in force and without.
async fn shadow(scene: &Scene, who: Who, size: &Size) -> Figures {
    let [without, with] = [false, true].map(|shadow| scene.start(who, Run { shadow, ..Run::default() }));
    vec![("shadow", beside(scene, [&without, &with], size).await)]
}

/// How often two are looked at in turn.
const TURNS: usize = 15;

/// What the mix between servers costs the second of two, to what it costs the first: both run, and each has a little to do in
/// turn, so that an hour in which the machine is slow is both's. The middle one of all turns.
async fn beside(scene: &Scene, [first, second]: [&Subject; 2], size: &Size) -> f64 {
    let tls = scene.client(true, false);
    let mut ratios = Vec::new();
    for turn in 0..TURNS {
        let mut micros = [0.0; 2];
        // Who goes first changes.
        for which in [turn % 2, 1 - turn % 2] {
            let subject = [first, second][which];
            let mut lines = Vec::new();
            for _ in 0..STREAMS {
                lines.push(Line::federate(subject.s2s, &tls).await);
            }
            let writes = full(&mix(size.stanzas, Way::Servers));
            micros[which] = push(subject, lines, writes, size.octets / 4).await.micros();
        }
        ratios.push(micros[1] / micros[0]);
    }
    ratios.sort_by(f64::total_cmp);
    ratios[TURNS / 2]
}

/// How much more two threads do than one, as their processor time tells: the work of the busier thread bounds both.
async fn threads(scene: &Scene, who: Who, size: &Size) -> Figures {
    let (mut capacity, tls) = ([[0.0; 2]; 3], scene.client(false, false));
    for (turn, threads) in [1, 2].into_iter().enumerate() {
        let run = Run { threads, ..Run::default() };
        let subject = scene.start(who, run);
        let mut lines = clients(&subject, &tls, 128, "echo").await;
        let echoes = echo(&subject, &mut lines, 128, size.echoes).await;
        let lines = clients(&subject, &tls, 4 * STREAMS, "swallow").await;
        let mix = push(&subject, lines, full(&mix(size.stanzas, Way::ToServer)), size.octets).await;
        let logins = visits(scene, who, run, Visit::Login, false, size).await;
        for (row, cost) in capacity.iter_mut().zip([echoes, mix, logins]) {
            row[turn] = cost.units / cost.spent.busiest.as_secs_f64();
        }
    }
    let names = ["threads", "threads mix", "threads login"];
    names.into_iter().zip(capacity.map(|[one, two]| two / one)).collect()
}

/// Streams of a throughput.
const STREAMS: usize = 4;

pub const MIB: f64 = 1024.0 * 1024.0;
