//! DNS over TCP, for the backends alone: from anybody else no octet is read.
//!
//! The library's own loop takes everybody in and refuses each question; here a connection costs whoever is no backend nothing and
//! us one look at its address. So many connections at a time, each silent for so long at most.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_proto::rr::Record;
use hickory_proto::serialize::binary::BinEncoder;
use hickory_server::net::NetError;
use hickory_server::net::runtime::TokioTime;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponse;
use ipnet::IpNet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Answers until it is dropped.
pub(super) async fn serve(listener: TcpListener, from: Vec<IpNet>, answers: impl RequestHandler + Clone) {
    let mut open = JoinSet::new();
    loop {
        let accepted = listener.accept().await;
        while open.try_join_next().is_some() {}
        match accepted {
            Ok((stream, peer)) => {
                let address = peer.ip().to_canonical();
                if open.len() < OPEN && from.iter().any(|network| network.contains(&address)) {
                    open.spawn(converse(stream, peer, answers.clone()));
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a DNS query over TCP could not be taken");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// One question after the other (RFC 7766 6.2.1), until one is late or is none.
async fn converse(mut stream: TcpStream, peer: SocketAddr, answers: impl RequestHandler) {
    while let Ok(Some(question)) = tokio::time::timeout(IDLE, read(&mut stream)).await {
        let Ok(request) = Request::from_bytes(question, peer, Protocol::Tcp) else { return };
        let answer = Answer::default();
        answers.handle_request::<_, TokioTime>(&request, answer.clone()).await;
        let octets = std::mem::take(&mut *answer.0.lock().unwrap_or_else(PoisonError::into_inner));
        let Ok(length) = u16::try_from(octets.len()) else { return };
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(&octets);
        if !matches!(tokio::time::timeout(IDLE, stream.write_all(&framed)).await, Ok(Ok(()))) {
            return;
        }
    }
}

async fn read(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let length = usize::from(stream.read_u16().await.ok()?);
    if length > QUESTION {
        return None;
    }
    let mut question = vec![0; length];
    stream.read_exact(&mut question).await.ok()?;
    Some(question)
}

/// What was answered, in octets.
#[derive(Clone, Default)]
struct Answer(Arc<Mutex<Vec<u8>>>);

#[async_trait::async_trait]
impl ResponseHandler for Answer {
    async fn send_response<'a>(
        &mut self,
        response: MessageResponse<
            '_,
            'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
        >,
    ) -> Result<ResponseInfo, NetError> {
        let mut octets = Vec::new();
        let mut encoder = BinEncoder::new(&mut octets);
        encoder.set_max_size(u16::MAX);
        let info = response.destructive_emit(&mut encoder)?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = octets;
        Ok(info)
    }
}

/// How long a connection may be silent.
const IDLE: Duration = Duration::from_secs(5);

/// How long the listener rests that could not take a connection.
const PAUSE: Duration = Duration::from_millis(100);

/// Connections at a time.
const OPEN: usize = 128;

/// Octets of a question; a name has 255 at most.
const QUESTION: usize = 4096;
