//! The `expect` block of a file of patches: whole stanzas that must come out as told.

use super::super::cases::CaseOutcome;
use super::super::day::Day;
use super::super::file::Scalar;
use super::super::finding::{Finding, Place, Placed};
use super::super::read::Reader;
use super::file::{PatchCaseSpec, PatchSource};
use super::judge::PatchQuestion;
use super::{Action, Patches};
use crate::jid::Domain;
use crate::reason::Flow;
use crate::xml::{Content, Frame, Framer, Limits, Token, names};

/// Tries the cases of all files.
pub fn run(patches: &Patches, sources: &[PatchSource], today: Day) -> Vec<CaseOutcome> {
    let mut outcomes = Vec::new();
    for source in sources {
        for case in &source.file.expect {
            let mut reader = Reader::new(&source.name);
            outcomes.push(one(patches, &mut reader, case, today));
        }
    }
    outcomes
}

fn one(patches: &Patches, reader: &mut Reader, case: &Placed<PatchCaseSpec>, today: Day) -> CaseOutcome {
    let place = case.place(reader.file());
    let outcome = tried(patches, reader, &case.value, &place, today);
    let stanza = case.value.stanza.as_ref().map_or("", |word| word.value.trim());
    let from = stanza.get(..CAP).map_or_else(|| stanza.to_owned(), |begin| format!("{begin}.."));
    let to = case.value.direction.as_ref().map_or("inbound", |word| word.value.as_str()).to_owned();
    let mut done = CaseOutcome { place, from, to, passed: true, outcome: String::new(), finding: None };
    match (outcome, reader.findings.first()) {
        (_, Some(finding)) => done.finding = Some(finding.clone()),
        (Some((verdict, deciding)), None) => {
            done.outcome = told(verdict, &deciding);
            done.finding = compare(&case.value, verdict, &deciding, &done);
        }
        (None, None) => {}
    }
    done.passed = done.finding.is_none();
    done
}

/// Octets of a stanza that a report shows.
const CAP: usize = 60;

fn told(verdict: &str, patches: &[&str]) -> String {
    match patches {
        [] => verdict.to_owned(),
        _ => format!("{verdict} (patch {})", patches.join(", ")),
    }
}

/// The verdict, and the patches that had a part in it.
fn tried<'a>(
    patches: &'a Patches,
    reader: &mut Reader,
    case: &PatchCaseSpec,
    place: &Place,
    today: Day,
) -> Option<(&'static str, Vec<&'a str>)> {
    for (name, word) in [("stanza", &case.stanza), ("verdict", &case.verdict)] {
        if word.is_none() {
            reader.error_at(place, format!("this case has no `{name}`"), "a case needs stanza and verdict");
        }
    }
    let verdicts = ["pass", Action::Deny.label(), Action::Cut.label()].map(|word| (word, word));
    if let Some(word) = &case.verdict {
        reader.choose(word, "a verdict on a stanza", &verdicts);
    }
    if let Some(word) = &case.patch
        && !patches.iter().any(|patch| patch.name.as_str() == word.value)
    {
        reader.error(word, format!("there is no patch \"{}\"", word.value), "correct the name");
    }
    let direction = case.direction.as_ref().map(|word| reader.way(word));
    let direction = direction.unwrap_or(Some(crate::reason::Direction::Inbound));
    let flows = [("s2s", Flow::S2sIn), ("c2s", Flow::C2s)];
    let flow = case.flow.as_ref().map(|word| reader.choose(word, "a flow", &flows));
    let flow = flow.unwrap_or(Some(Flow::S2sIn));
    let hosted = match &case.hosted {
        Some(word) => reader.domain(word),
        // Nobody's: those without `hosted` are for it.
        None => Domain::parse("case.invalid").ok(),
    };
    let today = case.today.as_ref().map_or(Some(today), |word| reader.day(word));
    let frame = case.stanza.as_ref().and_then(|word| read(word, flow?, reader));
    if !reader.findings.is_empty() {
        return None;
    }
    let hosted = hosted?;
    let asked = PatchQuestion { flow: flow?, direction: direction?, hosted: &hosted, today: today? };
    let Some(struck) = patches.judge(frame?.head(), &asked) else { return Some(("pass", Vec::new())) };
    Some(match (struck.deny, struck.cut.as_slice()) {
        (Some(patch), _) => (Action::Deny.label(), vec![patch.name.as_str()]),
        (None, []) => ("pass", struck.shadow.iter().map(|patch| patch.name.as_str()).collect()),
        (None, cut) => (Action::Cut.label(), cut.iter().map(|(_, patch)| patch.name.as_str()).collect()),
    })
}

/// The stanza, read as strictly as on a stream.
fn read(word: &Scalar, flow: Flow, reader: &mut Reader) -> Option<Frame> {
    match stanza_of(&word.value, flow) {
        Ok(frame) => Some(frame),
        Err(why) => {
            reader.error(word, format!("the stanza {why}"), "write one whole stanza, as on a stream");
            None
        }
    }
}

/// Whether that is one whole stanza of such a stream.
///
/// # Errors
/// What is wrong with it, behind "the stanza".
pub fn is_stanza(text: &str, flow: Flow) -> Result<(), String> {
    stanza_of(text, flow).map(drop)
}

/// One whole stanza, read as strictly as on a stream.
///
/// # Errors
/// What is wrong with it, behind "the stanza".
pub(in crate::policy) fn stanza_of(text: &str, flow: Flow) -> Result<Frame, String> {
    let (content, namespace) = match flow {
        Flow::C2s => (Content::Client, names::CLIENT),
        Flow::S2sIn | Flow::S2sOut => (Content::Server, names::SERVER),
    };
    let mut framer = Framer::new(Limits::default(), content);
    framer.feed(format!("<stream:stream xmlns='{namespace}' xmlns:stream='{}'>", names::STREAMS).as_bytes());
    framer.feed(text.trim().as_bytes());
    let mut found = None;
    while let Some(token) = framer.next() {
        match token {
            Token::Header(_) | Token::Keepalive => {}
            Token::Element(frame) if found.is_none() && frame.head().kind() != crate::xml::Kind::Other => {
                found = Some(frame);
            }
            other => {
                let what = match other {
                    Token::Violation(violation) => {
                        format!("breaks the rules of XML here: {}", violation.reason().words())
                    }
                    Token::Refused(refused) => {
                        format!("would not pass in any case: {}", refused.why().reason().words())
                    }
                    _ => "is not one message, presence or iq".to_owned(),
                };
                return Err(what);
            }
        }
    }
    found.ok_or_else(|| "has no end".to_owned())
}

fn compare(case: &PatchCaseSpec, verdict: &str, by: &[&str], outcome: &CaseOutcome) -> Option<Finding> {
    let expected = case.verdict.as_ref().map_or("", |word| word.value.as_str());
    let patch = case.patch.as_ref().map(|word| word.value.as_str());
    let wrong = expected != verdict || patch.is_some_and(|patch| !by.contains(&patch));
    wrong.then(|| {
        let wanted = told(expected, patch.as_slice());
        Finding::error(
            outcome.place.clone(),
            format!("the case expects {wanted}, but gets {}", outcome.outcome),
            "correct the patch or the case",
        )
    })
}
