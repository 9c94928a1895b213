//! What is read of refused stanzas is paid for, and what the server behind says reaches its client however large it is.

use super::*;

// XML-17: "Skipped octets are charged to the rates as they come; the element counts as one stanza."
#[tokio::test(start_paused = true)]
async fn a_refused_stanza_is_paid_for_as_it_comes() {
    let paces = [
        (Pace { octets: NonZeroU32::new(100_000), stanzas: None }, "octets"),
        (Pace { octets: None, stanzas: NonZeroU32::new(2) }, "stanzas"),
    ];
    for (pair, limit) in paces {
        let transport = Scripted::default();
        let backend = transport.lay(ROOM);
        let mut tools = tools(transport);
        Arc::get_mut(&mut tools).unwrap().bounds.rates =
            Arc::new(Rates::new(RateParams { pair, ..RateParams::default() }));
        let (mut play, mut backend) = friend_at(&tools, backend).await;
        let begun = now();
        let odd = |body: &str| {
            format!("<presence from='a@friend.example/x' to='b@hall.example'><\u{e9}/>{body}</presence>")
        };
        let sending = tokio::spawn(async move {
            let stanzas =
                if limit == "octets" { vec!["x".repeat(1_000_000)] } else { vec![String::new(); 20] };
            for body in stanzas {
                say(&mut play.near, &odd(&body)).await;
            }
            say(&mut play.near, &message(1)).await;
            play
        });
        hear(&mut backend, "</message>").await;
        let took = now() - begun;
        assert!(took >= Duration::from_secs(8) && took < Duration::from_secs(13), "{limit}: {took:?}");
        let play = sending.await.unwrap();
        let text = play.tools.observe.metrics().text().unwrap();
        let limited = format!("gatehouse_limited_total{{limit=\"{limit}\"}}");
        assert!(text.contains(&limited), "{text}");
        assert!(
            text.contains("reason=\"name-beyond-ascii\"") || text.contains("reason=\"stanza\""),
            "{text}"
        );
    }
}

// L-inside-*, LIM-05: a roster of many megabytes reaches a client that takes its time, by back-pressure; its server is not
// read meanwhile, and nothing is cut or comes back.
#[tokio::test(start_paused = true)]
async fn a_large_answer_of_the_server_reaches_a_slow_client_whole() {
    let (mut play, server) = super::clients::bound(1 << 16).await;
    let roster = |id: usize| {
        let item = "<item jid='contact@a.example' name='Some One With A Long Name' subscription='both'/>";
        let items = item.repeat(105_000);
        format!("<iq type='result' id='r{id}'><query xmlns='jabber:iq:roster'>{items}</query></iq>")
    };
    let one = roster(1).len();
    assert!(one > 8_000_000 && one < 10 << 20);
    let (mut answers, mut writing) = tokio::io::split(server);
    let written = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&written);
    let serving = tokio::spawn(async move {
        for id in 1..=3 {
            for part in roster(id).as_bytes().chunks(1 << 14) {
                writing.write_all(part).await.unwrap();
                count.fetch_add(part.len(), std::sync::atomic::Ordering::SeqCst);
            }
        }
        writing
    });
    tokio::time::sleep(Duration::from_secs(60)).await;
    let held = written.load(std::sync::atomic::Ordering::SeqCst);
    assert!(held >= one && held < one + (1 << 20), "one whole answer and little more is held, not {held}");
    let mut heard = 0;
    let mut last = Vec::new();
    while heard < 3 * one {
        let mut octets = vec![0; 1 << 16];
        let read = tokio::time::timeout(Duration::from_secs(300), play.near.read(&mut octets)).await;
        let read = read.expect("it goes on").expect("it is not cut");
        assert!(read > 0, "cut after {heard}");
        heard += read;
        last = octets[..read].to_vec();
        // Slowly: half a minute for each megabyte.
        if heard >> 20 != (heard - read) >> 20 {
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
    }
    assert!(String::from_utf8_lossy(&last).ends_with("</query></iq>"));
    let _writing = serving.await.unwrap();
    // Both still speak.
    say(&mut play.near, "<presence/>").await;
    let mut heard = String::new();
    while !heard.contains("<presence/>") {
        let mut octets = [0; 64];
        let read = answers.read(&mut octets).await.unwrap();
        assert!(read > 0, "the stream of the server goes on: {heard}");
        heard += std::str::from_utf8(&octets[..read]).unwrap();
    }
    // Between them stands what keeps a stream alive.
    assert_eq!(heard.trim_start(), "<presence/>");
}
