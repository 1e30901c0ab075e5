//! What was measured on.

/// One line for the report.
pub(crate) fn describe() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or(": unknown");
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let uname = rustix::system::uname();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!(
        "Linux {}, {cpus} CPUs ({}), load {} at the start",
        uname.release().to_string_lossy(),
        model.trim_start_matches([' ', '\t', ':']),
        load.split(' ').next().unwrap_or("?")
    )
}
