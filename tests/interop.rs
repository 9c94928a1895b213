//! Real servers on both sides.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use support::server::{Legacy, Place, Proof, Remote, Server, Tls};
use support::ca::{Authority, Usage};
use support::unbound::{self, Zone};
use support::world::{Net, World};

#[test]
fn selftest_tls() {
    for proof in [Proof::External, Proof::Dialback] {
    let mut world = World::new();
    let resolver = Net::World.address(53);
    let dns = world.host("dns", &[(Net::World, 53)], resolver);
    let _dns = unbound::start(&dns, resolver, &[Zone { domain: "a.example", address: Net::World.address(10) }, Zone { domain: "b.example", address: Net::World.address(11) }]);
    let (ca, other) = (Authority::new("one"), Authority::new("two"));
    let a = world.host("a", &[(Net::World, 10)], resolver);
    let b = world.host("b", &[(Net::World, 11)], resolver);
    let b_ca = if proof == Proof::External { &ca } else { &other };
    let la = ca.leaf("a.example", Usage::Both, a.directory());
    let lb = b_ca.leaf("b.example", Usage::Both, b.directory());
    let ra = ca.write_root(a.directory());
    let rb = b_ca.write_root(b.directory());
    let sa = Server::remote(Remote::Prosody, &Place { host: &a, address: Net::World.address(10), domain: "a.example", user: "anna" }, &Tls { leaf: &la, roots: &ra.to_string_lossy(), proof });
    let sb = Server::remote(Remote::Ejabberd, &Place { host: &b, address: Net::World.address(11), domain: "b.example", user: "bert" }, &Tls { leaf: &lb, roots: &rb.to_string_lossy(), proof });
    let (mut ca, mut cb) = (sa.login(), sb.login());
    let id = ca.message(cb.jid(), "hello");
    assert_eq!(cb.expect_message(ca.jid(), &id).child("body").unwrap().text, "hello");
    let id = cb.message(ca.jid(), "hello");
    ca.expect_message(cb.jid(), &id);
    }
}

#[test]
fn selftest_plain() {
    for legacy in [Legacy::Ejabberd, Legacy::Jabberd2] {
    let mut world = World::new();
    let resolver = Net::Inside.address(53);
    let dns = world.host("dns", &[(Net::Inside, 53)], resolver);
    let _dns = unbound::start(&dns, resolver, &[Zone { domain: "a.example", address: Net::Inside.address(10) }, Zone { domain: "b.example", address: Net::Inside.address(11) }]);
    let a = world.host("a", &[(Net::Inside, 10)], resolver);
    let b = world.host("b", &[(Net::Inside, 11)], resolver);
    let sa = Server::legacy(Legacy::Prosody, &Place { host: &a, address: Net::Inside.address(10), domain: "a.example", user: "anna" });
    let sb = Server::legacy(legacy, &Place { host: &b, address: Net::Inside.address(11), domain: "b.example", user: "bert" });
    let (mut ca, mut cb) = (sa.login(), sb.login());
    let id = ca.message(cb.jid(), &"hello".repeat(20000));
    cb.expect_message(ca.jid(), &id);
    let id = cb.message(ca.jid(), &"hello".repeat(20000));
    ca.expect_message(cb.jid(), &id);
    }
}
