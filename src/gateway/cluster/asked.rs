//! What an operator asks all nodes at one of them: the question goes to the others with the next exchange, and each puts its answer
//! where the asking one looks for it.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::word::What;
use super::{Cluster, Here};
use crate::gateway::protocol::{Answer, OfNode, Request};
use crate::run::observe::capped;
use crate::run::{self, now};

impl Cluster {
    /// What every node answers, this one by what is given.
    pub(in crate::gateway) async fn ask_all(
        &self,
        request: &Request,
        own: impl Future<Output = Answer>,
    ) -> Answer {
        let Ok(seed) = run::seed() else { return Answer::no("the system gives no random octets") };
        let question: String = seed.iter().take(16).map(|octet| format!("{octet:02x}")).collect();
        let mut waited: BTreeMap<String, String> = {
            let (at, state) = (now(), self.held());
            state.fellows.here(at).map(|(node, fellow)| (node.clone(), fellow.card.host.clone())).collect()
        };
        if !waited.is_empty() {
            self.say(
                What::Ask { question: question.clone(), request: Box::new(request.clone()) },
                self.wall(),
            );
            self.hurry.notify_one();
        }
        let own = OfNode { node: self.node.clone(), host: self.host.clone(), answer: own.await };
        let mut nodes = vec![own];
        let until = now() + PATIENCE;
        while !waited.is_empty() && now() < until {
            tokio::time::sleep(PAUSE).await;
            // What ails the store is told by who exchanges with it; one that says nothing is waited for no longer than the nodes.
            let asked = async { self.store.lock().await.answers(&question).await };
            let Ok(Ok(answers)) = tokio::time::timeout_at(until.into(), asked).await else { continue };
            for (node, text) in answers {
                if let Some(host) = waited.remove(&node) {
                    let answer = serde_json::from_str(&text);
                    let answer = answer.unwrap_or_else(|_| Answer::no("its answer cannot be read"));
                    nodes.push(OfNode { node, host, answer });
                }
            }
        }
        // Two nodes of one machine are told apart, as in the heads of the answers.
        let silent = waited.into_iter().map(|(node, host)| format!("{host} ({node})")).collect();
        Answer::Nodes { nodes, silent }
    }

    /// Answers another node, aside; nobody waits for it here.
    pub(super) fn asked_by_another(
        self: &Arc<Self>,
        here: &Arc<dyn Here>,
        question: String,
        request: Request,
    ) {
        let named = question.len() == 32 && question.bytes().all(|octet| octet.is_ascii_hexdigit());
        let place = Arc::clone(&self.answering).try_acquire_owned();
        let (true, true, Ok(place)) = (named, request.is_question(), place) else {
            tracing::debug!(question = capped(&question), "a question of another node is not answered");
            return;
        };
        let (cluster, here) = (Arc::clone(self), Arc::clone(here));
        tokio::spawn(async move {
            let answer = here.answer_another(&request).await;
            let mut text = serde_json::to_string(&answer).unwrap_or_default();
            if text.len() > LONGEST {
                let long = format!("its answer is longer than {} MiB: ask it itself", LONGEST >> 20);
                text = serde_json::to_string(&Answer::no(long)).unwrap_or_default();
            }
            let said = cluster.store.lock().await.answer(&question, &cluster.node, &text).await;
            if let Err(fault) = said {
                tracing::debug!(%fault, "an answer to another node is not taken");
            }
            drop(place);
        });
    }

    /// Has the others count this node no more: it has ended in good order. Nobody waits long for that, and where it fails, its word
    /// is passed over when it is old.
    pub(in crate::gateway) async fn leave(&self) {
        let left = async {
            // What is being exchanged comes to its end first: it would bring the word back.
            let mut store = self.store.lock().await;
            self.left.store(true, Ordering::Relaxed);
            store.leave(&self.node).await
        };
        match tokio::time::timeout(FAREWELL, left).await {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => tracing::debug!(%fault, "the others are not told that this node ends"),
            Err(_late) => tracing::debug!("the others are not told in time that this node ends"),
        }
    }

    /// Has the others hear of what has changed here; what ails the store, if it does not take it.
    pub(in crate::gateway) async fn pass(&self) -> Option<String> {
        let mut rounds = self.rounds.subscribe();
        let before = *rounds.borrow_and_update();
        // One may be under way that has looked already.
        let passed = async {
            while rounds.borrow_and_update().saturating_sub(before) < 2 {
                self.hurry.notify_one();
                if rounds.changed().await.is_err() {
                    break;
                }
            }
        };
        match tokio::time::timeout(PATIENCE, passed).await {
            Ok(()) => self.held().trouble.clone(),
            Err(_late) => Some("it does not answer in time".to_owned()),
        }
    }
}

/// How long the others may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a node that ends waits until it is out of the store.
const FAREWELL: Duration = Duration::from_secs(1);

/// From one look for answers to the next.
const PAUSE: Duration = Duration::from_millis(100);

/// Octets of an answer.
const LONGEST: usize = 4 << 20;
