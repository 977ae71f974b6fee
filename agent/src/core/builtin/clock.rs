//! The clock, as the time service of the host sees it: chrony, ntpd or systemd-timesyncd. Nothing is asked over the
//! network.

use super::{
    Host, Judged, Measured, Number, Options, Rates,
    dbus::{self, Call, Reply},
    decimal, files,
};

/// What a time service says.
#[derive(Debug, Clone, PartialEq)]
struct Clock {
    service: &'static str,
    synchronized: bool,
    /// How far the clock is off, in milliseconds, where it is known; the sign is of no use.
    offset: Option<f64>,
    /// Distance to a reference clock.
    stratum: Option<f64>,
    /// Seconds since the clock was last compared.
    age: Option<f64>,
}

pub(super) fn time(host: &dyn Host, _: &Options, _: &mut Rates<'_>) -> Result<Measured, String> {
    let mut why = Vec::new();
    for ask in [chrony, timesyncd, ntpd] {
        match ask(host) {
            Ok(Some(clock)) => return Ok(measured(&clock)),
            Ok(None) => {}
            Err(reason) => why.push(reason),
        }
    }
    Err(if why.is_empty() {
        "no time service runs here (chrony, systemd-timesyncd and ntpd are known)".to_owned()
    } else {
        why.join("; ")
    })
}

fn measured(clock: &Clock) -> Measured {
    let mut numbers = Vec::new();
    numbers.extend(clock.offset.map(|offset| Number::new("offset", offset.abs(), "ms").judged()));
    let judged = Judged::Above { warning: Some(0.0), critical: None };
    let lost = if clock.synchronized { 0.0 } else { 1.0 };
    numbers.push(Number { judged, max: Some(1.0), ..Number::new("unsynchronized", lost, "") });
    numbers.extend(clock.stratum.map(|stratum| Number::new("stratum", stratum, "")));
    numbers.extend(clock.age.map(|age| Number::new("age", age, "s")));
    let state = if clock.synchronized { "synchronized" } else { "not synchronized" };
    let offset = clock.offset.map(|offset| format!(", {:.3} ms off", offset.abs())).unwrap_or_default();
    let age = clock.age.map(|age| format!(", compared {} ago", files::time(Some(age)))).unwrap_or_default();
    let text = format!("{state} by {}{offset}{age}", clock.service);
    Measured { numbers, text, ..Measured::default() }
}

/// `None` when it does not run here.
type Found = Result<Option<Clock>, String>;

fn chrony(host: &dyn Host) -> Found {
    if !["/run/chrony", "/run/chrony/chronyd.pid", "/run/chronyd.pid"]
        .iter()
        .any(|path| host.meta(path).is_some())
    {
        return Ok(None);
    }
    let ran = host.run("chronyc", &["-n", "-c", "tracking"])?;
    tracking(&ran.stdout, host.now()).map(Some).ok_or_else(|| {
        let said = [ran.stdout.trim(), ran.stderr.trim()].join(" ");
        format!("chronyc says nothing of use: {}", said.trim())
    })
}

/// The line of `chronyc -c tracking`: id, address, stratum, time of the last update, offset of the system clock in
/// seconds, …, leap status.
fn tracking(text: &str, now: u64) -> Option<Clock> {
    let fields: Vec<&str> = text.lines().find(|line| line.contains(','))?.trim().split(',').collect();
    let number = |index: usize| fields.get(index).and_then(|text| decimal(text));
    let leap = fields.get(13)?;
    // Without a source there is no update, and no offset.
    let synchronized = !leap.starts_with("Not sync");
    let updated = number(3).filter(|at| *at > 0.0);
    Some(Clock {
        service: "chrony",
        synchronized,
        offset: number(4).filter(|_| synchronized).map(|seconds| seconds * 1_000.0),
        stratum: number(2).filter(|_| synchronized),
        age: updated.map(|at| (super::float(now) - at).max(0.0)),
    })
}

fn ntpd(host: &dyn Host) -> Found {
    let pids =
        ["/run/ntpd.pid", "/run/ntp/ntpd.pid", "/var/run/ntpd.pid", "/run/ntpsec/ntpd.pid", "/run/ntpd"];
    if !pids.iter().any(|path| host.meta(path).is_some()) {
        return Ok(None);
    }
    let ran = host.run("ntpq", &["-n", "-c", "rv 0 leap,stratum,offset"])?;
    variables(&ran.stdout).map(Some).ok_or_else(|| {
        let said = [ran.stdout.trim(), ran.stderr.trim()].join(" ");
        format!("ntpq says nothing of use: {}", said.trim())
    })
}

/// What `ntpq -c rv` prints: `leap=00, stratum=2, offset=-0.123`, in milliseconds.
fn variables(text: &str) -> Option<Clock> {
    let value = |name: &str| {
        let pairs = text.split([',', '\n']).filter_map(|pair| pair.trim().split_once('='));
        pairs.filter(|(key, _)| *key == name).map(|(_, value)| value.trim()).next()
    };
    let leap = value("leap")?;
    // 11 is "alarm": it has no source that it trusts.
    let synchronized = !matches!(leap, "11" | "3" | "leap_alarm") && value("stratum") != Some("16");
    Some(Clock {
        service: "ntpd",
        synchronized,
        offset: value("offset").and_then(decimal).filter(|_| synchronized),
        stratum: value("stratum").and_then(decimal).filter(|_| synchronized),
        age: None,
    })
}

fn timesyncd(host: &dyn Host) -> Found {
    // The folder is there as long as the service runs.
    if host.meta("/run/systemd/timesync").is_none() {
        return Ok(None);
    }
    let synchronized = host.meta("/run/systemd/timesync/synchronized").is_some();
    let call = Call {
        destination: "org.freedesktop.timesync1",
        path: "/org/freedesktop/timesync1",
        interface: "org.freedesktop.DBus.Properties",
        member: "Get",
        args: &["org.freedesktop.timesync1.Manager", "NTPMessage"],
    };
    // Without the message bus, and before the first answer of a server, the offset is not known.
    let last = dbus::ask(host, &["/run/dbus/system_bus_socket"], &call).ok().and_then(|reply| last(&reply));
    let (offset, stratum, age) = match last.filter(|_| synchronized) {
        Some(last) => {
            let age = host.now().saturating_mul(1_000_000).saturating_sub(last.at) / 1_000_000;
            (Some(last.offset), Some(f64::from(last.stratum)), Some(super::float(age)))
        }
        None => (None, None, None),
    };
    Ok(Some(Clock { service: "systemd-timesyncd", synchronized, offset, stratum, age }))
}

/// The last answer of a server.
struct Last {
    stratum: u32,
    /// In milliseconds.
    offset: f64,
    /// Microseconds since 1970.
    at: u64,
}

fn last(reply: &Reply) -> Option<Last> {
    let mut body = reply.body();
    if body.signature()? != "(uuuuittayttttbtt)" {
        return None;
    }
    body.align(8);
    let (_leap, _version, _mode, stratum) = (body.u32()?, body.u32()?, body.u32()?, body.u32()?);
    let (_precision, _delay, _dispersion) = (body.u32()?, body.u64()?, body.u64()?);
    let _reference = body.array(1, |item| item.byte())?;
    let [origin, received, sent, at] = [body.u64()?, body.u64()?, body.u64()?, body.u64()?];
    let signed = |time: u64| i64::try_from(time).ok();
    let there = signed(received)?.checked_sub(signed(origin)?)?;
    let back = signed(sent)?.checked_sub(signed(at)?)?;
    let micros = there.checked_add(back)? / 2;
    let offset = super::float(micros.unsigned_abs()) / 1_000.0;
    (at > 0).then_some(Last { stratum, offset, at })
}

#[cfg(test)]
mod tests {
    use protocol::Status;

    use super::*;
    use crate::core::builtin::{
        dbus::tests::{align, conversation},
        tests::{Sample, with},
    };

    #[test]
    fn what_time_services_say_is_understood() {
        let good = "A29FC87B,162.159.200.123,4,1795220000.123456789,-0.000045678,0.000012,0.000034,-12.345,0.001,0.02,0.0123,0.0004,64.5,Normal\n";
        let good = tracking(good, 1_795_220_040).unwrap();
        assert_eq!(
            (good.synchronized, good.stratum, good.age.map(f64::round)),
            (true, Some(4.0), Some(40.0))
        );
        assert_eq!(good.offset.map(|offset| (offset * 1e6).round()), Some(-45_678.0));
        let lost =
            "7F7F0101,,0,0.000000000,0.000000000,0.0,0.0,0.000,0.000,0.000,1.0,1.0,0.0,Not synchronised\n";
        let lost = tracking(lost, 1_795_220_040).unwrap();
        assert_eq!((lost.synchronized, lost.offset, lost.age), (false, None, None));
        for text in ["", "506 Cannot talk to daemon\n", "a,b\n"] {
            assert_eq!(tracking(text, 0), None, "{text}");
        }
        let ntp = variables("leap=00, stratum=3, offset=-1.250\n").unwrap();
        assert_eq!((ntp.synchronized, ntp.offset, ntp.stratum), (true, Some(-1.25), Some(3.0)));
        let alarm = variables("leap=11, stratum=16,\noffset=0.000\n").unwrap();
        assert_eq!((alarm.synchronized, alarm.offset), (false, None));
        assert_eq!(variables("ntpq: read: Connection refused\n"), None);
    }

    #[test]
    fn the_last_message_of_timesyncd_gives_the_offset() {
        let mut body = vec![17];
        body.extend(b"(uuuuittayttttbtt)\0");
        align(&mut body, 8);
        for number in [0_u32, 4, 4, 2, 0xffff_ffe8] {
            body.extend(number.to_le_bytes());
        }
        align(&mut body, 8);
        for number in [1_000_u64, 500] {
            body.extend(number.to_le_bytes());
        }
        body.extend(4_u32.to_le_bytes());
        body.extend(b"GPS\0");
        align(&mut body, 8);
        // Sent at 0, there at 30 ms by the other clock, answered at 31, back at 21: 20 ms behind.
        let at = 1_795_220_000_000_000_u64;
        for millis in [0, 30, 31, 21] {
            body.extend((at + millis * 1_000).to_le_bytes());
        }
        body[0] = u8::try_from("(uuuuittayttttbtt)".len()).unwrap();
        let mut host = Sample::of(&[("/run/systemd/timesync/x", "")]);
        host.2.now = at / 1_000_000 + 61;
        let found = |host: &Sample| {
            let found = with("time", &serde_json::json!({}), host, host, None);
            (found.status, found.output)
        };
        let unsynchronized = "TIME WARNING - not synchronized by systemd-timesyncd".to_owned();
        assert_eq!(found(&host), (Status::Warning, unsynchronized));
        host.0.insert("/run/systemd/timesync/synchronized".into(), String::new());
        let unknown = "TIME OK - synchronized by systemd-timesyncd".to_owned();
        assert_eq!(found(&host), (Status::Ok, unknown));
        for end in [body.len(), 30] {
            host.2.sockets.insert("/run/dbus/system_bus_socket".into(), conversation(2, "v", &body[..end]));
            let known = if end == 30 { "" } else { ", 20.000 ms off, compared 60 s ago" };
            assert_eq!(
                found(&host),
                (Status::Ok, format!("TIME OK - synchronized by systemd-timesyncd{known}"))
            );
        }
        let none = "TIME UNKNOWN - no time service runs here (chrony, systemd-timesyncd and ntpd are known)"
            .to_owned();
        assert_eq!(found(&Sample::default()), (Status::Unknown, none));
    }
}
