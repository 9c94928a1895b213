//! The plain server behind gateway and HAProxy: it says yes to every login and then echoes, swallows or pours.
//!
//! What it does after the login is in the name of the user: `echo` writes back what it reads, `pour-N-M` answers each
//! message with N stanzas of the mix, M times; anybody else is swallowed. Servers are swallowed. Who closes his stream is
//! answered, as by any server: without an answer the gateway keeps what is left of a session until T-close.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::mix::{Way, mix};

/// Where it listens.
#[derive(Clone, Copy, Debug)]
pub struct Doors {
    /// Clients.
    pub c2s: SocketAddr,
    /// Servers that prove themselves by dialback, as the gateway does towards a backend.
    pub dialback: SocketAddr,
    /// Servers that prove themselves by EXTERNAL, as they do through a proxy that checks their certificate.
    pub external: SocketAddr,
}

/// Octets of streams that were read so far, in all.
static READ: AtomicU64 = AtomicU64::new(0);

/// Starts it on a thread of its own; it lives as long as the process.
pub fn start() -> Doors {
    let (tell, told) = channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            for kind in [Kind::Client, Kind::Dialback, Kind::External] {
                let port = listen(at(1, 0), kind).port();
                for nth in 2..=ADDRESSES {
                    listen(at(nth, port), kind);
                }
                tell.send(at(1, port)).expect("somebody waits");
            }
            std::future::pending::<()>().await;
        });
    });
    let next = || told.recv().expect("it listens");
    Doors { c2s: next(), dialback: next(), external: next() }
}

/// So many octets have been read so far.
pub fn read_so_far() -> u64 {
    READ.load(Ordering::Relaxed)
}

/// Waits until so many more have been read than at that time.
pub async fn wait(before: u64, more: u64) {
    let begun = Instant::now();
    while read_so_far() < before + more {
        assert!(
            begun.elapsed() < super::PATIENCE,
            "{} of {more} octets have arrived",
            read_so_far() - before
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Client,
    Dialback,
    External,
}

/// One of its addresses, which nobody else uses.
pub fn at(nth: u8, port: u16) -> SocketAddr {
    ([127, 11, 0, nth], port).into()
}

/// How many it has.
const ADDRESSES: u8 = 8;

/// Listens there, or on a free port; where that is.
fn listen(address: SocketAddr, kind: Kind) -> SocketAddr {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind(address).expect("a free port");
    // A short queue would turn a rush of logins into retries.
    let listener = socket.listen(16_384).expect("a listener");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(take(listener, kind));
    address
}

async fn take(listener: TcpListener, kind: Kind) {
    loop {
        let (stream, _) = listener.accept().await.expect("files are left");
        stream.set_nodelay(true).expect("a socket");
        tokio::spawn(async move {
            let talk = Talk { stream, held: Vec::new() };
            // A stream that breaks has ended, like any other.
            let _ended = match kind {
                Kind::Client => talk.client().await,
                Kind::Dialback => talk.dialback().await,
                Kind::External => talk.external().await,
            };
        });
    }
}

struct Talk {
    stream: TcpStream,
    held: Vec<u8>,
}

/// Nothing is left to say.
type Ended = std::io::Result<()>;

impl Talk {
    /// Takes what comes until this word, and up to the end of the tag that it begins.
    async fn tag(&mut self, word: &str) -> std::io::Result<String> {
        loop {
            if let Some(at) = find(&self.held, word.as_bytes())
                && let Some(end) = find(&self.held[at..], b">")
            {
                let taken = self.held.drain(..at + end + 1).collect();
                return Ok(String::from_utf8(taken).expect("the gateway lets nothing else through"));
            }
            if self.stream.read_buf(&mut self.held).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn say(&mut self, words: &str) -> Ended {
        self.stream.write_all(words.as_bytes()).await
    }

    async fn client(mut self) -> Ended {
        let header = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' \
                      from='montague.example' id='s1' version='1.0'>";
        self.tag("<stream:stream").await?;
        self.say(&format!(
            "{header}<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism>\
             </mechanisms></stream:features>"
        ))
        .await?;
        let auth = self.tag("</auth").await?;
        let (_, rest) = auth.split_once("PLAIN").expect("no other is offered");
        let payload = rest.split_once('>').and_then(|(_, rest)| rest.split_once('<')).expect("a payload").0;
        let payload = String::from_utf8(STANDARD.decode(payload).expect("base64")).expect("text");
        let user = payload.split('\0').nth(1).expect("a user").to_owned();
        self.say("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await?;
        self.tag("<stream:stream").await?;
        self.say(&format!(
            "{header}<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></stream:features>"
        ))
        .await?;
        self.tag("</iq").await?;
        self.say(&format!(
            "<iq type='result' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
             <jid>{user}@montague.example/r</jid></bind></iq>"
        ))
        .await?;
        match user.split('-').collect::<Vec<_>>()[..] {
            ["echo"] => self.echo().await,
            ["pour", stanzas, times] => {
                let number = |word: &str| word.parse().expect("a number");
                self.pour(&mix(number(stanzas), Way::ToClient), number(times)).await
            }
            _ => self.swallow().await,
        }
    }

    async fn echo(mut self) -> Ended {
        let mut space = vec![0; 16 * 1024];
        loop {
            let count = self.stream.read(&mut space).await?;
            if count == 0 {
                return Ok(());
            }
            self.stream.write_all(&space[..count]).await?;
        }
    }

    async fn pour(mut self, mix: &str, times: usize) -> Ended {
        loop {
            self.tag("</message").await?;
            for _ in 0..times {
                for chunk in mix.as_bytes().chunks(16 * 1024) {
                    self.stream.write_all(chunk).await?;
                }
            }
        }
    }

    async fn swallow(mut self) -> Ended {
        let mut space = vec![0; 64 * 1024];
        READ.fetch_add(self.held.len() as u64, Ordering::Relaxed);
        drop(std::mem::take(&mut self.held));
        loop {
            let count = self.stream.read(&mut space).await?;
            if count == 0 {
                return Ok(());
            }
            READ.fetch_add(count as u64, Ordering::Relaxed);
            if space[..count].ends_with(CLOSE.as_bytes()) {
                // RFC 6120 4.4: who hears it says it too, and goes.
                return self.say(CLOSE).await;
            }
        }
    }

    async fn dialback(mut self) -> Ended {
        self.tag("<stream:stream").await?;
        self.say(
            "<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' \
             xmlns:db='jabber:server:dialback' id='s1'>",
        )
        .await?;
        let claim = self.tag("</db:result").await?;
        let sender =
            claim.split_once(" from='").and_then(|(_, rest)| rest.split_once('\'')).expect("a sender").0;
        self.say(&format!("<db:result from='montague.example' to='{sender}' type='valid'/>")).await?;
        self.swallow().await
    }

    async fn external(mut self) -> Ended {
        let header = "<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' \
                      from='montague.example' to='capulet.example' id='s1' version='1.0'>";
        self.tag("<stream:stream").await?;
        self.say(&format!(
            "{header}<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism>\
             </mechanisms></stream:features>"
        ))
        .await?;
        self.tag("</auth").await?;
        self.say("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await?;
        self.tag("<stream:stream").await?;
        self.say(&format!("{header}<stream:features/>")).await?;
        self.swallow().await
    }
}

/// The end of a stream.
const CLOSE: &str = "</stream:stream>";

/// Where this begins.
pub fn find(octets: &[u8], word: &[u8]) -> Option<usize> {
    memchr::memmem::find(octets, word)
}
