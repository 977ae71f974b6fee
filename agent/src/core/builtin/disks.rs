//! File systems on disks, and the traffic of the disks.

use std::collections::BTreeMap;

use super::{
    Host, Judged, Measured, Number, Options, Rates, bytes, float, highest,
    pattern::{Choice, any_fits, fits, is_literal},
    percent, word,
};

/// File systems that are full by nature: nobody can write to them.
const IMAGES: [&str; 6] = ["squashfs", "erofs", "iso9660", "cramfs", "romfs", "udf"];

/// A line of `/proc/self/mountinfo` (see proc(5)).
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    path: String,
    kind: String,
    source: String,
    /// Mounted to be written to, but the kernel refuses: what it does after an error of the disk. (Whoever mounts
    /// read-only sets both flags.)
    fell_read_only: bool,
}

fn mounts(text: &str) -> Vec<Mount> {
    let mount = |line: &str| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(4);
        let (path, options) = (mount.next()?, mount.next()?);
        let mut file_system = file_system.split(' ');
        let (kind, source, super_options) = (file_system.next()?, file_system.next()?, file_system.next()?);
        let has = |options: &str, wanted| options.split(',').any(|option| option == wanted);
        Some(Mount {
            path: unescape(path),
            kind: kind.to_owned(),
            source: unescape(source),
            fell_read_only: has(options, "rw") && has(super_options, "ro"),
        })
    };
    text.lines().filter_map(mount).collect()
}

/// The kernel writes spaces, tabs, newlines and backslashes as three octal digits.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (code, part.get(3..)) {
            (Some(code), Some(rest)) => {
                plain.push(char::from(code));
                plain.push_str(rest);
            }
            _ => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}

/// A file system, and where it can be seen, the shortest path first.
#[derive(Debug, Default)]
struct FileSystem {
    paths: Vec<String>,
    fell_read_only: bool,
}

/// Every file system on a disk, once, however often it is mounted (bind mounts, subvolumes). File systems of a network
/// are left out, since asking them may hang, but for those whose path is one of `only`.
fn on_disks(all: Vec<Mount>, only: &[String], exclude: &[String]) -> Vec<FileSystem> {
    // Of what is mounted over one another, only the last can be reached.
    let reachable: BTreeMap<String, Mount> =
        all.into_iter().map(|mount| (mount.path.clone(), mount)).collect();
    let mut by_source = BTreeMap::<String, FileSystem>::new();
    let mut named = Vec::new();
    for mount in reachable.into_values() {
        let unwanted = !only.is_empty() && !any_fits(only, &mount.path);
        if unwanted || any_fits(exclude, &mount.path) || any_fits(exclude, &mount.kind) {
            continue;
        }
        if only.contains(&mount.path) {
            let paths = vec![mount.path.clone()];
            named.push(FileSystem { paths, fell_read_only: mount.fell_read_only });
            continue;
        }
        let disk = mount.source.starts_with("/dev/") || matches!(mount.kind.as_str(), "zfs" | "bcachefs");
        let container = mount.kind == "overlay" && mount.path == "/";
        let image = IMAGES.contains(&mount.kind.as_str());
        if (disk || container) && !image && !mount.kind.starts_with("fuse") {
            let known = by_source.entry(mount.source).or_default();
            known.fell_read_only |= mount.fell_read_only;
            known.paths.push(mount.path);
        }
    }
    let mut all: Vec<FileSystem> = by_source.into_values().chain(named).collect();
    all.iter_mut().for_each(|known| known.paths.sort_by_key(String::len));
    all.sort_by(|a, b| a.paths.cmp(&b.paths));
    all
}

pub(super) fn disk(host: &dyn Host, options: &Options, _: &mut Rates<'_>) -> Result<Measured, String> {
    let mut numbers = Vec::new();
    let mut read_only = Vec::new();
    let mut worst: Option<(f64, String)> = None;
    let (only, exclude) = (options.texts("mounts"), options.texts("exclude"));
    let mounts = mounts(&host.text("/proc/self/mountinfo")?);
    let is_missing = |path: &&String| !mounts.iter().any(|mount| fits(path, &mount.path));
    let missing: Vec<String> = only.iter().filter(is_missing).cloned().collect();
    for file_system in on_disks(mounts, only, exclude) {
        // A path may be a single file (a bind mount in a container), which is no place to measure at.
        let found =
            file_system.paths.into_iter().find_map(|path| host.usage(&path).map(|usage| (path, usage)));
        let Some((path, usage)) = found else { continue };
        let of = usage.used.saturating_add(usage.available);
        // As `df` shows it: what is reserved for root counts as neither used nor available.
        let used = percent(usage.used, of);
        let mut is = |value: f64, text: String| {
            if worst.as_ref().is_none_or(|(highest, _)| value > *highest) {
                worst = Some((value, text));
            }
        };
        let (free, of) = (bytes(float(usage.available)), bytes(float(of)));
        is(used, format!("{path} {used:.1}% used, {free} of {of} available"));
        numbers.push(Number::percent(path.clone(), used).judged());
        // Some file systems (btrfs, vfat) do not count files.
        if usage.inodes > 0 {
            let used = percent(usage.inodes.saturating_sub(usage.inodes_free), usage.inodes);
            is(used, format!("{path} {used:.1}% of inodes used, {} free", usage.inodes_free));
            let number = Number::percent(format!("{path} inodes"), used);
            numbers.push(Number { judged: Judged::Beside, ..number });
        }
        if file_system.fell_read_only {
            read_only.push(path);
        }
    }
    if worst.is_none() && missing.is_empty() {
        return Err(if only.is_empty() && exclude.is_empty() {
            "no file system on a disk is mounted here".to_owned()
        } else {
            "none of the file systems that are asked for says how full it is".to_owned()
        });
    }
    let mut text = worst.map(|(_, text)| text).unwrap_or_default();
    if !missing.is_empty() {
        let rest = if text.is_empty() { text } else { format!("; {text}") };
        text = format!("nothing is mounted at {}{rest}", missing.join(", "));
    }
    if !read_only.is_empty() {
        text = format!("the kernel made {} read-only after an error; {text}", read_only.join(", "));
    }
    let count = float(read_only.len() as u64);
    let judged = Judged::Above { warning: None, critical: Some(0.0) };
    numbers.push(Number { judged, ..Number::new("read_only", count, "") });
    if only.iter().any(|path| is_literal(path)) || !missing.is_empty() {
        numbers.push(Number { judged, ..Number::new("missing", float(missing.len() as u64), "") });
    }
    Ok(Measured { numbers, text, ..Measured::default() })
}

pub(super) fn diskio(host: &dyn Host, options: &Options, rates: &mut Rates<'_>) -> Result<Measured, String> {
    /// Of /proc/diskstats, whatever the sectors of the disk are.
    const SECTOR: u64 = 512;
    let choice = Choice::of(options, "devices");
    let text = host.text("/proc/diskstats")?;
    // Partitions are listed too; their traffic is that of their disk.
    let whole = host.names("/sys/block");
    let mut numbers = Vec::new();
    let (mut disks, mut read, mut written) = (0_u32, 0.0, 0.0);
    for line in text.lines() {
        let Some(name) = line.split_whitespace().nth(2) else { continue };
        // After the name: reads, merged, sectors, ms; writes, merged, sectors, ms; under way, ms busy, …
        let count = |index: usize| word(line, index + 3).unwrap_or(0);
        let pseudo = ["loop", "ram", "zram", "fd", "sr"].iter().any(|kind| {
            name.strip_prefix(kind).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        });
        let unused = count(0) == 0 && count(4) == 0;
        let is_whole = whole.iter().any(|disk| disk.replace('!', "/") == name);
        // One that is named may be a partition.
        let dull = !choice.names_some() && (pseudo || !is_whole);
        if dull || unused || !choice.takes(name) {
            continue;
        }
        disks += 1;
        let traffic = [("read", count(2)), ("write", count(6))];
        for (what, sectors) in traffic {
            let name = format!("{name}_{what}");
            let Some(rate) = rates.per_second(&name, sectors.saturating_mul(SECTOR)) else { continue };
            *(if what == "read" { &mut read } else { &mut written }) += rate;
            numbers.push(Number::new(name, rate, "B/s"));
        }
        let operations = rates.increase(format!("{name}_operations"), count(0).saturating_add(count(4)));
        let time = rates.increase(format!("{name}_time"), count(3).saturating_add(count(7)));
        if let (Some(operations), Some(time)) = (operations, time) {
            let wait = if operations == 0 { 0.0 } else { float(time) / float(operations) };
            numbers.push(Number::new(format!("{name}_wait"), wait, "ms"));
        }
        let busy = format!("{name}_busy");
        let share = rates.per_second(&busy, count(9)).map(|ms| ms / 10.0);
        numbers.extend(share.map(|share| Number::percent(busy, share).judged()));
    }
    if disks == 0 {
        let which = if choice.names_some() { "none of these disks" } else { "no disk" };
        return Err(format!("{which} has been read from or written to yet"));
    }
    let busiest = highest(numbers.iter().filter(|number| number.judged == Judged::ByCheck));
    let busiest = busiest.map(|number| {
        format!("{} busy {:.1}% of the time, ", number.name.trim_end_matches("_busy"), number.value)
    });
    let text = format!("{}{}/s read, {}/s written", busiest.unwrap_or_default(), bytes(read), bytes(written));
    Ok(Measured { numbers, text, ..Measured::default() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_of_mounts_are_unescaped() {
        for (written, meant) in [
            ("/", "/"),
            ("/mnt/my\\040disk", "/mnt/my disk"),
            ("a\\134b\\011", "a\\b\t"),
            ("odd\\", "odd\\"),
            ("odd\\9zz", "odd\\9zz"),
            ("\\777", "\\777"),
        ] {
            assert_eq!(unescape(written), meant);
        }
    }

    proptest! {
        #[test]
        fn no_text_of_mounts_panics(text in "(22 27 0:21 / /a\\\\0?[0-9ä]* (rw|ro),x - [a-z]+ /dev/.{0,3} (rw|ro)|.*)(\n.*)?") {
            drop(on_disks(mounts(&text), &[], &[]));
        }
    }
}
