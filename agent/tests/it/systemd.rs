//! The built-in checks of units against a real systemd, over a real message bus and over its private socket.
//!
//! A user's instance of systemd does, in a mount namespace in which `/run` is ours.

use std::{path::Path, process::Command};

const SYSTEMD: &str = "/lib/systemd/systemd";

const SCRIPT: &str = r#"
set -eu
mount -t tmpfs none /run
mkdir -p /run/dbus /run/systemd/system /run/user/0/systemd/user
cat > /run/bus.conf <<X
<busconfig><type>session</type><listen>unix:path=/run/user/0/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*"/><allow own="*"/></policy></busconfig>
X
ln -s /run/user/0/bus /run/dbus/system_bus_socket
export XDG_RUNTIME_DIR=/run/user/0 DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/0/bus
printf '[Service]\nType=oneshot\nExecStart=/bin/false\n' > /run/user/0/systemd/user/broken.service
printf '[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n' > /run/user/0/systemd/user/good.service
dbus-daemon --config-file=/run/bus.conf --nofork &
bus=$!
for _ in $(seq 300); do [ -S /run/user/0/bus ] && break; sleep 0.1; done
/lib/systemd/systemd --user > /run/systemd.log 2>&1 &
systemd=$!
trap 'kill $systemd $bus; wait' EXIT
for _ in $(seq 300); do systemctl --user start good 2>/dev/null && break; sleep 0.1; done
systemctl --user start broken 2>/dev/null || true
echo BUS
"$1" check systemd || true
"$1" check systemd --units good,absent.timer --exclude 'bro*' || true
"$1" check service --name good,broken || true
echo PRIVATE
rm /run/dbus/system_bus_socket
ln -s /run/user/0/systemd/private /run/systemd/private
"$1" check systemd || true
"#;

#[test]
fn units_of_a_real_systemd_are_listed() {
    let succeeds = |program: &str, args: &[&str]| {
        Command::new(program).args(args).output().is_ok_and(|ran| ran.status.success())
    };
    let can = Path::new(SYSTEMD).exists()
        && succeeds("dbus-daemon", &["--version"])
        && succeeds("unshare", &["-m", "mount", "-t", "tmpfs", "none", "/run"]);
    if !can {
        eprintln!("NOT TESTED: systemd, since this needs root, unshare, dbus-daemon and {SYSTEMD}");
        return;
    }
    let ran = Command::new("unshare")
        .args([
            "-m",
            "timeout",
            "-k",
            "5",
            "120",
            "bash",
            "-c",
            SCRIPT,
            "bash",
            env!("CARGO_BIN_EXE_dogwatch-agent"),
        ])
        .output()
        .unwrap();
    let (said, errors) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    if !said.contains("BUS") {
        // Some sandboxes let no systemd run at all.
        eprintln!("NOT TESTED: systemd does not start here: {errors}");
        return;
    }
    let (bus, private) = said.split_once("PRIVATE\n").unwrap_or_else(|| panic!("{said}{errors}"));
    let lines: Vec<&str> = bus.lines().skip(1).collect();
    assert_eq!(lines.len(), 3, "{said}{errors}");
    for line in [lines[0], private] {
        assert!(
            line.starts_with("SYSTEMD WARNING - 1 of ") && line.contains("failed: broken.service"),
            "{said}"
        );
    }
    assert!(lines[1].starts_with("SYSTEMD CRITICAL - absent.timer is not loaded; none of "), "{said}");
    assert!(lines[2].starts_with("SERVICE CRITICAL - broken is down (systemd: failed, failed) |"), "{said}");
    assert!(lines[2].contains("'good up'=1;"), "{said}");
}
