//! What any process tells of itself, under the names that every Prometheus library uses (`process_*`), and log lines that
//! were lost: they are lost before there is anything to count them with.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::core::Collector as _;
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, IntGauge, Opts};

/// Log lines that could not be written, or not fast enough.
static LOST: AtomicU64 = AtomicU64::new(0);

/// So many log lines were lost.
pub fn log_lost(lines: u64) {
    LOST.fetch_add(lines, Ordering::Relaxed);
}

/// The families of the process.
#[derive(Debug)]
pub(super) struct Process {
    started: jiff::Timestamp,
    start_time: Gauge,
    cpu: prometheus::Counter,
    resident: IntGauge,
    virtual_memory: IntGauge,
    open_fds: IntGauge,
    max_fds: IntGauge,
    threads: IntGauge,
    log_lost: prometheus::IntCounter,
}

impl Process {
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| IntGauge::with_opts(Opts::new(name, help));
        let started = jiff::Timestamp::now();
        let start_time = Gauge::with_opts(Opts::new(
            "process_start_time_seconds",
            "Start time of the process since unix epoch in seconds.",
        ))?;
        // Milliseconds of any date that a clock shows are exact in an f64.
        #[allow(clippy::cast_precision_loss)]
        start_time.set(started.as_millisecond() as f64 / 1000.0);
        Ok(Self {
            started,
            start_time,
            cpu: prometheus::Counter::with_opts(Opts::new(
                "process_cpu_seconds_total",
                "Total user and system CPU time spent in seconds.",
            ))?,
            resident: gauge("process_resident_memory_bytes", "Resident memory size in bytes.")?,
            virtual_memory: gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.")?,
            open_fds: gauge("process_open_fds", "Number of open file descriptors.")?,
            max_fds: gauge("process_max_fds", "Maximum number of open file descriptors.")?,
            threads: gauge("process_threads", "Number of OS threads in the process.")?,
            log_lost: prometheus::IntCounter::with_opts(Opts::new(
                "gatehouse_log_lines_lost_total",
                "Log lines that could not be written, or not fast enough.",
            ))?,
        })
    }

    pub(super) fn started(&self) -> jiff::Timestamp {
        self.started
    }

    /// As it is now. What the system does not tell, or a sandbox hides, is left out.
    pub(super) fn gather(&self) -> Vec<MetricFamily> {
        self.log_lost.inc_by(LOST.load(Ordering::Relaxed).saturating_sub(self.log_lost.get()));
        let mut families = self.start_time.collect();
        families.extend(self.log_lost.collect());
        if let Some(status) = read("/proc/self/status") {
            let field = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name))?;
                line.split_whitespace().next()?.parse::<i64>().ok()
            };
            for (gauge, name, unit) in [
                (&self.resident, "VmRSS:", 1024),
                (&self.virtual_memory, "VmSize:", 1024),
                (&self.threads, "Threads:", 1),
            ] {
                if let Some(value) = field(name) {
                    gauge.set(value.saturating_mul(unit));
                    families.extend(gauge.collect());
                }
            }
        }
        if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
            self.open_fds.set(i64::try_from(files.count()).unwrap_or(i64::MAX));
            families.extend(self.open_fds.collect());
        }
        let most = read("/proc/self/limits").and_then(|limits| {
            let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
            line.split_whitespace().next()?.parse().ok()
        });
        if let Some(most) = most {
            self.max_fds.set(most);
            families.extend(self.max_fds.collect());
        }
        if let Some(seconds) = cpu() {
            self.cpu.inc_by((seconds - self.cpu.get()).max(0.0));
            families.extend(self.cpu.collect());
        }
        families
    }
}

/// Seconds of processor time, from the fourteenth and fifteenth field; the second is the name, which may hold spaces.
fn cpu() -> Option<f64> {
    let stat = read("/proc/self/stat")?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some((f64::from(user) + f64::from(system)) / TICKS)
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// Ticks in a second as `/proc` counts them: a constant of Linux on every processor that it is built for here.
const TICKS: f64 = 100.0;
