//! Replays every input that the fuzz targets keep, through the same assertions, on stable.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test that cannot go on says so

#[path = "../support/fuzz/mod.rs"]
mod laws;

use std::path::Path;
use std::sync::atomic::Ordering;

use laws::xml;

/// Runs a law over the corpus of its target.
fn replay(target: &str, law: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .expect("the corpus is kept")
        .map(|entry| entry.expect("readable").path())
        .collect();
    files.sort();
    assert!(files.len() >= 20, "the corpus of {target} is nearly empty");
    for file in files {
        let octets = std::fs::read(&file).expect("readable");
        let name = file.display().to_string();
        let outcome = std::panic::catch_unwind(|| law(&octets));
        assert!(outcome.is_ok(), "{name} breaks the law of {target}");
    }
}

#[test]
fn framer() {
    replay("framer", xml::framer);
}

// XML-12.
#[test]
fn readers_agree() {
    replay("readers_agree", xml::readers_agree);
}

// WS-02, WS-03.
#[test]
fn messages() {
    replay("messages", xml::messages);
}

#[test]
fn rewrite() {
    replay("rewrite", xml::rewrite);
}

#[test]
fn certificate() {
    replay("certificate", laws::certificate);
}

#[test]
fn config() {
    replay("config", laws::config);
    std::fs::remove_dir_all(laws::folder()).expect("our own folder");
}

#[test]
fn dialback() {
    replay("dialback", laws::dialback);
}

#[test]
fn dns() {
    replay("dns", laws::dns);
}

#[test]
fn features() {
    replay("features", laws::features);
}

#[test]
fn header() {
    replay("header", laws::header);
}

// ACC-11, TLS-16.
#[test]
fn hello() {
    replay("hello", laws::hello);
}

#[test]
fn jid() {
    replay("jid", laws::jid);
}

#[test]
fn policy() {
    replay("policy", laws::policy);
}

#[test]
fn proxy() {
    replay("proxy", laws::proxy);
}

#[test]
fn relay() {
    for (target, law) in [("relay", laws::relay as fn(&[u8])), ("relay_client", laws::relay_client)] {
        let before = laws::PASSED.load(Ordering::Relaxed);
        replay(target, law);
        let passed = laws::PASSED.load(Ordering::Relaxed) - before;
        assert!(passed >= 10, "{target}: {passed} stanzas passed");
    }
    let against = laws::AGAINST.load(Ordering::Relaxed);
    assert!(against >= 10, "{against} stanzas went back over streams that go both ways");
}

#[test]
fn sasl() {
    replay("sasl", laws::sasl);
}

#[test]
fn the_recogniser_knows_what_is_not_canonical() {
    for fine in ["<a/>", "<a:b c='' d=\"&#10;\">x &amp; \"'\t\n&#13;<e></e></a:b>"] {
        assert_eq!(xml::canonical(fine), Ok(()), "{fine}");
    }
    for bad in [
        "",
        "x",
        "<a>",
        "<a/> ",
        "<a />",
        "<a  b=''/>",
        "<a b = ''/>",
        "<a></a >",
        "<a></b>",
        "<a>></a>",
        "<a>\r</a>",
        "<a>&#65;</a>",
        "<a>&#10;</a>",
        "<a>&#xD;</a>",
        "<a b='&#xA;'/>",
        "<a b='\"'/>",
        "<a b='\n'/>",
        "<a b='>'/>",
        "<a>&nbsp;</a>",
        "<!---->",
        "<a><![CDATA[x]]></a>",
        "<1/>",
        "<a:/>",
        "<a/><a/>",
        "<a b=''c=''/>",
        "<a>\u{ffff}</a>",
    ] {
        assert!(xml::canonical(bad).is_err(), "{bad}");
    }
}
