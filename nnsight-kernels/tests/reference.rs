//! Every kernel against the plain expression of the same name, over random shapes, strides and types.

use candle_core::{DType, Device, Result, Tensor, Var};
use nnsight_kernels::{
    Binary, Extent, FusedElementwise, Mask, Matrix, MaybeOwned, Operand, Span, Unary, WeightFormat, add, attention, fused_matmul, gelu, layer_norm,
    matmul, mul, part, patch, patch_owned, reference, rms_norm, rotate, silu, silu_mul, softmax, sum_in_portions,
};
use proptest::prelude::*;

const TYPES: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

/// How a tensor is held in memory.
#[derive(Clone, Copy, Debug)]
enum Strides {
    Contiguous,
    /// The two innermost axes are transposed.
    Transposed,
    /// It is a part of a larger tensor.
    Narrowed,
}

fn strides() -> impl Strategy<Value = Strides> {
    prop::sample::select(vec![Strides::Contiguous, Strides::Transposed, Strides::Narrowed])
}

fn dtype() -> impl Strategy<Value = DType> {
    prop::sample::select(TYPES.to_vec())
}

/// Normally distributed entries.
fn random(dims: &[usize], strides: Strides, dtype: DType) -> Tensor {
    let last = dims.len() - 1;
    let normal = |dims: &[usize]| Tensor::randn(0f32, 1.0, dims, &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
    let mut held = dims.to_vec();
    match strides {
        Strides::Contiguous => normal(dims),
        Strides::Transposed if last == 0 => normal(dims),
        Strides::Transposed => {
            held.swap(last, last - 1);
            normal(&held).transpose(last, last - 1).unwrap()
        }
        Strides::Narrowed => {
            held[last] += 3;
            normal(&held).narrow(last, 2, dims[last]).unwrap()
        }
    }
}

fn wide(x: &Tensor) -> Tensor {
    x.to_dtype(DType::F32).unwrap()
}

/// What a plain expression of `f32` returns, rounded once.
fn rounded(x: Result<Tensor>, dtype: DType) -> Tensor {
    x.unwrap().to_dtype(dtype).unwrap()
}

/// How far two results are apart, in units of the larger of one and the largest entry.
fn distance(found: &Tensor, expected: &Tensor) -> f32 {
    assert_eq!((found.dims(), found.dtype()), (expected.dims(), expected.dtype()));
    let largest = |x: &Tensor| x.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
    if found.elem_count() == 0 {
        return 0.0;
    }
    let (found, expected) = (wide(found), wide(expected));
    largest(&(&found - &expected).unwrap()) / largest(&expected).max(1.0)
}

/// How far apart two results may be: in 16 bits a last bit, if their `f32` are on two sides of the middle between two numbers.
fn bound(dtype: DType) -> f32 {
    match dtype {
        DType::F16 => 1e-3,
        DType::BF16 => 8e-3,
        _ => 1e-5,
    }
}

fn bits(x: &Tensor) -> Vec<u32> {
    wide(x).flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pairs(dims in prop::collection::vec(1..40usize, 1..4), a in strides(), b in strides(), dtype in dtype()) {
        let (x, y) = (random(&dims, a, dtype), random(&dims, b, dtype));
        let before = bits(&x);
        let gated = rounded(reference::silu_mul(&wide(&x), &wide(&y)), dtype);
        for owned in [false, true] {
            let x = || if owned { MaybeOwned::copy_of(&x).unwrap() } else { MaybeOwned::shared(x.clone()) };
            prop_assert_eq!(bits(&add(x(), &y).unwrap().into_tensor()), bits(&(&x().into_tensor() + &y).unwrap()));
            prop_assert!(distance(&silu_mul(x(), &y).unwrap().into_tensor(), &gated) <= bound(dtype));
        }
        prop_assert_eq!(bits(&mul(&x, &y).unwrap()), bits(&(&x * &y).unwrap()));
        prop_assert_eq!(bits(&silu(&x).unwrap()), bits(&rounded(wide(&x).silu(), dtype)));
        prop_assert_eq!(bits(&gelu(&x).unwrap()), bits(&rounded(wide(&x).gelu(), dtype)));
        prop_assert_eq!(bits(&x), before, "the operands are as they were");
    }

    #[test]
    fn norms(rows in prop::collection::vec(1..9usize, 1..3), width in 1..200usize, a in strides(), dtype in dtype()) {
        let mut dims = rows;
        dims.push(width);
        let x = random(&dims, a, dtype);
        let [weight, bias] = [(); 2].map(|()| random(&[width], Strides::Narrowed, dtype));
        let found = rms_norm(&x, &weight, 1e-5).unwrap();
        prop_assert!(distance(&found, &rounded(reference::rms_norm(&wide(&x), &wide(&weight), 1e-5), dtype)) <= bound(dtype));
        let found = layer_norm(&x, &weight, &bias, 1e-5).unwrap();
        prop_assert!(distance(&found, &rounded(reference::layer_norm(&wide(&x), &wide(&weight), &wide(&bias), 1e-5), dtype)) <= 2.0 * bound(dtype));
    }

    #[test]
    fn softmax_and_sum(dims in prop::collection::vec(1..60usize, 1..4), a in strides(), dtype in dtype()) {
        let x = random(&dims, a, dtype);
        prop_assert!(distance(&softmax(&x).unwrap(), &rounded(reference::softmax(&wide(&x)), dtype)) <= bound(dtype));
        let x = random(&[dims[0], 600], a, DType::F32);
        prop_assert!(distance(&sum_in_portions(&x, 1).unwrap(), &x.sum_keepdim(1).unwrap()) <= 1e-5);
    }

    #[test]
    fn rotation(batch in 1..4usize, heads in 1..4usize, seq in 1..9usize, half in 1..20usize, a in strides(), per_row in any::<bool>(), dtype in dtype()) {
        let x = random(&[batch, heads, seq, 2 * half], a, dtype);
        let angles = if per_row { vec![batch, seq, half] } else { vec![seq, half] };
        let (cos, sin) = (random(&angles, Strides::Contiguous, DType::F32), random(&angles, a, DType::F32).contiguous().unwrap());
        let expected = rounded(reference::rotate(&wide(&x), &cos, &sin), dtype);
        prop_assert!(distance(&rotate(&x, &cos, &sin).unwrap(), &expected) <= bound(dtype));
    }

    #[test]
    fn causal_attention(
        (rows, kv_heads, group) in (1..3usize, 1..3usize, 1..4usize), (width, past, size) in (1..20usize, 0..20usize, 1..40usize),
        a in strides(), padded in any::<bool>(), dtype in dtype(),
    ) {
        let keys = past + width;
        let q = random(&[rows, kv_heads * group, width, size], a, dtype);
        let [k, v] = [(); 2].map(|()| random(&[rows, kv_heads, keys, size], a, dtype));
        // In a padded row, no query sees the first key but the one at its place.
        let is_hidden = |query: usize, key: usize| key > past + query || padded && key == 0 && past + query > 0;
        let mask = (0..width * keys).map(|at| if is_hidden(at / keys, at % keys) { f32::MIN } else { 0.0 }).collect::<Vec<_>>();
        let mask = Tensor::from_vec(mask, (1, 1, width, keys), &Device::Cpu).unwrap();
        let expected = rounded(reference::attention(&wide(&q), &wide(&k), &wide(&v), Some(&mask)), dtype);
        let numbers = || Ok::<_, candle_core::Error>(Some(mask));
        let found = attention([&q, &k, &v], if padded { Mask::Padded(numbers) } else { Mask::Causal(numbers) }).unwrap();
        prop_assert!(distance(&found, &expected) <= 2.0 * bound(dtype), "{}", distance(&found, &expected));
    }

    #[test]
    fn products(rows in 1..40usize, inner in 1..5usize, outers in (1..70usize, 1..70usize), a in strides(), dtype in dtype()) {
        let inner = 32 * inner;
        let x = random(&[1, rows, inner], a, dtype);
        let weights = [outers.0, outers.1].map(|outer| random(&[inner, outer], a, dtype));
        let formats = [Some(WeightFormat::Bf16), Some(WeightFormat::Q8_0), Some(WeightFormat::Q4_1)];
        let formats = formats.into_iter().filter(|_| dtype == DType::F32).chain([None]);
        for format in formats {
            let matrices = weights.each_ref().map(|weight| match format {
                None => Matrix::packed(weight.clone()).unwrap(),
                Some(format) => Matrix::quantized(weight, format).unwrap(),
            });
            let found = fused_matmul(&x, matrices.each_ref()).unwrap().map(MaybeOwned::into_tensor);
            for (found, matrix) in found.iter().zip(&matrices) {
                let expected = reference::matmul(&wide(&x), &wide(&matrix.tensor().unwrap())).unwrap();
                prop_assert!(distance(found, &expected) <= 1e-5, "{format:?} {}", distance(found, &expected));
            }
        }
        let found = matmul(&wide(&x), &weights[0]).unwrap();
        prop_assert!(distance(&found, &reference::matmul(&wide(&x), &wide(&weights[0])).unwrap()) <= 1e-5);
    }

    #[test]
    fn the_gradients_of_products(rows in 1..20usize, inner in 1..4usize, outer in 1..70usize, a in strides()) {
        let weight = random(&[32 * inner, outer], a, DType::F32);
        let x = Var::from_tensor(&random(&[rows, 32 * inner], Strides::Contiguous, DType::F32)).unwrap();
        let gradient = |y: &Tensor| y.sqr().unwrap().sum_all().unwrap().backward().unwrap().get(&x).unwrap().clone();
        let mut matrices = vec![Matrix::packed(weight.clone()).unwrap()];
        matrices.extend([WeightFormat::Bf16, WeightFormat::Q8_0, WeightFormat::Q4_1].map(|format| Matrix::quantized(&weight, format).unwrap()));
        for matrix in &matrices {
            let [found] = fused_matmul(&x, [matrix]).unwrap();
            let expected = reference::matmul(&x, &matrix.tensor().unwrap()).unwrap();
            prop_assert!(distance(&gradient(&found.into_tensor()), &gradient(&expected)) <= 1e-4);
        }
        prop_assert!(distance(&gradient(&matmul(&x, &weight).unwrap()), &gradient(&reference::matmul(&x, &weight).unwrap())) <= 1e-4);
    }

    #[test]
    fn the_gradients_of_what_has_no_fused_form_with_one(seq in 1..9usize, half in 1..20usize) {
        let x = Var::from_tensor(&random(&[1, 2, seq, 2 * half], Strides::Contiguous, DType::F32)).unwrap();
        let (weight, angles) = (random(&[2 * half], Strides::Contiguous, DType::F32), random(&[seq, half], Strides::Contiguous, DType::F32));
        let factors = random(&[1, 2, seq, 2 * half], Strides::Contiguous, DType::F32);
        let gradient = |y: Result<Tensor>| (y.unwrap() * &factors).unwrap().sum_all().unwrap().backward().unwrap().get(&x).unwrap().clone();
        let shared = |x: &Tensor| MaybeOwned::shared(x.clone());
        let pairs = [
            (softmax(&x), candle_nn::ops::softmax(&x, 3)),
            (rms_norm(&x, &weight, 1e-5), candle_nn::ops::rms_norm_slow(&x, &weight, 1e-5)),
            (layer_norm(&x, &weight, &weight, 1e-5), candle_nn::ops::layer_norm_slow(&x, &weight, &weight, 1e-5)),
            (rotate(&x, &angles, &angles), candle_nn::rotary_emb::rope_slow(&x, &angles, &angles)),
            (silu_mul(shared(&x), &factors).map(MaybeOwned::into_tensor), candle_nn::ops::silu(&x).and_then(|x| x * &factors)),
            (add(shared(&x), &factors).map(MaybeOwned::into_tensor), &*x + &factors),
        ];
        for (index, (found, expected)) in pairs.into_iter().enumerate() {
            prop_assert!(distance(&gradient(found), &gradient(expected)) <= 1e-4, "{index}");
        }
    }

    #[test]
    fn slice_assignment(
        dims in prop::collection::vec(1..5usize, 1..5), parts in prop::collection::vec((any::<usize>(), any::<usize>(), any::<usize>()), 0..4),
        a in strides(), dtype in dtype(),
    ) {
        let base = random(&dims, a, dtype);
        let mut sizes = base.dims().to_vec();
        let mut extents = Vec::new();
        for (axis, start, len) in parts {
            let axis = axis % sizes.len();
            let start = start % sizes[axis];
            let len = 1 + len % (sizes[axis] - start);
            sizes[axis] = len;
            extents.push(Extent { axis, span: Span { start, len } });
        }
        let value = random(&sizes, Strides::Contiguous, dtype);
        let before = bits(&base);
        let expected = bits(&reference::patch(&base, &extents, &value).unwrap());
        prop_assert_eq!(bits(&patch(&base, &extents, &value).unwrap()), &expected[..]);
        let owned = patch_owned(MaybeOwned::copy_of(&base).unwrap(), &extents, &value).unwrap().into_tensor();
        prop_assert_eq!(bits(&owned), &expected[..]);
        prop_assert_eq!(bits(&part(&owned, &extents).unwrap()), bits(&value));
        prop_assert_eq!(bits(&base), before);
        // And the gradient of what stays, and of what is written.
        let (tracked, value) = (Var::from_tensor(&wide(&base)).unwrap(), Var::from_tensor(&wide(&value)).unwrap());
        let gradients = patch(&tracked, &extents, &value).unwrap().sum_all().unwrap().backward().unwrap();
        if extents.iter().any(|extent| extent.span.len < dims[extent.axis]) {
            let stays = patch(&tracked.ones_like().unwrap(), &extents, &value.zeros_like().unwrap()).unwrap();
            prop_assert_eq!(bits(gradients.get(&tracked).unwrap()), bits(&stays));
        }
        prop_assert_eq!(bits(gradients.get(&value).unwrap()), bits(&value.ones_like().unwrap()));
    }

    #[test]
    fn fused_elementwise(rows in 1..40usize, width in 1..200usize, operations in prop::collection::vec((0..6usize, 0..10usize, any::<bool>()), 1..8)) {
        let leaves = [random(&[rows, width], Strides::Contiguous, DType::F32), random(&[width], Strides::Contiguous, DType::F32)];
        let unary = [
            Unary::Neg, Unary::Exp, Unary::Sqr, Unary::Abs, Unary::Tanh, Unary::Sigmoid, Unary::Relu, Unary::Recip, Unary::Powf(2.0),
            Unary::Clamp(-0.5, 0.5),
        ];
        let binary = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Maximum, Binary::Minimum];
        let mut fused = FusedElementwise::unary(Unary::Neg, Operand::Tensor(&leaves[0])).unwrap();
        let mut plain = reference::unary(Unary::Neg, &leaves[0]).unwrap();
        for (b, u, leaf) in operations {
            let leaf = &leaves[usize::from(leaf)];
            fused = FusedElementwise::binary(binary[b], Operand::Fused(&fused), Operand::Tensor(leaf)).unwrap();
            plain = reference::binary(binary[b], &plain, leaf).unwrap();
            fused = FusedElementwise::unary(unary[u], Operand::Fused(&fused)).unwrap();
            plain = reference::unary(unary[u], &plain).unwrap();
        }
        let found = fused.compute().unwrap();
        let (found, expected) = (found.flatten_all().unwrap().to_vec1::<f32>().unwrap(), plain.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        // Other types than `f32` are not fused: each operation is then rounded.
        let same = |(a, b): (&f32, &f32)| a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= 1e-5 * a.abs().max(1.0);
        prop_assert!(found.len() == expected.len() && found.iter().zip(&expected).all(same));
    }
}

#[test]
fn other_types_are_not_fused_element_wise() {
    for dtype in [DType::F16, DType::BF16, DType::F64] {
        let x = Tensor::zeros(3, dtype, &Device::Cpu).unwrap();
        assert!(FusedElementwise::unary(Unary::Neg, Operand::Tensor(&x)).is_none());
    }
}

#[test]
fn a_shared_gate_is_not_overwritten_whatever_the_type_of_the_other() {
    let gate = random(&[4, 40], Strides::Contiguous, DType::F32);
    let before = bits(&gate);
    for dtype in TYPES {
        let up = random(&[4, 40], Strides::Contiguous, dtype);
        let found = silu_mul(MaybeOwned::shared(gate.clone()), &up).unwrap().into_tensor();
        assert!(distance(&found, &reference::silu_mul(&gate, &wide(&up)).unwrap()) <= 1e-5);
        assert_eq!(bits(&gate), before, "{dtype:?}");
    }
}
