//! Every key of `run:` does what the manual says.

use std::{collections::BTreeMap, path::Path};

use agent::{
    core::check::Check,
    outbound::probe::{Prober, Ran},
};
use protocol::{
    Status,
    config::CheckSpec,
    work::{Limits, Output, OutputFormat, RunSettings, Work},
};
use tokio_util::sync::CancellationToken;

use crate::rig;

/// A check whose text is what it prints.
pub(crate) fn text(work: Work, run: RunSettings, timeout_ms: u64) -> Check {
    let output = Output { format: OutputFormat::Text, ..Output::default() };
    Check::from(CheckSpec { work, run, timeout_ms, output, ..rig::check("c", 1_000, "") })
}

pub(crate) fn shell(command: &str) -> Work {
    Work { command: Some(command.to_owned()), ..Work::default() }
}

pub(crate) fn exec(words: &[&str]) -> Work {
    Work { exec: Some(words.iter().map(|word| (*word).to_owned()).collect()), ..Work::default() }
}

pub(crate) async fn run(work: Work, run: RunSettings) -> Ran {
    Prober::default().run(&text(work, run, 30_000), &CancellationToken::new()).await.unwrap()
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

async fn prints(work: Work, settings: RunSettings) -> String {
    let finding = run(work, settings).await.finding;
    assert_eq!(finding.status, Status::Ok, "{finding:?}");
    finding.output
}

#[tokio::test]
async fn a_program_gets_its_arguments_as_they_are() {
    let words = exec(&["printf", "%s|", "a b", "$HOME", "*", "'"]);
    assert_eq!(prints(words, RunSettings::default()).await, "a b|$HOME|*|'|");
}

#[tokio::test]
async fn what_cannot_be_run_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        use std::os::unix::fs::PermissionsExt;
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (wrong, none) = (file("wrong", "#!/no/such/interpreter\n"), file("none", "\u{1}\u{2}\u{3}"));
    for (program, expected) in [
        ("no-such-program", "it is not there (looked in "),
        ("/no/such/program", "it does not exist"),
        ("/etc/passwd", "it is not executable"),
        ("/etc", "it is a folder"),
        (&wrong, "the program that its first line names does not exist"),
        (&none, "it is no program for this machine, nor a script with #! in its first line"),
    ] {
        let finding = run(exec(&[program]), RunSettings::default()).await.finding;
        assert_eq!((finding.status, finding.exit_code), (Status::Unknown, None), "{finding:?}");
        assert!(finding.output.contains(&format!("{program} cannot be run: ")), "{}", finding.output);
        assert!(finding.output.contains(expected), "{}", finding.output);
    }
    // The same by way of a shell, whatever the output is taken for.
    for (command, code) in [("no-such-program", 127), ("/etc/passwd", 126)] {
        for format in [OutputFormat::Number, OutputFormat::Nagios, OutputFormat::Text] {
            let mut check = text(shell(&format!("echo 5; {command}")), RunSettings::default(), 30_000);
            check.output.format = format;
            let ran = Prober::default().run(&check, &CancellationToken::new()).await.unwrap();
            assert_eq!((ran.finding.status, ran.finding.exit_code), (Status::Unknown, Some(code)));
            assert!(ran.finding.output.starts_with("a program that it needs "), "{}", ran.finding.output);
        }
    }
}

#[tokio::test]
async fn the_environment_is_what_was_allowed() {
    let environment = async |settings: RunSettings| {
        let text = prints(exec(&["env"]), settings).await;
        let pair = |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        text.lines().filter_map(pair).collect::<BTreeMap<String, String>>()
    };
    let plain = environment(RunSettings::default()).await;
    let allowed = ["PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "CHECK_RUN"];
    assert!(plain.keys().all(|name| allowed.contains(&name.as_str())), "{plain:?}");
    assert_eq!((plain["LANG"].as_str(), plain["LC_ALL"].as_str()), ("C", "C"));
    assert!(std::env::var("CARGO_PKG_NAME").is_ok(), "the agent has a variable that a check does not get");

    let more = environment(RunSettings {
        pass_environment: vec!["CARGO_PKG_NAME".into(), "NOT_SET_ANYWHERE".into()],
        environment: BTreeMap::from([("LANG".into(), "de".into()), ("QUEUE".into(), "a b".into())]),
        ..RunSettings::default()
    })
    .await;
    assert_eq!((more["CARGO_PKG_NAME"].as_str(), more["QUEUE"].as_str()), ("agent", "a b"));
    assert_eq!(more["LANG"], "de");
    assert!(!more.contains_key("NOT_SET_ANYWHERE"));

    let secret =
        RunSettings { pass_environment: vec!["DOGWATCH_NATS_PASSWORD".into()], ..RunSettings::default() };
    let finding = run(exec(&["env"]), secret).await.finding;
    assert_eq!(finding.status, Status::Unknown);
    assert!(finding.output.contains("is a setting of the agent"), "{}", finding.output);
}

#[tokio::test]
async fn input_and_directory_are_given() {
    // More than a pipe holds.
    let stdin = Some("x".repeat(1 << 20));
    for limits in [Limits::default(), Limits { open_files: Some(50), ..Limits::default() }] {
        let settings = RunSettings { stdin: stdin.clone(), limits, ..RunSettings::default() };
        assert_eq!(prints(exec(&["wc", "-c"]), settings.clone()).await, "1048576");
        // One that is not read is no error.
        assert_eq!(prints(shell("echo 1"), settings).await, "1");
    }
    let directory = |folder: &str| RunSettings { directory: Some(folder.into()), ..RunSettings::default() };
    assert_eq!(prints(shell("pwd"), directory("/usr/bin")).await, "/usr/bin");
    assert_eq!(prints(exec(&["./printf", "5"]), directory("/usr/bin")).await, "5");
    let finding = run(shell("pwd"), directory("/no/such/folder")).await.finding;
    assert_eq!(finding.status, Status::Unknown);
    assert!(finding.output.starts_with("the directory /no/such/folder does not exist"), "{}", finding.output);
}

#[tokio::test]
async fn priority_and_limits_hold_from_the_first_instruction() {
    let limits = Limits {
        open_files: Some(33),
        cpu_ms: Some(1_500),
        file_size_bytes: Some(1 << 20),
        ..Limits::default()
    };
    let settings = RunSettings { nice: Some(7), limits, ..RunSettings::default() };
    let command = "nice; ulimit -n; ulimit -t; ulimit -f; ulimit -c";
    let own: i32 = prints(exec(&["nice"]), RunSettings::default()).await.parse().unwrap();
    assert_eq!(prints(shell(command), settings).await, format!("{}\n33\n2\n2048\n0", 7.max(own)));
    let few = Limits { output_bytes: Some(4), ..Limits::default() };
    let ran = run(shell("echo 123456"), RunSettings { limits: few, ..RunSettings::default() }).await;
    assert_eq!(ran.finding.output, "1234\n[cut]");
}

#[tokio::test]
async fn a_check_runs_as_the_user_that_it_names() {
    let user = |name: &str| RunSettings { user: Some(name.into()), ..RunSettings::default() };
    let finding = run(shell("id"), user("no-such-user")).await.finding;
    assert!(finding.output.contains("no user \"no-such-user\""), "{}", finding.output);
    if !is_root() {
        let finding = run(shell("id"), user("root")).await.finding;
        assert_eq!(finding.status, Status::Unknown);
        assert!(finding.output.contains("only an agent that runs as root"), "{}", finding.output);
        println!("NOT TESTED: running as another user, since these tests do not run as root");
        return;
    }
    println!("NOT TESTED: that an agent without root refuses run.user, since these tests run as root");
    let show = "id -un; id -G; echo $USER $LOGNAME $HOME";
    let said = prints(shell(show), user("nobody")).await;
    assert!(said.starts_with("nobody\n") && said.contains("\nnobody nobody /"), "{said}");
    assert!(said.lines().nth(1).is_some_and(|groups| !groups.split(' ').any(|group| group == "0")), "{said}");
    let limited = RunSettings { nice: Some(3), ..user("nobody") };
    assert_eq!(prints(shell("id -un; nice"), limited).await, "nobody\n3");

    let groups = std::fs::read_to_string("/etc/group").unwrap();
    let member = groups.lines().find_map(|line| {
        let member = line.rsplit(':').next()?.split(',').find(|name| !name.is_empty() && *name != "root")?;
        Some(member.to_owned())
    });
    match member {
        Some(member) if Path::new("/usr/bin/setpriv").exists() => {
            let wanted = std::process::Command::new("id").args(["-G", &member]).output().unwrap();
            let sorted = |text: &str| {
                text.split_whitespace().map(str::to_owned).collect::<std::collections::BTreeSet<_>>()
            };
            let said = prints(exec(&["id", "-G"]), user(&member)).await;
            assert_eq!(sorted(&said), sorted(&String::from_utf8_lossy(&wanted.stdout)));
        }
        _ => println!("NOT TESTED: a user with several groups, since this host has none or no setpriv"),
    }
}

#[tokio::test]
async fn a_run_says_what_it_cost() {
    // Larger than these tests themselves, so that the kernel's figure is the child's own.
    let ran =
        run(exec(&["dd", "if=/dev/zero", "of=/dev/null", "bs=256M", "count=1"]), RunSettings::default());
    let usage = ran.await.usage.unwrap();
    assert!((256 << 20..300 << 20).contains(&usage.memory_bytes), "{usage:?}");
    assert!((1_000..30_000_000).contains(&usage.cpu_us), "{usage:?}");
    // A small one does not get the figure of the agent that it was forked from.
    let usage = run(shell("echo 1; sleep 0.2"), RunSettings::default()).await.usage.unwrap();
    assert!((1..16 << 20).contains(&usage.memory_bytes), "{usage:?}");
    // One that is gone before anybody looks took at most what the kernel says: never nothing.
    for _ in 0..20 {
        let usage = run(exec(&["true"]), RunSettings::default()).await.usage.unwrap();
        assert!(usage.memory_bytes > 0, "{usage:?}");
    }
}

#[tokio::test]
async fn the_example_of_the_manual_prints_what_it_says() {
    let manual = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/AGENT.md")).unwrap();
    let script = "echo \"$(id -un) $(nice) $(pwd) $QUEUE $(cat)\"";
    assert!(manual.contains(&format!("exec: [sh, -c, '{script}']\n")));
    if !is_root() {
        println!("NOT TESTED: the example of the manual, since it needs root");
        return;
    }
    let mut settings = RunSettings {
        user: Some("nobody".into()),
        nice: Some(5),
        directory: Some("/usr".into()),
        environment: BTreeMap::from([("QUEUE".into(), "mail".into())]),
        pass_environment: vec!["SSH_AUTH_SOCK".into()],
        stdin: Some("some text".into()),
        limits: Limits {
            memory_bytes: Some(256 << 20),
            cpu_ms: Some(5_000),
            open_files: Some(100),
            processes: Some(50),
            file_size_bytes: Some(10 << 20),
            output_bytes: Some(16 << 10),
        },
    };
    // A fork bomb of the tests beside this one runs as the same user, which the kernel counts.
    settings.limits.processes = Some(500);
    let printed = prints(exec(&["sh", "-c", script]), settings).await;
    assert_eq!(printed, "nobody 5 /usr mail some text");
    assert!(manual.contains(&printed));
}
