//! From what a check says to a process that can be started: the program, its environment, its user and its limits.

use std::{
    collections::BTreeMap,
    env,
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use protocol::work::RunSettings;
use rustix::process;

use super::family::MARKER;
use crate::core::account::Account;

const SHELL: &str = "/bin/sh";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What every check gets of the agent's environment, where it is set.
const PASSED: [&str; 5] = ["PATH", "HOME", "USER", "LOGNAME", "TZ"];
/// The agent's own settings begin with it, secrets among them.
const OWN: &str = "DOGWATCH_";
/// Waits for a line on its input before it becomes the program, so that limits hold from the program's first
/// instruction. A shell's `read` takes no byte more than the line.
const GATE: &str = "read -r line || exit 126; exec \"$@\"";

/// What a check runs.
#[derive(Debug, Clone, Copy)]
pub enum What<'a> {
    /// For `sh -c`.
    Shell(&'a str),
    /// Program and arguments.
    Program(&'a [String]),
}

/// A command, ready to be started.
pub(super) struct Launch {
    pub(super) command: Command,
    /// It waits for a line on its input.
    pub(super) gated: bool,
    /// The user id that it will have.
    pub(super) uid: u32,
}

/// # Errors
/// A text that says why it cannot be run.
pub(super) fn prepare(what: What<'_>, run: &RunSettings, gated: bool, mark: &str) -> Result<Launch, String> {
    let account = run.user.as_deref().map(account).transpose()?.flatten();
    let environment = environment(run, account.as_ref(), mark)?;
    let directory = Path::new(run.directory.as_deref().unwrap_or("/"));
    if !directory.is_absolute() || !directory.is_dir() {
        return Err(format!(
            "the directory {} does not exist, or the agent may not see it",
            directory.display()
        ));
    }
    let path = environment.get(OsStr::new("PATH")).cloned().unwrap_or_default();

    let mut words: Vec<OsString> = Vec::new();
    if gated {
        words.extend([SHELL, "-c", GATE, "sh"].map(OsString::from));
    }
    if has_terminal() {
        // A session of its own, so that it cannot ask for a password on the terminal that the agent was started from.
        words.push(find("setsid", PATH.as_ref(), directory)?.into());
    }
    let by_setpriv = account.as_ref().map_or(Ok(None), |account| setpriv(account, gated))?;
    words.extend(by_setpriv.iter().flatten().cloned());
    match what {
        What::Shell(command) => words.extend([SHELL, "-c", command].map(OsString::from)),
        What::Program(program) => {
            let (name, arguments) = program.split_first().ok_or("no program is given")?;
            words.push(find(name, &path, directory)?.into());
            words.extend(arguments.iter().map(OsString::from));
        }
    }

    let mut words = words.into_iter();
    // A whole path: a name would be looked up in the child, which takes a slower way to start it.
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).env_clear().envs(environment).current_dir(directory);
    let stdin = if gated || run.stdin.is_some() { Stdio::piped() } else { Stdio::null() };
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    if !has_terminal() {
        command.process_group(0);
    }
    if let Some(account) = account.as_ref().filter(|_| by_setpriv.is_none()) {
        command.uid(account.uid).gid(account.gid);
    }
    let uid = account.map_or_else(|| process::geteuid().as_raw(), |account| account.uid);
    Ok(Launch { command, gated, uid })
}

/// Why starting failed, in plain words.
pub(super) fn explain(error: &io::Error, command: &Command) -> String {
    let program = Path::new(command.get_program()).display();
    match error.kind() {
        io::ErrorKind::NotFound => {
            format!("{program} cannot be run: the program that its first line names does not exist")
        }
        io::ErrorKind::PermissionDenied => format!("{program} cannot be run: permission denied"),
        io::ErrorKind::ArgumentListTooLong => format!("{program} cannot be run: its arguments are too long"),
        _ if error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) => {
            format!(
                "{program} cannot be run: it is no program for this machine, nor a script with #! in its first line"
            )
        }
        _ => format!("{program} could not be started: {error}"),
    }
}

/// The user to become; `None` when it is the agent's own.
fn account(name: &str) -> Result<Option<Account>, String> {
    let read = |file: &str| fs::read(file).map(|text| String::from_utf8_lossy(&text).into_owned());
    let passwd =
        read("/etc/passwd").map_err(|error| format!("run.user: cannot read /etc/passwd: {error}"))?;
    let group = read("/etc/group").unwrap_or_default();
    let account = Account::find(&passwd, &group, name)
        .ok_or_else(|| format!("run.user: this host has no user {name:?} in /etc/passwd"))?;
    let own = process::geteuid();
    if own.as_raw() == account.uid {
        return Ok(None);
    }
    if !own.is_root() {
        return Err(format!(
            "run.user: only an agent that runs as root can run a check as {name}; this one runs as user id {}",
            own.as_raw()
        ));
    }
    Ok(Some(account))
}

/// What turns into the user, where the standard library does not do: it takes all groups from a process but adds none,
/// and the limits of a process that waits as another user can be set with `CAP_SYS_RESOURCE` only.
fn setpriv(account: &Account, gated: bool) -> Result<Option<Vec<OsString>>, String> {
    if account.groups.is_empty() && !gated {
        return Ok(None);
    }
    let program = match find("setpriv", PATH.as_ref(), Path::new("/")) {
        Ok(program) => program,
        Err(_) if account.groups.is_empty() => return Ok(None),
        Err(error) => return Err(format!("run.user: {} is in several groups: {error}", account.name)),
    };
    let groups: Vec<String> = account.groups.iter().map(u32::to_string).collect();
    let groups =
        if groups.is_empty() { "--clear-groups".into() } else { format!("--groups={}", groups.join(",")) };
    let ids =
        [format!("--reuid={}", account.uid), format!("--regid={}", account.gid), groups, "--".to_owned()];
    Ok(Some(std::iter::once(program.into()).chain(ids.map(OsString::from)).collect()))
}

fn environment(
    run: &RunSettings,
    account: Option<&Account>,
    mark: &str,
) -> Result<BTreeMap<OsString, OsString>, String> {
    if let Some(own) = run.pass_environment.iter().find(|name| name.starts_with(OWN)) {
        return Err(format!(
            "run.pass_environment: {own} is a setting of the agent, and those are not handed on"
        ));
    }
    let passed = PASSED.into_iter().chain(run.pass_environment.iter().map(String::as_str));
    let mut environment: BTreeMap<OsString, OsString> =
        passed.filter_map(|name| Some((name.into(), env::var_os(name)?))).collect();
    environment.entry("PATH".into()).or_insert_with(|| PATH.into());
    environment.extend(["LANG", "LC_ALL"].map(|name| (name.into(), "C".into())));
    if let Some(account) = account {
        environment.insert("HOME".into(), account.home.clone().into());
        environment.extend(["USER", "LOGNAME"].map(|name| (name.into(), account.name.clone().into())));
    }
    environment.extend(run.environment.iter().map(|(name, value)| (name.into(), value.into())));
    environment.insert(MARKER.into(), mark.into());
    Ok(environment)
}

/// The program's whole path, found as a shell would.
fn find(name: &str, path: &OsStr, directory: &Path) -> Result<PathBuf, String> {
    if name.contains('/') {
        let file = directory.join(name);
        return match runnable(&file) {
            Ok(()) => Ok(file),
            Err(reason) => Err(format!("{name} cannot be run: {reason}")),
        };
    }
    let mut reason = format!("it is not there (looked in {})", path.display());
    for folder in env::split_paths(path) {
        let file = directory.join(folder).join(name);
        match runnable(&file) {
            Ok(()) => return Ok(file),
            Err(_) if !file.exists() => {}
            Err(unfit) => reason = format!("{}: {unfit}", file.display()),
        }
    }
    Err(format!("{name} cannot be run: {reason}"))
}

fn runnable(file: &Path) -> Result<(), String> {
    match fs::metadata(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err("it does not exist".to_owned()),
        Err(error) => Err(error.to_string()),
        Ok(metadata) if metadata.is_dir() => Err("it is a folder".to_owned()),
        Ok(metadata) if metadata.permissions().mode() & 0o111 == 0 => Err("it is not executable".to_owned()),
        Ok(_) => Ok(()),
    }
}

/// Whether this process has a terminal that its children could talk to.
fn has_terminal() -> bool {
    static TERMINAL: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *TERMINAL.get_or_init(|| {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let terminal = stat.rsplit_once(") ").and_then(|(_, fields)| fields.split(' ').nth(4));
        terminal.is_some_and(|terminal| terminal != "0")
    })
}
