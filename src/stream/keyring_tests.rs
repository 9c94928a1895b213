use super::*;
use crate::jid::Domain;

fn pair(sender: &str, target: &str) -> Pair {
    Pair { sender: Domain::parse(sender).unwrap(), target: Domain::parse(target).unwrap() }
}

// DB-10, DB-11, and the keys of requirements 21.1 and 21.3.
#[test]
fn the_published_keys_are_reproduced() {
    for (secret, receiving, originating, id, expected) in [
        (
            "s3cr3tf0rd14lb4ck",
            "montague.example",
            "capulet.example",
            "D60000229F",
            "b4835385f37fe2895af6c196b59097b16862406db80559900d96bf6fa7d23df3",
        ),
        (
            "s3cr3tf0rd14lb4ck",
            "xmpp.example.com",
            "example.org",
            "D60000229F",
            "37c69b1cf07a3f67c04a5ef5902fa5114f2c76fe4a2686482ba5b89323075643",
        ),
        (
            "d14lb4ck43v3r",
            "capulet.example",
            "montague.example",
            "417GAF25",
            "225cc5aa6a071133249d25fef42ae516fc7a86c523aa1c6980a7f73e784c972d",
        ),
        (
            "ins1de-secret-B",
            "chat.example.org",
            "remote.example.net",
            "L-301",
            "106f5f2b93d185803ca5a5c678a8ddc9dc7702908233b18b8011a9508b051795",
        ),
        (
            "w0rld-secret-A",
            "remote.example.net",
            "chat.example.org",
            "rS-88",
            "894dfd55f6f9268f6c9c00dd0705d7f9ec4db5f238a0d598577eaf6f5dd4050b",
        ),
    ] {
        let (ring, now) = (Keyring::new(secret.as_bytes()), Instant::now());
        let pair = pair(originating, receiving);
        assert_eq!(ring.make(&pair, id, now), expected);
        assert!(ring.knows(&KeyCheck { pair, stream: id.into(), key: expected.into() }, now));
    }
}

// DB-12: no other cut of the same words has the same key. DB-14: a key of another length is merely wrong.
#[test]
fn a_key_is_for_one_cut_of_its_words() {
    let now = Instant::now();
    for ring in [Keyring::new(b"world"), node(now, 0, &[b"world"])] {
        let check = |sender: &str, target: &str, stream: &str, key: &str| {
            let pair = pair(sender, target);
            ring.knows(&KeyCheck { pair, stream: stream.into(), key: key.into() }, now)
        };
        let key = ring.make(&pair("a.example", "b.example"), "1", now);
        assert!(check("a.example", "b.example", "1", &key));
        assert!(!check("a.example", "b.example", "2", &key) && !check("b.example", "a.example", "1", &key));
        assert!(!check("a.example", "b.examplea", "1", &key) && !check("ab.example", "example", "1", &key));
        for wrong in ["", "b", &key[1..], &format!("{key}0"), &key.to_uppercase()] {
            assert!(!check("a.example", "b.example", "1", wrong), "{wrong}");
        }
    }
}

// DB-04: realms share no secret, and even one that they shared would make other keys.
#[test]
fn a_key_of_one_realm_is_unknown_in_the_other() {
    let now = Instant::now();
    let clock = Clock::new(now, NOON);
    let shared = |facing, secret| Keyring::shared(facing, clock, [(secret, None)]);
    for (world, inside) in [
        (Keyring::new(b"world"), Keyring::new(b"inside")),
        (shared(Facing::Public, &b"world"[..]), shared(Facing::Backend, &b"inside"[..])),
        (shared(Facing::Public, &b"one"[..]), shared(Facing::Backend, &b"one"[..])),
    ] {
        let check = asked(&world, now);
        assert!(world.knows(&check, now) && !inside.knows(&check, now));
        let check = asked(&inside, now);
        assert!(inside.knows(&check, now) && !world.knows(&check, now));
        assert_eq!((inside.astray(&check, now), world.astray(&check, now)), (None, None));
    }
}

// CLU-02: "S_e = lower-case hex of HMAC-SHA256(secret, `gatehouse dialback`, space, realm, space, e); key = DB-10 with S_e as
// the secret". Computed by another program: Python's hmac and hashlib.
#[test]
fn a_key_of_an_epoch_is_the_one_that_other_programs_compute() {
    let now = Instant::now();
    for (facing, secret, from, to, id, expected) in [
        (
            Facing::Public,
            "w0rld-secret-A",
            "chat.example.org",
            "remote.example.net",
            "rS-88",
            "370857021f47784006842ee203a51aa0e5cdc818a92788170b3b81fb5d83dd39",
        ),
        (
            Facing::Backend,
            "ins1de-secret-B",
            "remote.example.net",
            "chat.example.org",
            "L-301",
            "a918988b61e94fe03e4d0a385753432d535c1af9932f18a9f3436fe6d009a8ef",
        ),
    ] {
        for (into, same) in [(0, true), (9, true), (10, false)] {
            let clock = Clock::new(now, Duration::from_secs(1_800_000_000 + into));
            let ring = Keyring::shared(facing, clock, [(secret.as_bytes(), None)]);
            assert_eq!(ring.make(&pair(from, to), id, now) == expected, same, "{into}");
        }
    }
}

// CLU-02: "The node asked computes all candidates e-4 .. e+1 (T-dialback 30 s, skew 10 s) for each secret".
#[test]
fn any_node_knows_a_young_key_and_none_an_old_one() {
    let now = Instant::now();
    // Seconds into an epoch at which the key is made, how far the clock of the node asked is ahead, when it is asked.
    for (into, ahead, after, known) in [
        (0, 0, 0, true),
        (9, 0, 0, true),
        (0, 0, 30, true),
        (9, 0, 30, true),
        // A skew of ten seconds, either way, over all of T-dialback.
        (0, 10, 30, true),
        (9, 10, 30, true),
        (0, -10, 0, true),
        (9, -10, 0, true),
        (0, -10, 30, true),
        // The last second in which it is known, and the first in which it is not.
        (0, 0, 49, true),
        (0, 0, 50, false),
        (9, 0, 40, true),
        (9, 0, 41, false),
        // A future epoch: one is a clock that is a little ahead, two are not.
        (0, -11, 0, false),
        (9, -19, 0, true),
        (9, -20, 0, false),
        (0, 3600, 0, false),
        (0, -3600, 0, false),
        // Replayed a day later.
        (0, 0, 86_400, false),
    ] {
        let maker = node(now, into, &[b"one"]);
        let asked_node = node(now, into + ahead, &[b"one"]);
        let check = asked(&maker, now);
        let later = now + Duration::from_secs(after);
        assert_eq!(asked_node.knows(&check, later), known, "{into} {ahead} {after}");
        // And nothing from before the clock was read is known otherwise than from after.
        let reread = Keyring::shared(
            Facing::Public,
            Clock::new(later, wall(into + ahead) + Duration::from_secs(after)),
            [(&b"one"[..], None)],
        );
        assert_eq!(reread.knows(&check, later), known, "{into} {ahead} {after}, read again");
    }
}

// CLU-02: "a node whose clock is off notices by itself".
#[test]
fn a_key_of_a_clock_that_is_off_tells_by_how_much() {
    let now = Instant::now();
    let ours = node(now, 0, &[b"other", b"one"]);
    for (off, told) in
        [(-3600, Some(-3600)), (3600, Some(3600)), (-50, Some(-50)), (20, Some(20)), (50_400, Some(50_400))]
    {
        let theirs = node(now, off, &[b"one"]);
        assert_eq!(ours.astray(&asked(&theirs, now), now), told, "{off}");
    }
    for known in [0, -40, 10, 60_000] {
        assert_eq!(ours.astray(&asked(&node(now, known, &[b"one"]), now), now), None, "{known}");
    }
    assert_eq!(ours.astray(&asked(&node(now, 3600, &[b"another's"]), now), now), None);
    assert_eq!(Keyring::new(b"one").astray(&asked(&node(now, 3600, &[b"one"]), now), now), None);
}

// DB-13, CLU-02: "the first makes, all verify; rotate by appending everywhere, then moving to the top everywhere, then
// removing after T-dialback": three nodes, each step taken by one node after the other, in every order of nodes.
#[test]
fn a_secret_is_replaced_in_three_steps_in_every_order_of_nodes() {
    let now = Instant::now();
    let steps: [&[&[u8]]; 4] = [&[b"old"], &[b"old", b"new"], &[b"new", b"old"], &[b"new"]];
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for order in orders {
        let mut at = [0; 3];
        for step in 1..steps.len() {
            for turn in order {
                at[turn] = step;
                let nodes = at.map(|step| node(now, 0, steps[step]));
                for (maker, asked_node) in nodes.iter().flat_map(|a| nodes.iter().map(move |b| (a, b))) {
                    assert!(asked_node.knows(&asked(maker, now), now), "{order:?} {at:?}");
                }
            }
        }
    }
    // A step left out is told by every key between the two.
    let (behind, before) = (node(now, 0, &[b"old"]), node(now, 0, &[b"new", b"old"]));
    assert!(before.knows(&asked(&behind, now), now) && !behind.knows(&asked(&before, now), now));
}

// DB-13: a secret that was taken out knows the keys of the time before, and none of the time after: who has stolen it has
// nothing more of it a minute later.
#[test]
fn a_secret_that_is_taken_out_ends_with_the_keys_that_it_made() {
    let now = Instant::now();
    let clock = Clock::new(now, NOON);
    let last = clock.epoch(now);
    let rotated = Keyring::shared(Facing::Public, clock, [(&b"new"[..], None), (&b"old"[..], Some(last))]);
    let old = node(now, 0, &[b"old"]);
    let after = |seconds| now + Duration::from_secs(seconds);
    assert!(rotated.knows(&asked(&old, now), after(30)));
    assert!(!rotated.knows(&asked(&old, after(10)), after(10)));
    assert!(!rotated.knows(&asked(&old, now), after(50)));
    assert_ne!(asked(&rotated, now).key, asked(&old, now).key);
}

// Mixed versions: what nodes made before there were epochs is known to those that remember it alone.
#[test]
fn a_key_without_an_epoch_is_not_known_by_the_secret() {
    let now = Instant::now();
    let (old, new) = (Keyring::new(b"one"), node(now, 0, &[b"one"]));
    assert!(!new.knows(&asked(&old, now), now) && !old.knows(&asked(&new, now), now));
}

// LOG-02.
#[test]
fn a_ring_never_prints_its_secrets() {
    let now = Instant::now();
    for ring in [Keyring::new(b"sesame"), node(now, 0, &[b"sesame"])] {
        assert!(!format!("{ring:?}").contains("sesame"));
    }
}

/// 2027-01-15 12:00, the beginning of an epoch.
const NOON: Duration = Duration::from_secs(1_800_014_400);

fn wall(off: i64) -> Duration {
    Duration::from_secs(NOON.as_secs().checked_add_signed(off).unwrap())
}

/// The world ring of a node with these secrets, whose clock is `off` seconds after noon.
fn node(now: Instant, off: i64, secrets: &[&[u8]]) -> Keyring {
    let clock = Clock::new(now, wall(off));
    Keyring::shared(Facing::Public, clock, secrets.iter().map(|secret| (*secret, None)))
}

/// The question about a key that this ring makes.
fn asked(ring: &Keyring, now: Instant) -> KeyCheck {
    let pair = pair("a.example", "b.example");
    KeyCheck { key: ring.make(&pair, "1", now), pair, stream: "1".into() }
}
