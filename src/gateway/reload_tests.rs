//! What a reload takes over, and what it refuses, of a gateway over real sockets.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::run::tests::domain;

fn rewrite(dir: &TempDir, change: impl FnOnce(String) -> String) {
    let file = dir.path().join("gatehouse.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let changed = change(text.clone());
    assert_ne!(text, changed, "the test changes nothing");
    std::fs::write(file, changed).unwrap();
}

async fn ended(gateway: Gateway) {
    gateway.stop();
    gateway.stop();
    gateway.stopped().await;
}

fn outcome(gateway: &Gateway, remote: &str) -> Reason {
    let (hosted, remote) = (domain("hall.example"), domain(remote));
    let question = crate::policy::Federate {
        hosted: &hosted,
        remote: &remote,
        direction: crate::reason::Direction::Inbound,
        identity: crate::policy::Identity::Certificate,
        tls: crate::policy::Tls::V13,
        address: None,
        key: crate::policy::ShownKey::Unknown,
    };
    let policy = gateway.tools().registry.policy();
    policy.judge(&crate::policy::Question::Federate(question), &mut ()).reason
}

// `federation: listed` changed to `any`, and back: what is said is what holds.
#[tokio::test]
async fn federation_is_taken_over() {
    let (dir, gateway) = gateway().await;
    assert_eq!(outcome(&gateway, "stranger.example"), Reason::NotListed);
    rewrite(&dir, |text| text.replace("federation: listed", "federation: any"));
    let plan = Arc::clone(&gateway.operations().reloader).plan().await.unwrap();
    assert_eq!(plan.settings, ["domains[hall.example].federation: listed -> any"]);
    assert_eq!(outcome(&gateway, "stranger.example"), Reason::NotListed, "only a plan");
    assert_eq!(gateway.reload().await.unwrap(), plan);
    assert_eq!(outcome(&gateway, "stranger.example"), Reason::Allowed);
    rewrite(&dir, |text| text.replace("federation: any", "federation: listed"));
    gateway.reload().await.unwrap();
    assert_eq!(outcome(&gateway, "stranger.example"), Reason::NotListed);
    ended(gateway).await;
}

// Domains come and go, with their certificates and metrics; a stream to one that is gone hears that it is unknown.
#[tokio::test]
async fn domains_are_added_and_removed() {
    let (dir, gateway) = gateway().await;
    let made = rcgen::generate_simple_self_signed(vec!["annex.example".to_owned()]).unwrap();
    std::fs::write(dir.path().join("annex.pem"), made.cert.pem()).unwrap();
    std::fs::write(dir.path().join("annex.key"), made.signing_key.serialize_pem()).unwrap();
    let annex = "  - name: annex.example\n    certificate: { chain: annex.pem, key: annex.key }\n    \
                 backend: { s2s: [\"127.0.0.1:9\"] }\n    federation: any\ntrust:";
    rewrite(&dir, |text| text.replace("trust:", annex));
    let plan = gateway.reload().await.unwrap();
    let told = |what: &str| plan.settings.iter().any(|line| line.contains(what));
    assert!(told("domains[annex.example].federation: new, any"), "{plan:#?}");
    assert!(
        plan.certificates.iter().any(|line| line.starts_with("certificate of annex.example: ")),
        "{plan:#?}"
    );
    let greeting = |to: &str| {
        format!(
            "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' \
                 from='friend.example' to='{to}' version='1.0'>"
        )
    };
    let mut stream = peer(&gateway).await;
    stream.write_all(greeting("annex.example").as_bytes()).await.unwrap();
    hear(&mut stream, "</stream:features>").await;
    assert!(metrics(&gateway).contains("certificate_not_after_seconds{domain=\"annex.example\"}"));

    rewrite(&dir, |text| text.replace(annex, "trust:"));
    gateway.reload().await.unwrap();
    // Nobody is called for a server that is nobody's.
    let is_told = |state: &str| {
        let series =
            |line: &str| line.starts_with(&format!("gatehouse_{state}")) && line.contains("annex.example");
        metrics(&gateway).lines().any(series)
    };
    assert!(!is_told("certificate_not_after"));
    for _ in 0..500 {
        if !is_told("backend_up") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!is_told("backend_up"));
    let mut stream = peer(&gateway).await;
    stream.write_all(greeting("annex.example").as_bytes()).await.unwrap();
    assert!(hear(&mut stream, "</stream:stream>").await.contains("<host-unknown"));
    ended(gateway).await;
}

// New listeners open before old ones close, the socket that stays is the same, and who is in stays in.
#[tokio::test]
async fn listeners_open_change_and_close_and_streams_stay() {
    let (dir, gateway) = gateway().await;
    let mut stream = peer(&gateway).await;
    stream.write_all(HEADER).await.unwrap();
    hear(&mut stream, "</stream:features>").await;
    let [(_, first), (_, second)] = gateway.listening()[..] else { panic!() };
    let third = with_ports("127.0.0.3:1111");
    rewrite(&dir, |text| {
        let gone = format!("  - {{ flow: s2s, address: \"{first}\" }}\n");
        let turned = format!("{{ flow: s2s, address: \"{second}\", tls: direct }}");
        assert!(text.contains(&gone) && text.contains(&turned), "{text}");
        text.replace(&gone, &format!("  - {{ flow: s2s, address: \"{third}\" }}\n"))
            .replace(&turned, &format!("{{ flow: s2s, address: \"{second}\" }}"))
    });
    gateway.reload().await.unwrap();
    let third: SocketAddr = third.parse().unwrap();
    assert_eq!(gateway.listening(), [(Door::S2sStarttls, third), (Door::S2sStarttls, second)]);
    for open in [third, second] {
        let mut stream = TcpStream::connect(open).await.unwrap();
        stream.write_all(HEADER).await.unwrap();
        hear(&mut stream, "</stream:features>").await;
    }
    let until = tokio::time::Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(first).await.is_ok() {
        assert!(tokio::time::Instant::now() < until, "the old listener stays open");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stream.write_all(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await.unwrap();
    hear(&mut stream, "<proceed").await;
    ended(gateway).await;
}

// All or nothing: an address that is taken keeps everything as it was, and is named.
#[tokio::test]
async fn a_listener_that_cannot_be_opened_changes_nothing() {
    let (dir, gateway) = gateway().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().map(|address| (address, taken)).unwrap();
    rewrite(&dir, |text| {
        text.replace("listen:\n", &format!("listen:\n  - {{ flow: s2s, address: \"{}\" }}\n", taken.0))
            .replace("federation: listed", "federation: any")
    });
    for findings in [
        gateway.reload().await.unwrap_err(),
        Arc::clone(&gateway.operations().reloader).plan().await.unwrap_err(),
    ] {
        assert!(findings[0].message.contains(&format!("cannot listen on {}", taken.0)), "{findings:?}");
        assert!(findings[0].place.line > 0 && findings[0].remedy.contains("end what holds the address"));
    }
    assert_eq!(outcome(&gateway, "stranger.example"), Reason::NotListed);
    assert_eq!(gateway.listening().len(), 2);
    ended(gateway).await;
}

// What takes a restart is refused by name, and nothing else is taken over beside it.
#[tokio::test]
async fn what_takes_a_restart_is_refused_by_name() {
    let (dir, gateway) = gateway().await;
    rewrite(&dir, |text| format!("threads: 3\n{}", text.replace("federation: listed", "federation: any")));
    let findings = gateway.reload().await.unwrap_err();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].message.contains("`threads`") && findings[0].message.contains("takes a restart"));
    assert_eq!(outcome(&gateway, "stranger.example"), Reason::NotListed);
    ended(gateway).await;
}

// Limits, timeouts, back-ends, audit and steering reach what they are for.
#[tokio::test]
async fn limits_backends_and_the_audit_file_are_taken_over() {
    let (dir, gateway) = gateway().await;
    let before = gateway.tools();
    let steering = with_ports("127.0.0.1:1111");
    let inside = with_ports("127.0.0.1:1111");
    rewrite(&dir, |text| {
        let lines = format!("listen:\n  - {{ flow: inside, address: \"{inside}\", from: [127.0.0.0/8] }}\n");
        format!(
            "{}limits: {{ stanza: 512KiB, sasl-attempts: 4 }}\nsteering: {{ listen: \"{steering}\", from: [127.0.0.0/8], \
             answer: 127.0.0.1 }}\n",
            text.replace("listen:\n", &lines)
                .replace(
                    "127.0.0.1:9\"] }\n    federation",
                    "127.0.0.1:10\"], multiplex: off }\n    federation"
                )
                .replace("audit.jsonl", "other.jsonl")
                .replace("drain: 5s", "drain: 6s")
        )
    });
    let plan = gateway.reload().await.unwrap();
    for line in [
        "audit.file:",
        "domains[hall.example].backend.s2s: [127.0.0.1:9] -> [127.0.0.1:10]",
        "limits.stanza: 256KiB -> 512KiB",
        "timeouts.drain: 5s -> 6s",
        "steering.listen: new,",
        "listen[",
    ] {
        assert!(plan.settings.iter().any(|told| told.starts_with(line)), "{line}: {plan:#?}");
    }
    let tools = gateway.tools();
    assert_eq!(
        (before.relays.limits.proven.element, tools.relays.limits.proven.element),
        (256 << 10, 512 << 10)
    );
    assert!(!tools.relays.hosted[&domain("hall.example")].multiplex);
    assert!(Arc::ptr_eq(&before.bounds.logins, &tools.bounds.logins), "what has not changed goes on");
    assert_eq!(gateway.operations().lifecycle.grace(), Duration::from_secs(6));
    let asked = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    asked.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // A question for the address of any.example.
    let question = b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0\x03any\x07example\0\0\x01\0\x01";
    asked.send_to(question, &steering).unwrap();
    let mut answer = [0; 512];
    assert!(
        tokio::task::spawn_blocking(move || asked.recv(&mut answer)).await.unwrap().unwrap() > question.len()
    );
    ended(gateway).await;
    let audit = std::fs::read_to_string(dir.path().join("other.jsonl"));
    assert!(audit.is_ok(), "the new file is written to");
}

// CLS-08, CLU-06: who drains takes nobody new and leads nobody to itself, so that the old server's question goes to the next node;
// who makes room for another program holds the doors open, and answers on.
#[tokio::test]
async fn a_gateway_that_drains_leads_nobody_to_itself() {
    for replaced in [false, true] {
        let (dir, gateway) = gateway().await;
        let (steering, inside) = (with_ports("127.0.0.1:1111"), with_ports("127.0.0.1:1111"));
        rewrite(&dir, |text| {
            let lines =
                format!("listen:\n  - {{ flow: inside, address: \"{inside}\", from: [127.0.0.0/8] }}\n");
            let more =
                format!("steering: {{ listen: \"{steering}\", from: [127.0.0.0/8], answer: 127.0.0.1 }}\n");
            format!("{}{more}", text.replace("listen:\n", &lines))
        });
        gateway.reload().await.unwrap();
        let asked = Arc::new(tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap());
        asked.connect(&steering).await.unwrap();
        let answers = async || {
            let question = b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0\x03any\x07example\0\0\x01\0\x01";
            // What the last question was told of may come with this one.
            if asked.send(question).await.is_err() {
                return false;
            }
            let mut octets = [0; 512];
            let told = tokio::time::timeout(Duration::from_secs(5), asked.recv(&mut octets)).await;
            told.is_ok_and(|told| told.is_ok_and(|octets| octets > question.len()))
        };
        assert!(answers().await);
        // Something is left that ends in its own time.
        let (relay, _orders) = gateway.tools().registry.enter();
        let life = &gateway.operations().lifecycle;
        assert!(if replaced { life.restart(Vec::new()) } else { life.drain() });
        let begun = std::time::Instant::now();
        while answers().await != replaced || begun.elapsed() < Duration::from_millis(300) {
            assert!(begun.elapsed() < Duration::from_secs(20), "replaced: {replaced}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // Nor does anybody wait in a queue that is not looked at.
        while tokio::net::TcpStream::connect(&inside).await.is_ok() != replaced {
            assert!(begun.elapsed() < Duration::from_secs(20), "replaced: {replaced}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        drop(relay);
        ended(gateway).await;
    }
}

// failing/03: what `check` calls an error, `reload` and `run` call the same error; and the good one stays.
#[tokio::test]
async fn a_certificate_that_check_refuses_is_refused_by_a_reload() {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};
    let (dir, gateway) = gateway().await;
    let first = shown(&gateway).await;
    type Spoil = fn(&mut CertificateParams);
    let cases: [(&str, &str, Spoil); 4] = [
        ("other.example", "the certificate is not for hall.example", |_| {}),
        ("hall.example", "the certificate expired on 2020-01-02", |params| {
            (params.not_before, params.not_after) = (date_time_ymd(2019, 1, 1), date_time_ymd(2020, 1, 2));
        }),
        ("hall.example", "the certificate is not valid before 2090-01-02", |params| {
            (params.not_before, params.not_after) = (date_time_ymd(2090, 1, 2), date_time_ymd(2091, 1, 1));
        }),
        ("hall.example", "the first certificate is one of an issuer", |params| {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }),
    ];
    let file = dir.path().join("gatehouse.yaml");
    for (name, words, spoil) in cases {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        spoil(&mut params);
        std::fs::write(dir.path().join("chain.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(dir.path().join("key.pem"), key.serialize_pem()).unwrap();
        let checked = Reading::of(&file);
        let checked: Vec<_> = checked.findings.iter().filter(|finding| finding.is_error()).collect();
        assert!(checked.len() == 1 && checked[0].message == words, "{checked:?}");
        let refused = gateway.reload().await.unwrap_err();
        assert_eq!(refused.iter().collect::<Vec<_>>(), checked);
        assert!(refused[0].place.file.contains("chain.pem"));
        assert_eq!(shown(&gateway).await, first, "the good one is shown on");
        let started = Reading::of(&file).bearable();
        match words.contains("expired") || words.contains("not valid before") {
            true => assert!(started.unwrap().remarks.iter().any(|remark| remark.message == words)),
            false => assert_eq!(started.unwrap_err().iter().collect::<Vec<_>>(), checked),
        }
    }
    ended(gateway).await;
}

// A restart never keeps all domains down for one domain's certificate.
#[tokio::test]
async fn a_domain_whose_certificate_will_not_do_stays_closed_and_the_others_open() {
    let (dir, settings) = world("  - { flow: s2s, address: \"127.0.0.1:1111\" }\n");
    settings.unwrap_or_else(|findings| panic!("{findings:?}"));
    let annex = "  - name: annex.example\n    certificate: { chain: gone.pem, key: gone.key }\n    \
                 backend: { s2s: [\"127.0.0.1:9\"] }\n    federation: any\ntrust:";
    rewrite(&dir, |text| text.replace("trust:", annex));
    let reading = Reading::of(&dir.path().join("gatehouse.yaml"));
    let told = |finding: &&Finding| finding.is_error() && finding.place.file.contains("gone.pem");
    let error = reading.findings.iter().find(told).unwrap_or_else(|| panic!("{:?}", reading.findings));
    assert!(error.remedy.contains("leaves this domain closed and opens the others"), "{error:?}");
    let gateway =
        Gateway::start_with(reading, Inherited::default()).await.unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!(gateway.operations().reloader.closed(), [domain("annex.example")]);
    let mut stream = peer(&gateway).await;
    stream.write_all(HEADER).await.unwrap();
    hear(&mut stream, "</stream:features>").await;
    ended(gateway).await;
}

// "port 53 unprivileged": the right remedy.
#[test]
fn a_port_that_needs_a_right_is_told_with_the_ways_to_get_it() {
    let place = crate::policy::Place::whole("gatehouse.yaml");
    let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
    let finding = unbound(place, "10.0.0.1:53".parse().unwrap(), &denied);
    assert!(finding.message.starts_with("cannot listen on 10.0.0.1:53: "), "{finding}");
    for way in ["CAP_NET_BIND_SERVICE", "setcap", "ip_unprivileged_port_start=53", "a higher port"] {
        assert!(finding.remedy.contains(way), "{finding}");
    }
    assert!(!finding.remedy.contains("end what holds"), "{finding}");
}

// One file, one verdict: secrets too.
#[tokio::test]
async fn two_realms_with_one_secret_are_refused_at_a_start_and_at_a_reload() {
    let (dir, gateway) = gateway().await;
    for name in ["world", "inside"] {
        std::fs::write(dir.path().join(name), "0123456789abcdef".repeat(4)).unwrap();
    }
    rewrite(&dir, |text| format!("{text}dialback: {{ secrets: {{ world: world, inside: inside }} }}\n"));
    let refused = gateway.reload().await.unwrap_err();
    assert!(refused[0].message.contains("both realms have the same secret"), "{refused:?}");
    let reading = Reading::of(&dir.path().join("gatehouse.yaml"));
    assert_eq!(reading.bearable().unwrap_err(), refused);
    // Better ones are taken over, although the ones before were drawn.
    std::fs::write(dir.path().join("inside"), "fedcba9876543210".repeat(4)).unwrap();
    gateway.reload().await.unwrap();
    ended(gateway).await;
}

// "p99 of calm traffic during a reload": what frees a hundred thousand rules is no thread that moves octets.
#[tokio::test]
async fn what_is_replaced_is_freed_elsewhere_when_all_have_let_go() {
    struct Old(std::sync::mpsc::Sender<std::thread::ThreadId>);
    impl Drop for Old {
        fn drop(&mut self) {
            self.0.send(std::thread::current().id()).unwrap();
        }
    }
    let (tell, told) = std::sync::mpsc::channel();
    let old = Arc::new(Old(tell));
    let held = Arc::clone(&old);
    super::freeing::let_go(old);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(told.try_recv().is_err(), "somebody holds it");
    drop(held);
    let freed = tokio::task::spawn_blocking(move || told.recv_timeout(Duration::from_secs(20)));
    assert_ne!(freed.await.unwrap().unwrap(), std::thread::current().id());
}

/// What this thread has worked so far, by the kernel's account.
fn worked() -> Duration {
    let account = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(account.split(' ').next().unwrap().parse().unwrap())
}

// "p99 of calm clients during reloads of 100,000 rules". Whatever grows with the rules is done on threads that serve no
// stream. Counted in work and not in time, so that a busy machine changes nothing.
#[tokio::test]
async fn no_part_of_a_reload_that_grows_with_the_rules_is_done_where_streams_are_served() {
    let mut longest = Vec::new();
    for many in [20, 20_000] {
        let (dir, gateway) = gateway().await;
        let rules = |word: &str| {
            let rule =
                |n| format!("  - {{ name: {word}{n}, domains: [{word}{n}.example], expires: 2999-12-31 }}\n");
            let rules: String = (0..many).map(rule).collect();
            std::fs::write(dir.path().join("policy.yaml"), format!("version: v1\nrules:\n{rules}")).unwrap();
        };
        let watch = tokio::spawn(async {
            let (mut last, mut longest) = (worked(), Duration::ZERO);
            loop {
                tokio::time::sleep(Duration::from_millis(1)).await;
                let now = worked();
                longest = longest.max(now.saturating_sub(last));
                last = now;
                LONGEST.fetch_max(u64::try_from(longest.as_micros()).unwrap(), Ordering::Relaxed);
            }
        });
        LONGEST.store(0, Ordering::Relaxed);
        for word in ["one", "two"] {
            rules(word);
            gateway.reload().await.unwrap();
        }
        let reloader = &gateway.operations().reloader;
        reloader.turn_the_page(today().next()).await;
        let snapshot = gateway.operations().overview(1).await;
        assert_eq!(snapshot.all_rules, many);
        watch.abort();
        longest.push(LONGEST.load(Ordering::Relaxed));
        ended(gateway).await;
    }
    println!("the loop was held for {longest:?} us at most, with 20 and with 20,000 rules");
    assert!(longest[1] < longest[0] + 20_000, "{longest:?} us");
}

static LONGEST: AtomicU64 = AtomicU64::new(0);
