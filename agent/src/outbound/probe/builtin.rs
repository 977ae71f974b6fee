//! Readings for the built-in checks, without a fork.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use sysinfo::{DiskRefreshKind, Disks, MINIMUM_CPU_UPDATE_INTERVAL, System};
use tokio::sync::Semaphore;

use crate::core::{
    builtin::{Mount, Reading},
    check::Builtin,
};

/// Readings at once. One that hangs (a dead disk) keeps its place, so that those after it cannot take all threads.
const AT_ONCE: usize = 4;

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Builtins {
    /// Processor use is measured from one reading to the next.
    cpu: Arc<Mutex<Option<System>>>,
    places: Arc<Semaphore>,
}

impl Default for Builtins {
    fn default() -> Self {
        Self { cpu: Arc::default(), places: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl Builtins {
    /// # Errors
    /// A text that says what could not be read.
    pub async fn read(&self, builtin: Builtin) -> Result<Reading, String> {
        if builtin == Builtin::Cpu {
            return self.cpu().await;
        }
        self.blocking(move || match builtin {
            Builtin::Memory => memory(),
            Builtin::Load => load(),
            Builtin::Disk => disk(),
            Builtin::Uptime | Builtin::Cpu => {
                let seconds = System::uptime().map_err(|error| format!("cannot read the uptime: {error}"))?;
                Ok(Reading::Uptime { seconds })
            }
        })
        .await
    }

    async fn cpu(&self) -> Result<Reading, String> {
        let cpu = Arc::clone(&self.cpu);
        let first = self.blocking(move || refresh(&cpu)).await?;
        if let Some(used) = first {
            return Ok(Reading::Cpu { used });
        }
        // The first reading has nothing to compare with: take a second one a moment later.
        tokio::time::sleep(MINIMUM_CPU_UPDATE_INTERVAL * 2).await;
        let cpu = Arc::clone(&self.cpu);
        let used = self.blocking(move || refresh(&cpu)).await?;
        Ok(Reading::Cpu { used: used.ok_or("cannot read the use of the processors")? })
    }

    async fn blocking<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<R, String> + Send + 'static,
    ) -> Result<R, String> {
        let failed = |error: &dyn std::fmt::Display| format!("the reading failed: {error}");
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|error| failed(&error))?;
        let reading = tokio::task::spawn_blocking(move || {
            let _place = place;
            work()
        });
        reading.await.map_err(|error| failed(&error))?
    }
}

/// Percent used since the last call; `None` the first time.
fn refresh(cpu: &Mutex<Option<System>>) -> Result<Option<f64>, String> {
    let mut cpu = cpu.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(system) = cpu.as_mut() {
        system.refresh_cpu_usage();
        let used = f64::from(system.global_cpu_usage());
        return Ok(used.is_finite().then_some(used.clamp(0.0, 100.0)));
    }
    let mut system = new_system()?;
    system.refresh_cpu_usage();
    *cpu = Some(system);
    Ok(None)
}

fn new_system() -> Result<System, String> {
    System::new().map_err(|error| format!("cannot read this system: {error}"))
}

fn memory() -> Result<Reading, String> {
    let mut system = new_system()?;
    system.refresh_memory();
    let (total, available) = (system.total_memory(), system.available_memory());
    if total == 0 {
        return Err("cannot read the memory of this host".to_owned());
    }
    Ok(Reading::Memory { total, available })
}

fn load() -> Result<Reading, String> {
    let load = System::load_average().map_err(|error| format!("cannot read the load: {error}"))?;
    let cpus =
        std::thread::available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX));
    Ok(Reading::Load { averages: [load.one, load.five, load.fifteen], cpus })
}

/// Every file system on a disk, once. A device that is mounted in several places (bind mounts, subvolumes) is shown
/// at the shortest path.
fn disk() -> Result<Reading, String> {
    // Listed without asking the file systems: those of a network may hang, and are left out by sysinfo.
    let disks = Disks::new_with_refreshed_list_specifics(DiskRefreshKind::nothing())
        .map_err(|error| format!("cannot list the file systems: {error}"))?;
    let mut by_device = BTreeMap::<_, &Path>::new();
    for disk in disks.iter() {
        let (path, kind) = (disk.mount_point(), disk.file_system().to_string_lossy());
        // A single file may be bind-mounted into a container.
        if kind.starts_with("fuse") || !path.is_dir() {
            continue;
        }
        let shortest = by_device.entry(disk.name().to_owned()).or_insert(path);
        if path.as_os_str().len() < shortest.as_os_str().len() {
            *shortest = path;
        }
    }
    let mut mounts: Vec<Mount> = by_device.into_values().filter_map(usage).collect();
    mounts.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Reading::Disk { mounts })
}

/// `None` for a pseudo file system without blocks, and for what cannot be asked.
fn usage(path: &Path) -> Option<Mount> {
    let stat = rustix::fs::statvfs(path).ok().filter(|stat| stat.f_blocks > 0)?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Some(Mount {
        path: path.to_string_lossy().into_owned(),
        used: bytes(stat.f_blocks.saturating_sub(stat.f_bfree)),
        available: bytes(stat.f_bavail),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn this_host_can_be_read() {
        let builtins = Builtins::default();
        for _ in 0..2 {
            let Ok(Reading::Cpu { used }) = builtins.read(Builtin::Cpu).await else { panic!("cpu") };
            assert!((0.0..=100.0).contains(&used));
        }
        let Ok(Reading::Memory { total, available }) = builtins.read(Builtin::Memory).await else {
            panic!("memory")
        };
        assert!(total > 0 && available <= total);
        let Ok(Reading::Load { averages, cpus }) = builtins.read(Builtin::Load).await else { panic!("load") };
        assert!(averages.iter().all(|load| *load >= 0.0) && cpus > 0);
        let Ok(Reading::Uptime { seconds }) = builtins.read(Builtin::Uptime).await else { panic!("uptime") };
        assert!(seconds > 0);
        let Ok(Reading::Disk { mounts }) = builtins.read(Builtin::Disk).await else { panic!("disk") };
        assert!(mounts.iter().all(|mount| (0.0..=100.0).contains(&mount.percent())), "{mounts:?}");
    }
}
