//! What the operating system says of this process, by the names that Prometheus' own clients use.
//!
//! It is asked at each scrape. On systems without `/proc` there is nothing to be told.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Asks at each scrape.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Process;

/// What it is told.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Figures {
    cpu_seconds: f64,
    start_seconds: f64,
    resident_bytes: f64,
    virtual_bytes: f64,
    open_files: f64,
    open_files_max: f64,
    threads: f64,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(figures) = ask() else { return Ok(()) };
        let help = "Processor time, of user and system";
        let cpu = encoder.encode_descriptor("cpu_seconds", help, None, MetricType::Counter)?;
        ConstCounter::new(figures.cpu_seconds).encode(cpu)?;
        for (name, help, value) in [
            ("start_time_seconds", "When it was started, since 1970", figures.start_seconds),
            ("resident_memory_bytes", "Memory that is in use", figures.resident_bytes),
            ("virtual_memory_bytes", "Addresses that are in use", figures.virtual_bytes),
            ("open_fds", "Open files and connections", figures.open_files),
            ("max_fds", "Files and connections that it may open", figures.open_files_max),
            ("threads", "Threads", figures.threads),
        ] {
            let gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(gauge)?;
        }
        Ok(())
    }
}

/// Counts of bytes, files and ticks: a float holds them well enough.
#[cfg(target_os = "linux")]
#[allow(clippy::cast_precision_loss)]
fn ask() -> Option<Figures> {
    use procfs::process::LimitValue;
    use procfs::{CurrentSI, WithCurrentSystemInfo};

    let process = procfs::process::Process::myself().ok()?;
    let stat = process.stat().ok()?;
    let ticks = procfs::ticks_per_second() as f64;
    let booted = procfs::KernelStats::current().ok()?.btime as f64;
    let open_files_max = match process.limits().ok()?.max_open_files.soft_limit {
        LimitValue::Value(limit) => limit as f64,
        LimitValue::Unlimited => f64::INFINITY,
    };
    Some(Figures {
        cpu_seconds: (stat.utime + stat.stime) as f64 / ticks,
        start_seconds: booted + stat.starttime as f64 / ticks,
        resident_bytes: stat.rss_bytes().get() as f64,
        virtual_bytes: stat.vsize as f64,
        open_files: process.fd_count().ok()? as f64,
        open_files_max,
        threads: stat.num_threads as f64,
    })
}

#[cfg(not(target_os = "linux"))]
fn ask() -> Option<Figures> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_told_of() {
        let figures = ask().unwrap();
        assert!(figures.resident_bytes > 1e6 && figures.virtual_bytes >= figures.resident_bytes);
        assert!(figures.threads >= 1.0 && figures.open_files >= 1.0);
        assert!(figures.open_files_max >= figures.open_files);
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        assert!(figures.start_seconds < since && figures.start_seconds > since - 86_400.0);
    }
}
