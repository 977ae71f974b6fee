//! The host's own policy: what checks may run here, whatever any server says. Its owner has the last word.
//!
//! Deny wins over allow. With an `[allow]` section, what is not in it is refused; without one, all is allowed that is
//! not denied. Limits are upper bounds: what asks for more, or for none, gets the bound.

use std::path::Path;

use serde::{Deserialize, Deserializer, de::Error as _};

use super::check::{Check, Plan, Work};

/// How each refusal begins.
pub const REFUSED: &str = "refused by this host's policy: ";
/// Programs that run what they are told as an argument or on their input, by file name.
const SHELLS: [&str; 14] = [
    "sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "csh", "tcsh", "fish", "rbash", "busybox", "toybox",
    "env",
];

/// What the file says. [`Policy::default`] allows everything.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Neither shell commands nor programs that are shells.
    pub no_shell: bool,
    /// Users that checks may ask for. A check that asks for none runs as the first.
    pub run_as: Option<Vec<String>>,
    /// Variables that checks may set, or be handed from the agent's environment. With a file and without this: none,
    /// since a variable such as LD_PRELOAD makes any program run anything.
    environment: Vec<Pattern>,
    allow: Option<Rules>,
    deny: Rules,
    limits: Bounds,
    /// There is a file.
    #[serde(skip)]
    present: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Rules {
    /// Whole shell commands, to the letter: a part of one says nothing about the rest of it. `*` alone is any.
    commands: Vec<String>,
    /// Programs as checks name them.
    programs: Vec<Pattern>,
    builtins: Vec<Pattern>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Bounds {
    #[serde(deserialize_with = "duration_ms")]
    timeout: Option<u64>,
    #[serde(deserialize_with = "size")]
    memory: Option<u64>,
    #[serde(deserialize_with = "duration_ms")]
    cpu: Option<u64>,
    #[serde(deserialize_with = "size")]
    output: Option<u64>,
    open_files: Option<u64>,
    processes: Option<u64>,
}

/// A text; with `*` at its end, every text that begins so.
#[derive(Debug, Clone, PartialEq)]
struct Pattern(String);

impl Pattern {
    fn fits(&self, text: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(start) => text.starts_with(start),
            None => self.0 == text,
        }
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let inside = text.strip_suffix('*').unwrap_or(&text);
        if text.is_empty() || inside.contains('*') {
            return Err(D::Error::custom(format!(
                "{text:?}: write a whole name, or its beginning with one * at the end"
            )));
        }
        Ok(Self(text))
    }
}

fn duration_ms<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let duration = protocol::duration::parse(&text).map_err(D::Error::custom)?;
    if duration.is_zero() {
        return Err(D::Error::custom("a limit of 0 lets nothing run: leave the key out for no limit"));
    }
    Ok(Some(protocol::duration::millis(duration)))
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    protocol::size::parse(&String::deserialize(deserializer)?).map(Some).map_err(D::Error::custom)
}

impl Policy {
    /// # Errors
    /// What is wrong with the text, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let policy: Self = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        if policy.run_as.as_ref().is_some_and(|users| users.is_empty() || users.iter().any(String::is_empty))
        {
            return Err("run_as: name at least one user, or leave the key out".to_owned());
        }
        Ok(Self { present: true, ..policy })
    }

    /// The check as it may run here, its limits lowered to those of the policy.
    ///
    /// # Errors
    /// Why it may not run, beginning with [`REFUSED`].
    pub fn judge(&self, check: &Check) -> Result<Check, String> {
        let mut check = check.clone();
        if !self.present {
            return Ok(check);
        }
        self.permit(&check).map_err(|reason| format!("{REFUSED}{reason}"))?;
        let lower = |asked: &mut Option<u64>, bound: Option<u64>| {
            *asked = [*asked, bound].into_iter().flatten().min();
        };
        let bounds = &self.limits;
        check.timeout_ms = check.timeout_ms.min(bounds.timeout.unwrap_or(u64::MAX));
        if let Work::Command(_) | Work::Exec(_) = check.work {
            let limits = &mut check.run.limits;
            lower(&mut limits.memory_bytes, bounds.memory);
            lower(&mut limits.cpu_ms, bounds.cpu);
            lower(&mut limits.output_bytes, bounds.output);
            lower(&mut limits.open_files, bounds.open_files);
            lower(&mut limits.processes, bounds.processes);
            if check.run.user.is_none() {
                check.run.user = self.run_as.as_ref().and_then(|users| users.first().cloned());
            }
        }
        Ok(check)
    }

    fn permit(&self, check: &Check) -> Result<(), String> {
        match &check.work {
            Work::Impossible(_) => return Ok(()),
            Work::Builtin(builtin, _) => {
                let listed = |rules: &Rules| any(&rules.builtins, builtin.name);
                return self.decide(&format!("built-in {}", builtin.name), listed);
            }
            Work::Command(_) if self.no_shell => return Err("no_shell: it may not use a shell".to_owned()),
            Work::Command(command) => {
                let listed = |rules: &Rules| rules.commands.iter().any(|rule| rule == "*" || rule == command);
                self.decide("this command", listed)?;
            }
            Work::Exec(words) => {
                let program = words.first().map_or("", String::as_str);
                let path = Path::new(program);
                if program.split('/').any(|part| part == "..") {
                    return Err(format!("the program {program:?} has .. in its path"));
                }
                let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
                if self.no_shell && SHELLS.contains(&&*name) {
                    return Err(format!("no_shell: it may not use {name}"));
                }
                self.decide(&format!("the program {program:?}"), |rules| any(&rules.programs, program))?;
            }
        }
        if let (Some(user), Some(users)) = (&check.run.user, &self.run_as)
            && !users.contains(user)
        {
            return Err(format!("it may not run as {user:?}, which is not in run_as"));
        }
        let mut variables = check.run.environment.keys().chain(&check.run.pass_environment);
        match variables.find(|name| !any(&self.environment, name)) {
            Some(name) => Err(format!("it may not set the variable {name:?}, which is not in environment")),
            None => Ok(()),
        }
    }

    fn decide(&self, what: &str, listed: impl Fn(&Rules) -> bool) -> Result<(), String> {
        if listed(&self.deny) {
            return Err(format!("{what} is denied"));
        }
        if self.allow.as_ref().is_some_and(|rules| !listed(rules)) {
            return Err(format!("{what} is not in [allow]"));
        }
        Ok(())
    }
}

fn any(patterns: &[Pattern], text: &str) -> bool {
    patterns.iter().any(|pattern| pattern.fits(text))
}

impl Plan {
    /// The plan as `policy` lets it run: a refused check becomes one that says so.
    #[must_use]
    pub fn under(mut self, policy: &Policy) -> Self {
        for check in self.checks.values_mut() {
            *check = std::sync::Arc::new(policy.judge(check).unwrap_or_else(|reason| {
                self.problems.push(format!("{}: {reason}", check.name));
                Check { work: Work::Impossible(reason), ..Check::clone(check) }
            }));
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use protocol::{config::CheckSpec, work::Limits};
    use serde_json::json;

    use super::*;

    fn check(work: serde_json::Value) -> Check {
        let mut value = json!({"name": "c", "every_ms": 60_000, "timeout_ms": 30_000});
        value.as_object_mut().unwrap().extend(work.as_object().unwrap().clone());
        Check::from(CheckSpec::deserialize(value).unwrap())
    }

    fn judge(policy: &str, work: serde_json::Value) -> Result<Check, String> {
        Policy::parse(policy).unwrap().judge(&check(work))
    }

    #[test]
    fn g3_the_policy_decides_what_runs() {
        const ALLOW: &str = "environment = ['PG*', 'LANG']\n[allow]\ncommands = ['df -P', 'uname *']\n\
                             programs = ['/usr/lib/plugins/*', 'uname']\nbuiltins = ['disk', 'cp*']\n\
                             [deny]\nprograms = ['/usr/lib/plugins/check_by_ssh']";
        const DENY: &str = "[deny]\ncommands = ['reboot']\nprograms = ['/usr/bin/python*']\nbuiltins = ['*']";
        for (policy, work, refusal) in [
            ("", json!({"command": "rm -rf /"}), ""),
            (ALLOW, json!({"command": "df -P"}), ""),
            (ALLOW, json!({"command": "df -P; reboot"}), "this command is not in [allow]"),
            (ALLOW, json!({"command": "df -P\nreboot"}), "this command is not in [allow]"),
            (ALLOW, json!({"command": "uname *"}), ""),
            (ALLOW, json!({"command": "uname -r"}), "this command is not in [allow]"),
            ("[allow]\ncommands = ['*']", json!({"command": "anything"}), ""),
            (ALLOW, json!({"exec": ["/usr/lib/plugins/check_x", "-w"]}), ""),
            (ALLOW, json!({"exec": ["uname", "-r"]}), ""),
            (ALLOW, json!({"exec": ["/bin/uname"]}), "the program \"/bin/uname\" is not in [allow]"),
            (ALLOW, json!({"exec": ["/usr/lib/plugins/../../bin/sh"]}), "has .. in its path"),
            (ALLOW, json!({"exec": ["/usr/lib/plugins/check_by_ssh"]}), "is denied"),
            (ALLOW, json!({"builtin": "disk"}), ""),
            (ALLOW, json!({"builtin": "cpu"}), ""),
            (ALLOW, json!({"builtin": "load"}), "built-in load is not in [allow]"),
            (ALLOW, json!({"command": "df -P", "run": {"environment": {"PGHOST": "x", "LANG": "C"}}}), ""),
            (
                ALLOW,
                json!({"command": "df -P", "run": {"environment": {"LD_PRELOAD": "x"}}}),
                "\"LD_PRELOAD\"",
            ),
            (ALLOW, json!({"command": "df -P", "run": {"pass_environment": ["PATH"]}}), "\"PATH\""),
            (DENY, json!({"command": "reboot"}), "this command is denied"),
            (DENY, json!({"command": "uptime"}), ""),
            (DENY, json!({"exec": ["/usr/bin/python3", "-c", "x"]}), "is denied"),
            (DENY, json!({"builtin": "load"}), "built-in load is denied"),
            ("no_shell = true", json!({"command": "uptime"}), "no_shell: it may not use a shell"),
            ("no_shell = true", json!({"exec": ["/bin/bash", "-c", "x"]}), "no_shell: it may not use bash"),
            ("no_shell = true", json!({"exec": ["env", "sh"]}), "no_shell: it may not use env"),
            ("no_shell = true", json!({"exec": ["uptime"]}), ""),
            ("no_shell = true", json!({"builtin": "load"}), ""),
            ("run_as = ['a', 'b']", json!({"command": "x", "run": {"user": "b"}}), ""),
            (
                "run_as = ['a', 'b']",
                json!({"command": "x", "run": {"user": "root"}}),
                "may not run as \"root\"",
            ),
        ] {
            match judge(policy, work.clone()) {
                Ok(_) => assert_eq!(refusal, "", "{policy}\n{work}"),
                Err(reason) => {
                    assert!(!refusal.is_empty() && reason.contains(refusal), "{policy}\n{work}\n{reason}");
                    assert!(reason.starts_with(REFUSED));
                }
            }
        }
    }

    #[test]
    fn g3_limits_are_lowered_and_never_raised() {
        const BOUNDS: &str = "run_as = ['nobody', 'web']\n[limits]\ntimeout = '10s'\nmemory = '64MiB'\ncpu = '2s'\n\
                              output = '1KiB'\nopen_files = 100\nprocesses = 10";
        let asks = json!({"command": "x", "run": {"user": "web", "limits":
            {"memory_bytes": 1024, "cpu_ms": 60_000, "open_files": 100_000, "file_size_bytes": 7}}});
        let judged = judge(BOUNDS, asks).unwrap();
        let expected = Limits {
            memory_bytes: Some(1024),
            cpu_ms: Some(2_000),
            open_files: Some(100),
            processes: Some(10),
            file_size_bytes: Some(7),
            output_bytes: Some(1024),
        };
        assert_eq!((judged.run.limits, judged.timeout_ms), (expected, 10_000));
        assert_eq!(judged.run.user.as_deref(), Some("web"));
        let plain = judge(BOUNDS, json!({"exec": ["x"], "timeout_ms": 5_000})).unwrap();
        assert_eq!((plain.run.limits.memory_bytes, plain.timeout_ms), (Some(64 << 20), 5_000));
        assert_eq!(plain.run.user.as_deref(), Some("nobody"), "the first is for checks that ask for none");
        let untouched = check(json!({"command": "x", "run": {"user": "root"}}));
        assert_eq!(Policy::default().judge(&untouched), Ok(untouched));
        let builtin = judge(BOUNDS, json!({"builtin": "load"})).unwrap();
        assert_eq!((builtin.run.user, builtin.timeout_ms), (None, 10_000));
    }

    #[test]
    fn a_wrong_policy_names_the_key() {
        for (text, expected) in [
            ("no_shel = true", "unknown field `no_shel`"),
            ("[allow]\ncommand = []", "unknown field `command`"),
            ("[limits]\nmemory = 'lots'", "\"lots\" is not a size"),
            ("[limits]\ntimeout = '0s'", "a limit of 0"),
            ("[limits]\nopen_files = -1", "open_files"),
            ("[allow]\nprograms = ['/usr/*/x']", "with one * at the end"),
            ("run_as = []", "run_as: name at least one user"),
            ("no_shell =", "TOML parse error at line 1"),
        ] {
            let error = Policy::parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_refused_check_says_so_and_the_plan_lists_it() {
        let checks = [check(json!({"command": "x"})), check(json!({"name": "d", "builtin": "disk"}))];
        let checks = checks.into_iter().map(|check| (check.name.clone(), check.into())).collect();
        let plan = Plan { checks, ..Plan::default() }.under(&Policy::parse("no_shell = true").unwrap());
        assert_eq!(plan.problems, ["c: refused by this host's policy: no_shell: it may not use a shell"]);
        let refused = plan.checks.values().filter(|check| matches!(check.work, Work::Impossible(_)));
        assert_eq!((refused.count(), plan.checks.len()), (1, 2));
    }
}
