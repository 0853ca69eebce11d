//! Numbers of 16 bits: what is computed of them is computed in `f32` and rounded once.

use candle_core::{DType, Result, Tensor};

use crate::accumulates_in_f32;

/// Whether numbers of this type have 16 bits.
pub fn is_half(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
}

/// The tensor in `f32` if its numbers have 16 bits. The gradient that comes back through it is added up in `f32` and rounded here.
///
/// # Errors
/// If a computation fails.
pub fn upcast(x: &Tensor) -> Result<Tensor> {
    if is_half(x.dtype()) { x.to_dtype(DType::F32) } else { Ok(x.clone()) }
}

/// What goes into a sum together, as by [`upcast`]: not on devices whose own products, sums and norms of 16 bits add up in `f32`, unless a gradient is
/// asked for.
///
/// # Errors
/// If a computation fails.
pub fn upcast_for_sums<const N: usize>(tensors: [&Tensor; N]) -> Result<[Tensor; N]> {
    let mut converted = tensors.map(Tensor::clone);
    if !tensors.iter().all(|tensor| accumulates_in_f32(tensor)) {
        for tensor in &mut converted {
            *tensor = upcast(tensor)?;
        }
    }
    Ok(converted)
}

/// The largest finite number of a type of floating-point numbers; of `f64` that of `f32`, which masks of both are made of.
pub fn largest(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 65504.0,
        // Eight bits of an `f32`'s significand, all of them set.
        DType::BF16 => f64::from(f32::from_bits(0x7f7f_0000)),
        _ => f64::from(f32::MAX),
    }
}

/// Whether no entry is infinite or NaN.
///
/// # Errors
/// If a computation fails.
pub fn is_finite(x: &Tensor) -> Result<bool> {
    // Zero times anything else is NaN, and stays NaN in a sum.
    let nothing = upcast(&x.detach())?.affine(0.0, 0.0)?.sum_all()?;
    Ok(nothing.to_dtype(DType::F32)?.to_scalar::<f32>()? == 0.0)
}

/// A tensor of a program in another type. A finite number that the type cannot hold becomes its largest or lowest, and not infinite: `-1e9` masks in
/// `f16` too, and can be multiplied by zero.
///
/// # Errors
/// If a computation fails.
pub fn saturate(x: &Tensor, dtype: DType) -> Result<Tensor> {
    if !is_half(dtype) || !matches!(x.dtype(), DType::F32 | DType::F64 | DType::BF16) || x.dtype() == dtype {
        return x.to_dtype(dtype);
    }
    let (x, most) = (x.to_dtype(DType::F64)?, largest(dtype));
    let size = x.abs()?;
    let overflows = (size.gt(most)? * size.lt(f64::INFINITY)?)?;
    overflows.where_cond(&x.clamp(-most, most)?, &x)?.to_dtype(dtype)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn the_largest_number_of_each_type_is_finite_and_the_next_is_not() {
        for dtype in [DType::F16, DType::BF16] {
            let most = largest(dtype);
            let numbers = Tensor::new(&[most, -most, most * 1.01], &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
            let found = numbers.to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap();
            assert_eq!(found, [most, -most, f64::INFINITY]);
        }
    }

    #[test]
    fn numbers_of_a_program_saturate_and_infinities_stay() {
        let numbers = Tensor::new(&[-1e9f32, 1e9, f32::MIN, 0.5, f32::INFINITY, f32::NEG_INFINITY], &Device::Cpu).unwrap();
        let found = saturate(&numbers, DType::F16).unwrap().to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(found, [-65504.0, 65504.0, -65504.0, 0.5, f32::INFINITY, f32::NEG_INFINITY]);
        let found = saturate(&numbers, DType::BF16).unwrap();
        assert!(is_finite(&found.narrow(0, 0, 4).unwrap()).unwrap() && !is_finite(&found).unwrap());
        let nan = Tensor::new(&[f32::NAN, 1.0], &Device::Cpu).unwrap();
        assert!(!is_finite(&saturate(&nan, DType::F16).unwrap()).unwrap());
    }
}
