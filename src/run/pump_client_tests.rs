//! A client over pipes: the tests play the client and the server inside.

use super::*;
use crate::relay::ClientDomain;
use crate::run::tests::domain;

const OPEN: &str = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'";
const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
const SASL2: &str = "urn:xmpp:sasl:2";
const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
/// A login with a resumption in it.
const FEATURES_2: &str = "<authentication xmlns='urn:xmpp:sasl:2'><mechanism>PLAIN</mechanism><inline>\
                          <sm xmlns='urn:xmpp:sm:3'/></inline></authentication>";

/// The tools of a gateway that serves clients.
fn serving(transport: Scripted) -> Arc<Tools> {
    let mut tools = Arc::into_inner(tools(transport)).unwrap();
    let mut relays = (*tools.relays).clone();
    relays.clients.insert(domain("hall.example"), ClientDomain::default());
    tools.relays = Arc::new(relays);
    Arc::new(tools)
}

/// A client that its server has bound.
pub(super) async fn bound(server_room: usize) -> (Play, DuplexStream) {
    let transport = Scripted::default();
    let mut server = transport.lay(server_room);
    let mut play = logged_in(&serving(transport), &mut server, "alice").await;
    bind(&mut play, &mut server, "alice").await;
    (play, server)
}

/// A client that has logged in; a bind is due.
async fn logged_in(tools: &Arc<Tools>, server: &mut DuplexStream, account: &str) -> Play {
    let mut play = arrive(tools, Flow::C2s, Some(secured("client.example")));
    let header = format!("{OPEN} to='hall.example' version='1.0'>");
    let answer = format!("{OPEN} from='hall.example' id='s' version='1.0'>");
    say(&mut play.near, &header).await;
    hear(server, "<stream:stream").await;
    let list = format!("<mechanisms xmlns='{SASL}'><mechanism>PLAIN</mechanism></mechanisms>");
    say(server, &format!("{answer}<stream:features>{list}</stream:features>")).await;
    hear(&mut play.near, "</stream:features>").await;
    say(&mut play.near, &format!("<auth xmlns='{SASL}' mechanism='PLAIN'>{}</auth>", secret(account))).await;
    hear(server, "</auth>").await;
    say(server, &format!("<success xmlns='{SASL}'/>")).await;
    hear(server, "<stream:stream").await;
    let offer = format!("<bind xmlns='{BIND}'/><sm xmlns='urn:xmpp:sm:3'/>");
    say(server, &format!("{answer}<stream:features>{offer}</stream:features>")).await;
    hear(&mut play.near, "<success").await;
    say(&mut play.near, &header).await;
    hear(&mut play.near, "</stream:features>").await;
    play
}

/// The same, bound.
async fn bind(play: &mut Play, server: &mut DuplexStream, account: &str) {
    say(&mut play.near, &format!("<iq type='set' id='b'><bind xmlns='{BIND}'/></iq>")).await;
    hear(server, "</iq>").await;
    let jid = format!("<jid>{account}@hall.example/r</jid>");
    say(server, &format!("<iq type='result' id='b'><bind xmlns='{BIND}'>{jid}</bind></iq>")).await;
    hear(&mut play.near, "</iq>").await;
}

/// Name and password for PLAIN.
fn secret(account: &str) -> String {
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("\0{account}\0pw"))
}

/// How a client asks to go on with a session.
enum Asks {
    Plainly,
    WithTheLogin,
}

/// A client of this account comes back for a session; how long its server waits for the word, and the client.
async fn comes_back(
    tools: &Arc<Tools>,
    mut server: DuplexStream,
    account: &str,
    asks: &Asks,
) -> (Duration, Play) {
    let resume = "<resume xmlns='urn:xmpp:sm:3' previd='s-1' h='0'/>";
    let play = match asks {
        Asks::Plainly => {
            let mut play = logged_in(tools, &mut server, account).await;
            say(&mut play.near, resume).await;
            play
        }
        Asks::WithTheLogin => {
            let mut play = arrive(tools, Flow::C2s, Some(secured("client.example")));
            say(&mut play.near, &format!("{OPEN} to='hall.example' version='1.0'>")).await;
            hear(&mut server, "<stream:stream").await;
            let answer = format!("{OPEN} from='hall.example' id='s' version='1.0'>");
            say(&mut server, &format!("{answer}<stream:features>{FEATURES_2}</stream:features>")).await;
            hear(&mut play.near, "</stream:features>").await;
            let first = format!("<initial-response>{}</initial-response>", secret(account));
            let whole =
                format!("<authenticate xmlns='{SASL2}' mechanism='PLAIN'>{first}{resume}</authenticate>");
            say(&mut play.near, &whole).await;
            play
        }
    };
    let begun = now();
    assert!(hear(&mut server, "<resume ").await.contains("previd='s-1'"));
    drop(server);
    (now() - begun, play)
}

// SM-05, ejabberd: what reaches a server over the broken stream after it has said how far it counted is delivered, and counted by nobody;
// its client says it again. So the resumption goes behind it, of either form; not for ever, and nobody else's does.
#[tokio::test(start_paused = true)]
async fn a_resumption_goes_behind_what_the_broken_stream_still_delivers() {
    let (soon, long) = (Duration::from_millis(100), Duration::from_secs(1));
    for asks in [Asks::Plainly, Asks::WithTheLogin] {
        for (account, reads, least, most) in [
            // As soon as the server has read all, and has closed.
            ("alice", true, long, long + soon),
            ("Alice", true, long, long + soon),
            // A server that reads nothing, or does not close.
            ("alice", false, Duration::from_secs(4), Duration::from_secs(5) + soon),
            // Somebody else.
            ("bob", false, Duration::ZERO, soon),
        ] {
            let transport = Scripted::default();
            let (mut old, new) = (transport.lay(64), transport.lay(ROOM));
            let tools = serving(transport);
            let mut play = logged_in(&tools, &mut old, "alice").await;
            bind(&mut play, &mut old, "alice").await;
            say(&mut play.near, &(stanza(1) + &stanza(2))).await;
            drop(play.near);
            let reader = tokio::spawn(async move {
                // The resumption has come to us by then.
                tokio::time::sleep(long).await;
                if reads {
                    assert_eq!(rest(&mut old).await, stanza(1) + &stanza(2));
                } else {
                    std::future::pending::<()>().await;
                }
            });
            let (waited, _play) = comes_back(&tools, new, account, &asks).await;
            assert!((least..most).contains(&waited), "{account}, {reads}: {waited:?}");
            reader.abort();
        }
    }
}

// LIM-07's kind: unproven peers make no accounts at wire speed; who asks too often hears so, and may still log in.
#[tokio::test(start_paused = true)]
async fn a_network_may_ask_for_so_many_accounts_in_an_hour() {
    let transport = Scripted::default();
    let mut servers: Vec<_> = (0..3).map(|_| transport.lay(1 << 16)).collect();
    let mut tools = Arc::into_inner(tools(transport)).unwrap();
    let mut relays = (*tools.relays).clone();
    let taken = ClientDomain { registration: true, ..ClientDomain::default() };
    relays.clients.insert(domain("hall.example"), taken);
    (tools.relays, tools.bounds.registrations) =
        (Arc::new(relays), Arc::new(crate::limit::Registrations::new(4)));
    let tools = Arc::new(tools);
    let header = format!("{OPEN} to='hall.example' version='1.0'>");
    let answer = format!("{OPEN} from='hall.example' id='s' version='1.0'>");
    let ask = |n: usize| format!("<iq type='set' id='r{n}'><query xmlns='jabber:iq:register'/></iq>");
    let mut refused = 0;
    for server in &mut servers {
        let mut play = arrive(&tools, Flow::C2s, Some(secured("client.example")));
        say(&mut play.near, &header).await;
        hear(server, "<stream:stream").await;
        let offer = format!(
            "<mechanisms xmlns='{SASL}'><mechanism>PLAIN</mechanism></mechanisms>\
             <register xmlns='http://jabber.org/features/iq-register'/>"
        );
        say(server, &format!("{answer}<stream:features>{offer}</stream:features>")).await;
        assert!(hear(&mut play.near, "</stream:features>").await.contains("iq-register"));
        for n in 0..3 {
            say(&mut play.near, &ask(n)).await;
            let word = tokio::select! {
                heard = hear(server, "</iq>") => {
                    assert!(heard.contains(&ask(n)), "{heard}");
                    say(server, &format!("<iq type='result' id='r{n}'/>")).await;
                    hear(&mut play.near, "result").await
                }
                heard = hear(&mut play.near, "</iq>") => heard,
            };
            if word.contains("type='error'") {
                assert!(word.contains("<error type='wait'><resource-constraint"), "{word}");
                refused += 1;
            }
        }
        say(&mut play.near, &format!("<auth xmlns='{SASL}' mechanism='PLAIN'>AGFsaWNlAHB3</auth>")).await;
        hear(server, "</auth>").await;
    }
    assert_eq!(refused, 3 * 3 - 4);
    let text = tools.observe.metrics().text().unwrap();
    assert!(text.contains("gatehouse_limited_total{limit=\"registrations\"} 5"), "{text}");
    let counted = "gatehouse_stanzas_refused_total{domain=\"hall.example\",flow=\"c2s\",reason=\"registration-throttled\"} 5";
    assert!(text.contains(counted), "{text}");
}

fn stanza(n: usize) -> String {
    format!("<message to='alice@hall.example' id='m{n:06}'><body>hello</body></message>")
}

/// Writes until nothing more is taken for a while; how many went whole.
async fn flood(pipe: &mut DuplexStream) -> usize {
    let mut octets = 0;
    for n in 0..100_000 {
        let text = stanza(n);
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            match tokio::time::timeout(Duration::from_secs(1), pipe.write(rest)).await {
                Ok(done) => {
                    let done = done.unwrap();
                    octets += done;
                    rest = &rest[done..];
                }
                Err(_full) => {
                    assert!(octets > 128 * 1024, "reads up to the high water, not {octets}");
                    assert!(octets < 192 * 1024, "and not far above it, not {octets}");
                    return n;
                }
            }
        }
    }
    panic!("nothing held it back");
}

// LIM-05, SM-02: who does not read holds back who writes, either way, and every stanza comes in order once it reads on.
#[tokio::test(start_paused = true)]
async fn either_side_holds_back_the_other_and_nothing_is_lost() {
    for toward_client in [true, false] {
        let (play, server) = bound(1024).await;
        let Play { near, tools: _tools, task: _task, .. } = play;
        let (mut writer, mut reader) = if toward_client { (server, near) } else { (near, server) };
        let written = flood(&mut writer).await;
        let last = format!("id='m{:06}'><body>hello</body></message>", written - 1);
        let all = hear(&mut reader, &last).await;
        let expected: String = (0..written).map(stanza).collect();
        assert_eq!(all.get(..expected.len()), Some(expected.as_str()), "toward the client: {toward_client}");
    }
}

// Table 0.3: text between elements, however it is cut into reads, is dropped, and counted once for each run of it.
#[tokio::test(start_paused = true)]
async fn text_between_elements_of_a_bound_client_is_dropped_and_counted() {
    let (mut play, mut server) = bound(ROOM).await;
    for part in
        ["hello \u{e4}".as_bytes(), b"\xc3", b"\xa4 there", stanza(1).as_bytes(), b"x", stanza(2).as_bytes()]
    {
        play.near.write_all(part).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(hear(&mut server, "id='m000002'><body>hello</body></message>").await, stanza(1) + &stanza(2));
    let text = play.tools.observe.metrics().text().unwrap();
    let counted =
        "gatehouse_stanzas_refused_total{domain=\"hall.example\",flow=\"c2s\",reason=\"bad-format\"} 2";
    assert!(text.contains(counted), "{text}");
    // What is no text of XML ends the stream.
    play.near.write_all(b"\xff").await.unwrap();
    assert!(rest(&mut play.near).await.contains("<unsupported-encoding "));
}

// SM-06.
#[tokio::test(start_paused = true)]
async fn a_lost_connection_ends_the_other_without_a_closing_tag() {
    let (mut play, mut server) = bound(ROOM).await;
    say(&mut play.near, &stanza(1)).await;
    drop(play.near);
    assert_eq!(rest(&mut server).await, stanza(1));
    drop(server);
    play.task.await.unwrap();
    let (mut play, mut server) = bound(ROOM).await;
    say(&mut server, &stanza(1)).await;
    drop(server);
    assert_eq!(rest(&mut play.near).await, stanza(1));
    drop(play.near);
    play.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_closing_tag_is_passed_on_and_answered() {
    let (mut play, mut server) = bound(ROOM).await;
    say(&mut play.near, "</stream:stream>").await;
    hear(&mut server, "</stream:stream>").await;
    say(&mut server, &format!("{}</stream:stream>", stanza(1))).await;
    assert_eq!(rest(&mut play.near).await, format!("{}</stream:stream>", stanza(1)));
    drop((play.near, server));
    play.task.await.unwrap();
}

// CLS-08: "staggered where clients would return together".
#[tokio::test(start_paused = true)]
async fn clients_leave_a_draining_gateway_one_after_the_other() {
    let mut turns = Vec::new();
    for _ in 0..8 {
        let (mut play, mut server) = bound(ROOM).await;
        let begun = now();
        assert!(play.tools.registry.begin_drain(begun + Duration::from_secs(30)));
        // Until its turn comes, all goes on.
        say(&mut play.near, &stanza(1)).await;
        hear(&mut server, &stanza(1)).await;
        // Another piece of news is no other turn.
        play.tools.registry.publish(play.tools.registry.policy());
        hear(&mut play.near, "<system-shutdown").await;
        turns.push(now() - begun);
    }
    assert!(turns.iter().all(|turn| *turn <= Duration::from_secs(10)), "{turns:?}");
    turns.sort();
    turns.dedup();
    assert!(turns.len() > 4, "spread over the time: {turns:?}");
}

/// Says these words octet by octet until nobody listens any more; how long that was, and what was heard.
async fn trickle(mut near: DuplexStream, words: &str, pause: Duration) -> (Duration, String) {
    let begun = tokio::time::Instant::now();
    for octet in words.bytes().chain(std::iter::repeat(b'x')) {
        if near.write_all(&[octet]).await.is_err() || begun.elapsed() > Duration::from_secs(3600) {
            break;
        }
        tokio::time::sleep(pause).await;
    }
    (begun.elapsed(), rest(&mut near).await)
}

// TLS-05: go-xmpp writes a line feed behind its `<starttls/>`, in the same write. Any other octet, or too many, is read by nobody.
#[tokio::test(start_paused = true)]
async fn white_space_behind_a_starttls_is_thrown_away() {
    let starttls = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
    let many = " ".repeat(257);
    for (behind, goes_on) in [
        ("", true),
        ("\n", true),
        (" \t\r\n", true),
        (&many[..256], true),
        (&many, false),
        ("\n<presence/>", false),
        ("\nx", false),
        ("\n</stream:stream>", false),
    ] {
        for flow in [Flow::C2s, Flow::S2sIn] {
            let mut play = arrive(&serving(Scripted::default()), flow, None);
            let open = match flow {
                Flow::C2s => OPEN.to_owned(),
                _ => format!("{} from='friend.example'", OPEN.replace("jabber:client", "jabber:server")),
            };
            say(&mut play.near, &format!("{open} to='hall.example' version='1.0'>")).await;
            hear(&mut play.near, "</stream:features>").await;
            say(&mut play.near, &format!("{starttls}{behind}")).await;
            assert_eq!(rest(&mut play.near).await.contains("<proceed "), goes_on, "{behind:?}");
            play.task.await.unwrap();
        }
    }
}

// CLS-03: T-header and T-stanza run from the first octet, and no later one puts them off.
#[tokio::test(start_paused = true)]
async fn a_client_that_trickles_is_not_waited_for() {
    let play = arrive(&tools(Scripted::default()), Flow::C2s, Some(secured("client.example")));
    let header = format!("{OPEN} to='hall.example' version='1.0'>");
    let (took, heard) = trickle(play.near, &header, Duration::from_secs(1)).await;
    let limits = (play.tools.relays.timeouts, play.tools.params.stanza);
    let (least, most) = (limits.0.header, limits.0.header + limits.0.close + Duration::from_secs(5));
    assert!((least..most).contains(&took), "{took:?}: {heard}");
    play.task.await.unwrap();

    let (play, mut server) = bound(ROOM).await;
    let (took, heard) = trickle(play.near, "<message><body>", Duration::from_secs(10)).await;
    let (least, most) = (limits.1, limits.1 + limits.0.close + Duration::from_secs(30));
    assert!((least..most).contains(&took), "{took:?}: {heard}");
    assert!(heard.contains("<policy-violation "), "{heard}");
    assert!(!rest(&mut server).await.contains("<message"), "nothing of it passed");
}
