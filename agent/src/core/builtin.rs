//! Built-in checks: from a reading of the host to a finding, in the manner of the standard plugins.

use protocol::{Metric, Scalar, Status, Threshold};

use super::{
    check::Check,
    output::{Finding, status_of},
};

/// What was read from the host.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading {
    /// Percent of all processors, 0 to 100.
    Cpu {
        used: f64,
    },
    /// Bytes; `available` is what programs can get without swapping.
    Memory {
        total: u64,
        available: u64,
    },
    /// Averages over 1, 5 and 15 minutes, and the number of processors.
    Load {
        averages: [f64; 3],
        cpus: u32,
    },
    Disk {
        mounts: Vec<Mount>,
    },
    Uptime {
        seconds: u64,
    },
}

/// One file system; bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub path: String,
    pub used: u64,
    /// What an ordinary user can still write.
    pub available: u64,
}

impl Mount {
    /// As `df` shows it: what is reserved for root counts as neither used nor available.
    #[must_use]
    pub fn percent(&self) -> f64 {
        percent(self.used, self.used.saturating_add(self.available))
    }
}

/// Thresholds where the check gives none.
struct Defaults {
    warning: Option<Threshold>,
    critical: Option<Threshold>,
}

impl Defaults {
    fn above(warning: f64, critical: f64) -> Self {
        Self { warning: format!("> {warning}").parse().ok(), critical: format!("> {critical}").parse().ok() }
    }

    fn none() -> Self {
        Self { warning: None, critical: None }
    }
}

/// Judge a reading by the check's thresholds, or by the defaults of the built-in when it has neither.
#[must_use]
pub fn judge(check: &Check, reading: &Reading) -> Finding {
    match reading {
        Reading::Cpu { used } => {
            let judge = Judge::new(check, Defaults::above(90.0, 97.0));
            judge.one("CPU", "cpu", *used, "%", (Some(0.0), Some(100.0)), format!("{used:.1}% used"))
        }
        Reading::Memory { total, available } => {
            let judge = Judge::new(check, Defaults::above(90.0, 95.0));
            let used = percent(total.saturating_sub(*available), *total);
            let text = format!("{used:.1}% used, {} of {} available", bytes(*available), bytes(*total));
            judge.one("MEMORY", "memory", used, "%", (Some(0.0), Some(100.0)), text)
        }
        Reading::Load { averages: [one, five, fifteen], cpus } => {
            let cpus = (*cpus).max(1);
            let judge = Judge::new(check, Defaults::above(2.0 * f64::from(cpus), 4.0 * f64::from(cpus)));
            let text = format!("{one:.2} {five:.2} {fifteen:.2} on {cpus} processors");
            let mut finding = judge.one("LOAD", "load1", *one, "", (Some(0.0), None), text);
            for (name, value) in [("load5", five), ("load15", fifteen)] {
                finding.metrics.push(Metric { min: Some(0.0), ..plain(name, *value) });
            }
            finding
        }
        Reading::Disk { mounts } => disk(&Judge::new(check, Defaults::above(80.0, 90.0)), mounts),
        Reading::Uptime { seconds } => {
            let judge = Judge::new(check, Defaults::none());
            let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
            #[allow(clippy::cast_precision_loss)] // exact below 2^53 seconds
            let value = *seconds as f64;
            judge.one(
                "UPTIME",
                "uptime",
                value,
                "s",
                (Some(0.0), None),
                format!("{days}d {hours}h {minutes}m"),
            )
        }
    }
}

fn disk(judge: &Judge<'_>, mounts: &[Mount]) -> Finding {
    let worst = mounts.iter().max_by(|a, b| a.percent().total_cmp(&b.percent()));
    let Some(worst) = worst else {
        return Finding::unknown("DISK UNKNOWN - no file system on a disk is mounted here");
    };
    let used = worst.percent();
    let (free, of) = (bytes(worst.available), bytes(worst.used.saturating_add(worst.available)));
    let text = format!("{} {used:.1}% used, {free} of {of} available", worst.path);
    let mut finding = judge.one("DISK", &worst.path, used, "%", (Some(0.0), Some(100.0)), text);
    finding.metrics.clear();
    for mount in mounts {
        finding.metrics.push(judge.metric(&mount.path, mount.percent(), "%", (Some(0.0), Some(100.0))));
    }
    // A threshold such as "< 10" is worst at the other end, so every mount is judged.
    let status = mounts.iter().map(|mount| judge.status(mount.percent())).max().unwrap_or(finding.status);
    finding.output = finding.output.replacen(&shout(finding.status), &shout(status), 1);
    finding.status = status;
    finding
}

struct Judge<'a> {
    check: &'a Check,
    warning: Option<Threshold>,
    critical: Option<Threshold>,
}

impl<'a> Judge<'a> {
    fn new(check: &'a Check, defaults: Defaults) -> Self {
        let given = check.warning.is_some() || check.critical.is_some();
        let (warning, critical) = if given {
            (check.warning.clone(), check.critical.clone())
        } else {
            (defaults.warning, defaults.critical)
        };
        Self { check, warning, critical }
    }

    fn status(&self, value: f64) -> Status {
        status_of(self.warning.as_ref(), self.critical.as_ref(), value)
    }

    fn one(
        &self,
        title: &str,
        name: &str,
        value: f64,
        unit: &str,
        bounds: (Option<f64>, Option<f64>),
        text: String,
    ) -> Finding {
        let (value, status) = (rounded(value), self.status(value));
        let unit_given = self.check.unit.clone();
        Finding {
            status,
            value: Scalar::number(value),
            unit: unit_given.or_else(|| (!unit.is_empty()).then(|| unit.to_owned())),
            metrics: vec![self.metric(name, value, unit, bounds)],
            output: format!("{title} {} - {text}", shout(status)),
            exit_code: None,
        }
    }

    fn metric(&self, name: &str, value: f64, unit: &str, (min, max): (Option<f64>, Option<f64>)) -> Metric {
        let text = |threshold: &Option<Threshold>| threshold.as_ref().map(|t| t.as_str().to_owned());
        Metric {
            unit: (!unit.is_empty()).then(|| unit.to_owned()),
            warn: text(&self.warning),
            crit: text(&self.critical),
            min,
            max,
            ..plain(name, rounded(value))
        }
    }
}

fn plain(name: &str, value: f64) -> Metric {
    Metric { name: name.to_owned(), value, unit: None, warn: None, crit: None, min: None, max: None }
}

fn shout(status: Status) -> String {
    status.as_str().to_ascii_uppercase()
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[allow(clippy::cast_precision_loss)] // a percentage needs no more than 53 bits
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 * 100.0 }
}

fn bytes(bytes: u64) -> String {
    #[allow(clippy::cast_precision_loss)] // for people, to a tenth
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            return format!("{value:.1} {unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.1} PiB")
}

#[cfg(test)]
mod tests {
    use protocol::{CheckName, config::CheckSpec};

    use super::*;

    fn judged(reading: &Reading, warning: Option<&str>) -> Finding {
        let check = Check::from(CheckSpec {
            name: CheckName::new("c").unwrap(),
            command: None,
            builtin: Some("cpu".into()),
            every_ms: 1000,
            timeout_ms: 1000,
            output: protocol::document::OutputFormat::Number,
            unit: None,
            warning: warning.map(|text| text.parse().unwrap()),
            critical: None,
        });
        judge(&check, reading)
    }

    #[test]
    fn readings_are_judged_by_defaults_and_by_the_check() {
        let gib = 1 << 30;
        let mount = |path: &str, used, available| Mount { path: path.into(), used, available };
        let disk = Reading::Disk { mounts: vec![mount("/", 40, 60), mount("/var", 85, 15)] };
        let load = |one| Reading::Load { averages: [one, 0.5, 0.25], cpus: 2 };
        for (reading, warning, status, output) in [
            (Reading::Cpu { used: 12.34 }, None, Status::Ok, "CPU OK - 12.3% used"),
            (Reading::Cpu { used: 95.0 }, None, Status::Warning, "CPU WARNING - 95.0% used"),
            (Reading::Cpu { used: 99.0 }, None, Status::Critical, "CPU CRITICAL - 99.0% used"),
            (Reading::Cpu { used: 99.0 }, Some("> 50"), Status::Warning, "CPU WARNING - 99.0% used"),
            (
                Reading::Memory { total: 16 * gib, available: 4 * gib },
                None,
                Status::Ok,
                "MEMORY OK - 75.0% used, 4.0 GiB of 16.0 GiB available",
            ),
            (load(4.5), None, Status::Warning, "LOAD WARNING - 4.50 0.50 0.25 on 2 processors"),
            (load(1.0), None, Status::Ok, "LOAD OK - 1.00 0.50 0.25 on 2 processors"),
            (
                disk.clone(),
                None,
                Status::Warning,
                "DISK WARNING - /var 85.0% used, 15.0 B of 100.0 B available",
            ),
            (
                disk,
                Some("< 50"),
                Status::Warning,
                "DISK WARNING - /var 85.0% used, 15.0 B of 100.0 B available",
            ),
            (Reading::Uptime { seconds: 93_784 }, None, Status::Ok, "UPTIME OK - 1d 2h 3m"),
            (
                Reading::Disk { mounts: vec![] },
                None,
                Status::Unknown,
                "DISK UNKNOWN - no file system on a disk is mounted here",
            ),
        ] {
            let found = judged(&reading, warning);
            assert_eq!((found.status, found.output.as_str()), (status, output));
        }
    }

    #[test]
    fn every_mount_and_every_average_is_a_metric() {
        let found = judged(&Reading::Load { averages: [1.0, 2.0, 3.0], cpus: 1 }, None);
        let names: Vec<_> = found.metrics.iter().map(|metric| metric.name.as_str()).collect();
        assert_eq!(names, ["load1", "load5", "load15"]);
        let mounts = ["/", "/var"].map(|path| Mount { path: path.into(), used: 1, available: 3 });
        let found = judged(&Reading::Disk { mounts: mounts.to_vec() }, None);
        assert_eq!(found.value, Scalar::number(25.0));
        assert_eq!(found.metrics.len(), 2);
        assert_eq!(found.metrics.first().and_then(|m| m.warn.as_deref()), Some("> 80"));
        assert_eq!(judged(&Reading::Memory { total: 0, available: 5 }, None).value, Scalar::number(0.0));
    }
}
