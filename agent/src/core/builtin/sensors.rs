//! Temperatures: the sensors of hwmon, or the thermal zones where a host has none.

use std::collections::BTreeMap;

use super::{Host, Measured, Number, Options, Rates, highest, pattern::Choice};

/// In degrees Celsius; what a broken or absent sensor says lies outside.
const PLAUSIBLE: std::ops::RangeInclusive<f64> = -100.0..=250.0;

pub(super) fn temperature(host: &dyn Host, options: &Options, _: &mut Rates<'_>) -> Result<Measured, String> {
    let mut sensors = hwmon(host);
    if sensors.is_empty() {
        sensors = zones(host);
    }
    let mut numbers = unambiguous(sensors);
    if numbers.is_empty() {
        return Err("this host shows no temperature sensor".to_owned());
    }
    let all: Vec<String> = numbers.iter().map(|number| number.name.clone()).collect();
    let choice = Choice::of(options, "sensors");
    numbers.retain(|number| choice.takes(&number.name));
    let Some(hottest) = highest(&numbers) else {
        return Err(format!("no such sensor; this host has {}", all.join(", ")));
    };
    let text = format!("{} {:.1} °C, the hottest of {} sensors", hottest.name, hottest.value, numbers.len());
    Ok(Measured { numbers, text, ..Measured::default() })
}

fn hwmon(host: &dyn Host) -> Vec<Number> {
    let mut sensors = Vec::new();
    for chip in sorted(host.names("/sys/class/hwmon")) {
        let folder = format!("/sys/class/hwmon/{chip}");
        let text = |file: &str| trimmed(host, &format!("{folder}/{file}"));
        let name = text("name").unwrap_or(chip);
        for file in sorted(host.names(&folder)) {
            let Some(sensor) = file.strip_suffix("_input").filter(|sensor| sensor.starts_with("temp")) else {
                continue;
            };
            let label = text(&format!("{sensor}_label")).unwrap_or_else(|| sensor.to_owned());
            let critical = degrees(text(&format!("{sensor}_crit"))).filter(|critical| *critical > 0.0);
            sensors.extend(number(format!("{name} {label}"), degrees(text(&file)), critical));
        }
    }
    sensors
}

fn zones(host: &dyn Host) -> Vec<Number> {
    let zones = sorted(host.names("/sys/class/thermal"));
    let zones = zones.into_iter().filter(|name| name.starts_with("thermal_zone"));
    let number = |zone: String| {
        let text = |file: &str| trimmed(host, &format!("/sys/class/thermal/{zone}/{file}"));
        number(text("type").unwrap_or_else(|| zone.clone()), degrees(text("temp")), None)
    };
    zones.filter_map(number).collect()
}

/// Two disks of a kind have sensors of one name.
fn unambiguous(mut sensors: Vec<Number>) -> Vec<Number> {
    let mut seen = BTreeMap::<String, u32>::new();
    for sensor in &mut sensors {
        let count = seen.entry(sensor.name.clone()).or_default();
        *count += 1;
        if *count > 1 {
            sensor.name = format!("{} {count}", sensor.name);
        }
    }
    sensors
}

fn number(name: String, value: Option<f64>, max: Option<f64>) -> Option<Number> {
    Some(Number { min: None, max, ..Number::new(name, value?, "°C") }.judged())
}

fn degrees(text: Option<String>) -> Option<f64> {
    let degrees = text?.parse::<f64>().ok()? / 1000.0;
    PLAUSIBLE.contains(&degrees).then_some(degrees)
}

fn trimmed(host: &dyn Host, path: &str) -> Option<String> {
    let text = host.text(path).ok()?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
    names
}
