//! The release binary's size, and which crates its code comes from.

use std::fs;

use crate::weir::binary;

pub fn run() {
    let bytes = fs::metadata(binary()).unwrap().len();
    println!("weir, stripped: {bytes} bytes ({:.2} MB)", bytes as f64 / 1e6);
}
