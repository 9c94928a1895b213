//! What operators have decided beside the files: who was let out of quarantine or shut out of it, and who is banned.

use std::path::Path;

use super::super::super::control;
use crate::config::Settings;
use crate::gateway::protocol::{Answer, Request};
use crate::jid::Domain;
use crate::policy::{Bans, Policy, SettledParties};
use crate::run::kept;
use crate::run::quarantine::{Disposition, NAME, QuarantineFile, QuarantineList};

/// The policy as it stands with that: the running gateway knows it, and of quarantine the folder of what outlives a restart does, too.
/// Of whom neither tells, it holds what the files say: who is in quarantine waits there.
pub(super) fn under(policy: &Policy, settings: &Settings, socket: Option<&Path>) -> Policy {
    let ask = |request| socket.and_then(|socket| control::talk(socket, &request).ok());
    let settled = match ask(Request::Quarantine {}) {
        Some(Answer::Quarantine { domains }) => {
            let of = |word: Disposition| {
                let of_word = domains.iter().filter(move |one| one.state == word.label());
                of_word.map(|one| one.domain.as_str().into()).collect()
            };
            SettledParties { approved: of(Disposition::Approved), refused: of(Disposition::Refused) }
        }
        _ => settings.state.as_deref().map(remembered).unwrap_or_default(),
    };
    let domains = match ask(Request::Bans {}) {
        Some(Answer::Bans { bans }) => {
            bans.iter().filter_map(|ban| Domain::parse(&ban.target).ok()).collect()
        }
        _ => Vec::new(),
    };
    policy.with_settled(settled).with_bans(Bans { domains, networks: Vec::new() })
}

/// What was decided, as it lies in the folder.
fn remembered(folder: &Path) -> SettledParties {
    let list = QuarantineList::default();
    let kept = kept::read::<QuarantineFile>(&folder.join(NAME)).ok().flatten();
    match kept.map(|kept| list.recall(kept)) {
        Some(Ok(())) => list.settled(),
        Some(Err(_)) | None => SettledParties::default(),
    }
}
