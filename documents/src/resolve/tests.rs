use protocol::{AgentId, CheckName, Facts, Labels, admin::SourceFile};
use serde_json::json;

use super::*;

fn resolver(text: &str) -> Resolver {
    let file = SourceFile { path: "x".to_owned(), text: text.to_owned() };
    Resolver::new(&crate::read(&[file], |_, _| true).unwrap())
}

fn resolve(resolver: &Resolver, facts: &Facts) -> Outcomes {
    resolver.outcomes(&AgentId::new("a").unwrap(), facts, &Labels::new())
}

fn facts(pairs: &[(&str, &str)]) -> Facts {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect()
}

#[test]
fn os_updates_runs_the_command_of_the_hosts_package_manager() {
    let resolver = resolver(include_str!("../../../examples/checks.yaml"));
    for (manager, tool) in [
        ("apt", "apt-get "),
        ("dnf", "dnf "),
        ("yum", "yum "),
        ("zypper", "zypper "),
        ("apk", "apk "),
        ("pacman", "pacman "),
        ("pkg", "pkg "),
    ] {
        let outcomes = resolve(&resolver, &facts(&[("package_manager", manager)]));
        let name = CheckName::new("os_updates").unwrap();
        let Some(Outcome::Runs(way)) = outcomes.get(&name) else { panic!("{manager}: {outcomes:?}") };
        assert!(way.spec().work.command.as_ref().unwrap().contains(tool), "{manager}: {:?}", way.spec());
    }
}

#[test]
fn g8_a_check_that_fits_nowhere_says_why() {
    let resolver = resolver(
        "kind: Check\nname: u\nevery: 1m\nvariants: [{when: facts.pm == \"apt\", command: x}]\n---\n\
         kind: Check\nname: t\nevery: 1m\nhosts: facts.os > 3\nbuiltin: cpu\n---\n\
         kind: Check\nname: other\nevery: 1m\nhosts: labels.role == \"db\"\nbuiltin: cpu\n",
    );
    let unfit = |facts: &Facts| -> Vec<String> {
        let outcomes = resolve(&resolver, facts);
        outcomes.into_iter().map(|(name, outcome)| format!("{name} {outcome:?}")).collect()
    };
    assert_eq!(unfit(&facts(&[("pm", "nix"), ("os", "linux")]))[1], "u Unfit(\"no variant fits\")");
    let without = unfit(&facts(&[("os", "linux")]));
    assert_eq!(without.len(), 2, "{without:?}");
    assert!(without[0].starts_with("t Unfit(\"hosts: the expression fails: "), "{without:?}");
    assert_eq!(without[1], "u Unfit(\"no variant fits: the host has no fact \\\"pm\\\"\")");
    assert_eq!(unfit(&Facts::new())[0], "u Unfit(\"no variant fits: the host's facts are not known\")");
}

#[test]
fn the_etag_changes_exactly_when_the_checks_do() {
    let base = "kind: Check\nname: a\nevery: 1m\nbuiltin: cpu\n";
    let of = |text: &str| etag(&resolve(&resolver(text), &Facts::new()));
    assert_eq!(of(base), of(&format!("{base}description: other\n")));
    assert_eq!(
        of(base),
        of(&format!("{base}---\nkind: Check\nname: b\nevery: 1m\nhosts: \"false\"\nbuiltin: cpu\n"))
    );
    for other in ["timeout: 2s\n", "warning: '> 1'\n", "---\nkind: Check\nname: b\nevery: 1m\nbuiltin: cpu\n"]
    {
        assert_ne!(of(base), of(&format!("{base}{other}")), "{other}");
    }
}
