//! What a channel of TLS says it holds, wherever it is cut: the other side reads all that was taken but those octets (CLS-02).

use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use gatehouse::stream::dane::Published;
use gatehouse::tls::{
    Acceptor, Alpn, Certificates, Channel, Connector, FarChannel, Mode, TrustStore, client, server,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::dice::Dice;
use crate::pki::{Authority, Leaf, domain};

type Version = &'static SupportedProtocolVersion;

/// A channel that is cut.
trait Cut: AsyncWrite + Unpin {
    fn held(&self) -> usize;
}

impl Cut for Channel<DuplexStream> {
    fn held(&self) -> usize {
        Channel::held(self)
    }
}

impl Cut for FarChannel<DuplexStream> {
    fn held(&self) -> usize {
        FarChannel::held(self)
    }
}

/// What both sides have, made once.
struct Props {
    authority: Authority,
    leaf: Leaf,
}

impl Props {
    fn new() -> Self {
        let authority = Authority::new("root");
        let leaf = authority.issue(&["a.example"]);
        Self { authority, leaf }
    }

    /// The accepting side is ours.
    async fn accepted(
        &self,
        version: Version,
        room: usize,
    ) -> (Channel<DuplexStream>, impl AsyncRead + use<>) {
        let certificates = Certificates::from_identities([(domain("a.example"), self.leaf.identity())]);
        let acceptor = Acceptor::new(server::Params {
            mode: Mode::Direct,
            alpn: vec![Alpn::Client],
            default: None,
            ask_certificate: false,
            certificates: Arc::new(certificates),
            trust: Arc::new(TrustStore::default()),
        });
        let config = ClientConfig::builder_with_protocol_versions(&[version])
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(crate::tls::Gullible))
            .with_no_client_auth();
        let (near, far) = duplex(room);
        let name = ServerName::try_from("a.example").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let acceptor = acceptor.unwrap();
        let accepting = async {
            let (mut ours, _) = acceptor.accept(near, None).await.unwrap();
            // What ends the handshake is said late; in TLS 1.3 that is a ticket, which nobody waits for.
            if version == &rustls::version::TLS12 {
                ours.flush().await.unwrap();
            }
            ours
        };
        let (ours, theirs) = tokio::join!(accepting, connector.connect(name, far));
        (ours, theirs.unwrap())
    }

    /// The connecting side is.
    async fn connected(
        &self,
        version: Version,
        room: usize,
    ) -> (FarChannel<DuplexStream>, impl AsyncRead + use<>) {
        let certificates = Arc::new(Certificates::from_identities([]));
        let params = client::Params { certificates, trust: self.authority.trust() };
        let connector = Connector::new(params).unwrap();
        let mut config = ServerConfig::builder_with_protocol_versions(&[version])
            .with_no_client_auth()
            .with_single_cert(self.leaf.chain.clone(), self.leaf.private())
            .unwrap();
        // They would wait for a reader.
        config.send_tls13_tickets = 0;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (near, far) = duplex(room);
        let (remote, unpublished) = (domain("a.example"), Published::default());
        let calling = connector.connect(near, None, (&remote, &unpublished), Mode::Starttls);
        let (ours, theirs) = tokio::join!(calling, acceptor.accept(far));
        (ours.unwrap().0, theirs.unwrap())
    }
}

/// Writes, flushes and reads as the dice fall, cuts, and reads the rest.
async fn cut(mut ours: impl Cut, mut theirs: impl AsyncRead + Unpin, dice: &mut Dice, story: &str) -> usize {
    let cx = &mut Context::from_waker(Waker::noop());
    let octets: Vec<u8> = (0..150_000_u32).map(|n| n.to_be_bytes()[dice.below(2) + 2]).collect();
    let (mut taken, mut got) = (0, Vec::new());
    let sizes = [1, 2, 300, 5_000, 16_383, 16_384, 16_385, 40_000];
    for _ in 0..dice.below(40) {
        match dice.below(5) {
            0 => {
                if let Poll::Ready(outcome) = Pin::new(&mut ours).poll_flush(cx) {
                    outcome.unwrap();
                    assert_eq!(ours.held(), 0, "{story}: all was let out");
                }
            }
            1 => {
                let mut space = vec![0; 1 + dice.below(30_000)];
                let mut buf = tokio::io::ReadBuf::new(&mut space);
                if let Poll::Ready(outcome) = Pin::new(&mut theirs).poll_read(cx, &mut buf) {
                    outcome.unwrap();
                    got.extend_from_slice(buf.filled());
                }
            }
            _ => {
                let mut rest = &octets[taken % 100_000..];
                let mut slices = Vec::new();
                for _ in 0..=dice.below(6) {
                    let (now, later) = rest.split_at(sizes[dice.below(sizes.len())].min(rest.len()));
                    slices.push(IoSlice::new(now));
                    rest = later;
                }
                let outcome = match dice.chance(3) {
                    true => Pin::new(&mut ours).poll_write(cx, &slices[0]),
                    false => Pin::new(&mut ours).poll_write_vectored(cx, &slices),
                };
                if let Poll::Ready(outcome) = outcome {
                    taken += outcome.unwrap();
                }
            }
        }
    }
    let held = ours.held();
    assert!(held <= taken, "{story}");
    drop(ours);
    // What was cut in the middle of a record is an error, and so is the end without a word.
    let _cut = theirs.read_to_end(&mut got).await;
    assert_eq!(got.len(), taken - held, "{story}: {taken} were taken, {held} held");
    held
}

#[tokio::test]
async fn the_other_side_reads_all_but_what_is_held() {
    // Their turns are ours to give.
    tokio::task::unconstrained(async {
        let (props, mut cut_short) = (Props::new(), [0; 2]);
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            for room in [64, 1_000, 16_384, 16_406, 16_413, 20_000, 33_000, 70_000, 150_000] {
                for seed in 0..20 {
                    let story = format!("{version:?}, room for {room}, seed {seed}");
                    let mut dice = Dice::new(seed);
                    let (ours, theirs) = props.accepted(version, room).await;
                    let held = cut(ours, theirs, &mut dice, &format!("accepted, {story}")).await;
                    cut_short[0] += usize::from(held > 0);
                    let (ours, theirs) = props.connected(version, room).await;
                    let held = cut(ours, theirs, &mut dice, &format!("connected, {story}")).await;
                    cut_short[1] += usize::from(held > 0);
                }
            }
        }
        assert!(cut_short.iter().all(|times| *times > 50), "{cut_short:?}");
    })
    .await;
}
