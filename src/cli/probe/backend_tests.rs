use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::*;
use crate::cli::console::Volume;

const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";

/// How a server treats who comes.
#[derive(Clone, Copy, Default)]
struct Manner {
    features: &'static str,
    /// Who can bind a channel is refused with the first message, or with the last.
    refuses_first: bool,
    refuses_last: bool,
    /// It takes nobody whom it does not know.
    knows: bool,
    /// What it says of its list in its first message.
    signs: &'static str,
}

async fn server(manner: Manner) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, manner));
        }
    });
    address
}

async fn serve(mut stream: TcpStream, manner: Manner) {
    let mut framer = crate::xml::Framer::new(crate::xml::Limits::default(), Content::Client);
    let (mut secret, mut granted) = (None, false);
    let failure = |text: &str| {
        format!("<failure xmlns='{SASL}'><not-authorized/><text xmlns='{SASL}'>{text}</text></failure>")
    };
    let account = Account::new("alice", "pencil");
    loop {
        let Some(token) = framer.next() else {
            let mut octets = [0; 4096];
            match stream.read(&mut octets).await {
                Ok(read @ 1..) => framer.feed(&octets[..read]),
                _ => return,
            }
            continue;
        };
        let answer = match token {
            Token::Header(_) => {
                let bind = format!("<bind xmlns='{}'/>", names::BIND);
                let features = if granted { bind.as_str() } else { manner.features };
                format!(
                    "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' id='1' \
                     from='hall.example' version='1.0'><stream:features>{features}</stream:features>"
                )
            }
            Token::Element(frame) => {
                let tree = frame.tree();
                let said = crate::stream::client::login::payload(&tree).ok().flatten().unwrap_or_default();
                let said = String::from_utf8_lossy(&said).into_owned();
                match (&*tree.name, tree.attr("mechanism")) {
                    ("auth", Some("PLAIN")) if said == "\0alice\0pencil" => {
                        success(&mut framer, &mut granted, b"")
                    }
                    ("auth", Some("SCRAM-SHA-1")) if manner.refuses_first && said.starts_with('y') => {
                        failure("Invalid channel binding")
                    }
                    ("auth", Some("SCRAM-SHA-1")) if manner.knows && !said.contains("n=alice,") => {
                        failure("who?")
                    }
                    ("auth", Some("SCRAM-SHA-1")) => {
                        let scram = Scram::of(Mechanism::ScramSha1, &said);
                        let nonce = said.split("r=").nth(1).unwrap();
                        let first = format!("r={nonce}more,s=c2FsdA==,i=4096{}", manner.signs);
                        secret =
                            Some((said.starts_with('y'), scram.last(&account, first.as_bytes()).unwrap()));
                        format!("<challenge xmlns='{SASL}'>{}</challenge>", STANDARD.encode(first))
                    }
                    ("response", _) => match secret.take() {
                        Some((true, _)) if manner.refuses_last => failure("Invalid channel binding"),
                        Some((_, (last, server))) if last == said.as_bytes() => {
                            success(&mut framer, &mut granted, &server)
                        }
                        _ => failure("no"),
                    },
                    ("iq", _) => format!(
                        "<iq type='result' id='bind'><bind xmlns='{}'><jid>alice@hall.example/x</jid></bind></iq>",
                        names::BIND
                    ),
                    ("abort", _) => format!("<failure xmlns='{SASL}'><aborted/></failure>"),
                    _ => failure("no"),
                }
            }
            Token::End => return,
            _ => continue,
        };
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

fn success(framer: &mut crate::xml::Framer, granted: &mut bool, server: &[u8]) -> String {
    *granted = true;
    framer.restart();
    format!("<success xmlns='{SASL}'>{}</success>", STANDARD.encode(server))
}

async fn report(manner: Manner, account: Option<&Account>) -> Report {
    let address = server(manner).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gatehouse.yaml");
    let text = format!(
        "version: v1\ndomains:\n  - name: hall.example\n    certificate: {{ chain: a, key: b }}\n    \
         backend: {{ c2s: [\"{address}\"] }}\n    federation: none\n"
    );
    std::fs::write(&file, text).unwrap();
    let (settings, _) = crate::config::load(&file).unwrap_or_else(|findings| panic!("{findings:?}"));
    probe(&settings, &settings.domains[0], account).await
}

const PLAIN: &str =
    "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism></mechanisms>";
const SCRAM: &str = "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>SCRAM-SHA-1</mechanism>\
                     <mechanism>PLAIN</mechanism><mechanism>X-OAUTH2</mechanism></mechanisms>";

// C2S-04, CB-02, CB-09: in plain words, with what to do.
#[tokio::test]
async fn what_would_break_logins_is_said_in_plain_words() {
    let plus = "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>SCRAM-SHA-1-PLUS</mechanism>\
                <mechanism>PLAIN</mechanism></mechanisms>";
    let odd =
        "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>DIGEST-MD5</mechanism></mechanisms>";
    let tls = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>";
    let with = |features| Manner { features, ..Manner::default() };
    for (manner, trouble) in [
        (with(PLAIN), None),
        (with(SCRAM), None),
        // As Openfire offers it.
        (with(plus), Some("no `-PLUS` in `sasl.mechs`")),
        (with(odd), Some("let the server offer one of `backend: { mechanisms }`")),
        (with(tls), Some("switch required TLS off")),
        (
            Manner { refuses_first: true, ..with(SCRAM) },
            Some("SCRAM-SHA-1, flag y: refused (not-authorized: Invalid channel binding)"),
        ),
        (Manner { signs: ",h=b3RoZXI=", ..with(SCRAM) }, Some("clients that verify the list cannot log in")),
        // It shows nothing of its ways to who is not known there: said, and no trouble.
        (Manner { knows: true, ..with(SCRAM) }, None),
    ] {
        let report = report(manner, None).await;
        let seen = &report.addresses[0];
        let said = seen.trouble.join("; ");
        assert_eq!(report.usable, trouble.is_none(), "{said}");
        assert!(said.contains(trouble.unwrap_or_default()), "{said}");
        assert!(seen.trouble.len() <= 1, "{said}");
        if seen.answers && said.is_empty() {
            let unseen = seen.unseen.join("; ");
            assert!(unseen.contains("--account"), "{unseen}");
            assert_eq!(unseen.contains("not there at once"), manner.knows, "{unseen}");
        }
    }
}

// With an account it logs in for real, and sees what a server refuses with the last word only, as ejabberd 24.12 does.
#[tokio::test]
async fn with_an_account_it_logs_in_for_real() {
    let account = Account::new("alice", "pencil");
    let with = Manner { features: SCRAM, knows: true, ..Manner::default() };
    let told = report(with, Some(&account)).await;
    assert!(told.usable, "{:?}", told.addresses[0].trouble);
    assert_eq!(
        told.addresses[0].exchanges,
        [
            "SCRAM-SHA-1, flag n: bound as alice@hall.example/x",
            "SCRAM-SHA-1, flag y: bound as alice@hall.example/x",
            "PLAIN: bound as alice@hall.example/x"
        ]
    );
    let told = report(Manner { refuses_last: true, ..with }, Some(&account)).await;
    let trouble = told.addresses[0].trouble.join("; ");
    assert!(trouble.contains("flag y: refused") && trouble.contains("allow_unencrypted_sasl2"), "{trouble}");
    assert_eq!(told.addresses[0].exchanges.len(), 2);
    // A wrong password is trouble with each.
    let told = report(with, Some(&Account::new("alice", "paper"))).await;
    assert_eq!((told.usable, told.addresses[0].trouble.len()), (false, 3));
    // Whatever was found is in the words for people, too.
    let console = Console::new(Volume::Usual);
    assert!(told.text(&console).contains("tried") || told.text(&console).contains("trouble"));
}

#[test]
fn every_fault_of_a_backend_comes_with_a_remedy() {
    for reason in [
        Reason::BackendWantsTls,
        Reason::BackendBindsChannel,
        Reason::BackendOffersBinding,
        Reason::NoMechanism,
    ] {
        assert!(remedy(reason).contains("switch") || remedy(reason).contains("let the server"), "{reason}");
    }
}
