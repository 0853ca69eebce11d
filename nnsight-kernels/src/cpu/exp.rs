//! The exponential of many numbers.

use pulp::Simd;

/// `e^x` to about the precision of `f32`. Below -87 it is that of -87, about 10⁻³⁸; above 88 that of 88.
#[inline(always)]
pub fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    macro_rules! all {
        ($number:expr) => {
            simd.splat_f32s($number)
        };
    }
    let within = simd.min_f32s(simd.max_f32s(x, all!(-87.0)), all!(88.0));
    // e^x = 2^n e^r, where r is at most half of ln 2. Adding 1.5 · 2²³ rounds to a whole number, which is then in the lowest bits.
    let round = all!(12_582_912.0);
    let rounded = simd.mul_add_e_f32s(within, all!(std::f32::consts::LOG2_E), round);
    let n = simd.sub_f32s(rounded, round);
    // ln 2 in two parts, of which the first times n is exact.
    let r = simd.mul_add_e_f32s(n, all!(2.121_944_4e-4), simd.mul_add_e_f32s(n, all!(-0.693_359_4), within));
    let mut polynomial = all!(0.001_398_2);
    for factor in [0.008_333_452, 0.041_665_795, 0.166_666_66, 0.5, 1.0, 1.0] {
        polynomial = simd.mul_add_e_f32s(polynomial, r, all!(factor));
    }
    let exponent = simd.add_u32s(simd.transmute_u32s_f32s(rounded), simd.splat_u32s(127));
    let power = simd.transmute_f32s_u32s(simd.wrapping_dyn_shl_u32s(exponent, simd.splat_u32s(23)));
    // What is not a number stays so: processors differ in what they take for the larger one.
    simd.select_f32s(simd.equal_f32s(x, x), simd.mul_f32s(polynomial, power), x)
}

#[cfg(test)]
mod tests {
    use super::exp;
    use pulp::{Arch, Scalar, Simd, WithSimd};

    struct Of(f32);

    impl WithSimd for Of {
        type Output = f32;

        fn with_simd<S: Simd>(self, simd: S) -> f32 {
            let mut result = [0.0];
            simd.partial_store_f32s(&mut result, exp(simd, simd.splat_f32s(self.0)));
            result[0]
        }
    }

    #[test]
    fn as_precise_as_the_type() {
        for of in [|x| Arch::new().dispatch(Of(x)), |x| Of(x).with_simd(Scalar)] {
            for step in -8700..8800 {
                let x = step as f32 / 100.0;
                let expected = f64::from(x).exp();
                let error = (f64::from(of(x)) - expected).abs() / expected;
                assert!(error < 3e-7, "e^{x}: {error:e}");
            }
            assert!(of(f32::MIN) < 1e-37 && of(f32::NEG_INFINITY) < 1e-37 && of(f32::NAN).is_nan());
        }
    }
}
