//! The graph of each use of a client's relay, walked to its end.
//!
//! Two relays are one state that do the same from here on: times count from now, and what is only told at the end (how much passed,
//! why) is left out. Time stands still but where the next deadline comes; what is waited for takes seconds, so that deadlines come in each
//! order. The uses share a life between them: each has everything that may happen in a part of it, and of the rest what leads there.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use gatehouse::policy::{Bans, Day, PatchFile, PatchSource, Policy, compile_patches};
use gatehouse::reason::Flow;
use gatehouse::relay::{
    ClientDomain, Effect, FarId, Input, Relay, RelayParams, Side, StreamLimits, Timeouts,
};
use gatehouse::stream::Secured;
use gatehouse::stream::client::Mechanism;
use gatehouse::stream::client::certified::{CertificateName, CertificateTerms, Demand};
use gatehouse::xml::Token;

use super::super::client_laws::{BIND, FAR, LAWS, ME};
use super::super::essence::{from_now, hash, without};
use super::super::laws::{Crossing, SASL};
use super::super::stage::*;
use super::past::{CUT, DENIED, Past, is_denied};
use super::said::{self, Happens};

/// More states than a walk to the end comes to.
const END: usize = 60_000;

/// A part of the life of a client, where its walk begins, and all that may happen.
struct Use {
    name: &'static str,
    starts: Vec<Start>,
    inputs: Happens,
    /// So many states were counted, a few more or less with each change of the relay.
    counted: usize,
}

struct Start {
    relay: Relay,
    now: Instant,
    past: Past,
}

/// What the walk of a use found.
#[derive(Default)]
struct Walked {
    name: &'static str,
    counted: usize,
    /// None: it has no end.
    states: Option<usize>,
    edges: usize,
    passed: usize,
    delivered: usize,
    breaches: Vec<String>,
}

/// Seconds, and few of them.
fn timeouts() -> Timeouts {
    let seconds = Duration::from_secs;
    Timeouts {
        header: seconds(2),
        tls: seconds(3),
        unauth: seconds(5),
        close: seconds(1),
        ..Timeouts::default()
    }
}

fn house(clients: &ClientDomain) -> RelayParams {
    let mut relays = relays();
    relays.clients.insert(domain("hall.example"), clients.clone());
    relays.limits = StreamLimits { sasl_attempts: 2, binds: 2, ..StreamLimits::default() };
    relays.timeouts = timeouts();
    relays
}

/// Everybody may speak, and patches look at what is said.
fn patched() -> Arc<Policy> {
    let text = format!(
        "version: v1\npatches:\n  - {{ name: denied, reason: r, action: deny, payload: \"{DENIED}\" }}\n  \
         - {{ name: cut, reason: r, action: cut, payload: \"{CUT}\" }}\n"
    );
    let (file, findings) = gatehouse::config::load::parse::<PatchFile>(&text, "patches.yaml");
    assert!(findings.is_empty(), "{findings:?}");
    let today = Day::parse("2026-11-21").unwrap();
    let patches = compile_patches(&[PatchSource::new("patches.yaml", file)], None, today).map(|all| all.0);
    Arc::new(any().with_patches(patches.map_err(|found| format!("{found:?}")).unwrap()))
}

/// What the uses have in common.
struct World {
    relays: Arc<RelayParams>,
    /// The same where accounts may be asked for.
    registering: Arc<RelayParams>,
    /// The same where clients must show a certificate.
    strict: Arc<RelayParams>,
    /// Clients of the domain are served no more.
    gone: Arc<RelayParams>,
    policy: Arc<Policy>,
    banned: Arc<Policy>,
    origin: Instant,
}

impl World {
    fn new() -> Self {
        let clients = ClientDomain { mechanisms: [Mechanism::Plain].into(), ..ClientDomain::default() };
        let registering = ClientDomain { registration: true, ..clients.clone() };
        let certificate = CertificateTerms { demand: Demand::Require, by: CertificateName::XmppAddress };
        let strict = ClientDomain { certificate, ..clients.clone() };
        let mut gone = house(&clients);
        gone.clients.clear();
        let bans = Bans { networks: vec!["192.0.2.0/24".parse().unwrap()], domains: Vec::new() };
        Self {
            relays: Arc::new(house(&clients)),
            registering: Arc::new(house(&registering)),
            strict: Arc::new(house(&strict)),
            gone: Arc::new(gone),
            policy: patched(),
            banned: Arc::new(any().with_bans(bans)),
            origin: Instant::now(),
        }
    }

    /// A client that has just arrived.
    fn arrived(&self, relays: &Arc<RelayParams>, channel: Option<Secured>) -> Stage {
        let world = (Arc::clone(relays), Arc::clone(&self.policy));
        Stage::at(self.origin, world, Flow::C2s, channel, [3; 32])
    }

    /// The same under TLS, whose server has offered this.
    fn offered(&self, relays: &Arc<RelayParams>, features: &str, lang: &str) -> Stage {
        let mut stage = self.arrived(relays, Some(secured("hall.example", &[])));
        stage.hears(NEAR, &open(&format!(" to='hall.example' version='1.0'{lang}")));
        stage.connected(FarId(1), None);
        stage.hears(FAR, &open(" id='s' from='hall.example' version='1.0'"));
        stage.hears(FAR, &format!("<stream:features>{features}</stream:features>"));
        stage
    }

    /// The same, logged in.
    fn logged_in(&self, lang: &str) -> Stage {
        let plain = format!("<mechanisms xmlns='{SASL}'><mechanism>PLAIN</mechanism></mechanisms>");
        let mut stage = self.offered(&self.relays, &plain, lang);
        stage.hears(NEAR, &format!("<auth xmlns='{SASL}' mechanism='PLAIN'>AGFsaWNlAHB3</auth>"));
        stage.step(NEAR, Input::Tried(Ok(())));
        stage.hears(FAR, &format!("<success xmlns='{SASL}'/>"));
        stage.hears(NEAR, &open(&format!(" to='hall.example' version='1.0'{lang}")));
        stage.hears(FAR, &open(" id='s' from='hall.example' version='1.0'"));
        stage.hears(FAR, &format!("<stream:features><bind xmlns='{BIND}'/></stream:features>"));
        stage
    }

    /// The same with its address.
    fn bound(&self, lang: &str) -> Stage {
        let mut stage = self.logged_in(lang);
        stage.hears(NEAR, &format!("<iq type='set' id='b1'><bind xmlns='{BIND}'/></iq>"));
        stage.hears(
            FAR,
            &format!("<iq type='result' id='b1'><bind xmlns='{BIND}'><jid>{ME}</jid></bind></iq>"),
        );
        assert!(stage.relay.is_bound());
        stage
    }

    fn uses(&self) -> Vec<Use> {
        let direct = |relays: &Arc<RelayParams>| self.arrived(relays, Some(secured("hall.example", &[])));
        let with = |parts: &[Happens]| {
            [parts, &[said::streams(), said::operator(&self.gone, &self.banned)][..]].concat().concat()
        };
        let made = |name, counted, stages: Vec<Stage>, parts: &[Happens]| Use {
            name,
            starts: stages.into_iter().map(started).collect(),
            inputs: with(parts),
            counted,
        };
        let all = [
            said::clear(),
            said::login(),
            said::login2(),
            said::registration(),
            said::bind(),
            said::more_of_bind(),
            said::stanzas(),
            said::management(),
        ];
        vec![
            made("a whole life", 607, vec![self.arrived(&self.registering, None)], &all),
            made(
                "from the door to a stanza",
                276,
                vec![self.arrived(&self.relays, None)],
                &[said::clear(), said::login(), said::bind(), said::stanzas()],
            ),
            made(
                "login",
                464,
                vec![direct(&self.relays)],
                &[said::login(), said::more_of_login(), said::bind()],
            ),
            made(
                "registration",
                370,
                vec![direct(&self.registering)],
                &[said::login(), said::registration(), said::more_of_login()],
            ),
            made(
                "login by SASL2",
                764,
                vec![direct(&self.relays)],
                &[said::login2(), said::more_of_login2(), said::bind(), said::stanzas()],
            ),
            made(
                "bind and resumption",
                196,
                vec![self.logged_in("")],
                &[said::bind(), said::more_of_bind(), said::stanzas()],
            ),
            made(
                "stanzas",
                390,
                vec![self.bound(""), self.bound(" xml:lang='de'")],
                &[said::stanzas(), said::more_stanzas(), said::management()],
            ),
            made(
                "certificate",
                1845,
                vec![
                    self.arrived(&self.strict, Some(said::certified(&["alice@hall.example"]))),
                    self.arrived(&self.strict, Some(said::certified(&["bob@hall.example"]))),
                    self.arrived(
                        &self.strict,
                        Some(said::certified(&["alice@hall.example", "bob@hall.example"])),
                    ),
                    direct(&self.strict),
                ],
                &[said::judged_again(), said::login(), said::login2(), said::bind(), said::stanzas()],
            ),
        ]
    }
}

/// Whether such an input is given in the walk of some use.
pub fn is_given(wanted: impl Fn(&Input) -> bool) -> bool {
    World::new().uses().iter().any(|of| of.inputs.iter().any(|(_, input)| wanted(input)))
}

fn open(attrs: &str) -> String {
    format!("<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'{attrs}>")
}

/// The relay of a stage, and its past.
fn started(stage: Stage) -> Start {
    let called = !stage.connects().is_empty();
    let past = Past::begun(stage.relay.channel(NEAR).is_some(), called, stage.relay.is_bound());
    Start { relay: stage.relay, now: stage.now, past }
}

/// What a state is walked as.
fn essence(relay: &Relay, now: Instant) -> u64 {
    let text = format!("{relay:?}");
    // When it came counts until it is logged in, or on its way out.
    let waits = text.contains(" bound: false") && text.contains(" near: Open(");
    let fields = [" traffic: ", " detail: ", " started: "];
    hash(&from_now(&without(&text, if waits { &fields[..2] } else { &fields }), now))
}

/// Left alone, it ends, or waits for nothing but words on a stream that has its address.
fn ends_alone(relay: &Relay, now: Instant) -> Result<(), String> {
    let (mut later, mut at) = (relay.clone(), now);
    for _ in 0..8 {
        if later.is_done() {
            return Ok(());
        }
        match later.deadline() {
            Some(due) => at = at.max(due),
            None if later.is_bound() => return Ok(()),
            None => return Err(format!("no deadline: {later:?}")),
        }
        later.step(Side::Near, Input::Expired, at);
    }
    Err(format!("no end: {relay:?}"))
}

/// Whether the pump could say this to a relay with that past.
fn may_happen(relay: &Relay, past: &Past, side: Side, input: &Input) -> bool {
    let stands = side == Side::Near || !past.dialling;
    match input {
        Input::Token(_) => stands && !past.leg(side).ended && relay.wants_read(side),
        Input::Secured(_) => past.upgrading,
        Input::Connected(..) | Input::Unreachable(_) => past.dialling,
        Input::Gone { .. } | Input::Stalled | Input::Overflow(_) => stands && !past.leg(side).over,
        _ => true,
    }
}

/// Every input in every state that can be reached.
fn walk(of: Use) -> Walked {
    let laws: Vec<_> = LAWS.iter().copied().filter(|(name, _)| *name != "bounded").collect();
    let mut walked = Walked { name: of.name, counted: of.counted, ..Walked::default() };
    // Most edges lead to a state that was met already, which is found out at less cost than what it is walked as.
    let (mut met, mut seen, mut open) = (HashSet::new(), HashSet::new(), VecDeque::new());
    for Start { relay, now, past } in of.starts {
        seen.insert((essence(&relay, now), past.clone(), 0));
        open.push_back((relay, now, past, 0));
    }
    while let Some((before, now, past, relays)) = open.pop_front() {
        if let Err(what) = ends_alone(&before, now) {
            walked.breaches.push(what);
        }
        for (side, input) in &of.inputs {
            if !may_happen(&before, &past, *side, input) {
                continue;
            }
            let mut after = before.clone();
            let at = match input {
                Input::Expired => before.deadline().map_or(now, |due| due.max(now)),
                _ => now,
            };
            let effects = after.step(*side, input.clone(), at);
            let edge = Crossing { before: &before, side: *side, input, effects: &effects, after: &after };
            walked.look(&edge, &laws);
            let past = match past.clone().behind(&edge) {
                Ok(past) => past,
                Err(what) => {
                    walked.breaches.push(format!("after {side:?} {input:?}: {what}"));
                    continue;
                }
            };
            let relays = match input {
                Input::RelayParams(relays) => Arc::as_ptr(relays) as usize,
                _ => relays,
            };
            if !after.is_done()
                && met.insert(hash(&(&after, at, &past)))
                && seen.insert((essence(&after, at), past.clone(), relays))
            {
                open.push_back((after, at, past, relays));
            }
        }
        if seen.len() > END || walked.breaches.len() > 10 {
            return walked;
        }
    }
    walked.states = Some(seen.len());
    walked
}

impl Walked {
    fn look(&mut self, edge: &Crossing<'_>, laws: &[(&'static str, super::super::laws::Law)]) {
        self.edges += 1;
        for effect in edge.effects {
            self.passed += usize::from(matches!(effect, Effect::Pass(..)));
            self.delivered += usize::from(matches!(effect, Effect::Deliver(_)));
        }
        // What a patch denies does not pass: what becomes of it is a law of the past, for it depends on who is counted.
        let denied = matches!(edge.input, Input::Token(Token::Element(frame)) if is_denied(frame));
        for (name, law) in laws.iter().filter(|(name, _)| !(denied && *name == "nothing_dropped")) {
            if let Err(what) = law(edge) {
                self.breaches.push(format!("{name}: after {:?} {:?}: {what}", edge.side, edge.input));
            }
        }
    }
}

fn graphs() -> &'static [Walked] {
    static GRAPHS: OnceLock<Vec<Walked>> = OnceLock::new();
    GRAPHS.get_or_init(|| {
        let world = World::new();
        std::thread::scope(|scope| {
            let walk = |of: Use| {
                let begun = Instant::now();
                let walked = walk(of);
                let (states, edges) = (walked.states, walked.edges);
                println!("{}: {states:?} states, {edges} edges in {:?}", walked.name, begun.elapsed());
                walked
            };
            let walks: Vec<_> = world.uses().into_iter().map(|of| scope.spawn(move || walk(of))).collect();
            walks.into_iter().map(|walk| walk.join().unwrap()).collect()
        })
    })
}

// C2S-02, C2S-11, C2S-12, SM-02, SM-04, XML-17, CLS-01: in every state, by every order of what may happen.
#[test]
fn a_clients_relay_keeps_the_laws() {
    for walked in graphs() {
        assert!(walked.breaches.is_empty(), "{}: {:#?}", walked.name, walked.breaches);
    }
    let (passed, delivered): (usize, usize) = graphs()
        .iter()
        .map(|walked| (walked.passed, walked.delivered))
        .fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    assert!(passed > 100 && delivered > 300, "{passed} and {delivered}");
}

#[test]
fn a_clients_relay_is_walked_to_its_end() {
    for Walked { name, counted, states, .. } in graphs() {
        let near = counted - counted / 10..=counted + counted / 10;
        assert!(
            states.is_some_and(|states| near.contains(&states)),
            "{name}: {states:?} states, and {counted} before"
        );
    }
}
