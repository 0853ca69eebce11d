//! The exponential of many numbers.

/// `e^x` to about the precision of `f32`, in arithmetic that the compiler puts into vectors. Below -87 it is that of -87, about 10⁻³⁸.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // e^x = 2^n e^r, where r is at most half of ln 2.
    let x = x.clamp(-87.0, 88.0);
    // Adding and taking away 1.5 · 2²³ rounds to whole numbers.
    const ROUND: f32 = 12_582_912.0;
    let n = (x * std::f32::consts::LOG2_E + ROUND) - ROUND;
    // ln 2 in two parts, of which the first times n is exact.
    let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let polynomial = 1.0 + r * (1.0 + r * (0.5 + r * (0.166_666_66 + r * (0.041_665_795 + r * (0.008_333_452 + r * 0.001_398_2)))));
    polynomial * f32::from_bits(((n as i32 + 127) << 23) as u32)
}

#[cfg(test)]
mod tests {
    use super::exp;

    #[test]
    fn as_precise_as_the_type() {
        for step in -8700..8800 {
            let x = step as f32 / 100.0;
            let expected = f64::from(x).exp();
            let error = (f64::from(exp(x)) - expected).abs() / expected;
            assert!(error < 3e-7, "e^{x}: {error:e}");
        }
        assert!(exp(f32::MIN) < 1e-37 && exp(f32::NEG_INFINITY) < 1e-37 && exp(f32::NAN).is_nan());
    }
}
