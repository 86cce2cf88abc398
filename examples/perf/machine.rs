//! The machine, and what processes take of it.

use std::time::Duration;

use serde::Serialize;
use sysinfo::{
    CpuRefreshKind, MemoryRefreshKind, Pid, ProcessRefreshKind, ProcessesToUpdate, System,
};

use crate::Anything;

/// The machine on which figures were measured.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) model: String,
    pub(crate) memory_gib: u64,
    pub(crate) system: String,
}

impl Machine {
    pub(crate) fn here() -> Anything<Self> {
        let mut system = System::new()?;
        system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        system.refresh_cpu_list(CpuRefreshKind::nothing());
        let model = system.cpus().first().map(|cpu| cpu.brand().to_owned());
        Ok(Self {
            cores: system.cpus().len(),
            model: model.unwrap_or_default(),
            // What the system keeps for itself is missing in it.
            memory_gib: (system.total_memory() + (1 << 29)) >> 30,
            system: System::long_os_version().unwrap_or_default(),
        })
    }
}

/// What processes have taken so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// In user and system mode, all threads together.
    pub(crate) cpu: Duration,
    /// Resident memory, in bytes.
    pub(crate) memory: u64,
}

impl Usage {
    /// Resident memory in megabytes.
    pub(crate) fn megabytes(self) -> f64 {
        let kilobytes = u32::try_from(self.memory / 1000).unwrap_or(u32::MAX);
        f64::from(kilobytes) / 1000.0
    }
}

/// What each of the processes has taken so far, in their order.
pub(crate) fn usage(processes: &[u32]) -> Anything<Vec<Usage>> {
    let ids: Vec<_> = processes.iter().map(|id| Pid::from_u32(*id)).collect();
    let wanted = ProcessRefreshKind::nothing().with_cpu().with_memory();
    let mut system = System::new()?;
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&ids), true, wanted.without_tasks());
    let used = ids.iter().map(|id| {
        let process = system.process(*id).ok_or("a process has gone")?;
        Ok(Usage {
            cpu: Duration::from_millis(process.accumulated_cpu_time()),
            memory: process.memory(),
        })
    });
    used.collect()
}

/// Which share of a core each process took between two looks.
pub(crate) fn shares(before: &[Usage], after: &[Usage], time: Duration) -> Vec<f64> {
    let pairs = before.iter().zip(after);
    pairs
        .map(|(before, after)| {
            after.cpu.saturating_sub(before.cpu).as_secs_f64() / time.as_secs_f64()
        })
        .collect()
}
