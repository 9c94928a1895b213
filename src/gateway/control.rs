//! The control socket: a Unix socket that only the gateway's own user and root may speak to.
//!
//! The file has mode 0600 from its first moment, and the kernel's word on who called is asked besides. Requests are
//! lines of JSON, of bounded size and within bounded time; connections are few, and whoever says nothing keeps nobody else out
//! (`gateway/places`). Every request that changes something
//! goes to the log and the audit log with the user id, refused ones too; who only asks leaves no record ([`Request::only_asks`]).

use std::fmt::Debug;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::act::{Act, Caller};
use super::places::{Caller as Seat, Places};
use super::protocol::{Answer, LONGEST, Request};
use super::sockets::SocketFile;
use crate::run::seldom::Seldom;

/// Who deals with requests.
#[async_trait]
pub trait Answering: Debug + Send + Sync {
    /// Does what this user asks.
    async fn answer(&self, request: &Request, uid: u32) -> Answer;

    /// Writes down what was asked and what came of it.
    fn record(&self, act: &Act);
}

/// The open socket. It goes when this goes.
#[derive(Debug)]
pub struct Control {
    place: SocketFile,
    /// Dropped, or told, when nobody new may call.
    calling: watch::Sender<bool>,
    retired: bool,
    task: JoinHandle<()>,
}

impl Control {
    /// Opens the socket and serves it.
    ///
    /// # Errors
    /// When it cannot be put in its place.
    pub fn start(mut place: SocketFile, operations: Arc<dyn Answering>) -> io::Result<Self> {
        let listener = UnixListener::from_std(place.open()?)?;
        let (calling, called) = watch::channel(true);
        let task = tokio::spawn(serve(listener, place.owner(), operations, called));
        Ok(Self { place, calling, retired: false, task })
    }

    /// Closes the socket; whose request is being answered gets his answer.
    pub fn retire(mut self) {
        // The task may have ended.
        let _sent = self.calling.send(false);
        self.place.remove();
        self.retired = true;
    }

    /// The same, and waits for those answers: nobody is left without one because the process ends with it.
    pub async fn close(mut self) {
        let _sent = self.calling.send(false);
        // Who does not take his answer does not hold the end up.
        if tokio::time::timeout(FIRST, &mut self.task).await.is_err() {
            tracing::debug!("an answer on the control socket was not taken");
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if !self.retired {
            self.task.abort();
        }
    }
}

async fn serve(
    listener: UnixListener,
    owner: u32,
    operations: Arc<dyn Answering>,
    mut called: watch::Receiver<bool>,
) {
    let mut places = Places::new(CONNECTIONS);
    let mut short = Seldom::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _retired = called.wait_for(|calling| !calling) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                if short.may_log() {
                    tracing::warn!(%error, "the control socket cannot accept");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (operations, called) = (Arc::clone(&operations), called.clone());
        let call = |seat| async move {
            if let Err(error) = attend(stream, owner, operations.as_ref(), &seat, called).await {
                tracing::debug!(%error, "a control connection ended");
            }
        };
        places.seat(call).await;
    }
    drop(listener);
    places.emptied().await;
}

/// Serves one connection, request by request, for as long as anybody may call.
async fn attend(
    stream: UnixStream,
    owner: u32,
    operations: &dyn Answering,
    seat: &Seat,
    mut called: watch::Receiver<bool>,
) -> io::Result<()> {
    let credentials = stream.peer_cred()?;
    let caller = Caller { uid: credentials.uid(), pid: credentials.pid() };
    let (reader, mut writer) = stream.into_split();
    let permitted = caller.uid == owner || caller.uid == 0;
    let mut reader = BufReader::new(reader);
    let mut patience = FIRST;
    loop {
        let mut line = Vec::new();
        let most = u64::try_from(LONGEST).unwrap_or(u64::MAX);
        let mut bounded = (&mut reader).take(most);
        let heard = tokio::select! {
            // First: what has been said already is answered.
            biased;
            heard = tokio::time::timeout(patience, bounded.read_until(b'\n', &mut line)) => heard,
            _retired = called.wait_for(|calling| !calling) => return Ok(()),
        };
        match heard {
            Ok(Ok(0)) => return Ok(()),
            Ok(Ok(_)) if line.ends_with(b"\n") => {}
            Ok(Ok(_)) => {
                let answer = Answer::no(format!("a request is one line of at most {LONGEST} octets"));
                operations.record(&Act::of(&caller, "unreadable", None, &answer));
                return say(&mut writer, answer).await;
            }
            Ok(Err(error)) => return Err(error),
            Err(_late) => return Err(io::ErrorKind::TimedOut.into()),
        }
        // Heard first: a socket closed on unread octets would take our answer with it.
        if !permitted {
            let answer = Answer::no(format!("user {} may not steer this gateway", caller.uid));
            operations.record(&Act::of(&caller, "connect", None, &answer));
            return say(&mut writer, answer).await;
        }
        patience = PATIENCE;
        seat.speaks();
        let answer = match serde_json::from_slice::<Request>(&line) {
            Ok(request) => {
                let answer = operations.answer(&request, caller.uid).await;
                if !request.only_asks() {
                    operations.record(&Act::of(&caller, request.label(), Some(&request), &answer));
                }
                answer
            }
            Err(error) => {
                let answer = Answer::no(format!("this is no request: {error}"));
                operations.record(&Act::of(&caller, "unreadable", None, &answer));
                answer
            }
        };
        // Who does not take the answer is as silent as who does not ask.
        seat.waits();
        say(&mut writer, answer).await?;
    }
}

async fn say(writer: &mut (impl tokio::io::AsyncWrite + Unpin), answer: Answer) -> io::Result<()> {
    // A plan may name a hundred thousand rules: it is written, and its memory given back, where no stream waits.
    let written = tokio::task::spawn_blocking(move || serde_json::to_vec(&answer));
    let mut line = written.await.map_err(io::Error::other)??;
    line.push(b'\n');
    match tokio::time::timeout(PATIENCE, writer.write_all(&line)).await {
        Ok(written) => written,
        Err(_late) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Connections at one time.
const CONNECTIONS: usize = 16;

/// How long a caller may be silent at first.
const FIRST: Duration = Duration::from_secs(2);

/// How long a caller who has been answered may be silent, or take nothing.
const PATIENCE: Duration = Duration::from_secs(10);
