//! What `core` does not offer on stable Rust.

/// Square root by Newton's method, within one unit in the last place; NaN for negative values and NaN.
#[must_use]
pub fn sqrt(value: f64) -> f64 {
    if !(value > 0.0 && value.is_finite()) {
        return if value == 0.0 || value == f64::INFINITY { value } else { f64::NAN };
    }
    if value < f64::MIN_POSITIVE {
        // Subnormal: 2^108 brings it into the normal range.
        return sqrt(value * 3.245_185_536_584_267e32) / 1.801_439_850_948_198_4e16;
    }
    // Halving the exponent gives a first guess within 4 %, four steps double the right digits each.
    let mut root = f64::from_bits((value.to_bits() >> 1) + 0x1ff7_a3be_a91d_9b1b);
    for _ in 0..4 {
        root = 0.5 * (root + value / root);
    }
    root
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_that_of_std() {
        let mut value = 1e-300;
        while value < 1e300 {
            assert!((sqrt(value) / value.sqrt() - 1.0).abs() <= f64::EPSILON, "{value}");
            value *= 1.9;
        }
        assert_eq!((sqrt(0.0), sqrt(4.0), sqrt(f64::INFINITY)), (0.0, 2.0, f64::INFINITY));
        assert!(sqrt(-1.0).is_nan() && sqrt(f64::NAN).is_nan());
        assert!((sqrt(5e-324) / 5e-324f64.sqrt() - 1.0).abs() < 1e-9);
    }
}
