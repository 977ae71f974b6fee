//! Processors, memory, processes, network: texts of `/proc`.

use super::{
    Host, Judged, Measured, Number, Options, Rates, bytes, decimal, entry, float, highest, pattern::Choice,
    percent, word,
};

pub(super) fn cpu(host: &dyn Host, _: &Options, rates: &mut Rates<'_>) -> Result<Measured, String> {
    // user nice system idle iowait irq softirq steal; the guests' time is part of user and nice.
    const NAMES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
    let text = host.text("/proc/stat")?;
    let line = text.lines().find(|line| line.starts_with("cpu ")).ok_or("/proc/stat has no line \"cpu\"")?;
    let grown = NAMES.map(|name| {
        let index = NAMES.iter().position(|other| *other == name)?;
        // The kernel's idle and iowait sometimes step back a little.
        let count = word(line, index + 1)?;
        Some(rates.increase(name, count).unwrap_or(0))
    });
    let [user, nice, system, idle, iowait, irq, softirq, steal] = grown.map(Option::unwrap_or_default);
    let sum = |counts: &[u64]| counts.iter().copied().fold(0, u64::saturating_add);
    let total = sum(&[user, nice, system, idle, iowait, irq, softirq, steal]);
    let used = percent(total.saturating_sub(idle).saturating_sub(iowait), total);
    let (waiting, stolen) = (percent(iowait, total), percent(steal, total));
    Ok(Measured {
        numbers: vec![
            Number::percent("cpu", used).judged(),
            Number::percent("user", percent(sum(&[user, nice]), total)),
            Number::percent("system", percent(sum(&[system, irq, softirq]), total)),
            Number::percent("iowait", waiting),
            Number::percent("steal", stolen),
        ],
        text: format!("{used:.1}% used, {waiting:.1}% waiting for disks, {stolen:.1}% stolen"),
        ..Measured::default()
    })
}

pub(super) fn memory(host: &dyn Host, _: &Options, _: &mut Rates<'_>) -> Result<Measured, String> {
    let text = host.text("/proc/meminfo")?;
    let kib = |key| entry(&text, key);
    let total = kib("MemTotal").filter(|total| *total > 0).ok_or("/proc/meminfo has no MemTotal")?;
    // Kernels before 3.14 do not say it themselves.
    let estimate = || Some(kib("MemFree")?.saturating_add(kib("Buffers")?).saturating_add(kib("Cached")?));
    let available = kib("MemAvailable").or_else(estimate);
    let available = available.ok_or("/proc/meminfo has no MemAvailable")?.min(total);
    let used = percent(total - available, total);
    let (available, total) = (float(available) * 1024.0, float(total) * 1024.0);
    Ok(Measured {
        numbers: vec![
            Number::percent("memory", used).judged(),
            Number { max: Some(total), ..Number::new("available", available, "B") },
        ],
        text: format!("{used:.1}% used, {} of {} available", bytes(available), bytes(total)),
        ..Measured::default()
    })
}

/// Memory of the host in bytes, from the text of `/proc/meminfo`.
#[must_use]
pub fn memory_total(meminfo: &str) -> Option<u64> {
    entry(meminfo, "MemTotal")?.checked_mul(1024)
}

pub(super) fn swap(host: &dyn Host, _: &Options, rates: &mut Rates<'_>) -> Result<Measured, String> {
    let text = host.text("/proc/meminfo")?;
    let (total, free) = (entry(&text, "SwapTotal"), entry(&text, "SwapFree"));
    let (Some(total), Some(free)) = (total, free) else {
        return Err("/proc/meminfo has no SwapTotal and SwapFree".to_owned());
    };
    let used = percent(total.saturating_sub(free), total);
    let mut numbers = vec![Number::percent("swap", used).judged()];
    let vmstat = host.text("/proc/vmstat").unwrap_or_default();
    for (name, key) in [("swap_in", "pswpin"), ("swap_out", "pswpout")] {
        let rate = entry(&vmstat, key).and_then(|pages| rates.per_second(name, pages));
        numbers.extend(rate.map(|rate| Number::new(name, rate, "pages/s")));
    }
    let text = if total == 0 {
        "this host has no swap".to_owned()
    } else {
        let bytes = |kib| bytes(float(kib) * 1024.0);
        format!("{used:.1}% used, {} of {} free", bytes(free), bytes(total))
    };
    Ok(Measured { numbers, text, ..Measured::default() })
}

pub(super) fn load(host: &dyn Host, _: &Options, _: &mut Rates<'_>) -> Result<Measured, String> {
    let text = host.text("/proc/loadavg")?;
    let mut words = text.split_whitespace().map_while(decimal);
    let (Some(one), Some(five), Some(fifteen)) = (words.next(), words.next(), words.next()) else {
        return Err(format!("/proc/loadavg does not begin with three numbers: {:?}", text.trim()));
    };
    // The load is that of the whole host, also inside a container that may use a part of it.
    let cpu = |line: &str| line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(char::is_numeric));
    let count = host.text("/proc/stat")?.lines().filter(|line| cpu(line)).count();
    let processors = u32::try_from(count).unwrap_or(u32::MAX).max(1);
    Ok(Measured {
        numbers: vec![
            Number::new("load1", one, "").judged(),
            Number::new("load5", five, ""),
            Number::new("load15", fifteen, ""),
        ],
        text: format!("{one:.2} {five:.2} {fifteen:.2} on {processors} processors"),
        processors,
        ..Measured::default()
    })
}

pub(super) fn pressure(host: &dyn Host, _: &Options, _: &mut Rates<'_>) -> Result<Measured, String> {
    let mut numbers = Vec::new();
    for (resource, kind, judged) in [
        ("memory", "full", true),
        ("io", "full", true),
        ("memory", "some", false),
        ("io", "some", false),
        ("cpu", "some", false),
    ] {
        let text = host.text(&format!("/proc/pressure/{resource}")).map_err(|error| {
            format!("{error} (pressure stall information needs Linux 4.20 or newer, and on some systems the kernel option psi=1)")
        })?;
        let line = text.lines().find(|line| line.starts_with(kind));
        let average = line
            .and_then(|line| line.split_whitespace().find_map(|word| decimal(word.strip_prefix("avg60=")?)));
        let average = average.ok_or_else(|| format!("/proc/pressure/{resource} has no avg60 of {kind:?}"))?;
        let number = Number::percent(format!("{resource}_{kind}"), average);
        numbers.push(if judged { number.judged() } else { number });
    }
    let text = numbers.iter().map(|number| format!("{} {:.1}%", number.name, number.value));
    let text = format!("in the last minute {}", text.collect::<Vec<_>>().join(", "));
    Ok(Measured { numbers, text, ..Measured::default() })
}

pub(super) fn open_files(host: &dyn Host, _: &Options, _: &mut Rates<'_>) -> Result<Measured, String> {
    let text = host.text("/proc/sys/fs/file-nr")?;
    // Allocated, allocated but unused (always 0 since Linux 2.6), and the limit.
    let (Some(allocated), Some(unused), Some(limit)) = (word(&text, 0), word(&text, 1), word(&text, 2))
    else {
        return Err(format!("/proc/sys/fs/file-nr does not hold three numbers: {:?}", text.trim()));
    };
    Ok(of_limit("open_files", "open", allocated.saturating_sub(unused), limit))
}

pub(super) fn conntrack(host: &dyn Host, _: &Options, _: &mut Rates<'_>) -> Result<Measured, String> {
    let read = |name: &str| {
        let path = format!("/proc/sys/net/netfilter/nf_conntrack_{name}");
        let text = host.text(&path).map_err(|error| {
            format!("{error} (the kernel tracks connections only with the module nf_conntrack)")
        })?;
        word(&text, 0).ok_or_else(|| format!("{path} does not hold a number: {:?}", text.trim()))
    };
    Ok(of_limit("conntrack", "connections", read("count")?, read("max")?))
}

/// A share of a limit, and the number itself.
fn of_limit(name: &str, what: &str, count: u64, limit: u64) -> Measured {
    let used = percent(count, limit);
    let number = Number { max: Some(float(limit)), ..Number::new(what, float(count), "") };
    Measured {
        numbers: vec![Number::percent(name, used).judged(), number],
        text: format!("{used:.1}% used, {count} of {limit}"),
        ..Measured::default()
    }
}

pub(super) fn network(host: &dyn Host, options: &Options, rates: &mut Rates<'_>) -> Result<Measured, String> {
    let choice = Choice::of(options, "devices");
    let text = host.text("/proc/net/dev")?;
    let mut numbers = Vec::new();
    let (mut interfaces, mut received, mut sent) = (0_u32, 0.0, 0.0);
    for line in text.lines() {
        // Two lines of titles have no colon. A name may touch the number behind it.
        let Some((name, counts)) = line.split_once(':') else { continue };
        let name = name.trim();
        let count = |index| word(counts, index).unwrap_or(0);
        // Received: bytes packets errs drop fifo frame compressed multicast; sent: the same from 8 on.
        let unused = count(1) == 0 && count(9) == 0;
        // One end of each container's cable comes and goes with it.
        let dull = !choice.names_some() && (name == "lo" || name.starts_with("veth"));
        if dull || unused || !choice.takes(name) {
            continue;
        }
        interfaces += 1;
        let mut rate = |what: &str, count| rates.per_second(format!("{name}_{what}"), count);
        let traffic = [("rx", count(0)), ("tx", count(8))].map(|(what, count)| (what, rate(what, count)));
        let errors = rate("errors", count(2).saturating_add(count(10)));
        let drops = rate("drops", count(3).saturating_add(count(11)));
        for (what, rate) in traffic {
            numbers.extend(rate.map(|rate| Number::new(format!("{name}_{what}"), rate, "B/s")));
            *(if what == "rx" { &mut received } else { &mut sent }) += rate.unwrap_or(0.0);
        }
        numbers.extend(errors.map(|rate| Number::new(format!("{name}_errors"), rate, "/s").judged()));
        numbers.extend(drops.map(|rate| Number::new(format!("{name}_drops"), rate, "/s")));
    }
    if interfaces == 0 {
        let which = if choice.names_some() { "none of these interfaces" } else { "no network interface" };
        return Err(format!("{which} has moved a packet yet"));
    }
    let worst = highest(numbers.iter().filter(|number| number.judged == Judged::ByCheck));
    let worst = worst.filter(|number| number.value > 0.0);
    let worst = worst.map(|number| format!(", {} {:.1}/s", number.name, number.value)).unwrap_or_default();
    let text =
        format!("{interfaces} interfaces, {}/s received, {}/s sent{worst}", bytes(received), bytes(sent));
    Ok(Measured { numbers, text, ..Measured::default() })
}
