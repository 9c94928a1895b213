//! `gatehouse init` from outside: what it writes passes `check`, and nothing that is there is touched.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests fail as tests do

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::thread;

use tempfile::TempDir;

struct Answer {
    code: i32,
    out: String,
    err: String,
}

fn run(folder: &Path, line: &str) -> Answer {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatehouse"));
    let output = command.args(line.split_whitespace()).current_dir(folder).output().unwrap();
    Answer {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A backend that answers every stream with this, and tells what it was asked.
fn backend(says: &'static str) -> (SocketAddr, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = vec![0; 1024];
        let number = stream.read(&mut asked).unwrap();
        asked.truncate(number);
        stream.write_all(says.as_bytes()).unwrap();
        String::from_utf8(asked).unwrap()
    });
    (address, thread)
}

fn certify(folder: &Path, domain: &str) {
    let params = rcgen::CertificateParams::new(vec![domain.to_owned()]).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let secret = |name: String, text: String| {
        fs::write(folder.join(&name), text).unwrap();
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    };
    secret(format!("pki/{domain}.pem"), params.self_signed(&key).unwrap().pem());
    secret(format!("pki/{domain}.key"), key.serialize_pem());
}

#[test]
fn what_init_writes_passes_check_once_the_certificate_is_there() {
    let folder = TempDir::new().unwrap();
    let (address, asked) =
        backend("<?xml version='1.0'?><stream:stream xmlns:stream='http://etherx.jabber.org/streams'>");
    let answer = run(folder.path(), &format!("init --domain Example.COM --backend {address} --dir gate"));
    assert_eq!((answer.code, answer.err.as_str()), (0, ""), "{}", answer.out);
    assert!(asked.join().unwrap().contains("to='example.com' version='1.0'>"));
    for words in [
        "wrote gate/gatehouse.yaml\n",
        "wrote gate/secrets/world\n",
        &format!("the backend at {address} answers other servers\n"),
        "1. put the certificate of example.com at gate/pki/example.com.pem, ",
        "5. gatehouse run --config gate/gatehouse.yaml\n",
        "6. in the public DNS: _xmpp-server._tcp.example.com. SRV 0 0 5269 ",
    ] {
        assert!(answer.out.contains(words), "{words}\n{}", answer.out);
    }

    let gate = folder.path().join("gate");
    let secret = |name: &str| fs::read_to_string(gate.join("secrets").join(name)).unwrap();
    assert!(secret("world") != secret("inside") && secret("world").len() == 65);
    for (path, mode) in
        [("secrets", 0o700), ("pki", 0o700), ("secrets/world", 0o600), ("secrets/inside", 0o600)]
    {
        assert_eq!(fs::metadata(gate.join(path)).unwrap().permissions().mode() & 0o777, mode, "{path}");
    }

    // The certificate is all that is missing.
    let check = "check --config gate/gatehouse.yaml --format json";
    let findings = |answer: &Answer| {
        let report: serde_json::Value = serde_json::from_str(&answer.out).unwrap();
        report["findings"].as_array().unwrap().iter().map(|f| f["message"].to_string()).collect::<Vec<_>>()
    };
    let answer = run(folder.path(), check);
    assert_eq!(answer.code, 78);
    assert_eq!(
        findings(&answer).iter().filter(|f| f.contains("cannot be read")).count(),
        1,
        "{}",
        answer.out
    );
    certify(&gate, "example.com");
    let answer = run(folder.path(), check);
    // The machine that tests may have no trust anchors, or no IPv6.
    let ours: Vec<String> = findings(&answer)
        .into_iter()
        .filter(|f| !f.contains("trust anchors") && !f.contains(":: is not an address"))
        .collect();
    // It admits nobody, and says so.
    let nobody = "example.com federates with nobody yet";
    assert!(
        answer.code == 0 && ours.len() == 1 && ours[0].contains(nobody),
        "{} {}",
        answer.code,
        answer.out
    );

    // Nobody is admitted yet, and the first rule admits whom it names.
    let explain = "policy explain --config gate/gatehouse.yaml --from partner.example --to example.com -q";
    assert!(run(folder.path(), explain).out.ends_with("(not-listed)\n"));
    let path = gate.join("policies/partners.yaml");
    let text = fs::read_to_string(&path).unwrap();
    let rule = "rules:\n  - { name: partners, domains: [partner.example] }\n";
    fs::write(&path, text.replace("rules: []\n", rule)).unwrap();
    assert_eq!(run(folder.path(), explain).out, "allow: allowed (allowed)\n");
}

// The lines for clients: comments without `--clients`, living with it.
#[test]
fn init_serves_clients_where_it_is_told_where_they_go() {
    let folder = TempDir::new().unwrap();
    let header = "<?xml version='1.0'?><stream:stream xmlns:stream='http://etherx.jabber.org/streams'>";
    let ((servers, _), (clients, asked)) = (backend(header), backend(header));
    let line = format!("init --domain example.com --backend {servers} --clients {clients}");
    let answer = run(folder.path(), &line);
    assert_eq!((answer.code, answer.err.as_str()), (0, ""), "{}", answer.out);
    assert!(asked.join().unwrap().contains("xmlns='jabber:client'"));
    for words in [
        &format!("the backend at {clients} answers clients\n"),
        "3. gatehouse probe --c2s example.com --config ./gatehouse.yaml, which tells ",
        "8. and _xmpp-client._tcp.example.com. SRV 0 0 5222 ",
    ] {
        assert!(answer.out.contains(words), "{words}\n{}", answer.out);
    }
    certify(folder.path(), "example.com");
    let with = fs::read_to_string(folder.path().join("gatehouse.yaml")).unwrap();
    assert!(with.contains(&format!("\n      c2s: [\"{clients}\"]\n")), "{with}");
    let check = run(folder.path(), "check --config gatehouse.yaml");
    assert_eq!(check.code, 0, "{}{}", check.out, check.err);

    // Without it the same file, but for the marks of comments.
    let line = format!("init --domain example.com --backend {servers} --dir without -q");
    assert_eq!(run(folder.path(), &line).code, 0);
    let without = fs::read_to_string(folder.path().join("without/gatehouse.yaml")).unwrap();
    let plain = without.replace("# - { flow: c2s", "- { flow: c2s").replace("# c2s: [", "c2s: [");
    assert_ne!(plain, without);
    assert_eq!(plain.replace("127.0.0.1:25222", &clients.to_string()), with);
}

#[test]
fn init_touches_nothing_that_is_there() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("secrets")).unwrap();
    fs::write(folder.path().join("secrets/world"), "mine").unwrap();
    let answer = run(folder.path(), "init --domain example.com --backend 127.0.0.1:1");
    assert_eq!((answer.code, answer.out.as_str()), (1, ""));
    assert_eq!(
        answer.err,
        "error: ./secrets/world is there already\nnothing was written; name another folder with --dir, or move these away\n"
    );
    assert_eq!(fs::read_to_string(folder.path().join("secrets/world")).unwrap(), "mine");
    assert!(!folder.path().join("gatehouse.yaml").exists() && !folder.path().join("policies").exists());
}

#[test]
fn init_tells_a_backend_that_does_not_answer_and_writes_all_the_same() {
    let folder = TempDir::new().unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let answer = run(folder.path(), &format!("init --domain a.example --backend {nobody} --dir one -q"));
    assert_eq!((answer.code, answer.out.as_str()), (0, ""));
    let warned = format!("warning: the backend at {nobody} does not answer other servers: ");
    assert!(answer.err.starts_with(&warned), "{}", answer.err);
    assert!(folder.path().join("one/gatehouse.yaml").is_file());
    let (address, asked) = backend("220 mail.example ESMTP\r\n");
    let answer = run(folder.path(), &format!("init --domain a.example --backend {address} --dir two -q"));
    assert!(answer.code == 0 && answer.err.contains("answers no stream for a.example"), "{}", answer.err);
    assert!(asked.join().unwrap().contains("<stream:stream"));
}

#[test]
fn init_refuses_what_cannot_be_served() {
    let folder = TempDir::new().unwrap();
    for line in [
        "init --domain example.com",
        "init --backend 10.0.0.5",
        "init --domain *.example.com --backend 10.0.0.5",
        "init --domain example.com --backend backend.example",
        "init --domain example.com --backend 0.0.0.0",
        "init --domain example.com --backend 10.0.0.5:0",
        "init --domain example.com --backend 10.0.0.5 --clients 0.0.0.0",
        // The gateway itself stands there.
        "init --domain example.com --backend 127.0.0.1:25269 --clients 127.0.0.1",
        "init --domain example.com --backend 127.0.0.1",
    ] {
        let answer = run(folder.path(), line);
        assert!(answer.code == 64 && answer.out.is_empty(), "{line}: {} {}", answer.code, answer.err);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// Every server that `deploy/` has a page for.
fn servers_of_deploy() -> Vec<String> {
    let folders = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy")).unwrap();
    let is_server = |folder: &std::path::Path| {
        let page = fs::read_to_string(folder.join("README.md")).unwrap_or_default();
        page.lines().next().is_some_and(|title| title.ends_with(" behind the gateway"))
    };
    let folders = folders.map(|folder| folder.unwrap().path()).filter(|folder| is_server(folder));
    let names: Vec<_> = folders.map(|f| f.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    assert!(names.len() > 5, "{names:?}");
    names
}

// The lines for the server behind, with the addresses filled in: named, or recognised by its stream.
#[test]
fn what_belongs_into_the_server_behind_is_written_beside_the_configuration() {
    let folder = TempDir::new().unwrap();
    // Wildfire has the page of Openfire.
    for server in servers_of_deploy().into_iter().chain(["wildfire".to_owned()]) {
        let dir = folder.path().join(&server);
        let line = format!(
            "init --domain hall.example --backend 127.0.0.1:25269 --server {server} --dir {}",
            dir.display()
        );
        let said = run(folder.path(), &line);
        assert_eq!(said.code, 0, "{}{}", said.out, said.err);
        assert!(said.out.contains(&format!("server-{server}")), "{}", said.out);
        let files: Vec<_> = fs::read_dir(dir.join(format!("server-{server}"))).unwrap().collect();
        assert!(!files.is_empty());
        let text: String =
            files.into_iter().map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect();
        assert!(text.contains("hall.example") && !text.contains("@DOMAIN@ ="), "{text}");
    }
    assert_eq!(
        run(folder.path(), "init --domain hall.example --backend 127.0.0.1:25269 --server exchange").code,
        64
    );
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        // It is recognised first, then asked whether it answers.
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 1024];
            let _heard = stream.read(&mut asked).unwrap();
            let caps = "<c xmlns='http://jabber.org/protocol/caps' node='http://prosody.im'/>";
            let open = "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' id='x' version='1.0'>";
            stream.write_all(format!("{open}<stream:features>{caps}</stream:features>").as_bytes()).unwrap();
            let _goodbye = stream.read(&mut asked);
        }
    });
    let dir = folder.path().join("seen");
    let said = run(
        folder.path(),
        &format!("init --domain hall.example --backend {address} --dir {} --server", dir.display()),
    );
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    assert!(dir.join("server-prosody/prosody.cfg.lua").exists(), "{}{}", said.out, said.err);
    server.join().unwrap();
}
