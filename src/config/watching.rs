//! What the configuration says of the two doors for operators.

use super::settings::Admin;
use super::spec;
use super::words::Words;
use crate::policy::Word;

/// Reads `admin:`.
pub(super) fn admin(words: &mut Words, spec: &spec::FileSpec) -> Admin {
    let Some(at) = &spec.admin else { return Admin::default() };
    let http = at.value.http.as_ref().and_then(|word| {
        let address = words.socket(word, None)?;
        if !address.ip().to_canonical().is_loopback() {
            words.warn(
                word,
                format!("metrics and health are served to everybody who reaches {address}"),
                "listen on 127.0.0.1, or make sure that only your monitoring reaches it",
            );
        }
        Some(address)
    });
    let socket = at.value.socket.as_ref().map(|word| words.path(word));
    let listed = at.value.hosts.iter().flat_map(|list| &list.value);
    let hosts = listed.filter_map(|word| host(words, word)).collect();
    let switch = [("off", false), ("on", true)];
    let status = at.value.status.as_ref().and_then(|word| words.choose(word, "`on` or `off`", &switch));
    if let (Some(true), Some(word), None) = (status, &at.value.status, &at.value.http) {
        words.error(
            word,
            "`status: on` without `http:`",
            "write where to serve it: `http: \"127.0.0.1:9469\"`",
        );
    }
    Admin { http, hosts, status: status.unwrap_or_default(), socket }
}

/// A name as `Host` has it, without a port.
fn host(words: &mut Words, word: &Word) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let fits = !word.value.is_empty() && word.value.chars().all(plain);
    if !fits {
        let message = format!("\"{}\" is no name of a host", word.value);
        words.error(
            word,
            message,
            "write a name without a port, like gate-1.example.com; addresses need not be listed",
        );
    }
    fits.then(|| word.value.clone())
}
