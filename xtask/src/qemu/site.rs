//! The job of the emulated board: a site of six functions and a fleet whose totals are known.

/// The gateway's configuration; both links go to the host, which the guest sees as 10.0.2.2.
pub fn gateway(board: &str, broker: u16) -> String {
    let mut text = format!(
        "[gateway]\nid = \"emulated\"\nboard = \"{board}\"\ndata-dir = \"/data/weir\"\n\
         [broker]\nurl = \"mqtt://10.0.2.2:{broker}\"\n\
         [[sink]]\nname = \"upstream\"\ntype = \"mqtt\"\nurl = \"mqtt://10.0.2.2:{broker}\"\n\
         [[function]]\npath = \"functions/energy-meter\"\n[[function.trigger]]\nmqtt = \"factory/energy/+/pulses\"\n\
         time-field = \"ts\"\ntime-unit = \"ms\"\n[function.config]\npulses_per_kwh = 4\nmodulus = 4096\nstep_max = 512\n\
         [function.meter.energy]\nwindow = \"2 s\"\nlateness = \"1 s\"\n"
    );
    for (function, topics, codec) in [
        ("threshold", "site/+/temperature", "json"),
        ("deadband", "site/+/level", "json"),
        ("vibration", "site/+/vibration", "json"),
        ("lpp-decode", "site/+/lpp", "raw"),
        ("anomaly", "site/+/pressure", "json"),
    ] {
        text += &format!(
            "[[function]]\npath = \"functions/{function}\"\n[[function.trigger]]\nmqtt = \"{topics}\"\ncodec = \"{codec}\"\n"
        );
    }
    text
}

/// The functions that it names.
pub const FUNCTIONS: [&str; 6] = ["energy-meter", "threshold", "deadband", "vibration", "lpp-decode", "anomaly"];

/// The fleet: 40 meters whose sums are exact, so many messages a second together.
pub fn fleet(rate: u32) -> String {
    let interval = 40_000 / rate.max(1);
    format!(
        "name = \"emulated\"\nseed = 1\n[[fleet]]\nname = \"meter\"\nmodel = \"energy\"\ndevices = 40\n\
         topic = \"factory/energy/{{device}}/pulses\"\ninterval = \"{interval} ms\"\nqos = 1\n\
         meter = \"energy-meter.energy\"\npulses = 8\nroll-over = 4096\npulses-per-kwh = 4\nstep-max = 512\n"
    )
}

/// The broker of devices and of upstream, on the host. It keeps its queues in memory and loses none.
pub fn broker(port: u16) -> String {
    format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\nmax_inflight_messages 0\n\
         max_queued_messages 0\nmax_queued_bytes 0\nlog_dest none\n"
    )
}
