//! Checks of the library run, as an agent runs them.

use std::{collections::BTreeMap, process::Command};

use agent::{
    core::check::{Check, Work},
    outbound::probe::{Prober, facts},
};
use documents::Resolver;
use protocol::{AgentId, Labels, Scalar, Status, admin::SourceFile};
use testkit::{nats::NatsServer, program};
use tokio_util::sync::CancellationToken;

fn dogwatch(args: &[&str]) -> std::process::Output {
    Command::new(program::path("dogwatch")).args(args).output().unwrap()
}

/// The checks that a host with these labels runs by some files of the library, and by a document of its own.
fn checks(names: &[&str], own: &str, labels: &[(&str, &str)]) -> BTreeMap<String, Check> {
    let mut files: Vec<SourceFile> = names
        .iter()
        .map(|name| {
            let output = dogwatch(&["library", "show", name]);
            SourceFile { path: (*name).to_owned(), text: String::from_utf8(output.stdout).unwrap() }
        })
        .collect();
    files.push(SourceFile { path: "own".to_owned(), text: own.to_owned() });
    let documents = documents::read_beside(&files, []).unwrap_or_else(|problems| panic!("{problems:#?}"));
    let labels: Labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let outcomes =
        Resolver::new(&documents).outcomes(&AgentId::new("here").unwrap(), &facts::detect(), &labels);
    let runs = outcomes.into_iter().filter_map(|(name, outcome)| match outcome {
        documents::Outcome::Runs(way) => Some((name.to_string(), Check::from(way.spec().clone()))),
        documents::Outcome::Unfit(_) => None,
    });
    runs.collect()
}

async fn run(check: &Check) -> (Status, Option<Scalar>, String) {
    let folder = tempfile::tempdir().unwrap();
    let prober = Prober::remembering_in(folder.path().to_owned());
    let finding = prober.run(check, &CancellationToken::new()).await.unwrap().finding;
    (finding.status, finding.value, finding.output)
}

#[test]
fn the_agent_knows_every_built_in_and_option_of_the_library() {
    let all = ["docker", "linux", "nats", "nginx", "postgresql", "redis"];
    let labels = all.map(|name| (name, "true"));
    let checks = checks(&all, "", &labels);
    assert!(checks.len() > 25, "{:?}", checks.keys());
    for (name, check) in checks {
        assert!(!matches!(check.work, Work::Impossible(_)), "{name}: {:?}", check.work);
    }
}

#[tokio::test]
async fn the_commands_for_linux_run_here() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let certificate = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3", "-subj", "/CN=x"])
        .args(["-keyout", &file("x.key"), "-out", &file("x.pem")])
        .output();
    let certificate = certificate.is_ok_and(|output| output.status.success());
    std::fs::write(file("open"), "").unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(file("open"), open).unwrap();
    let own = format!(
        "kind: Variables\nname: here\nhost: here\nvars: {{linux_certificates: ['{0}/*.pem'], linux_writable_in: ['{0}']}}\n",
        folder.path().display()
    );
    let checks = checks(&["linux"], &own, &[]);
    let (status, value, output) = run(&checks["linux_world_writable"]).await;
    assert_eq!((status, value), (Status::Warning, Scalar::number(1.0)), "{output}");
    let (_, value, output) = run(&checks["linux_ssh_root"]).await;
    assert!(matches!(value, Some(Scalar::Number(_))), "{output}");
    for builtin in ["linux_disk", "linux_memory", "linux_swap", "linux_load", "linux_reboot"] {
        let (status, _, output) = run(&checks[builtin]).await;
        assert_ne!(status, Status::Unknown, "{builtin}: {output}");
    }
    if certificate {
        let (status, value, output) = run(&checks["linux_certificates"]).await;
        assert_eq!((status, value), (Status::Warning, Scalar::number(1.0)), "{output}");
    } else {
        eprintln!("NOT TESTED: linux_certificates, since there is no openssl");
    }
}

#[tokio::test]
async fn the_checks_of_nats_see_a_real_server() {
    let monitor = testkit::free_address();
    let _server = NatsServer::start_with(&format!("http: \"{monitor}\"\n")).await;
    let own =
        format!("kind: Variables\nname: here\nhost: here\nvars: {{nats_monitor: 'http://{monitor}'}}\n");
    let checks = checks(&["nats"], &own, &[("nats", "true")]);
    let (status, _, output) = run(&checks["nats_health"]).await;
    assert_eq!(status, Status::Ok, "{output}");
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("NOT TESTED: nats_connections and others, since there is no curl");
        return;
    }
    for name in ["nats_connections", "nats_slow_consumers", "nats_jetstream_storage"] {
        let (status, value, output) = run(&checks[name]).await;
        assert!(matches!(value, Some(Scalar::Number(_))), "{name} is {status}: {output}");
    }
}

#[test]
fn documents_are_listed_and_added_once() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("checks");
    let to = to.to_str().unwrap();
    let listed = String::from_utf8(dogwatch(&["library", "list"]).stdout).unwrap();
    assert!(listed.contains("postgresql"), "{listed}");
    let added = dogwatch(&["library", "add", "linux", "nats", "--to", to]);
    assert!(added.status.success(), "{added:?}");
    assert!(dogwatch(&["library", "add", "linux", "--to", to]).status.success(), "the same again");
    let path = format!("{to}/linux.yaml");
    assert_eq!(std::fs::read(&path).unwrap(), dogwatch(&["library", "show", "linux"]).stdout);
    std::fs::write(&path, "mine").unwrap();
    let refused = dogwatch(&["library", "add", "linux", "--to", to]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    let unknown = dogwatch(&["library", "add", "mysql", "--to", to]);
    assert_eq!(unknown.status.code(), Some(2), "{unknown:?}");
}
