//! From exec to the first record upstream: process, configuration, modules, an empty store made, connection, subscription,
//! a message, its commit, its delivery.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::mosquitto::Mosquitto;
use crate::packets::{Connection, put_publish};
use crate::table::spread;
use crate::upstream::Upstream;
use crate::weir::{Site, Weir};
use crate::{Options, load};

pub fn run(options: &Options) {
    let repeats: usize = options.get("repeats", 9);
    println!("milliseconds from exec to the first record upstream; a message comes each 0.5 ms; {repeats} repetitions");
    for (name, data, sled) in
        [("empty store", false, true), ("empty store, no sled", false, false), ("store of a run before", true, true)]
    {
        let ms: Vec<f64> = (0..repeats).map(|_| measure(data, sled)).collect();
        println!("{name:<26} {}", spread(&ms, 1));
    }
}

fn measure(again: bool, sled: bool) -> f64 {
    let broker = Mosquitto::start();
    let data = crate::process::folder("start");
    let functions = &[("threshold", "temperature")];
    let site =
        Site { broker: broker.port, qos: 0, commit_interval: "0 ms", sled, functions, data: Some(&data), store: "" };
    if again {
        let weir = Weir::start(&site);
        load::saturate(broker.port, 0, 10_000, &load::temperature);
        weir.wait(10_000, Duration::from_secs(1));
        weir.process.stop();
    }
    let upstream = Upstream::listen(broker.port, None);
    let stop = Arc::new(AtomicBool::new(false));
    let publisher = publish_until(broker.port, stop.clone());
    let begin = Instant::now();
    let weir = Weir::spawn(&site);
    while upstream.count() == 0 {
        assert!(begin.elapsed() < Duration::from_secs(10), "nothing arrives");
        thread::sleep(Duration::from_micros(100));
    }
    let elapsed = begin.elapsed();
    stop.store(true, Ordering::Relaxed);
    publisher.join().unwrap();
    drop(weir);
    elapsed.as_secs_f64() * 1000.0
}

/// Hot readings, one each 0.5 ms.
fn publish_until(port: u16, stop: Arc<AtomicBool>) -> thread::JoinHandle<()> {
    let mut connection = Connection::open(port, "load", Duration::from_millis(1));
    let (topic, payload) = load::temperature(0);
    let mut bytes = Vec::new();
    put_publish(&mut bytes, &topic, 0, &payload);
    thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            connection.send(&bytes);
            thread::sleep(Duration::from_micros(500));
        }
    })
}
