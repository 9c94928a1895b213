//! The story that `gatehouse demo` tells: who lives in the small world, what each does, what becomes of it.

use std::sync::OnceLock;
use std::time::Instant;

use super::client::Client;
use super::peer::{Manner, Peer};
use super::session::{Login, Word};
use super::teller::{Became, Teller};
use super::world::{Metrics, Plan, World, label};
use super::{Told, Trouble, summary};
use crate::reason::Reason;

/// The rules of hall.example. The example that the story tells, and the cases that every load of it runs.
const POLICY: &str = r#"version: v1
rules:
  - name: partners
    domains: [friend.example]
    identity: [certificate]
  - name: old-acquaintance
    domains: [cousin.example]
    identity: [dialback]
  - name: on-probation
    domains: [mallory.example]
expect:
  - { from: friend.example, to: hall.example, identity: certificate, tls: "1.3", verdict: allow, rule: partners }
  - { from: stranger.example, to: hall.example, identity: certificate, tls: "1.3", verdict: deny, reason: not-listed }
"#;

const HALL: &str = "hall.example";
const FRIEND: &str = "friend.example";
const COUSIN: &str = "cousin.example";
const STRANGER: &str = "stranger.example";
const MALLORY: &str = "mallory.example";
const LOOKALIKE: &str = "evilfriend.example";

/// Everybody in the story.
struct Cast {
    world: World,
    /// Online from the first step on.
    julia: OnceLock<Client>,
    friend: Peer,
    cousin: Peer,
    stranger: Peer,
    mallory: Peer,
    lookalike: Peer,
}

/// Plays the story, and tells it; true if every step came out as told. With `keep` the world stays up until Ctrl-C.
pub async fn play(mut teller: Teller<'_>, keep: bool) -> Told<bool> {
    introduce(&mut teller)?;
    let cast = Cast::gather().await?;
    cast.addresses(&mut teller)?;
    show_list(&mut teller)?;
    teller.heading("What happens")?;
    let start = cast.world.metrics().await?;
    cast.act(&mut teller).await?;
    summary::tell(&mut teller, &cast.world.metrics().await?, &start)?;
    cast.closing_words(&mut teller, keep)?;
    let well = teller.close()?;
    if keep {
        teller.line("\nEverything stays up. Stop it with Ctrl-C.")?;
        tokio::signal::ctrl_c().await?;
    }
    cast.world.gate.stop().await?;
    Ok(well)
}

fn introduce(teller: &mut Teller<'_>) -> Told<()> {
    teller.heading("Gatehouse: a small world")?;
    teller.words(
        "People chat with addresses like e-mail: julia@hall.example is Julia, whose account is on the server of \
         hall.example. Servers pass messages to each other over the Internet. The server of hall.example is old: it \
         knows no encryption and no certificates, and must not stand on the open Internet. Gatehouse stands in front of \
         it. It speaks encrypted with the world, makes every server prove who it is, looks the name up in hall.example's \
         list, checks each message, and hands on what passes.",
    )?;
    teller.words("")?;
    teller.words(
        "    the world  ==== encrypted, proven ====>  Gatehouse  ---- plain ---->  old server (Julia)",
    )?;
    teller.words("")?;
    teller.row(FRIEND, "on the list; has a certificate, as most servers today")?;
    teller.row(COUSIN, "on the list; has no certificate, and is asked back for a key (\"dialback\")")?;
    teller.row(STRANGER, "an honest server, but not on the list")?;
    teller.row(MALLORY, "on the list, but it lies about who a message is from")?;
    teller.row(LOOKALIKE, "not on the list; a name made to be taken for friend.example")?;
    teller.words("")?;
    teller.words(
        "Everything below happens on this machine, over real connections, encryption and name queries.",
    )
}

impl Cast {
    async fn gather() -> Told<Self> {
        let plan = Plan::listed(HALL, POLICY);
        let world = World::build(&plan).await?;
        let proper = Manner::default();
        let friend = world.peer(10, &[FRIEND], proper.clone()).await?;
        let cousin = world.old_peer(11, &[COUSIN]).await?;
        let stranger = world.peer(12, &[STRANGER], proper.clone()).await?;
        let mallory = world.peer(13, &[MALLORY], proper.clone()).await?;
        let lookalike = world.peer(14, &[LOOKALIKE], proper).await?;
        Ok(Self { world, julia: OnceLock::new(), friend, cousin, stranger, mallory, lookalike })
    }

    fn addresses(&self, teller: &mut Teller<'_>) -> Told<()> {
        teller.heading("Where they are")?;
        let at = &self.world.at;
        teller.row(
            "Gatehouse, for the world",
            &format!("{} and {} (encrypted at once)", at.public, at.direct),
        )?;
        teller.row("Gatehouse, for clients", &at.clients.to_string())?;
        teller.row(
            "Gatehouse, for the old server",
            &format!("{} (takes only {})", at.inside, self.world.legacy.s2s.ip()),
        )?;
        teller.row("the old server of hall.example", &self.world.legacy.s2s.to_string())?;
        teller.row("name server (DNS)", &self.world.names.address().to_string())?;
        for peer in [&self.friend, &self.cousin, &self.stranger, &self.mallory, &self.lookalike] {
            teller.row(peer.domain(), &peer.address.to_string())?;
        }
        Ok(())
    }

    async fn act(&self, teller: &mut Teller<'_>) -> Told<()> {
        macro_rules! step {
            ($title:literal, $why:literal, $deed:expr) => {{
                teller.announce($title, $why)?;
                let begun = Instant::now();
                let outcome = $deed.await;
                teller.outcome(outcome, begun.elapsed())?;
            }};
        }
        step!(
            "Julia, who travels, logs in to her account at hall.example.",
            "Her program connects to Gatehouse, switches to encryption, checks the certificate of hall.example, and only then \
             shows her password. Gatehouse hands the login to the old server, which alone says whether it is right.",
            self.julia_logs_in()
        );
        step!(
            "Somebody logs in as Nick, and writes to Julia with Romeo's address as the sender.",
            "The old server said that this connection is Nick's. What says another name is not passed on.",
            self.nick_forges()
        );
        step!(
            "Julia writes to Romeo at friend.example.",
            "The old server hands her message to Gatehouse, as if that were friend.example. Gatehouse looks friend.example \
             up in the DNS, connects, checks its certificate and shows the certificate of hall.example.",
            self.out_to_friend()
        );
        step!(
            "Romeo answers.",
            "friend.example connects to Gatehouse and shows its certificate. It names friend.example, and the list says \
             that this is proof enough.",
            self.in_from_friend()
        );
        step!(
            "Julia writes to Carla at cousin.example, and Carla answers.",
            "cousin.example has no certificate to show. So each side asks back: whoever claims to speak for a domain leaves \
             a key, and the server that the DNS names for that domain is asked whether the key is its own.",
            self.cousin_both_ways()
        );
        step!(
            "stranger.example wants to write to Julia.",
            "It can prove who it is. But hall.example writes with listed servers only, and it is not listed.",
            self.stranger_in()
        );
        step!(
            "Julia wants to write to somebody at stranger.example.",
            "The list holds in both directions. She is told that it did not work; stranger.example never hears of it.",
            self.stranger_out()
        );
        step!(
            "evilfriend.example wants to write to Julia.",
            "Its name ends like friend.example. Names are compared label by label, never by their ending.",
            self.lookalike_in()
        );
        step!(
            "mallory.example proves who it is, then sends a message that claims to be from friend.example.",
            "Only mallory.example was proven on that connection.",
            self.mallory_forges()
        );
        step!(
            "cousin.example, already connected, wants to speak for stranger.example as well.",
            "One connection may carry several pairs of domains, but each is proven and judged by itself.",
            self.second_pair()
        );
        step!(
            "friend.example asks for a domain that nobody hosts here.",
            "Gatehouse speaks for hall.example alone.",
            self.unhosted_target()
        );
        step!(
            "The old server goes down, cousin.example wants to write, the old server comes back.",
            "Gatehouse never takes a message that it cannot hand on: the sender is told at once, and may try again.",
            self.backend_down()
        );
        Ok(())
    }

    fn julia(&self) -> Told<&Client> {
        self.julia.get().ok_or_else(|| Trouble::new("Julia is not online"))
    }

    async fn julia_logs_in(&self) -> Told<Vec<Became>> {
        let wrong = self.world.login_from_outside("julia", HALL, Some("open barley")).await;
        expect_that("a wrong password opens nothing", wrong.is_err())?;
        let julia = self.world.login_from_outside("julia", HALL, None).await?;
        expect_that("the old server gave her address", julia.address.starts_with("julia@hall.example/"))?;
        let logins = |outcome| [("flow", "c2s"), ("method", "plain"), ("outcome", outcome)];
        self.world.counted("authentications_total", &logins("allow"), 1.0).await?;
        self.world.counted("authentications_total", &logins("deny"), 1.0).await?;
        let told = format!("she is online as {}.", julia.address);
        expect_that("she logs in once", self.julia.set(julia).is_ok())?;
        Ok(vec![
            Became::Refused("her first try, with a wrong password: the old server said no.".to_owned()),
            Became::Delivered(told),
        ])
    }

    async fn nick_forges(&self) -> Told<Vec<Became>> {
        let (julia, nick) = (self.julia()?, self.world.login_from_outside("nick", HALL, None).await?);
        nick.say(&julia.address, "Julia, it is Nick").await?;
        let letter = julia.inbox.wait_body("Julia, it is Nick").await?;
        expect("the sender", letter.attr("from"), Some(&nick.address))?;
        nick.send(format!(
            "<message from='romeo@friend.example' to='{}' type='chat'><body>Give Nick your password</body></message>",
            julia.address
        ))
        .await?;
        expect("the reason given", Some(nick.thrown_out().await?.as_str()), Some("invalid-from"))?;
        let forged = julia.inbox.all().iter().any(|n| n.body().is_some_and(|b| b.contains("password")));
        expect_that("the forged message did not arrive", !forged)?;
        Ok(vec![
            Became::Delivered("what Nick said in his own name: \"Julia, it is Nick\".".to_owned()),
            Became::Refused(format!(
                "the forged message: {}. Gatehouse closed the connection.",
                named(Reason::ForgedFrom)
            )),
        ])
    }

    async fn out_to_friend(&self) -> Told<Vec<Became>> {
        self.julia()?.say("romeo@friend.example", "Romeo, are you there?").await?;
        let letter = self.friend.inbox.wait_body("Romeo, are you there?").await?;
        expect("the sender", letter.attr("from"), Some(&self.julia()?.address))?;
        expect(
            "the proof",
            self.friend.proofs().first().map(String::as_str),
            Some("certificate hall.example"),
        )?;
        Ok(vec![Became::Delivered(
            "friend.example received \"Romeo, are you there?\", from a server that proved to be hall.example by its \
             certificate."
                .to_owned(),
        )])
    }

    async fn in_from_friend(&self) -> Told<Vec<Became>> {
        let before = self.world.metrics().await?;
        let mut stream = self.friend.call(HALL)?.open().await?;
        expect_that(
            "friend.example is taken at its certificate",
            stream.external(FRIEND).await? == Login::Success,
        )?;
        stream
            .message("romeo@friend.example", &self.julia()?.address, "Here, with a <smile> & a \u{1F339}")
            .await?;
        self.julia()?.inbox.wait_body("Here, with a <smile> & a \u{1F339}").await?;
        stream.close().await?;
        let rule = self.ruled(&before, "allow").await?;
        Ok(vec![Became::Delivered(format!(
            "Julia received \"Here, with a <smile> & a \u{1F339}\" ({rule})."
        ))])
    }

    async fn cousin_both_ways(&self) -> Told<Vec<Became>> {
        self.julia()?.say("carla@cousin.example", "Dear Carla, long time no see").await?;
        self.cousin.inbox.wait_body("Dear Carla, long time no see").await?;
        expect("the proof", self.cousin.proofs().first().map(String::as_str), Some("dialback hall.example"))?;
        let mut stream = self.cousin.call_bare(HALL)?.open().await?;
        expect_that("no proof by certificate is offered", !stream.offers_external())?;
        expect_that("the key is found genuine", stream.dialback(COUSIN, HALL).await? == Word::Valid)?;
        stream.message("carla@cousin.example", &self.julia()?.address, "Dear Julia, too long!").await?;
        self.julia()?.inbox.wait_body("Dear Julia, too long!").await?;
        stream.close().await?;
        Ok(vec![
            Became::Delivered(
                "cousin.example asked Gatehouse about the key, heard \"valid\", and took the message."
                    .to_owned(),
            ),
            Became::Delivered(
                "Gatehouse asked cousin.example about its key in turn; Julia received the answer.".to_owned(),
            ),
        ])
    }

    async fn stranger_in(&self) -> Told<Vec<Became>> {
        let (visits, queries) = (self.world.legacy.visits(), self.world.names.asked_about(STRANGER));
        let mut lines = vec![self.turned_away(&self.stranger, STRANGER).await?];
        expect_that("the old server was not troubled", self.world.legacy.visits() == visits)?;
        expect_that("no name query was sent", self.world.names.asked_about(STRANGER) == queries)?;
        lines.push(Became::Refused(
            "before a single name query was sent, and without a word to the old server.".to_owned(),
        ));
        Ok(lines)
    }

    async fn turned_away(&self, peer: &Peer, domain: &str) -> Told<Became> {
        let before = self.world.metrics().await?;
        let mut stream = peer.call(HALL)?.open().await?;
        expect_that(
            "no proof by certificate is offered",
            stream.external(domain).await? == Login::NotOffered,
        )?;
        let word = stream.dialback(domain, HALL).await?;
        expect_that(
            &format!("policy-violation, not {word:?}"),
            word == Word::Error("policy-violation".to_owned()),
        )?;
        stream.close().await?;
        let why = self.ruled(&before, "deny").await?;
        Ok(Became::Refused(format!("{domain} was not let in: {why}.")))
    }

    async fn stranger_out(&self) -> Told<Vec<Became>> {
        let (visits, before) = (self.stranger.visits(), self.world.metrics().await?);
        self.julia()?.say("sam@stranger.example", "Hello, whoever you are").await?;
        self.julia()?.bounce("sam@stranger.example").await?;
        expect_that("no connection to stranger.example was made", self.stranger.visits() == visits)?;
        let why = self.ruled(&before, "deny").await?;
        Ok(vec![Became::Refused(format!("Julia got her message back as undeliverable: {why}."))])
    }

    async fn lookalike_in(&self) -> Told<Vec<Became>> {
        Ok(vec![self.turned_away(&self.lookalike, LOOKALIKE).await?])
    }

    async fn mallory_forges(&self) -> Told<Vec<Became>> {
        let mut stream = self.mallory.call(HALL)?.open().await?;
        expect_that(
            "mallory.example is taken at its certificate",
            stream.external(MALLORY).await? == Login::Success,
        )?;
        stream.message("mallory@mallory.example", &self.julia()?.address, "Hello, this is Mallory").await?;
        self.julia()?.inbox.wait_body("Hello, this is Mallory").await?;
        stream
            .message("romeo@friend.example", &self.julia()?.address, "This is Romeo. Lend me some money?")
            .await?;
        let ending = stream.ending().await?;
        expect("the reason given", ending.condition.as_deref(), Some("invalid-from"))?;
        let refused = [("reason", Reason::InvalidFrom.label())];
        self.world.counted("stanzas_refused_total", &refused, 1.0).await?;
        let forged = self.julia()?.inbox.all().iter().any(|n| n.body().is_some_and(|b| b.contains("money")));
        expect_that("the forged message did not arrive", !forged)?;
        Ok(vec![
            Became::Delivered(
                "what mallory.example said in its own name: \"Hello, this is Mallory\".".to_owned(),
            ),
            Became::Refused(format!(
                "the forged message: {}. Gatehouse closed the connection.",
                named(Reason::InvalidFrom)
            )),
        ])
    }

    async fn second_pair(&self) -> Told<Vec<Became>> {
        let before = self.world.metrics().await?;
        let mut stream = self.cousin.call_bare(HALL)?.open().await?;
        expect_that("cousin.example is proven", stream.dialback(COUSIN, HALL).await? == Word::Valid)?;
        let word = stream.dialback(STRANGER, HALL).await?;
        expect_that(
            &format!("policy-violation, not {word:?}"),
            word == Word::Error("policy-violation".to_owned()),
        )?;
        let why = self.ruled(&before, "deny").await?;
        stream.message("carla@cousin.example", &self.julia()?.address, "Never mind the stranger").await?;
        self.julia()?.inbox.wait_body("Never mind the stranger").await?;
        stream.close().await?;
        Ok(vec![
            Became::Refused(format!("the second name, stranger.example: {why}.")),
            Became::Delivered(
                "the first name is not harmed: Julia received Carla's next message.".to_owned(),
            ),
        ])
    }

    async fn unhosted_target(&self) -> Told<Vec<Became>> {
        let mut stream = self.friend.call(HALL)?.open().await?;
        let word = stream.dialback(FRIEND, "cellar.example").await?;
        expect_that(
            &format!("item-not-found, not {word:?}"),
            word == Word::Error("item-not-found".to_owned()),
        )?;
        stream.close().await?;
        Ok(vec![Became::Refused(format!("{}.", named(Reason::HostUnknown)))])
    }

    async fn backend_down(&self) -> Told<Vec<Became>> {
        self.world.legacy.stop().await;
        let mut stream = self.cousin.call_bare(HALL)?.open().await?;
        let word = stream.dialback(COUSIN, HALL).await?;
        let told = word == Word::Error("internal-server-error".to_owned());
        expect_that(&format!("internal-server-error, not {word:?}"), told)?;
        stream.close().await?;
        self.world.legacy.resume().await?;
        let mut stream = self.cousin.call_bare(HALL)?.open().await?;
        expect_that("cousin.example is proven again", stream.dialback(COUSIN, HALL).await? == Word::Valid)?;
        stream.message("carla@cousin.example", "julia@hall.example", "Back again?").await?;
        self.world.legacy.inbox.wait_body("Back again?").await?;
        stream.close().await?;
        Ok(vec![
            Became::Refused(format!("while it was down: {}.", named(Reason::BackendDown))),
            Became::Delivered("after it came back, the same message from the same sender.".to_owned()),
        ])
    }

    /// What the policy said since then, in words: the reason, its label and the rule.
    async fn ruled(&self, before: &Metrics, outcome: &str) -> Told<String> {
        let seen = before.sum("policy_verdicts_total", &[("outcome", outcome)]);
        self.world.counted("policy_verdicts_total", &[("outcome", outcome)], seen + 1.0).await?;
        let moved = self.world.metrics().await?.moved(before);
        let series = moved
            .iter()
            .map(|(series, _)| series)
            .find(|s| {
                s.starts_with("gatehouse_policy_verdicts_total") && label(s, "outcome") == Some(outcome)
            })
            .ok_or_else(|| Trouble::new("no verdict was counted"))?;
        let (reason, rule) = (label(series, "reason").unwrap_or(""), label(series, "rule").unwrap_or(""));
        if outcome == "allow" {
            return Ok(format!("allowed by the rule \"{rule}\""));
        }
        let words = Reason::ALL.iter().find(|r| r.label() == reason).map_or("", |r| r.words());
        Ok(format!("{words} ({reason}; rule: {rule})"))
    }

    fn closing_words(&self, teller: &mut Teller<'_>, keep: bool) -> Told<()> {
        teller.heading("To try")?;
        let at = &self.world.at;
        if keep {
            let config = self.world.config.display();
            teller.row("why would that be refused?", "")?;
            teller.line(&format!(
                "    gatehouse policy explain --config {config} --from sam@stranger.example --to julia@hall.example \
                 --proof certificate --tls 1.3"
            ))?;
            teller.row("what Prometheus reads", &format!("http://{}/metrics", at.admin))?;
            teller.row("is it well?", &format!("http://{}/readyz", at.admin))?;
            let socket = self.world.socket();
            teller.row("who is there?", &format!("gatehouse streams --socket {}", socket.display()))?;
            teller.row(
                "your own client",
                &format!(
                    "{} as anyone@hall.example, password \"open sesame\"; it must trust {}",
                    at.clients,
                    self.world.folder.path().join("pki/root.pem").display()
                ),
            )?;
            teller.row("all files", &self.world.folder.path().display().to_string())
        } else {
            teller.words(
                "gatehouse demo --keep leaves the small world up, with its addresses, for your own client and for \
                 `gatehouse policy explain`. The README leads on to a first real configuration.",
            )
        }
    }
}

/// The list, before anybody is judged by it.
fn show_list(teller: &mut Teller<'_>) -> Told<()> {
    teller.heading("The list of hall.example")?;
    POLICY.lines().try_for_each(|line| teller.line(&format!("  {line}")))?;
    teller.words("")?;
    teller.words(
        "Whoever is on it may speak, after the proof that its rule asks for; everybody else is refused. The cases under \
         `expect` are tried each time the list is read: one that does not come out keeps the old list in force.",
    )
}

/// A reason in words, with its name in the log, in the counters and in `gatehouse refusals`.
fn named(reason: Reason) -> String {
    format!("{} ({})", reason.words(), reason.label())
}

fn expect(what: &str, found: Option<&str>, wanted: Option<&str>) -> Told<()> {
    if found == wanted {
        Ok(())
    } else {
        Err(Trouble(format!("{what}: {found:?}, where {wanted:?} was due")))
    }
}

fn expect_that(what: &str, holds: bool) -> Told<()> {
    if holds { Ok(()) } else { Err(Trouble(format!("not so: {what}"))) }
}
