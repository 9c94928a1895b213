//! The Kubernetes manifests, as far as they can be held to account without a cluster: they fit the schemas of Kubernetes,
//! the configurations in them pass `gatehouse check` as the pod would see them, and names and ports agree throughout.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

const FILES: [&str; 6] = [
    "autoscaling.yaml",
    "configuration.yaml",
    "deployments.yaml",
    "network.yaml",
    "podmonitor.yaml",
    "services.yaml",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes")
}

/// Every object, by kind and name.
fn objects() -> BTreeMap<(String, String), Value> {
    let mut found = BTreeMap::new();
    for file in FILES {
        let text = fs::read_to_string(folder().join(file)).unwrap();
        for part in text.split("\n---\n") {
            let object: Value = serde_yaml::from_str(part).unwrap_or_else(|error| panic!("{file}: {error}"));
            let key = (word(&object["kind"]), word(&object["metadata"]["name"]));
            assert!(found.insert(key.clone(), object).is_none(), "{key:?} twice");
        }
    }
    found
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no word: {value}")).to_owned()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// `kubernetes-validate`, which brings the schemas of Kubernetes along; tests/run installs it.
fn validate(version: &str, files: &[PathBuf]) -> Output {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients/bin/python");
    Command::new(python)
        .args(["-m", "kubernetes_validate", "--strict", "-k", version])
        .args(files)
        .output()
        .expect("target/clients: tests/run makes it")
}

// `PodMonitor` belongs to the Prometheus operator, whose schema does not come with Kubernetes'.
#[test]
fn every_object_fits_the_schemas_of_kubernetes() {
    let mut shipped: Vec<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    shipped.retain(|name| name.ends_with(".yaml"));
    shipped.sort();
    assert_eq!(shipped, FILES);
    let files: Vec<PathBuf> =
        FILES.iter().filter(|name| **name != "podmonitor.yaml").map(|name| folder().join(name)).collect();
    let count = objects().len() - 1;
    for version in ["1.30", "1.37"] {
        let output = validate(version, &files);
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert_eq!(said.matches(" passed for resource ").count(), count, "{said}");
    }
    // And a slip does not fit.
    let scratch = TempDir::new().unwrap();
    let slip = scratch.path().join("slip.yaml");
    let deployments = fs::read_to_string(folder().join("deployments.yaml")).unwrap();
    for (right, wrong) in
        [("replicas: 3", "replicas: three"), ("readOnlyRootFilesystem", "readOnlyRootFileSystem")]
    {
        assert!(deployments.contains(right));
        fs::write(&slip, deployments.replace(right, wrong)).unwrap();
        assert!(!validate("1.37", std::slice::from_ref(&slip)).status.success(), "{wrong}");
    }
}

// The projected volume, laid out as kubelet would, with the environment that the pod has.
#[test]
fn the_configurations_pass_check_as_the_pods_see_them() {
    let objects = objects();
    let made = rcgen::generate_simple_self_signed(vec!["example.com".to_owned()]).unwrap();
    let secrets = BTreeMap::from([
        (("gatehouse-tls", "tls.crt"), made.cert.pem()),
        (("gatehouse-tls", "tls.key"), made.signing_key.serialize_pem()),
        (("gatehouse-dialback", "world"), "0123456789abcdef".repeat(4)),
        (("gatehouse-dialback", "inside"), "fedcba9876543210".repeat(4)),
    ]);
    for name in ["gatehouse-federation", "gatehouse-clients"] {
        let pod = &objects[&("Deployment".to_owned(), name.to_owned())]["spec"]["template"]["spec"];
        let volume = list(&pod["volumes"]).iter().find(|volume| volume["name"] == "configuration").unwrap();
        let scratch = TempDir::new().unwrap();
        for source in list(&volume["projected"]["sources"]) {
            let (of, from) =
                ["configMap", "secret"].iter().find_map(|of| source.get(of).map(|from| (*of, from))).unwrap();
            let from_name = word(&from["name"]);
            for item in list(&from["items"]) {
                let key = word(&item["key"]);
                let text = match of {
                    "configMap" => {
                        word(&objects[&("ConfigMap".to_owned(), from_name.clone())]["data"][key.as_str()])
                    }
                    _ => secrets[&(from_name.as_str(), key.as_str())].clone(),
                };
                let path = scratch.path().join(word(&item["path"]));
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, text.replace("/run/gatehouse/", "")).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).unwrap();
            }
        }
        // What the pod is told: the variables of the container, and one of each Service.
        let container = &pod["containers"][0];
        let arguments: Vec<String> = list(&container["args"]).iter().map(word).collect();
        assert_eq!(arguments, ["run", "--config", "/etc/gatehouse/gatehouse.yaml"]);
        let check = |environment: &[(String, &str)]| {
            let output = Command::new(env!("CARGO_BIN_EXE_gatehouse"))
                .args(["check", "--config", "gatehouse.yaml", "--format", "json"])
                .envs(environment.iter().map(|(name, value)| (name.as_str(), *value)))
                .current_dir(scratch.path())
                .output()
                .unwrap();
            serde_json::from_slice::<Value>(&output.stdout).unwrap()
        };
        let mut environment: Vec<(String, &str)> = list(&container["env"])
            .iter()
            .map(|variable| {
                assert_eq!(variable["valueFrom"]["fieldRef"]["fieldPath"], "status.podIP");
                (word(&variable["name"]), "127.0.0.1")
            })
            .collect();
        for (kind, service) in objects.keys() {
            if kind == "Service" {
                let variable = format!("{}_SERVICE_HOST", service.to_uppercase().replace('-', "_"));
                environment.push((variable, "10.96.0.9"));
            }
        }
        let report = check(&environment);
        assert_eq!((report["errors"].as_u64(), report["domains"].as_u64()), (Some(0), Some(1)), "{report}");
        for finding in list(&report["findings"]) {
            // The machine that tests may lack these; the image and the pod do not.
            let message = finding["message"].as_str().unwrap();
            let elsewhere =
                ["trust anchors", ":: is not an address of this machine", "federates with nobody yet"];
            assert!(elsewhere.iter().any(|words| message.contains(words)), "{finding}");
        }
        // Outside a pod it says what it lacks.
        let report = check(&[]);
        assert!(report.to_string().contains("asks for POD_IP, which is not set"), "{report}");
    }
}

#[test]
fn names_and_ports_agree_throughout() {
    let objects = objects();
    let object = |kind: &str, name: &str| &objects[&(kind.to_owned(), name.to_owned())];
    let labels = |value: &Value| -> BTreeMap<String, String> {
        value.as_object().unwrap().iter().map(|(key, value)| (key.clone(), word(value))).collect()
    };
    // A selector finds the pods of a Deployment if their labels have all that it asks for.
    let selects = |selector: &Value, pods: &Value| {
        let pods = labels(pods);
        labels(selector).iter().all(|(key, value)| pods.get(key) == Some(value))
    };
    for component in ["federation", "clients"] {
        let name = format!("gatehouse-{component}");
        let deployment = object("Deployment", &name);
        let template = &deployment["spec"]["template"];
        let pods = &template["metadata"]["labels"];
        assert!(selects(&deployment["spec"]["selector"]["matchLabels"], pods));
        let container = &template["spec"]["containers"][0];
        let ports: BTreeMap<String, (u64, String)> = list(&container["ports"])
            .iter()
            .map(|port| {
                let protocol = port["protocol"].as_str().unwrap_or("TCP").to_owned();
                (word(&port["name"]), (port["containerPort"].as_u64().unwrap(), protocol))
            })
            .collect();
        // Every port of the pod is one that the configuration opens, and the other way round.
        let configuration = word(&object("ConfigMap", &name)["data"]["gatehouse.yaml"]);
        let opened: BTreeSet<u64> = configuration
            .lines()
            .filter(|line| !line.contains("backend:"))
            .filter_map(|line| line.split("]:").nth(1).or_else(|| line.split("}:").nth(1)))
            .map(|rest| rest.split('"').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(opened, ports.values().map(|(port, _)| *port).collect());
        for probe in ["readinessProbe", "livenessProbe"] {
            assert_eq!(container[probe]["httpGet"]["port"], "admin");
        }
        // Services lead to ports that are there, in the right protocol.
        let services = objects.iter().filter(|((kind, _), _)| kind == "Service");
        let mut led = BTreeSet::new();
        for (_, service) in services.filter(|(_, service)| selects(&service["spec"]["selector"], pods)) {
            for port in list(&service["spec"]["ports"]) {
                let target = word(&port["targetPort"]);
                assert_eq!(port["protocol"].as_str().unwrap_or("TCP"), ports[&target].1, "{target}");
                led.insert(target);
            }
        }
        // The network lets in what some Service leads to, the inside and the watchers; and nothing else.
        let policy = object("NetworkPolicy", &name);
        assert!(selects(&policy["spec"]["podSelector"]["matchLabels"], pods));
        let mut let_in = BTreeSet::new();
        for rule in list(&policy["spec"]["ingress"]) {
            let open: Vec<String> = list(&rule["ports"]).iter().map(|port| word(&port["port"])).collect();
            // The world is let in to what speaks TLS alone.
            if rule.get("from").is_none() {
                assert!(
                    open.iter().all(|port| port.starts_with("s2s") || port.starts_with("c2s")),
                    "{open:?}"
                );
            }
            let_in.extend(open);
        }
        assert_eq!(let_in, ports.keys().cloned().collect());
        led.extend(["admin".to_owned()]);
        led.extend((component == "federation").then(|| "inside".to_owned()));
        assert_eq!(led, let_in);
        // A drain ends before Kubernetes loses patience.
        assert!(template["spec"]["terminationGracePeriodSeconds"].as_u64() > Some(30));
        let monitor = object("PodMonitor", "gatehouse");
        assert!(selects(&monitor["spec"]["selector"]["matchLabels"], pods));
    }
    let monitor = object("PodMonitor", "gatehouse");
    assert_eq!(monitor["apiVersion"], "monitoring.coreos.com/v1");
    let endpoint = &monitor["spec"]["podMetricsEndpoints"][0];
    assert_eq!(
        (word(&endpoint["port"]), word(&endpoint["path"])),
        ("admin".to_owned(), "/metrics".to_owned())
    );
    // Federation is three pods, on machines apart, all with the one Secret; clients are scaled, and the scaler alone says how many.
    let federation = object("Deployment", "gatehouse-federation");
    assert_eq!(federation["spec"]["replicas"], 3);
    let template = &federation["spec"]["template"];
    let apart =
        &template["spec"]["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"];
    let term = &apart[0]["podAffinityTerm"];
    assert_eq!(term["topologyKey"], "kubernetes.io/hostname");
    assert!(selects(&term["labelSelector"]["matchLabels"], &template["metadata"]["labels"]));
    let budget = object("PodDisruptionBudget", "gatehouse-federation");
    assert_eq!(budget["spec"]["maxUnavailable"], 1);
    assert!(selects(&budget["spec"]["selector"]["matchLabels"], &template["metadata"]["labels"]));
    let clients = object("Deployment", "gatehouse-clients");
    assert!(clients["spec"].get("replicas").is_none());
    let scaler = object("HorizontalPodAutoscaler", "gatehouse-clients");
    assert_eq!(scaler["spec"]["scaleTargetRef"]["name"], "gatehouse-clients");
    let budget = object("PodDisruptionBudget", "gatehouse-clients");
    let pods = &clients["spec"]["template"]["metadata"]["labels"];
    assert!(selects(&budget["spec"]["selector"]["matchLabels"], pods));
}

// The page says which records the domain needs: each leads to a port of the Service that the world reaches, and no such port is without.
#[test]
fn the_records_of_the_page_are_those_of_the_services() {
    let objects = objects();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes/README.md");
    let page = fs::read_to_string(page).unwrap();
    let mut named = BTreeSet::new();
    for line in page.lines().filter(|line| line.starts_with("_xmpp")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, "SRV", _, _, port, host] = words[..] else { panic!("{line}") };
        assert!(page.contains(&format!("\n{host} ")), "{host} has an address");
        let (service, encrypted) = match name.split_once('.').unwrap().0 {
            "_xmpp-server" => ("gatehouse-federation", false),
            "_xmpps-server" => ("gatehouse-federation", true),
            "_xmpp-client" => ("gatehouse-clients", false),
            "_xmpps-client" => ("gatehouse-clients", true),
            other => panic!("{other}"),
        };
        named.insert((service.to_owned(), port.parse::<u64>().unwrap(), encrypted));
    }
    let mut open = BTreeSet::new();
    for ((kind, name), service) in &objects {
        if kind == "Service" && service["spec"]["type"] == "LoadBalancer" {
            for port in list(&service["spec"]["ports"]) {
                let encrypted = word(&port["name"]).ends_with("-tls");
                open.insert((name.clone(), port["port"].as_u64().unwrap(), encrypted));
            }
        }
    }
    assert_eq!(named, open);
}
