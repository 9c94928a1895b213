//! The command line from outside: one line of intent, exact output, exit code.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests fail as tests do

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

struct Answer {
    code: i32,
    out: String,
    err: String,
}

struct World {
    folder: TempDir,
}

impl World {
    /// The shipped example with the shipped policies, in a folder of its own, with certificates made for it.
    fn shipped() -> World {
        let world = World { folder: TempDir::new().unwrap() };
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for folder in ["deploy/pki", "deploy/secrets", "policies"] {
            fs::create_dir_all(world.path(folder)).unwrap();
        }
        fs::copy(root.join("deploy/gatehouse.example.yaml"), world.path("deploy/gatehouse.yaml")).unwrap();
        for name in ["open.yaml", "partners.yaml", "closed.yaml"] {
            fs::copy(root.join("policies").join(name), world.path(&format!("policies/{name}"))).unwrap();
        }
        world.certify(&["example.com"], |_| ());
        let roots = world.read("deploy/pki/example.com.pem");
        let text = world.read("deploy/gatehouse.yaml");
        assert!(text.contains("trust: { roots: system }"));
        // The machine that tests may have no trust anchors of its own.
        world.secret("deploy/pki/roots.pem", roots.as_bytes());
        world.edit("deploy/gatehouse.yaml", "trust: { roots: system }", "trust: { roots: pki/roots.pem }");
        world.secret(
            "deploy/secrets/world",
            b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n",
        );
        world.secret(
            "deploy/secrets/inside",
            b"fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210\n",
        );
        world
    }

    fn certify(&self, names: &[&str], change: impl Fn(&mut rcgen::CertificateParams)) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        self.secret("deploy/pki/example.com.pem", certificate.pem().as_bytes());
        self.secret("deploy/pki/example.com.key", key.serialize_pem().as_bytes());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn secret(&self, name: &str, octets: &[u8]) {
        fs::write(self.path(name), octets).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn edit(&self, name: &str, from: &str, to: &str) {
        let text = self.read(name);
        assert!(text.contains(from), "{from}");
        fs::write(self.path(name), text.replace(from, to)).unwrap();
    }

    fn run(&self, line: &str) -> Answer {
        run_in(self.folder.path(), line)
    }
}

fn run_in(folder: &Path, line: &str) -> Answer {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatehouse"));
    let output =
        command.args(line.split_whitespace()).current_dir(folder).env_remove("NO_COLOR").output().unwrap();
    Answer {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

const CHECK: &str = "check --config deploy/gatehouse.yaml";

// Contract 1: 0 clean.
#[test]
fn check_finds_the_shipped_example_clean() {
    let answer = World::shipped().run(CHECK);
    assert_eq!((answer.code, answer.out.as_str()), (0, "deploy/gatehouse.yaml: clean\n"), "{}", answer.err);
    let answer = World::shipped().run(&format!("{CHECK} -v"));
    assert_eq!(answer.out, "deploy/gatehouse.yaml: clean\n1 domain, 19 cases of policy passed\n");
    assert_eq!(World::shipped().run(&format!("{CHECK} -q")).out, "");
}

// Contract 1: every finding, each with file, line and what to do; 78 for errors.
#[test]
fn check_tells_every_finding_in_one_run() {
    let world = World::shipped();
    world.edit("deploy/gatehouse.yaml", "federation: listed ", "federaton: listed ");
    world.edit("deploy/gatehouse.yaml", "limits: { stanza: 256KiB", "limits: { stanza: 1KiB");
    world.secret("deploy/secrets/inside", b"short");
    let answer = world.run(CHECK);
    assert_eq!(answer.code, 78);
    let starts = [
        "deploy/gatehouse.yaml:24:5: error: `federaton` is not a key that is known here; did you mean `federation`?",
        "deploy/gatehouse.yaml:38:19: error: `stanza: 1KiB` is out of range; write a value from 10000B to 16MiB; the default is 256KiB",
        "deploy/secrets/inside: error: the secret has at most 0 bits, and needs 256; make one:",
        "deploy/gatehouse.yaml: 3 errors, 0 warnings",
    ];
    let lines: Vec<&str> = answer.out.lines().collect();
    assert_eq!(lines.len(), starts.len(), "{}", answer.out);
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{line}\n{start}");
    }
}

// CRT-14: our certificates are for their domains, in date, and with their keys.
#[test]
fn check_looks_into_certificates() {
    let world = World::shipped();
    let says = |code: i32, words: &str| {
        let answer = world.run(CHECK);
        assert!(answer.code == code && answer.out.contains(words), "{} {}\n{words}", answer.code, answer.out);
    };
    world.certify(&["other.example", "a.example.com"], |_| ());
    says(78, "deploy/pki/example.com.pem: error: the certificate is not for example.com; get one");
    world.certify(&["*.com"], |_| ());
    says(0, "clean");
    world.certify(&["example.com"], |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    says(78, "error: the certificate expired on");
    world.certify(&["example.com"], |params| params.not_before = rcgen::date_time_ymd(2190, 1, 1));
    says(78, "error: the certificate is not valid before");
    world.certify(&["example.com"], |params| {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    });
    says(78, "error: the first certificate is one of an issuer");
    world.certify(&["example.com"], |_| ());
    world
        .secret("deploy/pki/example.com.key", rcgen::KeyPair::generate().unwrap().serialize_pem().as_bytes());
    says(78, "deploy/pki/example.com.key: error: the key does not belong to the first certificate in");
    world.secret("deploy/pki/example.com.key", b"nothing");
    says(78, "deploy/pki/example.com.key: error: no private key in the file");
    fs::remove_file(world.path("deploy/pki/example.com.pem")).unwrap();
    says(78, "deploy/pki/example.com.pem: error: cannot be read");
}

#[test]
fn check_warns_of_open_permissions_and_still_passes() {
    let world = World::shipped();
    let key = world.path("deploy/pki/example.com.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let answer = world.run(CHECK);
    assert_eq!(answer.code, 0);
    assert_eq!(
        answer.out,
        "deploy/pki/example.com.key: warning: the private key is open to every user of the machine; chmod 640, and \
         give it to the gateway's group\ndeploy/gatehouse.yaml: 0 errors, 1 warning\n"
    );
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(world.run(CHECK).out, "deploy/gatehouse.yaml: clean\n");
}

#[test]
fn check_refuses_secrets_that_are_one() {
    let world = World::shipped();
    world.secret("deploy/secrets/inside", world.read("deploy/secrets/world").as_bytes());
    let answer = world.run(CHECK);
    assert!(answer.code == 78 && answer.out.contains("both realms have the same secret"), "{}", answer.out);
}

// TLS-16: where several domains are hosted, who names no server on direct TLS sees the certificate of one of them.
#[test]
fn check_says_whose_certificate_is_shown_to_who_names_no_server() {
    let world = World::shipped();
    let second = "domains:\n  - name: annex.example\n    certificate: { chain: pki/example.com.pem, key: pki/example.com.key }\n    \
                  backend: { c2s: [\"127.0.0.1:1\"] }\n    federation: none\n";
    world.edit("deploy/gatehouse.yaml", "domains:\n", second);
    // The proxy in front shows its own.
    let web = "listen:\n  - { flow: websocket, tls: proxy, proxy-protocol: [10.0.0.1], address: \"127.0.0.1:5299\" }\n";
    world.edit("deploy/gatehouse.yaml", "listen:\n", web);
    let answer = world.run(CHECK);
    assert!(!answer.out.contains("5299"), "{}", answer.out);
    let line = |port: u16, domain: &str| {
        format!(
            "[::]:{port}: who names no server is shown the certificate of {domain} (`default` names another)\n"
        )
    };
    assert!(answer.out.contains(&line(5270, "example.com")), "{}", answer.out);
    assert!(answer.out.contains(&line(5223, "annex.example")), "{}", answer.out);
    assert!(!answer.out.contains("[::]:5222: who"), "{}", answer.out);
}

// Contract 3: a failing case is an error of the configuration.
#[test]
fn check_runs_the_cases_of_policies() {
    let world = World::shipped();
    world.edit("policies/partners.yaml", "domains: [partner.example,", "domains: [partener.example,");
    let answer = world.run(&format!("{CHECK} --format json"));
    assert_eq!(answer.code, 78);
    let report: serde_json::Value = serde_json::from_str(&answer.out).unwrap();
    assert_eq!(report["errors"], 6, "{}", answer.out);
    assert_eq!(report["findings"][0]["file"], "deploy/../policies/partners.yaml");
    assert_eq!(report["findings"][0]["line"], 21);
    assert_eq!(report["findings"][0]["severity"], "error");
}

#[test]
fn a_missing_configuration_is_an_error_of_the_configuration() {
    let answer = World::shipped().run("check --config nowhere.yaml");
    assert_eq!(answer.code, 78);
    assert!(answer.out.starts_with("nowhere.yaml: error: cannot be read: "), "{}", answer.out);
}

// Contract 1: the verdict, the reason, the rule with file and line, and every rule considered.
#[test]
fn explain_tells_rule_reason_and_trail() {
    let world = World::shipped();
    let explain = "policy explain --config deploy/gatehouse.yaml --from";
    let answer =
        world.run(&format!("{explain} spy@X.Rogue.agency.example/r --to romeo@example.com --ip 192.0.2.1"));
    assert_eq!(answer.code, 1, "{}", answer.err);
    assert_eq!(
        answer.out,
        "deny: a deny rule names this domain (blocked)
rule:       not-this-branch at deploy/../policies/partners.yaml:18:5
hosted:     example.com
remote:     x.rogue.agency.example
direction:  inbound
federation: listed
supposed:   proof certificate, TLS 1.3, address 192.0.2.1
considered:
  not-this-branch at deploy/../policies/partners.yaml:18:5 (*.rogue.agency.example): decides: deny, a deny rule names this domain
  partners at deploy/../policies/partners.yaml:5:5 (*.agency.example): a more specific rule decided\n"
    );
    let verdict = |rest: &str| {
        let answer = world.run(&format!("{explain} {rest} -q"));
        (answer.code, answer.out.trim_end().to_owned())
    };
    let at = |code, words: &str| (code, words.to_owned());
    assert_eq!(verdict("partner.example --to example.com"), at(0, "allow: allowed (allowed)"));
    assert_eq!(verdict("example.com --to partner.example"), at(0, "allow: allowed (allowed)"));
    assert!(verdict("partner.example --to example.com --proof dialback").1.ends_with("(identity-too-weak)"));
    assert!(verdict("partner.example --to example.com --proof none").1.ends_with("(identity-too-weak)"));
    assert!(verdict("partner.example --to example.com --tls 1.2").1.ends_with("(tls-too-old)"));
    assert!(verdict("stranger.example --to example.com").1.ends_with("(not-listed)"));
    let supplier = "supplier.example --to example.com --ip 192.0.2.9 --today 2030-01-01";
    assert_eq!(verdict(&format!("{supplier} --kind iq")).0, 0);
    assert!(verdict(&format!("{supplier} --payload jabber:iq:register")).1.ends_with("(payload-denied)"));
}

#[test]
fn explain_speaks_json_too() {
    let world = World::shipped();
    let line =
        "policy explain --config deploy/gatehouse.yaml --from partner.example --to example.com --format json";
    let answer = world.run(line);
    let report: serde_json::Value = serde_json::from_str(&answer.out).unwrap();
    assert_eq!((answer.code, &report["verdict"], &report["rule"]), (0, &"allow".into(), &"partners".into()));
    assert_eq!(report["place"]["line"], 5);
    assert_eq!(report["considered"][0]["bearing"], "decides");
    assert_eq!(report["digest"].as_str().unwrap().len(), 64);
}

#[test]
fn explain_needs_a_hosted_domain_and_a_sound_configuration() {
    let world = World::shipped();
    let line = "policy explain --config deploy/gatehouse.yaml --from a.example --to b.example";
    let answer = world.run(line);
    assert_eq!(answer.code, 64);
    assert_eq!(
        answer.err,
        "error: neither a.example nor b.example is hosted here; hosted are: example.com\n"
    );
    world.edit("deploy/gatehouse.yaml", "version: v1", "version: v9");
    let answer = world.run(line);
    assert_eq!(answer.code, 78);
    assert!(
        answer.err.starts_with("deploy/gatehouse.yaml:3:10: error: version \"v9\" is not known"),
        "{}",
        answer.err
    );
}

// Contract 1: runs the `expect` cases of policy files; 0, 1, 78.
#[test]
fn policy_test_passes_every_shipped_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let answer = run_in(root, "policy test policies/open.yaml policies/partners.yaml policies/closed.yaml");
    assert_eq!(answer.code, 0, "{}", answer.out);
    assert!(answer.out.ends_with("\n35 passed, 0 failed\n"), "{}", answer.out);
}

#[test]
fn policy_test_says_no_to_failing_cases_and_78_to_broken_files() {
    let world = World::shipped();
    fs::write(
        world.path("p.yaml"),
        "version: v1\nexpect: [{ from: a.example, to: b.example, verdict: allow }]\n",
    )
    .unwrap();
    let answer = world.run("policy test p.yaml");
    assert_eq!(answer.code, 1);
    assert_eq!(
        answer.out,
        "FAILED p.yaml:2:10: error: the case a.example -> b.example expects allow, but gets deny not-listed (rule \
         default); correct the rule or the case\n0 passed, 1 failed\n"
    );
    fs::write(world.path("p.yaml"), "version: v1\nrules: [{ nmae: a }]\n").unwrap();
    let answer = world.run("policy test p.yaml --format json");
    assert_eq!(answer.code, 78);
    let report: serde_json::Value = serde_json::from_str(&answer.out).unwrap();
    // That it has no name only follows from the first.
    assert_eq!(report["findings"].as_array().unwrap().len(), 2, "{}", answer.out);
}

// Contract 1: 64 wrong use.
#[test]
fn wrong_use_is_64() {
    let folder = TempDir::new().unwrap();
    for line in [
        "",
        "chekc",
        "check",
        "check --config",
        "check --config a --format xml",
        "policy",
        "policy test",
        "policy explain --config a --from a@@b --to c",
        "check --config a -q -v",
        "completions tcsh2",
        // A word that is obeyed and comes to nothing would look like good news.
        "log debug --for 0s",
        "refusals --reason nonsense",
        "audit report --since 0d audit.jsonl",
    ] {
        let answer = run_in(folder.path(), line);
        assert!(
            answer.code == 64 && answer.out.is_empty() && !answer.err.is_empty(),
            "{line}: {}",
            answer.code
        );
    }
    let answer = run_in(folder.path(), "refusals --reason not-listd");
    assert!(answer.err.contains("did you mean `not-listed`?"), "{}", answer.err);
    let answer = run_in(folder.path(), "refusals --reason expired --socket none.sock");
    assert!(answer.code == 69, "a cause is a word as good as a reason: {}", answer.err);
}

#[test]
fn help_version_completions_and_manual_are_printed() {
    let folder = TempDir::new().unwrap();
    let version = run_in(folder.path(), "--version");
    assert_eq!((version.code, version.out), (0, format!("gatehouse {}\n", env!("CARGO_PKG_VERSION"))));
    assert!(run_in(folder.path(), "--help").out.contains("Exit codes: 0 done"));
    for shell in ["bash", "zsh", "fish"] {
        let answer = run_in(folder.path(), &format!("completions {shell}"));
        assert!(answer.code == 0 && answer.out.contains("gatehouse"), "{shell}");
    }
    let manual = run_in(folder.path(), "man");
    assert_eq!(manual.code, 0);
    assert!(
        manual.out.starts_with(".ie") && manual.out.contains("gatehouse policy explain"),
        "{}",
        manual.out
    );
}
