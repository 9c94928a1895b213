//! A client that says what it likes: octets in, octets out, over TCP or TLS, with no manners of its own.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use memchr::memmem;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::ca::Leaf;
use super::programs::GATE;
use super::scene::HOSTED;
use super::server::PASSWORD;
use super::world::Host;

/// A connection, in clear or not.
pub struct Raw {
    io: Option<Io>,
    heard: String,
}

enum Io {
    Plain(TcpStream),
    /// Read in a thread of its own.
    Read(Reader),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// What comes over a connection is taken at once, whatever its owner waits for meanwhile: servers cut off who does not read for long.
struct Reader {
    stream: TcpStream,
    came: Receiver<io::Result<Vec<u8>>>,
}

impl Reader {
    fn of(stream: TcpStream) -> Self {
        let mut reading = stream.try_clone().expect("a second handle");
        stream.set_read_timeout(None).expect("a socket option");
        let (sender, came) = channel();
        thread::spawn(move || {
            let mut space = [0; 16 * 1024];
            loop {
                let read = reading.read(&mut space).map(|n| space.get(..n).unwrap_or_default().to_vec());
                let goes_on = read.as_ref().is_ok_and(|octets| !octets.is_empty());
                if sender.send(read).is_err() || !goes_on {
                    return;
                }
            }
        });
        Self { stream, came }
    }

    fn read(&self, space: &mut Vec<u8>) -> io::Result<usize> {
        *space = match self.came.recv_timeout(Duration::from_millis(100)) {
            Ok(read) => read?,
            Err(RecvTimeoutError::Timeout) => return Err(io::ErrorKind::TimedOut.into()),
            Err(RecvTimeoutError::Disconnected) => Vec::new(),
        };
        Ok(space.len())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // The thread holds the connection, too.
        let _over = self.stream.shutdown(Shutdown::Both);
    }
}

/// How a connection came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By a close, of TLS or of TCP.
    Closed,
    /// By a reset.
    Reset,
}

impl Raw {
    /// A connection in clear.
    pub fn connect(host: &Host, port: u16) -> Self {
        let address = SocketAddr::from((GATE, port));
        let stream = host.connect(address).unwrap_or_else(|e| panic!("{address}: {e}"));
        stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket option");
        Self { io: Some(Io::Plain(stream)), heard: String::new() }
    }

    /// A connection in clear that stands.
    pub fn of(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket option");
        Self { io: Some(Io::Plain(stream)), heard: String::new() }
    }

    /// A stream header between servers.
    pub fn open_server(&mut self, from: &str, to: &str) {
        self.say(&format!(
            "<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:db='jabber:server:dialback' \
             xmlns:stream='http://etherx.jabber.org/streams' version='1.0' from='{from}' to='{to}'>"
        ));
    }

    /// A connection inside to the server behind, logged in and bound to this resource: what it says is what it wrote. It is read all
    /// the time.
    pub fn inside(stream: TcpStream, user: &str, resource: &str) -> Self {
        let mut raw = Self { io: Some(Io::Read(Reader::of(stream))), heard: String::new() };
        raw.open();
        raw.hear("</stream:features>");
        raw.log_in(user);
        raw.bind(resource);
        raw
    }

    /// A stream of the server of this domain that its certificate proves: from now on it says what it likes to that domain.
    pub fn server(host: &Host, roots: &Path, own: &Leaf, from: &str, to: &str) -> Self {
        let mut raw = Self::connect(host, 5270);
        raw.secure_as(roots, &["xmpp-server"], to, Some(own)).expect("the gateway's certificate holds");
        raw.open_server(from, to);
        raw.hear("</stream:features>");
        raw.say("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>");
        raw.hear("<success");
        raw.open_server(from, to);
        raw.hear("<stream:features");
        raw.hear(">");
        raw
    }

    /// TLS on the connection, with these protocols offered; the server must be what its certificate says.
    pub fn secure(&mut self, roots: &Path, alpn: &[&str]) -> io::Result<()> {
        self.secure_as(roots, alpn, HOSTED, None)
    }

    /// The same with the server of this name, and with a certificate of one's own.
    pub fn secure_as(
        &mut self,
        roots: &Path,
        alpn: &[&str],
        name: &str,
        own: Option<&Leaf>,
    ) -> io::Result<()> {
        let Some(Io::Plain(stream)) = self.io.take() else { panic!("TLS stands already") };
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut store = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(roots).expect("a PEM file") {
            store.add(certificate.expect("a certificate")).expect("a root");
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(store);
        let mut config = match own {
            Some(own) => {
                let chain = CertificateDer::pem_file_iter(&own.chain).expect("a PEM file");
                let chain = chain.collect::<Result<Vec<_>, _>>().expect("certificates");
                let key = PrivateKeyDer::from_pem_file(&own.key).expect("a key");
                config.with_client_auth_cert(chain, key).expect("a certificate with its key")
            }
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let session = ClientConnection::new(Arc::new(config), name).expect("a session");
        let mut tls = StreamOwned::new(session, stream);
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock)?;
        }
        tls.sock.set_read_timeout(Some(Duration::from_millis(100)))?;
        self.io = Some(Io::Tls(Box::new(tls)));
        Ok(())
    }

    /// Goes through STARTTLS; what is heard afterwards begins with the new stream.
    pub fn starttls(host: &Host, roots: &Path) -> Self {
        let mut raw = Self::connect(host, 5222);
        raw.open();
        raw.hear("</stream:features>");
        raw.say("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
        raw.hear("<proceed");
        raw.secure(roots, &[]).expect("the gateway's certificate holds");
        raw.open();
        raw.hear("</stream:features>");
        raw
    }

    /// Logs in with PLAIN after STARTTLS, and does not bind.
    pub fn login(host: &Host, roots: &Path, user: &str) -> Self {
        let mut raw = Self::starttls(host, roots);
        raw.log_in(user);
        raw
    }

    /// Logs in with PLAIN, and reads the features behind it.
    pub fn log_in(&mut self, user: &str) {
        let plain = STANDARD.encode(format!("\0{user}\0{PASSWORD}"));
        self.say(&format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{plain}</auth>"));
        self.hear("<success");
        self.open();
        self.hear("</stream:features>");
    }

    /// Logs in and binds this resource.
    pub fn bound(host: &Host, roots: &Path, user: &str, resource: &str) -> Self {
        let mut raw = Self::login(host, roots, user);
        raw.bind(resource);
        raw
    }

    /// Binds this resource.
    pub fn bind(&mut self, resource: &str) {
        self.say(&format!(
            "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
             <resource>{resource}</resource></bind></iq>"
        ));
        self.hear("</iq>");
    }

    /// A stream header.
    pub fn open(&mut self) {
        self.open_with("");
    }

    /// A stream header that says who this is.
    pub fn open_from(&mut self, account: &str) {
        self.open_with(&format!(" from='{account}'"));
    }

    fn open_with(&mut self, from: &str) {
        self.say(&format!(
            "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
             xmlns:stream='http://etherx.jabber.org/streams' version='1.0' to='{HOSTED}'{from}>"
        ));
    }

    /// Sends octets; a connection that has ended takes them in silence.
    pub fn say(&mut self, octets: &str) {
        let sent = match &mut self.io {
            Some(Io::Plain(stream) | Io::Read(Reader { stream, .. })) => stream.write_all(octets.as_bytes()),
            Some(Io::Tls(tls)) => tls.write_all(octets.as_bytes()).and_then(|()| tls.flush()),
            None => Ok(()),
        };
        drop(sent);
    }

    /// Half-closes the TCP connection.
    pub fn half_close(&mut self) {
        let stream = match &self.io {
            Some(Io::Plain(stream) | Io::Read(Reader { stream, .. })) => stream,
            Some(Io::Tls(tls)) => &tls.sock,
            None => return,
        };
        stream.shutdown(Shutdown::Write).expect("a connection that stands");
    }

    /// All pages of an archive from there on, of the user's own or of what this attribute names, and where they end.
    pub fn archive(&mut self, of: &str, after: &str) -> (String, String) {
        let (mut all, mut last) = (String::new(), after.to_owned());
        loop {
            let from = if last.is_empty() { String::new() } else { format!("<after>{last}</after>") };
            self.say(&format!(
                "<iq type='set' id='page'{of}><query xmlns='urn:xmpp:mam:2'><set xmlns='http://jabber.org/protocol/rsm'>\
                 <max>10</max>{from}</set></query></iq>"
            ));
            let mut page = self.hear("</iq>");
            // Whatever else is answered meanwhile.
            while memmem::find(page.as_bytes(), b"</fin>").is_none() {
                page += &self.hear("</iq>");
            }
            let fin = page[memmem::rfind(page.as_bytes(), b"<fin").unwrap_or_default()..].to_owned();
            all += &page;
            let end = fin.split("<last>").nth(1).and_then(|rest| rest.split("</last>").next());
            last = end.map_or(last, str::to_owned);
            if end.is_none() || fin.contains("complete='true'") || fin.contains("complete=\"true\"") {
                return (all, last);
            }
        }
    }

    /// Reads until these words have come; everything since the last call, with them.
    pub fn hear(&mut self, words: &str) -> String {
        let end = Instant::now() + PATIENCE;
        // What was looked through is not looked through again.
        let mut done = 0;
        loop {
            let heard = self.heard.as_bytes();
            if let Some(at) = memmem::find(&heard[done..], words.as_bytes()) {
                let rest = self.heard.split_off(done + at + words.len());
                return std::mem::replace(&mut self.heard, rest);
            }
            done = heard.len().saturating_sub(words.len());
            assert!(Instant::now() < end, "waited for {words}; heard {:?}", self.heard);
            let over = self.read();
            assert!(
                over.is_none() || self.heard.contains(words),
                "waited for {words}; {over:?} after {:?}",
                self.heard
            );
        }
    }

    /// Reads until these words have come, the connection has ended, or the time is over; everything that came.
    pub fn hear_within(&mut self, words: &str, time: Duration) -> String {
        let end = Instant::now() + time;
        while !self.heard.contains(words) && Instant::now() < end && self.read().is_none() {}
        std::mem::take(&mut self.heard)
    }

    /// Reads to the end of the connection; all that was still said.
    pub fn end(&mut self) -> (String, End) {
        let until = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < until, "the connection does not end; heard {:?}", self.heard);
            if let Some(end) = self.read() {
                return (std::mem::take(&mut self.heard), end);
            }
        }
    }

    fn read(&mut self) -> Option<End> {
        let mut space = vec![0; 16 * 1024];
        let read = match &mut self.io {
            Some(Io::Plain(stream)) => stream.read(&mut space),
            Some(Io::Read(reader)) => reader.read(&mut space),
            Some(Io::Tls(tls)) => tls.read(&mut space),
            None => Ok(0),
        };
        match read {
            Ok(0) => Some(End::Closed),
            Ok(n) => {
                self.heard += &String::from_utf8_lossy(space.get(..n).unwrap_or_default());
                None
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => None,
            // TLS that ends without a close_notify is cut off as surely as by a reset.
            Err(_) => Some(End::Reset),
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(30);
