//! The Debian package, made by `.ci/package` around the binary under test: what it holds, and that it installs, starts,
//! upgrades and purges cleanly, in a root of its own over the one of this machine.
//!
//! In one test systemd runs there as the first process; in the others what its units say is done by hand, as the user that they name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods)] // tests ask the environment and the calendar

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|octets| String::from_utf8_lossy(octets).into_owned()).concat()
}

fn done(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}:\n{}", said(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The package, the one that comes after it, and the bill of materials; made once for all tests.
struct Packages {
    first: PathBuf,
    second: PathBuf,
    bill: Value,
}

fn packages() -> &'static Packages {
    static MADE: OnceLock<Packages> = OnceLock::new();
    MADE.get_or_init(|| {
        let architecture = done(Command::new("dpkg").arg("--print-architecture"));
        let make = |revision: &str| {
            let folder = Path::new(FOLDER).join(revision);
            let version = format!("{VERSION}-{revision}");
            let mut binary = PathBuf::from(env!("CARGO_BIN_EXE_gatehouse"));
            if revision == "2" {
                // Where the script puts it, it lies already.
                let place = folder.join("release/gatehouse");
                fs::create_dir_all(place.parent().unwrap()).unwrap();
                fs::copy(&binary, &place).unwrap();
                binary = place;
            }
            let words = ["--fast", "--deb-version", &version].map(OsStr::new);
            done(&mut package(&[&[binary.as_os_str()], &words[..]].concat(), &folder));
            // With all its symbols; the package has it without.
            fs::remove_file(folder.join("release/gatehouse")).unwrap();
            folder.join(format!("debian/gatehouse_{version}_{}.deb", architecture.trim()))
        };
        let (first, second) = (make("1"), make("2"));
        let bill = fs::read_to_string(first.parent().unwrap().join("gatehouse.cdx.json")).unwrap();
        Packages { first, second, bill: serde_json::from_str(&bill).unwrap() }
    })
}

const FOLDER: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/package");

#[test]
fn the_package_holds_all_of_it_and_says_so() {
    let package = &packages().first;
    let field =
        |name: &str| done(Command::new("dpkg-deb").arg("-f").arg(package).arg(name)).trim().to_owned();
    assert_eq!(field("Version"), format!("{VERSION}-1"));
    for needed in ["libc6", "systemd", "ca-certificates"] {
        assert!(field("Depends").contains(needed), "{}", field("Depends"));
    }
    let held = done(Command::new("dpkg-deb").arg("-c").arg(package));
    for (mode, path) in [
        ("-rwxr-xr-x", "usr/bin/gatehouse"),
        ("-rw-r--r--", "usr/lib/systemd/system/gatehouse.service"),
        ("-rw-r--r--", "usr/lib/systemd/system/gatehouse.socket"),
        ("-rw-r--r--", "usr/lib/sysusers.d/gatehouse.conf"),
        ("-rw-r--r--", "usr/lib/tmpfiles.d/gatehouse.conf"),
        ("-rw-r--r--", "usr/share/man/man1/gatehouse.1.gz"),
        ("-rw-r--r--", "usr/share/bash-completion/completions/gatehouse"),
        ("-rw-r--r--", "usr/share/fish/vendor_completions.d/gatehouse.fish"),
        ("-rw-r--r--", "usr/share/zsh/vendor-completions/_gatehouse"),
        ("-rw-r--r--", "usr/share/doc/gatehouse/copyright"),
        ("-rw-r--r--", "usr/share/doc/gatehouse/changelog.Debian.gz"),
        ("-rw-r--r--", "usr/share/doc/gatehouse/changelog.gz"),
        ("-rw-r--r--", "usr/share/doc/gatehouse/gatehouse.cdx.json"),
        ("-rw-r--r--", "usr/share/doc/gatehouse/libraries.txt.gz"),
        ("-rw-r--r--", "usr/share/doc/gatehouse/security.md"),
        ("-rw-r--r--", "usr/share/doc/gatehouse/year.md"),
        ("-rw-r--r--", "usr/share/doc/gatehouse/openfire/README.md"),
        ("-rw-r--r--", "usr/share/doc/gatehouse/prosody/README.md"),
        ("-rwxr-xr-x", "usr/share/gatehouse/gatehouse-renewed"),
        ("-rw-r--r--", "usr/share/doc/gatehouse/fail2ban/filter.d/gatehouse.conf"),
        ("-rw-r--r--", "usr/share/doc/gatehouse/fail2ban/jail.d/gatehouse.conf"),
        ("-rw-r--r--", "usr/share/doc/gatehouse/fail2ban/action.d/gatehouse.conf"),
        ("-rw-r-----", "etc/gatehouse/gatehouse.yaml"),
        ("-rw-r-----", "etc/gatehouse/policies/partners.yaml"),
    ] {
        let is_it = |line: &&str| line.starts_with(mode) && line.ends_with(&format!(" ./{path}"));
        assert!(held.lines().any(|line| is_it(&line)), "no {mode} {path} in\n{held}");
    }
    // What an administrator changes is never overwritten.
    let conffiles = done(Command::new("dpkg-deb").arg("-I").arg(package).arg("conffiles"));
    assert_eq!(conffiles, "/etc/gatehouse/gatehouse.yaml\n/etc/gatehouse/policies/partners.yaml\n");
    let changelog = fs::read_to_string(repository("deploy/debian/changelog")).unwrap();
    assert!(changelog.starts_with(&format!("gatehouse ({VERSION}-1) ")), "{changelog}");
}

/// The script, with these words and this folder for what it builds, and in the path, first, a folder of the test's own.
fn package(words: &[&OsStr], folder: &Path) -> Command {
    let cargo = Path::new(env!("CARGO")).parent().unwrap();
    let path =
        [&folder.join("bin"), &repository("target/tools/bin"), cargo].map(|path| path.display().to_string());
    let mut command = Command::new(repository(".ci/package"));
    command.args(words).env("PATH", format!("{}:{}", path.join(":"), std::env::var("PATH").unwrap()));
    command.env("CARGO_TARGET_DIR", folder);
    command
}

/// A program for AArch64 that says this of itself.
fn of_arm(folder: &Path, version: &str) -> PathBuf {
    let (source, program) = (folder.join("program.c"), folder.join("program"));
    fs::write(&source, format!("#include <stdio.h>\nint main(void) {{ return puts(\"{version}\") < 0; }}\n"))
        .unwrap();
    done(Command::new("aarch64-linux-gnu-gcc").arg("-o").arg(&program).arg(&source));
    program
}

/// A script in the folder that comes first in the path.
fn script(folder: &Path, name: &str, text: &str) {
    let path = folder.join("bin").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

const ARM: &str = "aarch64-unknown-linux-gnu";
const X86: &str = "x86_64-unknown-linux-gnu";

// A package for another architecture would say that it is for this one; and what would not fit its name is refused before
// anything is written.
#[test]
fn a_program_of_another_machine_is_not_packed_as_one_of_this() {
    let folder = TempDir::new().unwrap();
    let target = folder.path().join("target");
    let here = Path::new(env!("CARGO_BIN_EXE_gatehouse")).as_os_str();
    let good = format!("gatehouse {VERSION}");
    let arm = of_arm(folder.path(), &good);
    let (arm, word) = (arm.as_os_str(), OsStr::new);
    // An emulator that has nothing to say of another version: what the program says is what counts.
    script(&target, "qemu-aarch64-static", "echo gatehouse 0.0.0");
    let told = format!("says that it is \"gatehouse 0.0.0\", and what is packed is \"{good}\"");
    let cases: [(&[&OsStr], &str); 8] = [
        (
            &[arm],
            "is not a program that runs on this machine (Advanced Micro Devices X86-64); for another one say which",
        ),
        (&[word("--target"), word(ARM), here], "a program for Advanced Micro Devices X86-64, and"),
        (&[word("--target"), word(X86), arm], "a program for AArch64, and"),
        (&[word("--target"), word(ARM), word("/etc/passwd")], "a program for no machine that its head names"),
        (&[word("--target"), word(ARM), arm], &told),
        (&[word("--target"), word("riscv64gc-unknown-linux-gnu"), arm], "no packages are made for riscv64gc"),
        (&[word("--pages"), here, here], "--pages goes with --target"),
        (&[word("--target")], "--target without a value"),
    ];
    for (words, why) in cases {
        let output = package(words, &target).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{words:?}: {}", said(&output));
        assert!(said(&output).contains(why), "{words:?}: {}", said(&output));
        let left: Vec<_> = fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["bin"], "{words:?}");
    }
    // The pages of another version would be packed with this one.
    script(&target, "qemu-aarch64-static", &format!("echo {good}"));
    script(&target, "older", "echo gatehouse 0.0.0");
    let older = target.join("bin/older");
    let output =
        package(&[word("--target"), word(ARM), word("--pages"), older.as_os_str(), arm], &target).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("would write other pages"), "{}", said(&output));
}

// What is built here for AArch64: the program is that one, what it needs is looked up among the libraries of that machine, the pages
// are written by this one's program.
#[test]
fn a_package_for_arm64_is_made_here_and_says_so() {
    let folder = TempDir::new().unwrap();
    let target = folder.path().join("target");
    fs::create_dir(&target).unwrap();
    let arm = of_arm(folder.path(), &format!("gatehouse {VERSION}"));
    let here = env!("CARGO_BIN_EXE_gatehouse");
    let version = format!("{VERSION}-7");
    let words = ["--target", ARM, "--pages", here].map(OsStr::new);
    let rest = ["--fast", "--deb-version", &version].map(OsStr::new);
    done(&mut package(&[&words[..], &[arm.as_os_str()], &rest].concat(), &target));
    let made = target.join(format!("{ARM}/debian/gatehouse_{version}_arm64.deb"));
    let field = |name: &str| done(Command::new("dpkg-deb").arg("-f").arg(&made).arg(name)).trim().to_owned();
    assert_eq!((field("Architecture").as_str(), field("Version")), ("arm64", version));
    for needed in ["libc6", "systemd", "ca-certificates"] {
        assert!(field("Depends").contains(needed), "{}", field("Depends"));
    }
    let (root, other) = (folder.path().join("root"), folder.path().join("other"));
    done(Command::new("dpkg-deb").arg("-x").arg(&made).arg(&root));
    done(Command::new("dpkg-deb").arg("-x").arg(&packages().first).arg(&other));
    let program = fs::read(root.join("usr/bin/gatehouse")).unwrap();
    assert_eq!((&program[..4], &program[18..20]), (&b"\x7fELF"[..], &[183, 0][..]), "AArch64");
    // All else is as in the package for this machine, but for what says which it is.
    let files = |root: &Path| -> BTreeSet<String> {
        let found = done(Command::new("find").arg(root).args(["-type", "f", "-printf", "%m %P\n"]));
        found.lines().map(str::to_owned).collect()
    };
    assert_eq!(files(&root), files(&other));
    let same = ["usr/share/man/man1/gatehouse.1.gz", "usr/lib/systemd/system/gatehouse.service"];
    for file in same.into_iter().chain(["usr/share/bash-completion/completions/gatehouse"]) {
        assert!(fs::read(root.join(file)).unwrap() == fs::read(other.join(file)).unwrap(), "{file}");
    }
    let bill = fs::read_to_string(made.with_file_name("gatehouse.cdx.json")).unwrap();
    let bill: Value = serde_json::from_str(&bill).unwrap();
    let triple = |bill: &Value| bill["metadata"]["properties"][0]["value"].as_str().unwrap().to_owned();
    assert_eq!((triple(&bill).as_str(), triple(&packages().bill).as_str()), (ARM, X86));
    let names = |bill: &Value| -> BTreeSet<String> {
        bill["components"].as_array().unwrap().iter().map(|c| c["name"].to_string()).collect()
    };
    assert!(names(&bill).contains("\"rustls\""), "{:?}", names(&bill));
}

// Every library of the lock file that is linked, with its digest; nothing that only tests use.
#[test]
fn the_bill_of_materials_is_that_of_the_lock_file() {
    let bill = &packages().bill;
    assert!(!bill.to_string().contains("file:///"), "the folder that builds is in the bill");
    assert_eq!((bill["bomFormat"].as_str(), bill["specVersion"].as_str()), (Some("CycloneDX"), Some("1.5")));
    assert_eq!(bill["metadata"]["component"]["version"], VERSION);
    let lock = fs::read_to_string(repository("Cargo.lock")).unwrap();
    let components = bill["components"].as_array().unwrap();
    let mut names = BTreeSet::new();
    for component in components {
        let text = |key: &str| component[key].as_str().unwrap();
        names.insert(text("name"));
        let entry = format!("name = \"{}\"\nversion = \"{}\"\n", text("name"), text("version"));
        let digest = component["hashes"][0]["content"].as_str().unwrap();
        let rest = lock.split_once(&entry).unwrap_or_else(|| panic!("not locked: {component}")).1;
        assert!(rest.split("[[package]]").next().unwrap().contains(digest), "{component}");
        assert!(component["licenses"][0]["expression"].is_string(), "{component}");
    }
    let manifest = fs::read_to_string(repository("Cargo.toml")).unwrap();
    let own = manifest.split_once("[dependencies]\n").unwrap().1.split("\n[").next().unwrap();
    for line in own.lines().filter(|line| !line.starts_with('#') && line.contains(" = ")) {
        // Of the build's features: not in what is packed.
        if line.contains("optional = true") {
            continue;
        }
        let renamed = line.split_once("package = \"").and_then(|(_, rest)| rest.split('"').next());
        let name = renamed.unwrap_or_else(|| line.split(' ').next().unwrap());
        assert!(names.contains(name), "{name} is linked and not in the bill");
    }
    for only_tests in ["criterion", "proptest", "rxml"] {
        assert!(!names.contains(only_tests), "{only_tests}");
    }
    let refs: BTreeSet<&str> = components.iter().filter_map(|c| c["bom-ref"].as_str()).collect();
    for edge in bill["dependencies"].as_array().unwrap() {
        let others = edge["dependsOn"].as_array().map(Vec::as_slice).unwrap_or_default();
        assert!(others.iter().all(|other| refs.contains(other.as_str().unwrap())), "{edge}");
    }
}

// `systemd-analyze security`: 0 is locked up, 10 is wide open.
#[test]
fn the_unit_leaves_little_to_whoever_breaks_in() {
    let unit = repository("deploy/gatehouse.service");
    let words = ["security", "--offline=true", "--threshold=20", "--no-pager"];
    done(Command::new("systemd-analyze").args(words).arg(unit));
}

/// The root of this machine with a layer of its own above it, in namespaces that live as long as this does.
struct Root {
    holder: Child,
    /// Whose namespaces they are.
    inside: Pid,
    within: PathBuf,
    folder: TempDir,
}

impl Root {
    fn new(packages: &Path) -> Self {
        let folder = TempDir::new().unwrap();
        let script = r#"
            mount -t tmpfs layer "$1"
            cd "$1"
            mkdir upper work root
            mount -t overlay overlay -o lowerdir=/,upperdir="$1/upper",workdir="$1/work" root
            mount --rbind /dev root/dev
            mount -t proc proc root/proc
            mount -t tmpfs run root/run
            mount --bind "$2" root/mnt
            # Or dpkg would index the manual pages of the whole machine each time.
            rm -f root/var/lib/man-db/auto-update
            ip link set lo up
            echo ready
            exec cat
        "#;
        let mut holder = Command::new("unshare")
            .args(["--mount", "--net", "--propagation=private", "sh", "-ec", script, "sh"])
            .args([folder.path(), packages])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare");
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "no layer over the root of this machine; the reason stands above");
        let within = PathBuf::from(format!("/proc/{}/root", holder.id()))
            .join(folder.path().strip_prefix("/").unwrap())
            .join("root");
        let inside = Pid::from_child(&holder);
        Self { holder, inside, within, folder }
    }

    /// The same, with systemd as its first process and nothing but the basic system started.
    fn boot(packages: &Path) -> Self {
        let folder = TempDir::new().unwrap();
        let script = r#"
            mount -t tmpfs layer "$1"
            cd "$1"
            mkdir upper work root
            mount -t overlay overlay -o lowerdir=/,upperdir="$1/upper",workdir="$1/work" root
            mount -t proc proc root/proc
            mount -t sysfs sysfs root/sys
            mount -t cgroup2 cgroup2 root/sys/fs/cgroup
            for folder in run tmp dev; do mount -t tmpfs "$folder" "root/$folder"; done
            for device in null zero full random urandom tty; do
                : >"root/dev/$device"
                mount --bind "/dev/$device" "root/dev/$device"
            done
            mkdir root/dev/pts root/dev/shm
            ln -s pts/ptmx root/dev/ptmx
            mount --bind "$2" root/mnt
            # Nothing that this machine starts; and not its first start, at which systemd would enable what it has a preset for.
            rm -rf root/etc/systemd/system/*.wants root/var/lib/man-db/auto-update
            echo 0123456789abcdef0123456789abcdef >root/etc/machine-id
            ip link set lo up
            cd root
            mkdir -p run/below
            pivot_root . run/below
            umount -l run/below
            cd /
            exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=basic.target
        "#;
        let namespaces = ["--mount", "--net", "--pid", "--ipc", "--uts", "--cgroup", "--propagation=private"];
        let holder = Command::new("unshare")
            .args(namespaces)
            .args(["--fork", "sh", "-ec", script, "sh"])
            .args([folder.path(), packages])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("unshare");
        let children = PathBuf::from(format!("/proc/{0}/task/{0}/children", holder.id()));
        let first = waited("unshare to have a child", || {
            fs::read_to_string(&children).ok()?.split_whitespace().next()?.parse().ok()
        });
        let inside = Pid::from_raw(first).unwrap();
        let root = Self { holder, inside, within: PathBuf::from(format!("/proc/{first}/root")), folder };
        waited("systemd to have started", || {
            let state = root.command("root", "systemctl is-system-running").output().unwrap();
            let state = String::from_utf8_lossy(&state.stdout).trim().to_owned();
            ["running", "degraded"].contains(&state.as_str()).then_some(())
        });
        root
    }

    /// A command inside; `user` is root or the one that it becomes.
    fn command(&self, user: &str, line: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(self.inside.as_raw_nonzero().to_string());
        if self.boots() {
            command
                .args(["--mount", "--net", "--pid", "--ipc", "--uts", "--cgroup", "--root", "--wd=/", "--"]);
        } else {
            command.args(["--mount", "--net", "--", "chroot"]).arg(self.folder.path().join("root"));
        }
        command.args(["sh", "-c"]);
        if user == "root" {
            command.arg(line);
        } else {
            let become_user = format!("exec setpriv --reuid={user} --regid={user} --clear-groups");
            command.arg(format!("{become_user} sh -c '{line}'"));
        }
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C")
            .env("NO_COLOR", "1");
        command.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
        command
    }

    fn boots(&self) -> bool {
        self.inside != Pid::from_child(&self.holder)
    }

    fn run(&self, line: &str) -> String {
        done(&mut self.command("root", line))
    }

    fn path(&self, path: &str) -> PathBuf {
        self.within.join(path.trim_start_matches('/'))
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Mode and group of a file.
    fn access(&self, path: &str) -> (u32, String) {
        let found = fs::metadata(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(found.uid(), 0, "{path}");
        let groups = self.read("/etc/group");
        let is_it = |line: &&str| line.split(':').nth(2) == Some(found.gid().to_string().as_str());
        let group = groups.lines().find(is_it).unwrap().split(':').next().unwrap().to_owned();
        (found.permissions().mode() & 0o7777, group)
    }

    /// What the layer holds, and `/run`, without the books of the system itself: all that was ever changed and is still
    /// there. The machine below may change meanwhile; that is nobody's leaving.
    fn left(&self) -> Vec<String> {
        let books = [
            "/etc/.pwd.lock",
            "/etc/group",
            "/etc/gshadow",
            "/etc/passwd",
            "/etc/shadow",
            "/run/systemd",
            "/var/cache/",
            "/var/lib/dpkg/",
            "/var/lib/man-db/auto-update",
            "/var/log/dpkg.log",
        ];
        let upper = self.within.parent().unwrap().join("upper");
        let list = |folder: &Path, prefix: &str| {
            let listed =
                done(Command::new("find").arg(folder).args(["-mindepth", "1", "-printf", "%y %P\n"]));
            let paths = listed.lines().filter_map(|line| {
                let (kind, path) = line.split_once(' ').unwrap();
                let path = format!("{prefix}/{path}");
                // A folder of the machine is in the layer as soon as something in it was touched.
                (kind != "d" || !Path::new(&path).is_dir()).then_some(path)
            });
            paths.filter(|path| !books.iter().any(|book| path.starts_with(book))).collect::<Vec<_>>()
        };
        let mut left = [list(&upper, ""), list(&self.path("/run"), "/run")].concat();
        left.sort();
        left
    }

    /// The value of a line of the installed unit.
    fn unit(&self, key: &str) -> String {
        let unit = self.read("/usr/lib/systemd/system/gatehouse.service");
        let line = unit.lines().find_map(|line| line.strip_prefix(&format!("{key}=")));
        line.unwrap_or_else(|| panic!("the unit has no {key}")).to_owned()
    }

    /// What `systemctl start` would do, up to the answer of the control socket.
    fn start(&self) -> Child {
        let user = self.unit("User");
        let line = format!("exec {}", self.unit("ExecStart"));
        let mut gateway = self.command(&user, &line).stderr(Stdio::null()).spawn().unwrap();
        let asked = "gatehouse streams --socket /run/gatehouse/control.sock";
        let until = Instant::now() + Duration::from_secs(180);
        loop {
            let answer = self.command("root", asked).output().unwrap();
            if answer.status.success() {
                return gateway;
            }
            if let Some(status) = gateway.try_wait().unwrap() {
                panic!("it ended with {status}: {}", said(&answer));
            }
            assert!(Instant::now() < until, "it does not answer: {}", said(&answer));
            sleep(Duration::from_millis(100));
        }
    }

    /// What `systemctl stop` would do. Every program on the way to the gateway became the next one, so its id is the child's.
    fn stop(&self, mut gateway: Child) {
        let id = Pid::from_child(&gateway);
        kill_process(id, Signal::TERM).unwrap();
        assert!(gateway.wait().unwrap().success());
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        if self.boots() {
            // With the first process of a namespace go all others.
            let _gone = kill_process(self.inside, Signal::KILL);
        }
        // Its standard input ends with it, and with that the namespaces.
        drop(self.holder.stdin.take());
        let _ended = self.holder.wait();
    }
}

/// Polls until there is a value.
fn waited<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(120);
    loop {
        if let Some(value) = poll() {
            return value;
        }
        assert!(Instant::now() < until, "waited for {what}");
        sleep(Duration::from_millis(50));
    }
}

/// A certificate for the domain of the packaged configuration, where that looks for it.
fn certify(root: &Root) {
    let made = rcgen::generate_simple_self_signed(vec!["example.com".to_owned()]).unwrap();
    fs::write(root.path("/etc/gatehouse/pki/example.com.pem"), made.cert.pem()).unwrap();
    fs::write(root.path("/etc/gatehouse/pki/example.com.key"), made.signing_key.serialize_pem()).unwrap();
    root.run("systemd-tmpfiles --create gatehouse.conf");
}

// The one line of deploy/README.md, under a real systemd: it starts the listeners with the service, and over restarts nobody who
// connects is refused.
#[test]
fn systemd_starts_the_listeners_with_the_service_and_holds_them_over_restarts() {
    let packages = packages();
    let root = Root::boot(Path::new(FOLDER));
    root.run(&format!("dpkg -i /mnt/{}", packages.first.strip_prefix(FOLDER).unwrap().display()));
    certify(&root);
    root.run("systemctl enable --now gatehouse");
    assert_eq!(root.run("systemctl is-active gatehouse.service gatehouse.socket"), "active\nactive\n");
    assert_eq!(root.run("systemctl is-enabled gatehouse.service gatehouse.socket"), "enabled\nenabled\n");
    let listening = root.run("ss -Hltnp sport = :5269");
    assert!(listening.contains("systemd") && listening.contains("gatehouse"), "{listening}");

    let knock = r#"import os, select, socket, sys
refused = taken = 0
while not select.select([sys.stdin], [], [], 0.002)[0]:
    try: socket.create_connection(("127.0.0.1", 5269), 10).close(); taken += 1
    except OSError: refused += 1
print(refused, taken)"#;
    let mut knocking = root.command("root", &format!("exec python3 -c '{knock}'"));
    let mut knocking = knocking.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    for _ in 0..3 {
        root.run("systemctl restart gatehouse");
    }
    // The same process goes on through `gatehouse restart`, once and again: to systemd it is a reload.
    let process = || root.run("systemctl show -p MainPID --value gatehouse.service").trim().to_owned();
    let begun = || {
        let json = root.run("gatehouse status --format json");
        let status: Value = serde_json::from_str(&json).unwrap();
        status["snapshot"]["started"].as_str().unwrap().to_owned()
    };
    let first = process();
    for _ in 0..2 {
        let before = begun();
        root.run("gatehouse restart");
        waited("another start of the same process", || {
            let asked = root.command("root", "gatehouse status --format json").output().unwrap();
            let status: Value = serde_json::from_slice(&asked.stdout).ok()?;
            (status["snapshot"]["started"] != before.as_str() && status["snapshot"]["phase"] == "running")
                .then_some(())
        });
    }
    waited("the unit to be active", || {
        let state = root.command("root", "systemctl is-active gatehouse.service").output().unwrap();
        (String::from_utf8_lossy(&state.stdout) == "active\n").then_some(())
    });
    assert_eq!(process(), first, "the same process");
    // A bad file: it is told, nothing ends, and `systemctl reload` fails without harm.
    root.run("mv /etc/gatehouse/policies/partners.yaml /var/ && echo 'version: v9' >/etc/gatehouse/policies/partners.yaml");
    for line in ["gatehouse restart", "systemctl reload gatehouse"] {
        let asked = root.command("root", line).output().unwrap();
        assert!(!asked.status.success(), "{line}: {}", said(&asked));
    }
    assert_eq!(root.run("systemctl is-active gatehouse.service gatehouse.socket"), "active\nactive\n");
    assert_eq!(process(), first, "the same process");
    root.run("mv /var/partners.yaml /etc/gatehouse/policies/");
    // The journal knows how bad each line is: what is wrong is found by that, and nothing else with it.
    let journal = |least: &str| {
        root.run(&format!(
            "journalctl --no-pager --output=cat -u gatehouse.service _COMM=gatehouse -p {least}"
        ))
    };
    let (bad, all) = (journal("warning"), journal("info"));
    assert!(bad.contains("v9"), "{bad}\n--\n{all}");
    assert!(all.contains("listening") && !bad.contains("listening"), "{bad}\n--\n{all}");
    drop(knocking.stdin.take());
    let output = knocking.wait_with_output().unwrap();
    let counts: Vec<u32> =
        String::from_utf8_lossy(&output.stdout).split_whitespace().map(|n| n.parse().unwrap()).collect();
    assert!(counts[0] == 0 && counts[1] > 20, "refused and taken: {counts:?}");

    // What the unit says on SIGHUP's behalf, and the way back.
    root.run("systemctl reload gatehouse");
    root.run("systemctl disable --now gatehouse gatehouse.socket");
    assert!(root.run("ss -Hltn sport = :5269").is_empty());
}

// What tests/run installs with: a service that its package enables is not enabled afterwards; one that was there stays.
#[test]
fn tests_run_leaves_no_service_enabled() {
    let folder = TempDir::new().unwrap();
    let tree = folder.path().join("tree");
    for (path, text) in [
        (
            "DEBIAN/control",
            "Package: sleeper\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x.invalid>\nDescription: x\n",
        ),
        ("DEBIAN/postinst", "#!/bin/sh\ndeb-systemd-helper enable sleeper.service\n"),
        (
            "usr/lib/systemd/system/sleeper.service",
            "[Service]\nExecStart=/bin/sleep 1\n[Install]\nWantedBy=multi-user.target\n",
        ),
    ] {
        fs::create_dir_all(tree.join(path).parent().unwrap()).unwrap();
        fs::write(tree.join(path), text).unwrap();
    }
    fs::set_permissions(tree.join("DEBIAN/postinst"), fs::Permissions::from_mode(0o755)).unwrap();
    done(Command::new("dpkg-deb").arg("--build").arg(&tree).arg(folder.path().join("sleeper.deb")));
    fs::copy(repository("tests/support/install"), folder.path().join("install")).unwrap();

    let root = Root::new(folder.path());
    let state = || {
        let asked = root.command("root", "systemctl is-enabled sleeper.service").output().unwrap();
        String::from_utf8_lossy(&asked.stdout).trim().to_owned()
    };
    root.run("/mnt/install /mnt/sleeper.deb");
    assert_eq!(state(), "disabled");
    root.run("systemctl enable sleeper.service && /mnt/install /mnt/sleeper.deb");
    assert_eq!(state(), "enabled");
    root.run("dpkg -P sleeper && dpkg -i /mnt/sleeper.deb");
    assert_eq!(state(), "enabled", "what the package does by itself");
}

#[test]
fn it_installs_starts_upgrades_and_purges_cleanly() {
    let packages = packages();
    let root = Root::new(Path::new(FOLDER));
    let deb = |package: &Path| format!("/mnt/{}", package.strip_prefix(FOLDER).unwrap().display());

    // Installed: an account without a shell, secrets of its own, nothing enabled, nothing that others may read.
    root.run(&format!("dpkg -i {}", deb(&packages.first)));
    let account = root.run("getent passwd gatehouse");
    assert!(account.trim().ends_with("/nologin"), "{account}");
    let secrets = ["world", "inside"].map(|realm| root.read(&format!("/etc/gatehouse/secrets/{realm}")));
    assert!(secrets[0] != secrets[1] && secrets.iter().all(|secret| secret.len() == 64), "{secrets:?}");
    for path in ["gatehouse.yaml", "policies/partners.yaml", "secrets/world", "secrets/inside"] {
        assert_eq!(root.access(&format!("/etc/gatehouse/{path}")), (0o640, "gatehouse".to_owned()), "{path}");
    }
    for path in ["", "pki", "policies", "secrets"] {
        assert_eq!(root.access(&format!("/etc/gatehouse/{path}")), (0o750, "gatehouse".to_owned()), "{path}");
    }
    assert!(!root.path("/etc/systemd/system/multi-user.target.wants/gatehouse.service").exists());
    root.run("systemd-analyze verify gatehouse.service gatehouse.socket");
    root.run("gzip --test /usr/share/man/man1/gatehouse.1.gz && bash -n /usr/share/bash-completion/completions/gatehouse");

    // The certificate is what is missing, and all that is.
    let check = "gatehouse check --config /etc/gatehouse/gatehouse.yaml";
    let answer = root.command("gatehouse", check).output().unwrap();
    assert_eq!(answer.status.code(), Some(78), "{}", said(&answer));
    let errors = said(&answer).lines().filter(|line| line.contains("error: ")).count();
    assert_eq!(errors, 1, "{}", said(&answer));
    certify(&root);
    let key = "/etc/gatehouse/pki/example.com.key";
    assert_eq!(root.access(key), (0o640, "gatehouse".to_owned()));

    // Started by what the unit says, as who it says; a reload is answered.
    let gateway = root.start();
    done(&mut root.command("gatehouse", &root.unit("ExecReload")));

    // Upgraded with the gateway running: what the operator changed stays, and so do the secrets.
    let configuration = root.read("/etc/gatehouse/gatehouse.yaml");
    let changed = configuration.replace("level: info", "level: warn");
    assert_ne!(configuration, changed);
    fs::write(root.path("/etc/gatehouse/gatehouse.yaml"), &changed).unwrap();
    root.run(&format!("dpkg -i {}", deb(&packages.second)));
    let version = root.run("dpkg-query -W -f '${Status} ${Version}' gatehouse");
    assert_eq!(version, format!("install ok installed {VERSION}-2"));
    assert_eq!(root.read("/etc/gatehouse/gatehouse.yaml"), changed);
    assert_eq!(root.read("/etc/gatehouse/secrets/world"), secrets[0]);
    assert_eq!(root.access("/etc/gatehouse/gatehouse.yaml"), (0o640, "gatehouse".to_owned()));
    root.stop(gateway);
    let gateway = root.start();
    root.stop(gateway);
    assert!(root.path("/var/log/gatehouse/audit.jsonl").exists());

    // Removed, the program is gone and the configuration is there; purged, only the operator's own files are left.
    assert!(root.left().contains(&"/usr/bin/gatehouse".to_owned()));
    root.run("dpkg -r gatehouse");
    assert!(!root.path("/usr/bin/gatehouse").exists());
    assert_eq!(root.read("/etc/gatehouse/gatehouse.yaml"), changed);
    assert_eq!(root.read("/etc/gatehouse/secrets/inside"), secrets[1]);
    root.run("dpkg -P gatehouse");
    let pki = "/etc/gatehouse/pki";
    let own = ["/etc/gatehouse", pki, &format!("{pki}/example.com.key"), &format!("{pki}/example.com.pem")];
    assert_eq!(root.left(), own);
}
