//! What the kernel says that a process has cost.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Processor time of each thread at one moment.
#[derive(Clone, Debug)]
pub struct Reading(BTreeMap<u32, u64>);

/// What a process spent between two moments.
#[derive(Clone, Copy, Debug)]
pub struct Spent {
    /// All its threads together.
    pub cpu: Duration,
    /// Its busiest thread.
    pub busiest: Duration,
}

impl Reading {
    /// Of this process, now. A thread that has ended in between is left out of both readings.
    pub fn of(pid: u32) -> Self {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the process lives");
        let ids = tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok());
        let of = |id: u32| {
            let text = fs::read_to_string(format!("/proc/{pid}/task/{id}/schedstat")).ok()?;
            Some((id, text.split(' ').next()?.parse().ok()?))
        };
        Self(ids.filter_map(of).collect())
    }

    /// Since an earlier reading.
    pub fn since(&self, earlier: &Self) -> Spent {
        let each = self.0.iter().map(|(id, ns)| ns.saturating_sub(*earlier.0.get(id).unwrap_or(&0)));
        let (sum, most) = each.fold((0, 0), |(sum, most), ns| (sum + ns, most.max(ns)));
        Spent { cpu: Duration::from_nanos(sum), busiest: Duration::from_nanos(most) }
    }
}

/// Octets of a process that lie in memory.
pub fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel tells it");
    let number = line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number");
    number * 1024
}

/// How many files a process may have open, from now on as many as the system allows: sockets are files.
pub fn open_files() -> usize {
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).expect("within what is allowed");
    most.and_then(|most| most.try_into().ok()).unwrap_or(usize::MAX)
}

/// The processor, the kernel, and how busy they were: figures of one machine are none of another.
pub fn machine() -> serde_json::Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let models = cpus.lines().filter_map(|line| line.strip_prefix("model name"));
    let models: Vec<_> = models.map(|rest| rest.trim_start_matches([' ', '\t', ':']).to_owned()).collect();
    serde_json::json!({
        "processor": models.first(), "processors": std::thread::available_parallelism().map(usize::from).ok(),
        "kernel": read("/proc/sys/kernel/osrelease").trim(), "load": read("/proc/loadavg").trim(),
    })
}
