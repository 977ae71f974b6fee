//! Nagios 4 on the same command and as many services: how many a second, at what cost.

use std::{fmt::Write, fs, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, ensure};
use tokio::time::Instant;

use super::{bare::Measured, peers::open_folder, proc, proc::Running, stack::on_core};

const PROGRAM: &str = "/usr/sbin/nagios4";
const STATISTICS: &str = "/usr/sbin/nagios4stats";
/// It counts the checks of the last minute.
const MINUTE: Duration = Duration::from_secs(60);
const WARM_UP: Duration = Duration::from_secs(15);

/// # Errors
/// What is missing, or why it did not run here.
pub(crate) async fn run(
    folder: &Path,
    core: Option<usize>,
    services: u32,
    shell_command: &str,
) -> anyhow::Result<Measured> {
    ensure!(Path::new(PROGRAM).is_file() && Path::new(STATISTICS).is_file(), "not installed");
    let folder = open_folder(folder, "nagios4")?;
    open_folder(&folder, "checkresults")?;
    let config = folder.join("nagios.cfg");
    fs::write(&config, settings(&folder))?;
    fs::write(folder.join("objects.cfg"), objects(services, shell_command))?;
    let mut command = on_core(core, Path::new(PROGRAM));
    let mut nagios = Running::start(command.arg(&config), &folder.join("log"))?;
    tokio::time::sleep(WARM_UP).await;
    let (before, begun) = (proc::cpu(nagios.pid()), Instant::now());
    tokio::time::sleep(MINUTE).await;
    let cpu = proc::cpu(nagios.pid()) - before;
    let window = begun.elapsed();
    // The status file, which the count is made from, is written every 5 seconds.
    let said = || fs::read_to_string(folder.join("log")).unwrap_or_default();
    ensure!(nagios.alive(), "it ended: {}", said());
    let output =
        Command::new(STATISTICS).arg("-c").arg(&config).args(["-m", "-d", "NUMACTSVCCHECKS1M"]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let rate =
        text.parse::<f64>().with_context(|| format!("its statistics are {text:?}"))? / MINUTE.as_secs_f64();
    ensure!(rate > 0.0, "it ran no check: {}", said());
    Ok(Measured { rate, cpu_ms: cpu * 1e3 / (rate * window.as_secs_f64()) })
}

fn settings(folder: &Path) -> String {
    let at = |name: &str| folder.join(name).display().to_string();
    let files = [
        ("log_file", "nagios.log"),
        ("cfg_file", "objects.cfg"),
        ("object_cache_file", "objects.cache"),
        ("precached_object_file", "objects.precache"),
        ("status_file", "status.dat"),
        ("command_file", "nagios.cmd"),
        ("query_socket", "nagios.qh"),
        ("lock_file", "nagios.pid"),
        ("temp_file", "nagios.tmp"),
        ("check_result_path", "checkresults"),
        ("state_retention_file", "retention.dat"),
    ];
    let mut text: String =
        files.iter().fold(String::new(), |text, (key, name)| text + key + "=" + &at(name) + "\n");
    text.push_str(&format!("temp_path={}\n", folder.display()));
    text.push_str(
        "nagios_user=nagios\nnagios_group=nagios\ncheck_external_commands=0\nretain_state_information=0\n\
         use_syslog=0\ninterval_length=1\nmax_concurrent_checks=0\nmax_service_check_spread=1\n\
         enable_notifications=0\nenable_event_handlers=0\nprocess_performance_data=0\nstatus_update_interval=5\n\
         log_initial_states=0\n",
    );
    text
}

fn objects(services: u32, shell_command: &str) -> String {
    let mut text = format!(
        "define timeperiod {{\n timeperiod_name always\n alias always\n monday 00:00-24:00\n tuesday 00:00-24:00\n \
         wednesday 00:00-24:00\n thursday 00:00-24:00\n friday 00:00-24:00\n saturday 00:00-24:00\n sunday 00:00-24:00\n}}\n\
         define command {{\n command_name shell\n command_line /bin/sh -c \"{shell_command}\"\n}}\n\
         define contact {{\n contact_name nobody\n host_notifications_enabled 0\n service_notifications_enabled 0\n \
         host_notification_period always\n service_notification_period always\n \
         host_notification_commands shell\n service_notification_commands shell\n}}\n\
         define host {{\n host_name bench\n address 127.0.0.1\n max_check_attempts 1\n active_checks_enabled 0\n \
         check_period always\n contacts nobody\n notification_period always\n}}\n"
    );
    for service in 0..services {
        let _infallible = write!(
            text,
            "define service {{\n host_name bench\n service_description s{service}\n check_command shell\n \
             check_interval 1\n retry_interval 1\n max_check_attempts 1\n check_period always\n contacts nobody\n \
             notification_period always\n}}\n"
        );
    }
    text
}
