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
use gatehouse::stream::client::initiating::{self, ClientInitiating};
use gatehouse::stream::client::receiving::{self, ClientReceiving};
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

fn desk() -> receiving::ClientReceivingParams {
    receiving::ClientReceivingParams {
        default_domain: None,
        sasl_attempts: 2,
        binds: 2,
        header_time: Duration::from_secs(10),
        tls_time: Duration::from_secs(10),
    }
}

fn receiving_inputs() -> Vec<receiving::Input> {
    let said = from_client().into_iter().chain(more_from_client());
    let mut inputs: Vec<_> = said.map(receiving::Input::Element).collect();
    for header in headers() {
        let served = match header.to.as_deref() {
            Some("hall.example") => Ok(()),
            _ => Err(Reason::HostUnknown),
        };
        inputs.push(receiving::Input::Header(header, served));
    }
    inputs.extend([secured("", &[]), secured("hall.example", &[])].map(receiving::Input::Secured));
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
    inputs.extend([plain, modern].map(receiving::Input::Offered));
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
        inputs.push(receiving::Input::Word(word, Bytes::from_static(b"<word xmlns='urn:example'/>")));
    }
    inputs.extend([Ok(()), Err(Reason::LoginThrottled)].map(receiving::Input::Tried));
    inputs.extend([
        receiving::Input::Space,
        receiving::Input::Text,
        receiving::Input::End,
        receiving::Input::Expired,
    ]);
    inputs
}

fn receiving_graph(
    mut look: impl FnMut(&ClientReceiving, &receiving::Input, &receiving::Stepped),
) -> HashSet<ClientReceiving> {
    let (now, desk) = (Instant::now(), desk());
    let starts = [None, Some(secured("hall.example", &[]))]
        .map(|secured| ClientReceiving::new(&desk, StreamIds::new([1; 32]), secured, now));
    walk(starts.into(), &receiving_inputs(), |state, input| {
        let stepped = state.clone().step(&desk, input.clone(), now);
        look(state, input, &stepped);
        stepped.ok().map(|(next, _)| next)
    })
}

// -- the client towards the server, completely

fn initiating_graph(
    mut look: impl FnMut(&ClientInitiating, &initiating::Input, &initiating::Stepped),
) -> HashSet<ClientInitiating> {
    let now = Instant::now();
    let terms = initiating::ClientInitiatingParams {
        to: domain("hall.example"),
        language: None,
        rules: rules(),
        step_time: Duration::from_secs(10),
    };
    let said = from_server().into_iter().chain(more_from_server());
    let mut inputs: Vec<_> = said.map(initiating::Input::Element).collect();
    inputs.extend(headers().into_iter().map(initiating::Input::Header));
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
        inputs.push(initiating::Input::Say(ask, Bytes::from_static(b"<ask xmlns='urn:example'/>")));
    }
    inputs.extend([initiating::Input::Connected, initiating::Input::End, initiating::Input::Expired]);
    walk(vec![ClientInitiating::Dialling], &inputs, |state, input| {
        let stepped = state.clone().step(&terms, input.clone(), now);
        look(state, input, &stepped);
        stepped.ok().map(|(next, _)| next)
    })
}

#[test]
fn the_graphs_of_clients_are_whole() {
    let states = receiving_graph(|_, _, _| {});
    assert!((50..50_000).contains(&states.len()), "serving: {}", states.len());
    assert_eq!(states.iter().map(discriminant).collect::<HashSet<_>>().len(), 7);
    let states = initiating_graph(|_, _, _| {});
    assert!((15..50_000).contains(&states.len()), "initiating: {}", states.len());
    assert_eq!(states.iter().map(discriminant).collect::<HashSet<_>>().len(), 6);
}

/// Law cipher_before_word: in clear, nothing but STARTTLS is said, and nobody inside hears of the client.
#[test]
fn clients_cipher_before_word() {
    receiving_graph(|state, input, stepped| {
        if is_secured(state) {
            return;
        }
        match stepped {
            Ok((_, effects)) => {
                for effect in effects {
                    match effect {
                        receiving::Effect::Send(octets) => {
                            assert!(may_go_in_clear(octets), "{state:?} {input:?}: {octets:?}");
                        }
                        receiving::Effect::Call(..)
                        | receiving::Effect::Say(..)
                        | receiving::Effect::MayLogin(..)
                        | receiving::Effect::MayRegister
                        | receiving::Effect::Pass(_)
                        | receiving::Effect::Bound => panic!("{state:?} {input:?}: {effect:?}"),
                        _ => {}
                    }
                }
            }
            Err(fault) => assert!(may_go_in_clear(&fault.octets), "{state:?} {input:?}: {fault:?}"),
        }
    });
}

fn is_secured(state: &ClientReceiving) -> bool {
    // The states themselves are shut; their debug form shows the line.
    !format!("{state:?}").contains("secured: None")
}

/// Law proof_before_pass: stanzas pass in one state, and that state is reached by a word that was asked for.
#[test]
fn clients_proof_before_pass() {
    let mut bound = 0;
    receiving_graph(|state, input, stepped| {
        let Ok((next, effects)) = stepped else { return };
        if effects.iter().any(|e| matches!(e, receiving::Effect::Pass(_))) {
            assert!(
                matches!(state, ClientReceiving::Bound(_)) && matches!(input, receiving::Input::Element(_))
            );
        }
        if matches!(next, ClientReceiving::Bound(_)) && !matches!(state, ClientReceiving::Bound(_)) {
            bound += 1;
            let receiving::Input::Word(word, _) = input else { panic!("{state:?} {input:?}") };
            let asked = match (state, word) {
                (ClientReceiving::Login(_), ServerAnswer::Success(Granted::Bound(_))) => {
                    state.attempt().is_some()
                }
                (ClientReceiving::Binding(_), ServerAnswer::Bound(_) | ServerAnswer::Resumed) => {
                    !state.wants_read()
                }
                _ => false,
            };
            assert!(asked, "{state:?} {input:?}");
            assert_eq!(next.own().map(Own::domain), Some(&domain("hall.example")));
        }
        // C2S-12: a new stream after a login begins with the backend's word in an exchange of this client.
        if effects.contains(&receiving::Effect::Restart) && !matches!(state, ClientReceiving::Upgrading(_)) {
            assert!(state.attempt().is_some(), "{state:?} {input:?}");
            assert!(matches!(input, receiving::Input::Word(ServerAnswer::Success(Granted::Restart), _)));
        }
    });
    assert!(bound > 0);
    initiating_graph(|state, input, stepped| {
        let Ok((_, effects)) = stepped else { return };
        for effect in effects {
            let asked = match effect {
                initiating::Effect::Deliver(_) => state.is_bound(),
                initiating::Effect::Word(
                    ServerAnswer::Success(_) | ServerAnswer::Challenge | ServerAnswer::Failure(_),
                    _,
                ) => {
                    matches!(state, ClientInitiating::Login(login) if login.is_tried())
                }
                initiating::Effect::Word(ServerAnswer::Registered, _) => {
                    matches!(state, ClientInitiating::Login(login) if login.is_registering())
                }
                initiating::Effect::Word(ServerAnswer::Bound(_), _) => {
                    matches!(state, ClientInitiating::Binding(initiating::AfterLogin::Bind(_)))
                }
                initiating::Effect::Word(ServerAnswer::Resumed, _) => {
                    matches!(state, ClientInitiating::Binding(initiating::AfterLogin::Resume))
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
    receiving_graph(|state, input, stepped| {
        let speaks = matches!(
            input,
            receiving::Input::Element(_)
                | receiving::Input::Header(..)
                | receiving::Input::End
                | receiving::Input::Space
        );
        if matches!(state, ClientReceiving::Upgrading(_)) && speaks {
            let fault = stepped.as_ref().expect_err("octets during an upgrade");
            assert!(fault.octets.is_empty() && fault.reason == Reason::EarlyOctets);
        }
    });
}

/// Laws fault_is_final and closed_words: one error, then the tag; and what the server inside said is in none of it.
#[test]
fn clients_fault_is_final() {
    receiving_graph(|state, input, stepped| {
        if let Err(fault) = stepped {
            assert!(at_most_one_error_then_the_tag(&fault.octets), "{state:?} {input:?}: {fault:?}");
        }
    });
    initiating_graph(|state, input, stepped| {
        if let Err(fault) = stepped {
            assert!(at_most_one_error_then_the_tag(&fault.octets), "{state:?} {input:?}: {fault:?}");
        }
    });
}

/// Only what is on the lists is offered, and only what was offered is passed on (C2S-05, C2S-06).
#[test]
fn clients_use_what_was_offered() {
    let mut said = 0;
    receiving_graph(|state, input, stepped| {
        let Ok((_, effects)) = stepped else { return };
        for effect in effects {
            if let receiving::Effect::Say(ask, octets) = effect {
                said += 1;
                assert!(matches!(
                    state,
                    ClientReceiving::Login(_) | ClientReceiving::Binding(_) | ClientReceiving::Bound(_)
                ));
                let text = text(octets);
                assert!(
                    !text.contains("GSSAPI") && !text.contains("urn:example"),
                    "{input:?}: {ask:?} {text}"
                );
            }
        }
    });
    assert!(said > 0);
    initiating_graph(|_, input, stepped| {
        let Ok((_, effects)) = stepped else { return };
        for effect in effects {
            let told = match effect {
                initiating::Effect::Offered(offer) => offer.text.clone(),
                initiating::Effect::Word(_, octets) => text(octets).to_owned(),
                _ => continue,
            };
            for hidden in ["PLUS", "urn:example", "inside.lan", TLS] {
                assert!(!told.contains(hidden), "{input:?}: {told}");
            }
        }
    });
}
