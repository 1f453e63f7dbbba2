//! How much memory the process has needed.

/// The most memory that this process has had resident, in MiB; 0 where the system does not tell.
pub fn peak_rss_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
    // One decimal: the figure itself is counted in pages.
    kib.map_or(0.0, |kib| (kib / 102.4).round() / 10.0)
}
