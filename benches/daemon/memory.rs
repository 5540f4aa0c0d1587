//! Resident memory: idle with one function, and with six functions at 1,000 messages a second; with sled and without.

use std::thread;
use std::time::Duration;

use crate::Options;
use crate::load::{self, Sent, pace};
use crate::mosquitto::Mosquitto;
use crate::weir::{Site, Weir};

const SIX: [(&str, &str); 6] = [
    ("threshold", "temperature"),
    ("energy-meter", "energy"),
    ("deadband", "level"),
    ("anomaly", "pressure"),
    ("vibration", "vibration"),
    ("lpp-decode", "lpp"),
];

pub fn run(options: &Options) {
    let seconds: f64 = options.get("seconds", 40.0);
    println!("{:<34} {:>9} {:>9} {:>9} {:>9} {:>9}", "MiB", "idle", "loaded", "highest", "anonymous", "planned");
    for (name, sled, functions) in [
        ("one function", true, &SIX[..1]),
        ("one function, no sled", false, &SIX[..1]),
        ("six functions", true, &SIX[..]),
        ("six functions, no sled", false, &SIX[..]),
    ] {
        if !options.skips(name) {
            measure(name, sled, functions, seconds);
        }
    }
}

fn measure(name: &str, sled: bool, functions: &[(&str, &str)], seconds: f64) {
    let broker = Mosquitto::start();
    let site = Site { broker: broker.port, qos: 1, commit_interval: "100 ms", sled, functions, data: None, store: "" };
    let weir = Weir::start(&site);
    thread::sleep(Duration::from_secs(1));
    let mib = |kib: u64| kib as f64 / 1024.0;
    let idle = mib(weir.process.kib("VmRSS"));
    let count = (seconds * 1000.0) as usize;
    let model: load::Model<'_> = if functions.len() == 1 { &load::temperature } else { &load::mixed };
    pace(broker.port, 1, 1000.0, model, &Sent::new(count));
    println!(
        "{name:<34} {idle:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>9.1}",
        mib(weir.process.kib("VmRSS")),
        mib(weir.process.kib("VmHWM")),
        mib(weir.process.kib("RssAnon")),
        weir.metric("weir_process_planned_bytes") / 1_048_576.0,
    );
    assert_eq!(weir.check(), 0, "nothing is dropped");
    for (function, _) in functions {
        let called = weir.metric(&format!("weir_function_invocations_total{{function=\"{function}\"}}"));
        assert!(called > 0.0, "{function} was called");
        let errors = weir.metric(&format!("weir_function_errors_total{{function=\"{function}\""));
        assert_eq!(errors, 0.0, "{function} never failed");
    }
}
