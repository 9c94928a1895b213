//! A gateway with one legacy server behind it and remote servers before it.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use super::ca::{Authority, Leaf, Usage};
use super::client::Client;
use super::gateway::{Gateway, Hosted, Setup};
use super::release::Release;
use super::server::{Legacy, Place, Proof, Remote, Server, Tls};
use super::unbound::Zone;
use super::world::{Host, Net, Process, World};
use super::{prosody, unbound};

/// A remote server of a scene.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// The program.
    pub program: Remote,
    /// How it proves itself.
    pub proof: Proof,
    /// The domain it serves.
    pub domain: &'static str,
}

/// What a scene is made of.
pub struct Cast<'a> {
    /// The servers on the open network.
    pub remotes: &'a [Peer],
    /// The server behind the gateway.
    pub legacy: Legacy,
    /// What the certificates of all may be used for.
    pub usage: Usage,
    /// The gateway's one policy file.
    pub policy: &'a str,
}

/// What a test wants otherwise than usual.
#[derive(Default)]
pub struct Wishes<'a> {
    /// More keys of the gateway's `backend:`, each with a comma before it.
    pub backend: &'a str,
    /// More keys of the hosted domain in `gatehouse.yaml`, a line each.
    pub domain: &'a str,
    /// More lines of `gatehouse.yaml`.
    pub gateway: &'a str,
    /// More domains in the DNS of the open network, each at the host with this last number; 0: without a server.
    pub zones: &'a [(&'a str, u8)],
    /// More domains of the server behind the gateway.
    pub hosted: &'a [&'a str],
    /// Another way to start the server behind the gateway.
    pub legacy: Option<&'a dyn Fn(&Place<'_>) -> Server>,
}

/// A running scene. Processes end before their networks go: the order of the fields.
pub struct Scene {
    /// The servers on the open network, in the order of the cast.
    pub remotes: Vec<Server>,
    /// The server behind the gateway.
    pub legacy: Server,
    /// The gateway.
    pub gateway: Gateway,
    /// The authority that all believe.
    pub authority: Authority,
    dns: Process,
    home: Host,
    world: World,
}

impl Scene {
    /// Builds the networks and starts everybody: DNS, the gateway, the server behind it, the peers.
    pub fn start(cast: &Cast<'_>) -> Self {
        Self::start_with(cast, &Wishes::default())
    }

    /// The same, with wishes about the gateway and its backend.
    pub fn start_with(cast: &Cast<'_>, wishes: &Wishes<'_>) -> Self {
        let mut world = World::new();
        let known = Authority::new("An authority that both sides know");

        let resolver = Net::World.address(53);
        let ours = std::iter::once(&HOSTED).chain(wishes.hosted);
        let mut zones: Vec<Zone<'_>> =
            ours.map(|domain| Zone { domain, address: Some(Net::World.address(1)) }).collect();
        zones.extend(
            cast.remotes
                .iter()
                .enumerate()
                .map(|(n, peer)| Zone { domain: peer.domain, address: Some(address(n)) }),
        );
        zones.extend(
            wishes.zones.iter().map(|(domain, last)| Zone {
                domain,
                address: (*last > 0).then(|| Net::World.address(*last)),
            }),
        );
        let dns_host = world.host("dns", &[(Net::World, 53)], resolver);
        let dns = unbound::start(&dns_host, resolver, &zones);

        let door = world.host("gateway", &[(Net::World, 1), (Net::Inside, 1)], resolver);
        let names: Vec<&str> = std::iter::once(HOSTED).chain(wishes.hosted.iter().copied()).collect();
        let leaves: Vec<Leaf> =
            names.iter().map(|name| known.leaf(name, cast.usage, door.directory())).collect();
        let hosted = names.iter().zip(&leaves).map(|(domain, leaf)| Hosted {
            domain,
            leaf,
            backend: Net::Inside.address(10),
            federation: "listed",
            backend_more: wishes.backend,
            more: wishes.domain,
        });
        let roots = known.write_root(door.directory());
        let setup = Setup {
            hosted: &hosted.collect::<Vec<_>>(),
            roots: &roots,
            dns: resolver,
            policy: cast.policy,
            more: wishes.gateway,
        };
        let gateway = Gateway::start(&door, &setup);

        // Its only resolver is the gateway's steering address.
        let home = world.host("legacy", &[(Net::Inside, 10)], Net::Inside.address(1));
        let legacy = match wishes.legacy {
            Some(start) => start(&place(&home)),
            None => legacy(&home, cast.legacy),
        };

        let remotes = cast.remotes.iter().enumerate().map(|(n, peer)| {
            let host = world.host(&format!("remote{n}"), &[(Net::World, last(n))], resolver);
            remote(&host, address(n), peer, &known, cast.usage)
        });
        Self { remotes: remotes.collect(), legacy, gateway, authority: known, dns, home, world }
    }

    /// Whether the gateway asked the DNS of the open network for the servers of that domain.
    pub fn gateway_asked(&self, domain: &str) -> bool {
        let asker = format!(" {} ", Net::World.address(1));
        // unbound writes `ASKER NAME TYPE CLASS`.
        self.dns.log().lines().any(|line| line.contains(&asker) && line.contains(&format!("{domain}. ")))
    }

    /// The address of the host on the open network with this last number.
    pub fn outside(last: u8) -> Ipv4Addr {
        Net::World.address(last)
    }

    /// One more host on the open network, at this last number.
    pub fn outsider(&mut self, last: u8) -> Host {
        self.world.host(&format!("outsider{last}"), &[(Net::World, last)], Net::World.address(53))
    }

    /// A server of all these domains at one address of the open network, [`HOSTER`], which proves them by dialback, and the user
    /// who is logged in at each.
    pub fn hoster(&mut self, domains: &[String]) -> (Server, Vec<Client>) {
        let host = self.outsider(HOSTER);
        let authority = Authority::new("An authority that nobody knows");
        let (leaf, roots) = (
            authority.leaf("many.example", Usage::Both, host.directory()),
            authority.write_root(host.directory()),
        );
        let place =
            Place { host: &host, address: Self::outside(HOSTER), domain: "many.example", user: "guest" };
        let tls = Tls { leaf: &leaf, roots: &roots.to_string_lossy(), proof: Proof::Dialback };
        let server = Server::new(&place, prosody::remote_of_many(Release::Bookworm, &place, &tls, domains));
        let users = domains.iter().map(|domain| server.login_to("guest", domain)).collect();
        (server, users)
    }

    /// The DNS server of the open network.
    pub fn dns(&self) -> &Process {
        &self.dns
    }

    /// Starts the stopped server behind the gateway again, in its place.
    pub fn revive_legacy(&mut self, program: Legacy) {
        self.legacy = legacy(&self.home, program);
    }
}

/// Starts the server behind the gateway on its host.
pub fn legacy(home: &Host, program: Legacy) -> Server {
    Server::legacy(program, &place(home))
}

/// Where the server behind the gateway stands.
pub fn place(home: &Host) -> Place<'_> {
    Place { host: home, address: Net::Inside.address(10), domain: HOSTED, user: "warden" }
}

/// Starts a remote server with papers that fit its way of proof.
pub fn remote(host: &Host, address: Ipv4Addr, peer: &Peer, known: &Authority, usage: Usage) -> Server {
    let place = Place { host, address, domain: peer.domain, user: "guest" };
    let papers = |authority: &Authority| -> (Leaf, PathBuf) {
        (authority.leaf(peer.domain, usage, host.directory()), authority.write_root(host.directory()))
    };
    let (leaf, roots) = match peer.proof {
        Proof::Dialback => papers(&Authority::new("An authority that nobody knows")),
        Proof::Either | Proof::External => papers(known),
    };
    Server::remote(
        peer.program,
        &place,
        &Tls { leaf: &leaf, roots: &roots.to_string_lossy(), proof: peer.proof },
    )
}

/// The last number of the addresses of the remote server at this place in the cast.
pub fn last(n: usize) -> u8 {
    u8::try_from(n).map(|n| 10 + n).expect("few remotes")
}

/// Where the remote server at this place in the cast listens.
pub fn address(n: usize) -> Ipv4Addr {
    Net::World.address(last(n))
}

/// Where a server of many domains is.
pub const HOSTER: u8 = 70;

/// The domain behind the gateway.
pub const HOSTED: &str = "hall.example";
