//! Packages that wait to be upgraded, as the package manager sees them by the index that it has. Nothing is refreshed.

use super::{Host, Judged, Measured, Number, Options, Ran, Rates, files, float};
use crate::core::facts::{os_release, package_manager};

/// What a package manager says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Pending {
    names: Vec<String>,
    /// `None` where it does not tell which updates are for security.
    security: Option<usize>,
}

/// Names that the text shows.
const SHOWN: usize = 5;

pub(super) fn updates(host: &dyn Host, options: &Options, _: &mut Rates<'_>) -> Result<Measured, String> {
    let judge = options.text("judge").unwrap_or("updates");
    if !["updates", "security"].contains(&judge) {
        return Err(format!("the option \"judge\" is updates or security, not {judge:?}"));
    }
    let manager = match options.text("manager") {
        Some(named) => MANAGERS.iter().find(|(name, ..)| *name == named),
        None => {
            let release =
                ["/etc/os-release", "/usr/lib/os-release"].into_iter().find_map(|path| host.text(path).ok());
            let release = os_release(&release.unwrap_or_default());
            let exists = |program: &str| {
                let folders = ["/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/sbin"];
                folders
                    .iter()
                    .any(|folder| host.meta(&format!("{folder}/{program}")).is_some_and(|meta| meta.is_file))
            };
            let found = package_manager(std::env::consts::OS, &release, exists);
            found.and_then(|found| MANAGERS.iter().find(|(name, ..)| *name == found))
        }
    };
    let Some((name, ask, index)) = manager else {
        let known = MANAGERS.map(|(name, ..)| name).join(", ");
        return Err(format!("this host has no package manager that is known here ({known})"));
    };
    let pending = ask(host)?;
    if judge == "security" && pending.security.is_none() {
        return Err(format!("{name} does not tell which updates are for security"));
    }
    let changed = |path: &&str| host.meta(path).map(|meta| meta.modified);
    let age = index.iter().filter_map(changed).max().map(|at| host.now().saturating_sub(at));
    Ok(measured(name, &pending, judge, age.map(float)))
}

fn measured(manager: &str, pending: &Pending, judge: &str, age: Option<f64>) -> Measured {
    let mut numbers = Vec::new();
    let mut add = |name: &'static str, count: usize| {
        let number = Number::new(name, float(count as u64), "");
        numbers.push(if name == judge { number.judged() } else { number });
    };
    add("updates", pending.names.len());
    pending.security.into_iter().for_each(|count| add("security", count));
    numbers.extend(age.map(|age| Number { judged: Judged::No, ..Number::new("index_age", age, "s") }));
    let security =
        pending.security.map(|count| format!(", {count} of them for security")).unwrap_or_default();
    let shown = pending.names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    let shown = match pending.names.len() {
        0 => String::new(),
        count if count > SHOWN => format!(": {shown}, …"),
        _ => format!(": {shown}"),
    };
    let age = age.map(|age| format!("; the index is {} old", files::time(Some(age)))).unwrap_or_default();
    let text = format!("{} updates wait by {manager}{security}{shown}{age}", pending.names.len());
    Measured { numbers, text, ..Measured::default() }
}

type Ask = fn(&dyn Host) -> Result<Pending, String>;

/// Name, question, and files that change when the index is refreshed.
const MANAGERS: [(&str, Ask, &[&str]); 7] = [
    (
        "apt",
        apt,
        &["/var/lib/apt/periodic/update-success-stamp", "/var/lib/apt/lists", "/var/lib/apt/lists/partial"],
    ),
    ("dnf", |host| red_hat(host, "dnf"), &["/var/cache/dnf", "/var/cache/libdnf5"]),
    ("yum", |host| red_hat(host, "yum"), &["/var/cache/yum"]),
    ("zypper", zypper, &["/var/cache/zypp/raw", "/var/cache/zypp/solv"]),
    ("apk", apk, &["/var/cache/apk", "/lib/apk/db/installed"]),
    ("pacman", pacman, &["/var/lib/pacman/sync"]),
    ("pkg", pkg, &["/var/db/pkg/repos/FreeBSD/db", "/var/db/pkg/repo-FreeBSD.sqlite"]),
];

/// # Errors
/// When it ended with none of the codes that mean an answer.
fn ask(host: &dyn Host, program: &str, args: &[&str], codes: &[i32]) -> Result<Ran, String> {
    let ran = host.run(program, args)?;
    if ran.code.is_some_and(|code| codes.contains(&code)) {
        return Ok(ran);
    }
    let said: String = ran.stderr.trim().lines().last().unwrap_or_default().chars().take(200).collect();
    let code = ran.code.map_or("a signal".to_owned(), |code| format!("exit code {code}"));
    Err(format!("{program} {} failed with {code}: {said}", args.join(" ")))
}

fn apt(host: &dyn Host) -> Result<Pending, String> {
    let args = ["-s", "-q", "-o", "Debug::NoLocking=true", "dist-upgrade"];
    Ok(apt_simulation(&ask(host, "apt-get", &args, &[0])?.stdout))
}

/// `Inst libc6 [2.36-9+deb12u8] (2.36-9+deb12u9 Debian-Security:12/stable-security [amd64])`: what is installed has a
/// version in brackets, what comes along anew has none.
fn apt_simulation(text: &str) -> Pending {
    let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("Inst ")).collect();
    let is_security = |line: &&&str| {
        let origin = line.split_once('(').map_or("", |(_, origin)| origin).to_ascii_lowercase();
        origin.contains("-security") || origin.contains("debian-security")
    };
    Pending {
        names: lines.iter().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect(),
        security: Some(lines.iter().filter(is_security).count()),
    }
}

fn red_hat(host: &dyn Host, program: &str) -> Result<Pending, String> {
    let list = |more: &[&str]| {
        let mut args = vec!["-q", "-C", "check-update"];
        args.extend(more);
        // 100: there are some.
        Ok(check_update(&ask(host, program, &args, &[0, 100])?.stdout))
    };
    let security = list(&["--security"]).ok().map(|names: Vec<String>| names.len());
    list(&[]).map(|names| Pending { names, security })
}

/// `kernel.x86_64   5.14.0-503.el9   baseos`; a long name has the rest on the next line. What is replaced is listed again
/// at the end.
fn check_update(text: &str) -> Vec<String> {
    let lines = text.lines().take_while(|line| !line.starts_with("Obsoleting"));
    let first = lines.filter(|line| line.starts_with(|c: char| c.is_ascii_alphanumeric()));
    let name = |line: &str| {
        let name = line.split_whitespace().next()?;
        // Every package names its architecture, and no sentence does.
        name.rsplit_once('.').map(|(name, _)| name.to_owned())
    };
    first.filter_map(name).collect()
}

fn zypper(host: &dyn Host) -> Result<Pending, String> {
    let base = ["-q", "--no-refresh", "--non-interactive"];
    let run = |more: &[&str]| ask(host, "zypper", &[&base[..], more].concat(), &[0, 100, 101]);
    let names = table(&run(&["list-updates"])?.stdout, 2, |cells| cells.first() == Some(&"v"));
    let patches = run(&["list-patches", "--category", "security"]).ok();
    let security = patches.map(|ran| {
        table(&ran.stdout, 1, |cells| cells.contains(&"security") && cells.contains(&"needed")).len()
    });
    Ok(Pending { names, security })
}

/// The cells at `index` of the rows that are `wanted`, of a table drawn with `|`.
fn table(text: &str, index: usize, wanted: impl Fn(&[&str]) -> bool) -> Vec<String> {
    let rows = text.lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    rows.filter(|cells| wanted(cells))
        .filter_map(|cells| cells.get(index).map(|&cell| cell.to_owned()))
        .collect()
}

fn apk(host: &dyn Host) -> Result<Pending, String> {
    let ran = ask(host, "apk", &["--no-network", "-u", "list"], &[0])?;
    // `busybox-1.36.1-r29 x86_64 {busybox} (GPL-2.0-only) [upgradable from: busybox-1.36.1-r28]`
    let lines = ran.stdout.lines().filter(|line| line.contains("[upgradable from"));
    Ok(Pending { names: lines.filter_map(first_word).collect(), security: None })
}

fn pacman(host: &dyn Host) -> Result<Pending, String> {
    // 1: there are none. That it works at all is what the first shows.
    ask(host, "pacman", &["-Q", "pacman"], &[0])?;
    let ran = ask(host, "pacman", &["-Qu"], &[0, 1])?;
    // `linux 6.6.1-1 -> 6.6.2-1`
    let lines = ran.stdout.lines().filter(|line| line.contains("->") && !line.contains("[ignored]"));
    Ok(Pending { names: lines.filter_map(first_word).collect(), security: None })
}

fn pkg(host: &dyn Host) -> Result<Pending, String> {
    let ran = ask(host, "pkg", &["version", "-U", "-R", "-q", "-l", "<"], &[0])?;
    // Names of those with known holes; 1 when there are some. Without its database it cannot say.
    let audit =
        ask(host, "pkg", &["audit", "-q"], &[0, 1]).ok().filter(|audit| audit.stderr.trim().is_empty());
    let count = |text: &str| text.lines().filter(|line| !line.trim().is_empty()).count();
    Ok(Pending {
        names: ran.stdout.lines().filter_map(first_word).collect(),
        security: audit.map(|audit| count(&audit.stdout)),
    })
}

fn first_word(line: &str) -> Option<String> {
    line.split_whitespace().next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::core::builtin::tests::{Sample, with};

    /// In the form in which each package manager prints; that of apt is from a host.
    const APT: &str = "\
Reading package lists...
Building dependency tree...
Calculating upgrade...
The following packages will be upgraded:
  base-files libgcrypt20 libgcrypt20-dev
3 upgraded, 1 newly installed, 0 to remove and 0 not upgraded.
Inst base-files [12.4+deb12u11] (12.4+deb12u15 Debian:12.15/oldstable [amd64])
Conf base-files (12.4+deb12u15 Debian:12.15/oldstable [amd64])
Inst libgcrypt20-dev [1.10.1-3] (1.10.1-3+deb12u1 Debian:12.15/oldstable, Debian-Security:12/oldstable-security [amd64]) []
Inst libgcrypt20 [1.10.1-3] (1.10.1-3+deb12u1 Debian:12.15/oldstable, Debian-Security:12/oldstable-security [amd64])
Inst linux-image-5.15.0-125-generic (5.15.0-125.135 Ubuntu:22.04/jammy-updates, Ubuntu:22.04/jammy-security [amd64])
Conf libgcrypt20 (1.10.1-3+deb12u1 Debian-Security:12/oldstable-security [amd64])
";
    const DNF: &str = "
kernel.x86_64                        5.14.0-503.11.1.el9_5               baseos
python3.11-libs.x86_64               3.11.9-7.el9_5.1                    appstream
a-package-with-a-name-that-is-very-long-indeed.noarch
                                     1.2-3.el9                           epel
Security: kernel-core-5.14.0-427.13.1.el9_4.x86_64 is an installed security update
Obsoleting Packages
grub2-tools.x86_64                   1:2.06-94.el9                       baseos
    grub2-tools.x86_64               1:2.06-70.el9                       @baseos
";
    const ZYPPER: &str = "\
S | Repository             | Name    | Current Version | Available Version | Arch
--+------------------------+---------+-----------------+-------------------+-------
v | Update repository      | libzck1 | 1.1.16-1.1      | 1.1.16-150600.11  | x86_64
v | Main Update Repository | vim     | 9.0.1-1.1       | 9.1.2-150500.1    | x86_64
";
    const PATCHES: &str = "\
Repository             | Name                            | Category | Severity  | Interactive | Status | Summary
-----------------------+---------------------------------+----------+-----------+-------------+--------+--------
Main Update Repository | openSUSE-SLE-15.5-2024-1234     | security | important | ---         | needed | Security update for vim
Main Update Repository | openSUSE-SLE-15.5-2024-1000     | security | moderate  | ---         | not needed | Security update for x
";
    const APK: &str = "\
WARNING: opening from cache https://dl-cdn.alpinelinux.org/alpine/v3.19/main: No such file or directory
busybox-1.36.1-r29 x86_64 {busybox} (GPL-2.0-only) [upgradable from: busybox-1.36.1-r28]
libcrypto3-3.1.7-r1 x86_64 {openssl} (Apache-2.0) [upgradable from: libcrypto3-3.1.4-r5]
";

    fn host(programs: &[(&str, i32, &str)]) -> Sample {
        let mut host = Sample::default();
        for (line, code, stdout) in programs {
            let ran =
                Ran { stdout: (*stdout).to_owned(), stderr: "a reason\n".to_owned(), code: Some(*code) };
            host.2.programs.insert((*line).to_owned(), ran);
        }
        host
    }

    #[test]
    fn every_package_manager_is_understood() {
        let simulate = "apt-get -s -q -o Debug::NoLocking=true dist-upgrade";
        let list = "zypper -q --no-refresh --non-interactive list-updates";
        let patches = "zypper -q --no-refresh --non-interactive list-patches --category security";
        let (checked, secure) = ("dnf -q -C check-update", "dnf -q -C check-update --security");
        let versions = "pkg version -U -R -q -l <";
        let mut audit = host(&[
            (versions, 0, "curl-8.4.0                         <\n"),
            ("pkg audit -q", 1, "curl-8.4.0\n"),
        ]);
        audit.2.programs.get_mut("pkg audit -q").unwrap().stderr.clear();
        for (manager, host, found) in [
            (
                "apt",
                host(&[(simulate, 0, APT)]),
                "OK - 4 updates wait by apt, 3 of them for security: base-files, libgcrypt20-dev, libgcrypt20, linux-image-5.15.0-125-generic",
            ),
            (
                "apt",
                host(&[(simulate, 0, "Reading package lists...\n")]),
                "OK - 0 updates wait by apt, 0 of them for security",
            ),
            (
                "apt",
                host(&[(simulate, 100, "")]),
                "UNKNOWN - apt-get -s -q -o Debug::NoLocking=true dist-upgrade failed with exit code 100: a reason",
            ),
            (
                "dnf",
                host(&[(checked, 100, DNF), (secure, 0, "")]),
                "OK - 3 updates wait by dnf, 0 of them for security: kernel, python3.11-libs, a-package-with-a-name-that-is-very-long-indeed",
            ),
            ("dnf", host(&[(checked, 0, ""), (secure, 1, "")]), "OK - 0 updates wait by dnf"),
            (
                "dnf",
                host(&[(checked, 1, ""), (secure, 1, "")]),
                "UNKNOWN - dnf -q -C check-update failed with exit code 1: a reason",
            ),
            (
                "yum",
                host(&[("yum -q -C check-update", 100, DNF)]),
                "OK - 3 updates wait by yum: kernel, python3.11-libs, a-package-with-a-name-that-is-very-long-indeed",
            ),
            (
                "zypper",
                host(&[(list, 0, ZYPPER), (patches, 0, PATCHES)]),
                "OK - 2 updates wait by zypper, 1 of them for security: libzck1, vim",
            ),
            (
                "apk",
                host(&[("apk --no-network -u list", 0, APK)]),
                "OK - 2 updates wait by apk: busybox-1.36.1-r29, libcrypto3-3.1.7-r1",
            ),
            (
                "pacman",
                host(&[
                    ("pacman -Q pacman", 0, "pacman 6.0.2-8\n"),
                    ("pacman -Qu", 0, "linux 6.6.1-1 -> 6.6.2-1\nzfs 2.2-1 -> 2.3-1 [ignored]\n"),
                ]),
                "OK - 1 updates wait by pacman: linux",
            ),
            (
                "pacman",
                host(&[("pacman -Q pacman", 0, "pacman 6.0.2-8\n"), ("pacman -Qu", 1, "")]),
                "OK - 0 updates wait by pacman",
            ),
            ("pkg", audit, "OK - 1 updates wait by pkg, 1 of them for security: curl-8.4.0"),
            (
                "nix",
                Sample::default(),
                "UNKNOWN - this host has no package manager that is known here (apt, dnf, yum, zypper, apk, pacman, pkg)",
            ),
        ] {
            let output = with("updates", &json!({"manager": manager}), &host, &host, Some("> 9")).output;
            assert_eq!(output, format!("UPDATES {found}"), "{manager}");
        }
    }

    #[test]
    fn the_manager_is_found_and_security_can_be_judged() {
        let mut sample = host(&[("apt-get -s -q -o Debug::NoLocking=true dist-upgrade", 0, APT)]);
        sample.0.extend([
            ("/etc/os-release".to_owned(), "ID=debian\n".to_owned()),
            ("/usr/bin/apt-get".to_owned(), String::new()),
            ("/var/lib/apt/lists/partial/x".to_owned(), String::new()),
        ]);
        sample.2.now = 400_000;
        sample.2.modified.insert("/var/lib/apt/lists".into(), 50_000);
        let found = with("updates", &json!({"judge": "security"}), &sample, &sample, Some("> 2"));
        assert_eq!(found.value, protocol::Scalar::number(3.0));
        assert!(
            found.output.starts_with("UPDATES WARNING - 4 updates")
                && found.output.ends_with("the index is 4.1 d old")
        );
        let alpine = host(&[("apk --no-network -u list", 0, APK)]);
        let found = with("updates", &json!({"judge": "security", "manager": "apk"}), &alpine, &alpine, None);
        assert_eq!(found.output, "UPDATES UNKNOWN - apk does not tell which updates are for security");
    }
}
