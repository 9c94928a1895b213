//! The laws on the graphs of a client's stream: of both machines, and of their relay ([`whole`]).

mod past;
mod said;
pub mod whole;

use std::collections::HashSet;
use std::mem::discriminant;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gatehouse::reason::Reason;
use gatehouse::stream::StreamIds;
use gatehouse::stream::client::features::Inline;
use gatehouse::stream::client::posing::{self, Posing};
use gatehouse::stream::client::serving::{self, Serving};
use gatehouse::stream::client::{
    Ask, Cause, ClientOffer, Granted, Mechanism, Own, Profile, Rules, ServerAnswer, Wants,
};

use super::client_laws::*;
use super::laws::{TLS, may_go_in_clear};
use super::stage::*;
use super::{at_most_one_error_then_the_tag, walk};

fn own() -> Own {
    Own::by_bind(ME, &domain("hall.example")).unwrap()
}

fn rules() -> Rules {
    Rules {
        mechanisms: Mechanism::DEFAULT.iter().copied().collect(),
        registration: true,
        features: std::collections::BTreeSet::new(),
        max_octets: 262_144,
        early_octets: 16_384,
    }
}

// -- the server towards the client, completely

fn desk() -> serving::ServingParams {
    serving::ServingParams {
        default_domain: None,
        sasl_attempts: 2,
        binds: 2,
        header_time: Duration::from_secs(10),
        tls_time: Duration::from_secs(10),
    }
}

fn serving_inputs() -> Vec<serving::Input> {
    let said = from_client().into_iter().chain(more_from_client());
    let mut inputs: Vec<_> = said.map(serving::Input::Element).collect();
    for header in headers() {
        let served = match header.to.as_deref() {
            Some("hall.example") => Ok(()),
            _ => Err(Reason::HostUnknown),
        };
        inputs.push(serving::Input::Header(header, served));
    }
    inputs.extend([secured("", &[]), secured("hall.example", &[])].map(serving::Input::Secured));
    let plain = ClientOffer {
        text: "<stream:features/>".into(),
        sasl: [Mechanism::Plain].into(),
        registration: true,
        ..ClientOffer::default()
    };
    let inline =
        Inline { mechanisms: [Mechanism::Plain].into(), bind: true, resume: true, ..Inline::default() };
    let modern =
        ClientOffer { text: "<stream:features/>".into(), sasl2: Some(inline), ..ClientOffer::default() };
    inputs.extend([plain, modern].map(serving::Input::Offered));
    for word in [
        ServerAnswer::Bound(own()),
        ServerAnswer::Challenge,
        ServerAnswer::Failure(Cause::Guess),
        ServerAnswer::Failure(Cause::Way),
        ServerAnswer::Nonza,
        ServerAnswer::Answered,
        ServerAnswer::Registered,
        ServerAnswer::Resumed,
        ServerAnswer::Success(Granted::Restart),
        ServerAnswer::Success(Granted::Open(own())),
        ServerAnswer::Success(Granted::Bound(own())),
    ] {
        inputs.push(serving::Input::Word(word, Bytes::from_static(b"<word xmlns='urn:example'/>")));
    }
    inputs.extend([Ok(()), Err(Reason::LoginThrottled)].map(serving::Input::Tried));
    inputs.extend([
        serving::Input::Space,
        serving::Input::Text,
        serving::Input::End,
        serving::Input::Expired,
    ]);
    inputs
}

fn serving_graph(mut look: impl FnMut(&Serving, &serving::Input, &serving::Stepped)) -> HashSet<Serving> {
    let (now, desk) = (Instant::now(), desk());
    let starts = [None, Some(secured("hall.example", &[]))]
        .map(|secured| Serving::new(&desk, StreamIds::new([1; 32]), secured, now));
    walk(starts.into(), &serving_inputs(), |state, input| {
        let stepped = state.clone().step(&desk, input.clone(), now);
        look(state, input, &stepped);
        stepped.ok().map(|(next, _)| next)
    })
}

// -- the client towards the server, completely

fn posing_graph(mut look: impl FnMut(&Posing, &posing::Input, &posing::Stepped)) -> HashSet<Posing> {
    let now = Instant::now();
    let terms = posing::PosingParams {
        to: domain("hall.example"),
        language: None,
        rules: rules(),
        step_time: Duration::from_secs(10),
    };
    let said = from_server().into_iter().chain(more_from_server());
    let mut inputs: Vec<_> = said.map(posing::Input::Element).collect();
    inputs.extend(headers().into_iter().map(posing::Input::Header));
    for ask in [
        Ask::Abort,
        Ask::Auth(Profile::Sasl, Mechanism::Plain, Wants::default()),
        Ask::Auth(Profile::Sasl2, Mechanism::Plain, Wants::default()),
        Ask::Auth(Profile::Sasl2, Mechanism::Plain, Wants { bind: true, resume: true }),
        Ask::Bind("b1".into()),
        Ask::Nonza,
        Ask::Register("r1".into()),
        Ask::Response,
        Ask::Resume,
        Ask::Session("s1".into()),
    ] {
        inputs.push(posing::Input::Say(ask, Bytes::from_static(b"<ask xmlns='urn:example'/>")));
    }
    inputs.extend([posing::Input::Connected, posing::Input::End, posing::Input::Expired]);
    walk(vec![Posing::Dialling], &inputs, |state, input| {
        let stepped = state.clone().step(&terms, input.clone(), now);
        look(state, input, &stepped);
        stepped.ok().map(|(next, _)| next)
    })
}

#[test]
fn the_graphs_of_clients_are_whole() {
    let states = serving_graph(|_, _, _| {});
    assert!((50..50_000).contains(&states.len()), "serving: {}", states.len());
    assert_eq!(states.iter().map(discriminant).collect::<HashSet<_>>().len(), 7);
    let states = posing_graph(|_, _, _| {});
    assert!((15..50_000).contains(&states.len()), "posing: {}", states.len());
    assert_eq!(states.iter().map(discriminant).collect::<HashSet<_>>().len(), 6);
}

/// Law cipher_before_word: in clear, nothing but STARTTLS is said, and nobody inside hears of the client.
#[test]
fn clients_cipher_before_word() {
    serving_graph(|state, input, stepped| {
        if is_secured(state) {
            return;
        }
        match stepped {
            Ok((_, effects)) => {
                for effect in effects {
                    match effect {
                        serving::Effect::Send(octets) => {
                            assert!(may_go_in_clear(octets), "{state:?} {input:?}: {octets:?}");
                        }
                        serving::Effect::Call(..)
                        | serving::Effect::Say(..)
                        | serving::Effect::Try(..)
                        | serving::Effect::Apply
                        | serving::Effect::Pass(_)
                        | serving::Effect::Bound => panic!("{state:?} {input:?}: {effect:?}"),
                        _ => {}
                    }
                }
            }
            Err(fault) => assert!(may_go_in_clear(&fault.octets), "{state:?} {input:?}: {fault:?}"),
        }
    });
}

fn is_secured(state: &Serving) -> bool {
    // The states themselves are shut; their debug form shows the line.
    !format!("{state:?}").contains("secured: None")
}

/// Law proof_before_pass: stanzas pass in one state, and that state is reached by a word that was asked for.
#[test]
fn clients_proof_before_pass() {
    let mut bound = 0;
    serving_graph(|state, input, stepped| {
        let Ok((next, effects)) = stepped else { return };
        if effects.iter().any(|e| matches!(e, serving::Effect::Pass(_))) {
            assert!(matches!(state, Serving::Bound(_)) && matches!(input, serving::Input::Element(_)));
        }
        if matches!(next, Serving::Bound(_)) && !matches!(state, Serving::Bound(_)) {
            bound += 1;
            let serving::Input::Word(word, _) = input else { panic!("{state:?} {input:?}") };
            let asked = match (state, word) {
                (Serving::Login(_), ServerAnswer::Success(Granted::Bound(_))) => state.attempt().is_some(),
                (Serving::Binding(_), ServerAnswer::Bound(_) | ServerAnswer::Resumed) => !state.wants_read(),
                _ => false,
            };
            assert!(asked, "{state:?} {input:?}");
            assert_eq!(next.own().map(Own::domain), Some(&domain("hall.example")));
        }
        // C2S-12: a new stream after a login begins with the backend's word in an exchange of this client.
        if effects.contains(&serving::Effect::Restart) && !matches!(state, Serving::Upgrading(_)) {
            assert!(state.attempt().is_some(), "{state:?} {input:?}");
            assert!(matches!(input, serving::Input::Word(ServerAnswer::Success(Granted::Restart), _)));
        }
    });
    assert!(bound > 0);
    posing_graph(|state, input, stepped| {
        let Ok((_, effects)) = stepped else { return };
        for effect in effects {
            let asked = match effect {
                posing::Effect::Deliver(_) => state.is_bound(),
                posing::Effect::Word(
                    ServerAnswer::Success(_) | ServerAnswer::Challenge | ServerAnswer::Failure(_),
                    _,
                ) => {
                    matches!(state, Posing::Login(login) if login.is_tried())
                }
                posing::Effect::Word(ServerAnswer::Registered, _) => {
                    matches!(state, Posing::Login(login) if login.is_registering())
                }
                posing::Effect::Word(ServerAnswer::Bound(_), _) => {
                    matches!(state, Posing::Binding(posing::AfterLogin::Bind(_)))
                }
                posing::Effect::Word(ServerAnswer::Resumed, _) => {
                    matches!(state, Posing::Binding(posing::AfterLogin::Resume))
                }
                _ => true,
            };
            assert!(asked, "{state:?} {input:?}: {effect:?}");
        }
    });
}

/// Law no_early_octets.
#[test]
fn clients_no_early_octets() {
    serving_graph(|state, input, stepped| {
        let speaks = matches!(
            input,
            serving::Input::Element(_)
                | serving::Input::Header(..)
                | serving::Input::End
                | serving::Input::Space
        );
        if matches!(state, Serving::Upgrading(_)) && speaks {
            let fault = stepped.as_ref().expect_err("octets during an upgrade");
            assert!(fault.octets.is_empty() && fault.reason == Reason::EarlyOctets);
        }
    });
}

/// Laws fault_is_final and closed_words: one error, then the tag; and what the server inside said is in none of it.
#[test]
fn clients_fault_is_final() {
    serving_graph(|state, input, stepped| {
        if let Err(fault) = stepped {
            assert!(at_most_one_error_then_the_tag(&fault.octets), "{state:?} {input:?}: {fault:?}");
        }
    });
    posing_graph(|state, input, stepped| {
        if let Err(fault) = stepped {
            assert!(at_most_one_error_then_the_tag(&fault.octets), "{state:?} {input:?}: {fault:?}");
        }
    });
}

/// Only what is on the lists is offered, and only what was offered is passed on (C2S-05, C2S-06).
#[test]
fn clients_use_what_was_offered() {
    let mut said = 0;
    serving_graph(|state, input, stepped| {
        let Ok((_, effects)) = stepped else { return };
        for effect in effects {
            if let serving::Effect::Say(ask, octets) = effect {
                said += 1;
                assert!(matches!(state, Serving::Login(_) | Serving::Binding(_) | Serving::Bound(_)));
                let text = text(octets);
                assert!(
                    !text.contains("GSSAPI") && !text.contains("urn:example"),
                    "{input:?}: {ask:?} {text}"
                );
            }
        }
    });
    assert!(said > 0);
    posing_graph(|_, input, stepped| {
        let Ok((_, effects)) = stepped else { return };
        for effect in effects {
            let told = match effect {
                posing::Effect::Offered(offer) => offer.text.clone(),
                posing::Effect::Word(_, octets) => text(octets).to_owned(),
                _ => continue,
            };
            for hidden in ["PLUS", "urn:example", "inside.lan", TLS] {
                assert!(!told.contains(hidden), "{input:?}: {told}");
            }
        }
    });
}
