//! The job of the emulated board: a site of six functions and a fleet whose totals are known.

use std::fs;
use std::path::Path;

use crate::need;

/// Function, topics of its trigger, codec.
const FUNCTIONS: [(&str, &str, &str); 6] = [
    ("energy-meter", "factory/energy/+/pulses", "json"),
    ("deadband", "site/+/level", "json"),
    ("threshold", "site/+/temperature", "json"),
    ("vibration", "site/+/vibration", "json"),
    ("lpp-decode", "site/+/lpp", "raw"),
    ("anomaly", "site/+/pressure", "json"),
];
/// Of so many messages one is passed on whole, and tells how long it took; the others are metered.
const KEPT_OF: u32 = 10;

/// What differs between runs.
pub struct Job {
    /// Messages a second.
    pub rate: u32,
    /// Further small functions.
    pub further: u32,
    pub tls: bool,
    pub sled: bool,
}

/// Writes `gateway.toml` and the functions into `folder`.
pub fn write(root: &Path, folder: &Path, job: &Job) -> Result<(), String> {
    need::write(&folder.join("gateway.toml"), job.gateway().as_bytes())?;
    for (name, ..) in FUNCTIONS {
        for file in ["function.toml".to_owned(), format!("{name}.wasm")] {
            let path = root.join("target/functions").join(name).join(&file);
            let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            need::write(&folder.join("functions").join(name).join(&file), &bytes)?;
        }
    }
    Ok(())
}

impl Job {
    /// The gateway's configuration; where brokers are is the box's business.
    fn gateway(&self) -> String {
        let (scheme, authority) = if self.tls { ("mqtts", "ca-file = \"ca.crt\"\n") } else { ("mqtt", "") };
        let table = |name: &str| if self.tls { format!("[{name}.tls]\n{authority}") } else { String::new() };
        let mut text = format!(
            "[gateway]\nid = \"emulated\"\n[store]\nsled = {}\n[broker]\nurl = \"{scheme}://broker\"\n{}\
             [[sink]]\nname = \"upstream\"\ntype = \"mqtt\"\nurl = \"{scheme}://broker\"\n{}",
            self.sled,
            table("broker"),
            table("sink")
        );
        for (name, topics, codec) in FUNCTIONS {
            text += &function(name, name, topics, codec);
            if name == "energy-meter" {
                text += "[function.config]\npulses_per_kwh = 4\nmodulus = 4096\nstep_max = 512\n\
                         [function.meter.energy]\nwindow = \"2 s\"\nlateness = \"1 s\"\n";
            }
        }
        for number in 0..self.further {
            text += &function("threshold", &format!("further-{number}"), &format!("further/{number}/+"), "json");
        }
        text
    }

    /// Meters whose sums are exact, and levels that go through whole: together so many messages a second.
    pub fn fleet(&self) -> String {
        let rate = self.rate.max(KEPT_OF);
        let kept = rate / KEPT_OF;
        // So few devices that the functions' state holds each: more messages a second come from the same ones.
        let (meters, levels) = (40, 10);
        let interval = |devices: u32, rate: u32| devices * 1000 / rate.max(1);
        format!(
            "name = \"emulated\"\nseed = 1\n[[fleet]]\nname = \"meter\"\nmodel = \"energy\"\ndevices = {meters}\n\
             topic = \"factory/energy/{{device}}/pulses\"\ninterval = \"{} ms\"\nqos = 1\n\
             meter = \"energy-meter.energy\"\npulses = 8\nroll-over = 4096\npulses-per-kwh = 4\nstep-max = 512\n\
             [[fleet]]\nname = \"tank\"\nmodel = \"temperature\"\ndevices = {levels}\ntopic = \"site/{{device}}/level\"\n\
             interval = \"{} ms\"\nqos = 1\nfield = \"value\"\nnoise = 4.0\n",
            interval(meters, rate - kept),
            interval(levels, kept)
        )
    }
}

fn function(path: &str, name: &str, topics: &str, codec: &str) -> String {
    format!(
        "[[function]]\nname = \"{name}\"\npath = \"functions/{path}\"\n[[function.trigger]]\nmqtt = \"{topics}\"\ncodec = \"{codec}\"\n"
    )
}
