use super::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Gives what it is made of, one part for each read, and keeps what is written, one part for each write.
#[derive(Default)]
struct Parts {
    given: Vec<Vec<u8>>,
    reads: usize,
    /// More will come, some day.
    waits: bool,
    written: Vec<Vec<u8>>,
    /// What it takes in one write.
    room: usize,
}

impl AsyncRead for Parts {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.reads += 1;
        let waits = self.waits;
        let Some(part) = self.given.first_mut() else {
            return if waits { Poll::Pending } else { Poll::Ready(Ok(())) };
        };
        let now = part.len().min(buf.remaining());
        buf.put_slice(&part[..now]);
        part.drain(..now);
        if part.is_empty() {
            self.given.remove(0);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Parts {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut all: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
        all.truncate(self.room);
        self.written.push(all);
        Poll::Ready(Ok(self.written.last().map_or(0, Vec::len)))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn giving(given: Vec<Vec<u8>>) -> Ahead<Parts> {
    Ahead::new(Parts { given, ..Parts::default() })
}

/// A stream on which nothing has come yet, and which takes so much in one write.
fn silent(room: usize) -> Ahead<Parts> {
    Ahead::new(Parts { waits: true, room, ..Parts::default() })
}

#[tokio::test]
async fn a_record_that_is_asked_for_in_small_parts_costs_one_read() {
    let record: Vec<u8> = (0..16_406u32).map(|n| n.to_le_bytes()[0]).collect();
    let mut ahead = giving(vec![record.clone()]);
    let (mut space, mut got) = ([0; 4096], Vec::new());
    while got.len() < record.len() {
        let count = ahead.read(&mut space).await.unwrap();
        got.extend_from_slice(&space[..count]);
    }
    assert_eq!((got == record, ahead.get_ref().reads), (true, 1));
    assert_eq!(ahead.held.capacity(), 0, "nothing is kept of what was taken");
}

#[tokio::test]
async fn the_end_is_told_after_the_last_octet() {
    let mut ahead = giving(vec![b"abc".to_vec(), vec![7; SPACE + 1]]);
    let mut two = [0; 2];
    assert_eq!((ahead.read(&mut two).await.unwrap(), two), (2, *b"ab"));
    assert_eq!(ahead.read(&mut two).await.unwrap(), 1);
    let mut rest = Vec::new();
    ahead.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, vec![7; SPACE + 1]);
    assert_eq!(ahead.read(&mut two).await.unwrap(), 0);
}

// TLS-05: in front of the first record, so many octets of it, and nothing else; behind it, it is a part of what was said.
#[tokio::test]
async fn white_space_that_was_on_its_way_is_passed_over() {
    for (given, expected) in [
        (vec!["\n", " \r\t", "\nabc \n"], "abc \n"),
        (vec!["abc"], "abc"),
        (vec!["    ", "   abc"], " abc"),
        (vec!["x", " y"], "x y"),
    ] {
        let given = given.into_iter().map(|part| part.as_bytes().to_vec()).collect();
        let mut ahead = giving(given).after_space(6);
        let mut all = String::new();
        ahead.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, expected);
    }
    let mut all = String::new();
    giving(vec![b" abc".to_vec()]).read_to_string(&mut all).await.unwrap();
    assert_eq!(all, " abc");
}

#[tokio::test]
async fn what_has_come_before_a_handshake_has_its_turn_is_read_in_it() {
    let mut ahead = giving(vec![vec![7; FIRST + 1]]);
    assert!(ahead.begin().await.unwrap());
    assert_eq!(ahead.held.len(), FIRST);
    let mut all = Vec::new();
    ahead.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, vec![7; FIRST + 1]);
    assert!(!giving(Vec::new()).begin().await.unwrap());
}

/// Asks for octets that have not come.
async fn waits(ahead: &mut Ahead<Parts>) {
    let mut space = [0; 8];
    let read = std::pin::pin!(ahead.read(&mut space));
    assert!(read.poll(&mut Context::from_waker(std::task::Waker::noop())).is_pending());
}

#[tokio::test]
async fn what_is_said_late_goes_out_at_once_when_there_is_nothing_to_read() {
    let mut ahead = silent(100);
    ahead.say_late(b"hello");
    ahead.say_late(b", done");
    assert!(ahead.get_ref().written.is_empty());
    waits(&mut ahead).await;
    assert_eq!(ahead.get_ref().written, [b"hello, done".to_vec()]);
    waits(&mut ahead).await;
    assert_eq!((ahead.get_ref().written.len(), ahead.late.capacity()), (1, 0));
}

#[tokio::test]
async fn what_is_said_late_goes_out_in_one_write_with_what_follows() {
    for (room, writes) in [(100, 1), (3, 5), (6, 2)] {
        let mut ahead = silent(room);
        ahead.say_late(b"ticket");
        assert!(ahead.get_ref().written.is_empty());
        ahead.write_all(b"answer").await.unwrap();
        let written = &ahead.get_ref().written;
        assert_eq!(written.concat(), b"ticketanswer", "{room}");
        assert!(written.len() <= writes, "{room}: {written:?}");
    }
}

// A client that waits for an acknowledgement before it says more gets one with it.
#[tokio::test]
async fn what_is_said_late_waits_for_no_answer_to_words_that_have_not_come() {
    let mut ahead = silent(4);
    ahead.say_late(b"ticket");
    waits(&mut ahead).await;
    assert_eq!(ahead.get_ref().written, [b"tick".to_vec(), b"et".to_vec()]);
}

#[tokio::test]
async fn nothing_that_is_said_late_is_lost_at_the_end() {
    let (mut flushed, mut shut, mut let_go) = (silent(2), silent(2), silent(2));
    for ahead in [&mut flushed, &mut shut, &mut let_go] {
        ahead.say_late(b"alert");
    }
    flushed.flush().await.unwrap();
    shut.shutdown().await.unwrap();
    let_go.let_go().await.unwrap();
    for ahead in [flushed, shut, let_go] {
        assert_eq!(ahead.get_ref().written.concat(), b"alert");
    }
}

/// A record as it comes, which holds so many octets.
fn record(octets: u16) -> Vec<u8> {
    let [high, low] = (octets + 17).to_be_bytes();
    [&[23, 3, 3, high, low][..], &vec![0; usize::from(octets) + 17]].concat()
}

/// Reads records as long as there are any, in parts of so many octets; how many reads that took, and how many octets were read before
/// their record was whole, of all but the first.
fn copied(records: &[Vec<u8>], wanted: usize) -> (usize, Vec<usize>) {
    let mut ahead = giving(vec![records.concat()]);
    let (mut space, mut left, mut early) =
        (vec![0; SPACE], records.iter().map(Vec::len).peekable(), Vec::new());
    while left.peek().is_some() {
        let read = ahead.poll_more(&mut Context::from_waker(std::task::Waker::noop()), &mut space, wanted);
        let Poll::Ready(Ok(count)) = read else { panic!("{read:?}") };
        let mut done = 0;
        while let Some(len) = left.next_if(|len| done + len <= count) {
            done += len;
        }
        early.push(count - done);
        ahead.put_back(space[done..count].to_vec());
    }
    (ahead.get_ref().reads, early)
}

#[test]
fn of_a_large_record_little_is_read_before_the_one_before_it_is_taken() {
    const FULL: u16 = 16 * 1024;
    let wanted = usize::from(FULL);
    let full = vec![record(FULL); 32];
    let (reads, early) = copied(&full, wanted);
    assert!(reads == 32 && early.iter().all(|octets| *octets <= 7), "{reads} {early:?}");
    // Whatever comes before them.
    for first in [1, 100, 1000, 16_000] {
        let mixed = [vec![record(first)], full.clone()].concat();
        let (reads, early) = copied(&mixed, wanted);
        assert!(reads <= 34, "{first}: {reads}");
        assert!(early.iter().skip(2).all(|octets| *octets <= 7), "{first}: {early:?}");
    }
    // Several are read at once where as much is wanted, and no more of the next one than of each.
    let (reads, early) = copied(&vec![record(FULL); 33], 3 * wanted);
    assert!(reads == 11 && early.iter().all(|octets| *octets <= 3 * 7), "{reads} {early:?}");
    // Where little is wanted a record is read to its end at once; small ones come together.
    assert_eq!(copied(&full, 4096).0, 2 * 32);
    assert!(copied(&vec![record(300); 500], wanted).0 <= 500 / 50);
}
