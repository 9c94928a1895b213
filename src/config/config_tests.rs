use std::net::SocketAddr;

use super::settings::*;
use super::*;
use crate::jid::Domain;
use crate::policy::Federation;

pub(super) fn assemble(text: &str) -> (Settings, Vec<String>) {
    assemble_with(text, &|_| None)
}

fn assemble_with(text: &str, environment: fill::Environment<'_>) -> (Settings, Vec<String>) {
    let fill = fill::Fill { environment, folder: Path::new("dir") };
    let (spec, mut findings, spoilt) = load::parse_filled::<spec::FileSpec>(text, "dir/g.yaml", &fill);
    let look_up = |host: &Domain, port| match host.as_str() {
        "xmpp.internal" => vec![SocketAddr::from(([10, 0, 0, 7], port))],
        _ => Vec::new(),
    };
    let machine = scalars::Machine { environment, look_up: &look_up };
    let (settings, mut more) = assemble::assemble("dir/g.yaml", &spec, &[], &machine);
    leave_out(&mut more, &spoilt);
    findings.extend(more);
    findings.sort();
    (settings, findings.iter().map(ToString::to_string).collect())
}

pub(super) const SHORTEST: &str = "version: v1\ndomains:\n  - name: example.com\n    certificate: { chain: a.pem, key: a.key }\n    backend: { s2s: [\"10.0.0.5:5269\"] }\n    federation: listed\n";

// Contract 2: version, one domain with certificate and backend, and federation.
#[test]
fn the_shortest_useful_file_is_complete() {
    let (settings, findings) = assemble(SHORTEST);
    assert_eq!(findings, Vec::<String>::new());
    let ports: Vec<u16> = settings.listeners.iter().map(|listener| listener.address.port()).collect();
    assert_eq!(ports, [5269, 5270, 5222, 5223]);
    assert!(!settings.listeners.iter().any(|listener| matches!(listener.role, Callers::Inside(_))));
    assert_eq!(settings.domains[0].certificate.chain, Path::new("dir/a.pem"));
    assert_eq!(settings.domains[0].backend.dialback_keys, DialbackKeys::ByAddress);
    assert_eq!(settings.secrets, Secrets::default());
    assert_eq!(settings.trust.roots, Roots::System);
    assert_eq!(settings.limits, Limits::default());
}

// TLS-16: by the listener's own word, else by the file's, else the first domain that is served there.
#[test]
fn a_listener_shows_some_certificate_to_who_names_no_server() {
    let shown = |listen: &str, more: &str| {
        let second = "  - name: annex.example\n    certificate: { chain: a.pem, key: a.key }\n    \
                      backend: { c2s: [\"10.0.0.5:5222\"] }\n    federation: none\n";
        let (settings, findings) =
            assemble(&format!("{SHORTEST}{second}{more}listen:\n  - {{ {listen} }}\n"));
        let shown = settings.listeners.first().and_then(|listener| settings.shown_at(listener));
        (shown.map(ToString::to_string).unwrap_or_default(), findings)
    };
    let address = "address: \"[::]:5223\", tls: direct";
    for (listen, more, expected) in [
        (format!("flow: c2s, {address}"), "", "annex.example"),
        (format!("flow: s2s, {address}"), "", "example.com"),
        (format!("flow: mixed, {address}"), "", "example.com"),
        (format!("flow: c2s, {address}"), "default-domain: example.com\n", "example.com"),
        (
            format!("flow: c2s, {address}, default: annex.example"),
            "default-domain: example.com\n",
            "annex.example",
        ),
    ] {
        assert_eq!(shown(&listen, more).0, expected, "{listen} {more}");
    }
    for (listen, finding) in [
        (
            format!("flow: c2s, {address}, default: other.example"),
            "its default other.example is not one of `domains`",
        ),
        (
            "flow: c2s, address: \"[::]:5222\", default: example.com".to_owned(),
            "`default` is for listeners with `tls: direct`",
        ),
        (
            "flow: inside, address: \"10.0.0.1:5269\", from: [10.0.0.5], default: example.com".to_owned(),
            "is for listeners with",
        ),
    ] {
        let (_, findings) = shown(&listen, "");
        assert!(findings.iter().any(|said| said.contains(finding)), "{listen}: {findings:?}");
    }
}

#[test]
fn threads_are_a_number_from_one() {
    assert_eq!(assemble(SHORTEST).0.threads, None);
    let (settings, findings) = assemble(&format!("{SHORTEST}threads: 2\n"));
    assert_eq!((settings.threads, findings.len()), (Some(2), 0));
    for wrong in ["0", "-1", "1025", "all"] {
        let (_, findings) = assemble(&format!("{SHORTEST}threads: {wrong}\n"));
        assert!(findings.len() == 1 && findings[0].contains("is no number of threads"), "{findings:?}");
    }
}

#[test]
fn the_file_of_the_contract_is_read() {
    let text = r#"
version: v1
listen:
  - { flow: s2s, address: "[::]:5269" }
  - { flow: s2s, address: "[::]:5270", tls: direct }
  - { flow: c2s, address: "[::]:5222" }
  - { flow: c2s, address: "[::]:5223", tls: direct }
  - { flow: c2s, address: "[::]:15222", proxy-protocol: [192.0.2.0/24] }
  - { flow: inside, address: "10.0.0.1:5269", from: [10.0.0.0/24] }
domains:
  - name: example.com
    certificate: { chain: pki/example.com.pem, key: pki/example.com.key }
    backend:
      c2s: ["10.0.0.5:5222"]
      s2s: ["10.0.0.5:5269"]
      proxy-protocol: off
      dialback-keys: by-address
    federation: listed
    policies: [policies/partners.yaml]
dialback: { secrets: { world: secrets/world, inside: secrets/inside } }
trust: { roots: system, crls: [a.crl], peers: [{ domains: [partner.example], roots: p.pem }] }
dns:
  servers: ["127.0.0.1:5353", 127.0.0.2]
  routes: [{ domain: partner.example, target: "192.0.2.9:5269", tls: starttls }, { domain: b.example, target: "x.b.example:443", tls: direct }]
  allow-networks: [10.1.0.0/16]
steering: { listen: "10.0.0.1:53", from: [10.0.0.0/24], answer: 10.0.0.1, hosted: backend, never: [probe.example] }
admin: { http: "127.0.0.1:9469", hosts: [gate-1.example.com], socket: /run/gatehouse/control.sock }
limits: { }
timeouts: { idle-s2s: 1h }
log: { format: json, level: info }
audit: { file: /var/log/gatehouse/audit.jsonl }
"#;
    let (settings, findings) = assemble(text);
    assert_eq!(findings, Vec::<String>::new());
    assert_eq!(settings.listeners.len(), 6);
    assert!(settings.listeners[4].proxies.is_some());
    assert_eq!(settings.dns.servers[1], "127.0.0.2:53".parse::<SocketAddr>().unwrap());
    assert!(matches!(settings.dns.routes[1].target, Some(WrittenTarget::Host(_, 443))));
    let steering = settings.steering.unwrap();
    assert_eq!((steering.port, steering.hosted), (5269, HostedAnswer::Backend));
    assert_eq!(steering.never, [Domain::parse("probe.example").unwrap()]);
    assert_eq!(settings.admin.socket.unwrap(), Path::new("/run/gatehouse/control.sock"));
    assert_eq!(settings.admin.hosts, ["gate-1.example.com"]);
    assert_eq!(settings.timeouts.idle_s2s.as_secs(), 3600);
    assert_eq!(settings.domains[0].federation, Federation::Listed);
}

// Each mistake, and what is said of it.
#[test]
fn every_mistake_has_its_own_words() {
    let table: &[(&str, &str)] = &[
        ("version: v2\n", "version \"v2\" is not known"),
        ("listen: []\n", "`listen` is empty"),
        (
            "listen: [{ flow: inside, address: \"0.0.0.0:5269\", from: [10.0.0.0/24] }]\n",
            "would be open to everybody",
        ),
        (
            "listen: [{ flow: inside, address: \"[::]:5269\", from: [10.0.0.0/24] }]\n",
            "would be open to everybody",
        ),
        (
            "listen: [{ flow: inside, address: \"[::ffff:0.0.0.0]:5269\", from: [10.0.0.0/24] }]\n",
            "would be open to everybody",
        ),
        ("listen: [{ flow: inside, address: \"10.0.0.1:5269\" }]\n", "needs `from`"),
        ("listen: [{ flow: inside, address: \"10.0.0.1:5269\", from: [0.0.0.0/0] }]\n", "is everybody"),
        (
            "listen: [{ flow: inside, address: \"10.0.0.1:5269\", from: [0.0.0.0/1, 128.0.0.0/1] }]\n",
            "these networks hold 100 % of all IPv4 addresses that anybody can have",
        ),
        (
            "listen: [{ flow: c2s, address: \"10.0.0.1:5222\", proxy-protocol: [\"2000::/3\"] }]\n",
            "these networks hold 100 % of all IPv6 addresses that anybody can have",
        ),
        ("listen: [{ flow: inside, address: \"10.0.0.1:5269\", from: [] }]\n", "list of networks is empty"),
        (
            "listen: [{ flow: inside, address: \"10.0.0.1:5269\", from: [10.0.0.0/24], tls: direct }]\n",
            "speaks plain TCP",
        ),
        (
            "listen: [{ flow: s2s, address: \"[::]:5269\", from: [10.0.0.0/24] }]\n",
            "`from` is for inside listeners",
        ),
        ("listen: [{ flow: s2s, address: \"[::]:5269\", tls: none }]\n", "is not a way to begin TLS"),
        ("listen: [{ flow: s2x, address: \"[::]:5269\" }]\n", "did you mean `s2s`?"),
        ("listen: [{ flow: s2s, address: \"[::]\" }]\n", "is no address with a port"),
        ("listen: [{ flow: s2s, address: \"[::]:0\" }]\n", "has port 0"),
        (
            "listen: [{ flow: s2s, address: \"[::]:1\" }, { flow: c2s, address: \"[::]:1\" }]\n",
            "is taken already",
        ),
        (
            "listen: [{ flow: s2s, address: \"127.0.0.1:1\" }]\nadmin: { http: \"127.0.0.1:1\" }\n",
            "127.0.0.1:1 is taken already by the listener at",
        ),
        ("listen: [{ flow: s2s, adress: \"[::]:1\" }]\n", "did you mean `address`?"),
        ("default-domain: other.example\n", "is not one of `domains`"),
        ("dialback: { secrets: { world: s, inside: s } }\n", "share a secret"),
        ("trust: { peers: [{ domains: [a.example] }] }\n", "`roots` is missing"),
        ("trust: { peers: [{ domains: [a.example, a.example], roots: r }] }\n", "trust anchors already"),
        ("trust: { unknown-revocation: accept }\n", "no revocation list that could tell nothing"),
        ("trust: { crls: [a.crl], unknown-revocation: acept }\n", "did you mean `accept`?"),
        ("dns: { servers: [dns.example] }\n", "names are not looked up here"),
        ("dns: { routes: [{ domain: example.com, target: \"192.0.2.1:5269\" }] }\n", "is served here"),
        ("dns: { routes: [{ domain: a.example, target: \"192.0.2.1\" }] }\n", "is no host with a port"),
        ("dns: { allow-networks: [10.0.0.1/8] }\n", "bits set beyond its prefix"),
        (
            "steering: { listen: 10.0.0.1, from: [10.0.0.0/24], answer: 10.0.0.1 }\n",
            "no inside listener has the address",
        ),
        (
            "admin: { hosts: [\"gate-1.example.com:9469\"] }\n",
            "error: \"gate-1.example.com:9469\" is no name of a host",
        ),
        ("admin: { http: \"0.0.0.0:9469\" }\n", "warning: metrics and health are served to everybody"),
        ("admin: { http: \"/run/status.sock\" }\n", "a Unix socket is written \"unix:/run/status.sock\""),
        ("admin: { http: \"unix:\" }\n", "the path of the socket is missing"),
        ("admin: { http: \"unix:a.sock\", socket: a.sock }\n", "this is the control socket, too"),
        ("limits: { stanza: 9999B }\n", "`stanza: 9999B` is out of range"),
        ("limits: { stanza: 10000 }\n", "has no unit"),
        ("limits: { sasl-attempts: 6 }\n", "from 2 to 5"),
        ("limits: { stanzas: 64KiB }\n", "did you mean `stanza`?"),
        ("limits: { preauth-element: 256KiB }\n", "exceeds `preauth-total`"),
        ("timeouts: { keepalive: 1m }\n", "from 5m to 24h"),
        ("timeouts: { header: 2s }\n", "from 3s to 2m"),
        ("timeouts: { dns: 30s }\n", "`dns` exceeds `dns-total`"),
        ("log: { level: loud }\n", "is not a log level"),
        ("audit: { }\n", "`file` is missing"),
        ("audit: { file: a, on-full: refuze }\n", "did you mean `refuse`?"),
        ("audit: { file: a, rotate-at: 1KiB }\n", "is no size of an audit file"),
        ("colour: red\n", "`colour` is not a key"),
        (
            "listen: [{ flow: inside, address: \"10.0.0.5:5269\", from: [10.0.0.0/24] }]\n",
            "is the gateway's own listener",
        ),
        (
            "dns: { servers: [10.0.0.1] }\nlisten: [{ flow: inside, address: \"10.0.0.1:1\", from: [10.0.0.0/24] }]\nsteering: { listen: 10.0.0.1, from: [10.0.0.0/24], answer: 10.0.0.1 }\n",
            "would ask its own steering answers",
        ),
        (
            "listen: [{ flow: inside, address: \"10.0.0.1:1\", from: [10.0.0.0/24] }]\nsteering: { listen: 10.0.0.1, from: [10.0.0.0/24], answer: 10.0.0.1, never: [com] }\n",
            "example.com is served here",
        ),
    ];
    for (text, expected) in table {
        let (_, findings) = assemble(&format!(
            "{}{text}",
            if text.starts_with("version") { &SHORTEST[12..] } else { SHORTEST }
        ));
        let told = findings.iter().filter(|finding| finding.contains(expected)).count();
        assert!(told == 1 && findings.len() <= 2, "{text}{findings:#?}");
        assert!(findings[0].starts_with("dir/g.yaml:"), "{findings:?}");
    }
}

#[test]
fn a_domain_is_read_whole_or_not_at_all() {
    let (settings, findings) =
        assemble("version: v1\ndomains:\n  - { name: \"*.example.com\", federation: some }\n  - {}\n");
    assert!(settings.domains.is_empty());
    assert_eq!(
        findings,
        [
            "dir/g.yaml:3:5: error: `backend` is missing; add `backend: { s2s: [\"10.0.0.5:5269\"] }`",
            "dir/g.yaml:3:5: error: `certificate` is missing; add `certificate: { chain: pki/example.com.pem, key: pki/example.com.key }`",
            "dir/g.yaml:3:13: error: \"*.example.com\" is a wildcard; list domains one by one",
            "dir/g.yaml:3:42: error: \"some\" is not a federation setting; did you mean `none`?",
            "dir/g.yaml:4:5: error: `backend` is missing; add `backend: { s2s: [\"10.0.0.5:5269\"] }`",
            "dir/g.yaml:4:5: error: `certificate` is missing; add `certificate: { chain: pki/example.com.pem, key: pki/example.com.key }`",
            "dir/g.yaml:4:5: error: `federation` is missing; add `federation: listed`",
            "dir/g.yaml:4:5: error: `name` is missing; add `name: example.com`",
        ]
    );
    let (_, findings) = assemble("");
    assert_eq!(findings.len(), 2, "{findings:?}");
}

#[test]
fn listeners_and_backends_agree_about_clients() {
    let listen = |list: &str, backend: &str| {
        assemble(
            &SHORTEST
                .replace("s2s: [\"10.0.0.5:5269\"]", backend)
                .replace("domains:", &format!("listen: [{list}]\ndomains:")),
        )
    };
    let (both, s2s) = ("c2s: [\"10.0.0.5:5222\"], s2s: [\"10.0.0.5:5269\"]", "s2s: [\"10.0.0.5:5269\"]");
    let mixed = "{ flow: mixed, address: \"[::]:443\", tls: direct }";
    let (settings, findings) = listen(mixed, both);
    let role = settings.listeners[0].role.clone();
    assert_eq!((role, findings), (Callers::Mixed(Mixed::default()), Vec::new()));
    let (_, findings) = listen("{ flow: mixed, address: \"[::]:443\" }", both);
    assert!(findings.iter().any(|f| f.contains("by ALPN")), "{findings:?}");
    let web = |more: &str| {
        let (settings, findings) = listen(&format!("{{ address: \"[::]:443\", {more} }}"), both);
        (settings.listeners.first().map(|listener| listener.role.clone()), findings)
    };
    let plain = Web { path: "/xmpp-websocket".to_owned(), origins: Vec::new(), at_proxy: false };
    assert_eq!(web("flow: websocket"), (Some(Callers::Websocket(plain.clone())), Vec::new()));
    let (role, findings) = web(
        "flow: websocket, path: /ws, origins: [\"HTTPS://Chat.example:443\", \"http://127.0.0.1:8080\", \"*\"]",
    );
    let origins = ["https://chat.example", "http://127.0.0.1:8080", "*"].map(str::to_owned).to_vec();
    assert_eq!(
        (role, findings),
        (Some(Callers::Websocket(Web { path: "/ws".to_owned(), origins, at_proxy: false })), Vec::new())
    );
    let at_proxy = Web { at_proxy: true, ..plain.clone() };
    assert_eq!(
        web("flow: websocket, tls: proxy, proxy-protocol: [10.0.0.1]"),
        (Some(Callers::Websocket(at_proxy)), Vec::new())
    );
    let all = Mixed { starttls: true, web: Some(plain) };
    assert_eq!(web("flow: mixed, tls: any, path: /xmpp-websocket"), (Some(Callers::Mixed(all)), Vec::new()));
    for (more, told) in [
        ("flow: websocket, tls: proxy", "whoever reaches it"),
        ("flow: websocket, tls: starttls", "TLS from the first octet"),
        ("flow: c2s, tls: proxy", "is for `flow: websocket`"),
        ("flow: mixed, tls: proxy, proxy-protocol: [10.0.0.1]", "is for `flow: websocket`"),
        ("flow: c2s, tls: any", "is for `flow: mixed`"),
        ("flow: websocket, path: ws", "is no path"),
        ("flow: websocket, path: \"/a b\"", "is no path"),
        ("flow: websocket, origins: [chat.example]", "is no site"),
        ("flow: websocket, origins: [\"https://chat.example/x\"]", "is no site"),
        ("flow: mixed, tls: any, origins: [\"*\"]", "takes no WebSocket"),
        ("flow: c2s, path: /ws", "for listeners that take WebSocket"),
        ("flow: s2s, origins: [\"*\"]", "for listeners that take WebSocket"),
    ] {
        let (_, findings) = web(more);
        assert!(findings.iter().any(|f| f.contains(told)), "{more}: {findings:?}");
    }
    let (_, findings) = listen("{ flow: c2s, address: \"[::]:5222\" }", s2s);
    assert!(findings.iter().any(|f| f.contains("no backend has an address for them")), "{findings:?}");
    let (_, findings) = listen("{ flow: s2s, address: \"[::]:5269\" }", both);
    assert!(findings.iter().any(|f| f.contains("no listener takes clients")), "{findings:?}");
}

// A pod learns its address when it starts (ACC-02 forbids a wildcard in its place).
#[test]
fn addresses_are_filled_in_from_the_environment() {
    let text = SHORTEST.replace("10.0.0.5:5269", "${BACKEND}:5269")
        + r#"
listen:
  - { flow: s2s, address: "[::]:5269" }
  - { flow: inside, address: "${POD_IP}:15269", from: [10.1.0.0/16] }
steering: { listen: "${POD_IP}", from: [10.1.0.0/16], answer: "${POD_IP}" }
admin: { http: "${POD_IP}:${PORT}" }
"#;
    let environment = |name: &str| match name {
        "POD_IP" => Some("10.1.2.3".to_owned()),
        "BACKEND" => Some("10.1.0.9".to_owned()),
        "PORT" => Some("9469".to_owned()),
        _ => None,
    };
    let (settings, findings) = assemble_with(&text, &environment);
    assert!(findings.iter().all(|finding| finding.contains("served to everybody")), "{findings:?}");
    assert_eq!(settings.listeners[1].address.to_string(), "10.1.2.3:15269");
    assert_eq!(settings.domains[0].backend.s2s[0].to_string(), "10.1.0.9:5269");
    let steering = settings.steering.unwrap();
    assert_eq!((steering.listen.to_string().as_str(), steering.port), ("10.1.2.3:53", 15269));
    assert_eq!(steering.answer.to_string(), "10.1.2.3");
    assert_eq!(settings.admin.http.unwrap().to_string(), "10.1.2.3:9469");
}

#[test]
fn what_the_environment_lacks_or_spoils_is_told() {
    let inside = |address: &str| {
        format!("{SHORTEST}listen: [{{ flow: inside, address: \"{address}\", from: [10.0.0.0/8] }}]\n")
    };
    let environment = |name: &str| match name {
        "EMPTY" => Some(String::new()),
        "EVERYBODY" => Some("0.0.0.0".to_owned()),
        "NESTED" => Some("${EVERYBODY}".to_owned()),
        "SIX" => Some("fd00::5".to_owned()),
        _ => None,
    };
    for (address, said) in [
        ("${ABSENT}:5269", "asks for ABSENT, which is not set in the environment"),
        ("${EMPTY}:5269", "asks for EMPTY, which is not set in the environment"),
        ("${EVERYBODY}:5269", "an inside listener on 0.0.0.0:5269 would be open to everybody"),
        ("${NESTED}:5269", "which reads \"${EVERYBODY}:5269\" here, is no address"),
        ("${SIX}:5269", "\"${SIX}:5269\", which reads \"fd00::5:5269\" here, is no address with a port"),
        ("$EVERYBODY:5269", "has a `$` that begins no name"),
        ("${}:5269", "has a `$` that begins no name"),
        ("${lower}:5269", "has a `$` that begins no name"),
        ("${EVERYBODY:5269", "has a `$` that begins no name"),
    ] {
        let (_, findings) = assemble_with(&inside(address), &environment);
        assert_eq!(findings.len(), 1, "{address}: {findings:?}");
        assert!(findings[0].starts_with("dir/g.yaml:7:") && findings[0].contains(said), "{}", findings[0]);
    }
    let (settings, findings) = assemble_with(&inside("[${SIX}]:5269"), &environment);
    assert_eq!((findings, settings.listeners[0].address.to_string()), (vec![], "[fd00::5]:5269".to_owned()));
    // Every value is filled in, and the gateway still finds itself behind a name.
    let text = SHORTEST.replace("10.0.0.5:5269", "${SELF}:5269")
        + "listen: [{ flow: s2s, address: \"10.1.2.3:5269\" }]\ndefault-domain: \"${SELF}\"\n";
    let (_, findings) = assemble_with(&text, &|_| Some("10.1.2.3".to_owned()));
    assert!(
        findings.iter().any(|f| f.contains("10.1.2.3:5269 is the gateway's own listener")),
        "{findings:?}"
    );
    assert!(findings.iter().any(|f| f.contains("\"10.1.2.3\" is no domain")), "{findings:?}");
}

// DB-62: with several servers inside, each is believed at its own addresses only; those that share one are told.
#[test]
fn servers_that_are_believed_by_address_are_told_apart_by_it() {
    let two = |first: &str, second: &str| {
        let domain = |name: &str, backend: &str| {
            format!(
                "  - name: {name}\n    certificate: {{ chain: a.pem, key: a.key }}\n    backend: {{ {backend} }}\n    federation: listed\n"
            )
        };
        assemble(&format!(
            "version: v1\ndomains:\n{}{}",
            domain("a.example", first),
            domain("b.example", second)
        ))
    };
    let net = |text: &str| crate::policy::networks::parse(text).unwrap();
    let (one, findings) = two("s2s: [\"10.0.0.5:5269\"]", "s2s: [\"10.0.0.5:5269\"]");
    assert_eq!((one.callers(&one.domains[0]), findings), (Vec::new(), Vec::new()));
    let (apart, findings) = two(
        "s2s: [\"10.0.0.5:5269\"], c2s: [\"10.0.0.7:5222\"]",
        "s2s: [\"10.0.0.6:5269\"], from: [10.1.0.0/16]",
    );
    assert_eq!(findings, Vec::<String>::new());
    assert_eq!(apart.callers(&apart.domains[0]), [net("10.0.0.5"), net("10.0.0.7")]);
    assert_eq!(apart.callers(&apart.domains[1]), [net("10.1.0.0/16")]);
    let (_, findings) = two("s2s: [\"10.0.0.5:5269\"]", "s2s: [\"10.0.0.5:5270\"], dialback-keys: verify");
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].contains("the server of b.example may speak for a.example"), "{findings:?}");
    let (_, findings) = two("s2s: [\"10.0.0.5:5269\"], from: [10.0.0.0/24]", "s2s: [\"10.0.0.6:5269\"]");
    assert!(findings.len() == 1 && findings[0].contains("may speak for a.example"), "{findings:?}");
}
