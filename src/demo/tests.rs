//! The small world by itself, with no gateway in it: what the parts say to each other must hold before they can judge
//! anybody else.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use hickory_proto::rr::RecordType;

use super::client::{Account, Client};
use super::legacy::{Habit, Legacy};
use super::names::Names;
use super::peer::{AddressBook, Admit, Manner, Peer, Vouch};
use super::pki::{Authority, Identity, Leaf};
use super::session::{Greeting, Login, Word};

async fn pair(first: Manner, second: Manner) -> (Peer, Peer) {
    let authority = Arc::new(Authority::new("test root").unwrap());
    let book = AddressBook::default();
    let start = async |ip: u8, domain: &'static str, manner| {
        let identity = authority.issue(&Leaf::of(&[domain])).unwrap();
        let ip = Ipv4Addr::new(127, 91, 0, ip);
        Peer::start(authority.clone(), ip, &[domain], identity, manner, book.clone()).await.unwrap()
    };
    let (one, two) = (start(1, "one.example", first).await, start(2, "two.example", second).await);
    book.lock().unwrap().insert("one.example".into(), one.address);
    book.lock().unwrap().insert("two.example".into(), two.address);
    (one, two)
}

#[tokio::test]
async fn a_peer_proves_itself_to_another_by_certificate() {
    let (one, two) = pair(Manner::default(), Manner::default()).await;
    let mut stream = one.call("two.example").unwrap().open().await.unwrap();
    assert_eq!(stream.external("one.example").await.unwrap(), Login::Success);
    stream.message("a@one.example", "b@two.example", "hello").await.unwrap();
    two.inbox.wait_body("hello").await.unwrap();
    assert_eq!(two.proofs(), ["certificate one.example"]);
    stream.message("a@three.example", "b@two.example", "forged").await.unwrap();
    assert_eq!(stream.ending().await.unwrap().condition.as_deref(), Some("invalid-from"));
}

#[tokio::test]
async fn direct_tls_needs_no_starttls() {
    let (one, two) = pair(Manner::default(), Manner::default()).await;
    let mut call = one.call("two.example").unwrap();
    (call.direct, call.target) = (true, two.direct);
    let mut stream = call.open().await.unwrap();
    assert_eq!(stream.external("one.example").await.unwrap(), Login::Success);
}

#[tokio::test]
async fn a_peer_proves_itself_to_another_by_dialback() {
    let (one, two) = pair(Manner::default(), Manner::default()).await;
    let mut stream = one.call_bare("two.example").unwrap().open().await.unwrap();
    assert_eq!(stream.external("one.example").await.unwrap(), Login::NotOffered);
    assert_eq!(stream.dialback("one.example", "two.example").await.unwrap(), Word::Valid);
    stream.message("a@one.example", "b@two.example", "hello <world> & all").await.unwrap();
    assert_eq!(two.inbox.wait_body("hello <world> & all").await.unwrap().attr("from"), Some("a@one.example"));
    assert_eq!(two.proofs(), ["dialback one.example"]);
}

#[tokio::test]
async fn a_forged_key_is_not_believed() {
    let (one, _two) = pair(Manner::default(), Manner::default()).await;
    let mut stream = one.call_bare("two.example").unwrap().open().await.unwrap();
    stream.send_key("one.example", "two.example", "no-such-key").await.unwrap();
    assert_eq!(stream.word().await.unwrap(), Word::Invalid);
}

#[tokio::test]
async fn bad_manners_are_played_as_ordered() {
    let (one, two) = pair(Manner { vouch: Vouch::Never, ..Manner::default() }, Manner::default()).await;
    let mut stream = one.call_bare("two.example").unwrap().open().await.unwrap();
    assert_eq!(stream.dialback("one.example", "two.example").await.unwrap(), Word::Invalid);
    two.behave(|m| m.admit = Admit::Error("policy-violation"));
    let mut stream = one.call_bare("two.example").unwrap().open().await.unwrap();
    assert_eq!(
        stream.dialback("one.example", "two.example").await.unwrap(),
        Word::Error("policy-violation".into())
    );
}

#[tokio::test]
async fn legacy_servers_of_all_habits_reach_each_other() {
    for (at, habit) in Habit::ALL.into_iter().enumerate() {
        let at = u8::try_from(at).unwrap();
        let first = super::free(Ipv4Addr::new(127, 92, at, 1), 5269).await.unwrap();
        let ip = |host| Ipv4Addr::new(127, 92, at, host);
        let south = Legacy::start(ip(2), &["south.example"], habit, first).await.unwrap();
        let north = Legacy::start(ip(1), &["north.example"], habit, south.s2s).await.unwrap();
        assert_eq!(north.s2s, first, "{habit:?}");
        let login = |server: SocketAddr, user, domain| {
            Client::login(server.ip(), server, Account { user, domain, password: "open sesame" })
        };
        let anna = login(north.c2s, "anna", "north.example").await.unwrap();
        let bert = login(south.c2s, "bert", "south.example").await.unwrap();
        anna.say("bert@south.example", "good day").await.unwrap();
        let letter = bert.inbox.wait_body("good day").await.unwrap();
        assert_eq!(letter.attr("from"), Some(anna.address.as_str()), "{habit:?}");
        bert.say(&anna.address, "and to you").await.unwrap();
        anna.inbox.wait_body("and to you").await.unwrap();
        south.stop().await;
        anna.say("bert@south.example", "still there?").await.unwrap();
        north.bounces.wait(|n| n.attr("type") == Some("error")).await.unwrap();
        south.resume().await.unwrap();
    }
}

#[tokio::test]
async fn the_name_server_answers_and_remembers() {
    let names = Names::start(Ipv4Addr::new(127, 93, 0, 1)).await.unwrap();
    names.announce("one.example", Some("127.0.0.9:5269".parse().unwrap()), None).unwrap();
    let mut config = hickory_resolver::config::ResolverConfig::default();
    let mut server = hickory_resolver::config::NameServerConfig::udp_and_tcp(names.address().ip());
    server.connections.iter_mut().for_each(|c| c.port = names.address().port());
    config.add_name_server(server);
    let resolver = hickory_resolver::Resolver::builder_with_config(
        config,
        hickory_resolver::net::runtime::TokioRuntimeProvider::default(),
    )
    .build()
    .unwrap();
    let found = resolver.lookup("_xmpp-server._tcp.one.example.", RecordType::SRV).await.unwrap();
    assert_eq!(found.answers().len(), 1);
    assert!(resolver.lookup("_xmpp-server._tcp.two.example.", RecordType::SRV).await.is_err());
    assert_eq!(names.asked_about("one.example"), 1);
    assert!(names.asked_about("two.example") >= 1);
    assert_eq!(names.asked_about("three.example"), 0);
}

#[test]
fn a_header_says_what_it_is_told_to() {
    let old = Greeting::default().octets();
    assert!(!old.contains(" version='1.0'>") && !old.contains(" from=") && !old.contains(" to="));
    let new = Greeting::of("a.example", "b.example").octets();
    assert!(new.contains(" from='a.example' to='b.example' version='1.0'>"));
}

#[test]
fn certificates_say_what_they_are_told_to() {
    let authority = Authority::new("root").unwrap();
    for leaf in [
        Leaf { expired: true, ..Leaf::of(&["a.example"]) },
        Leaf { common_name: Some("a.example".into()), ..Leaf::default() },
        Leaf::of(&["a.example\0.b.example"]),
    ] {
        authority.issue(&leaf).unwrap();
        Identity::self_signed(&leaf).unwrap();
    }
}
