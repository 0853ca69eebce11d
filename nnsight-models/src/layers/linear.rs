//! A matrix, and a bias where there is one.

use std::marker::PhantomData;

use candle_core::{DType, Tensor};
use nnsight_core::Result;
use nnsight_core::module::{Cx, Forward, Place};
use nnsight_core::types::{Batch, DimName, Signature};
use nnsight_kernels::{Matrix, MaybeOwned, add_bias, fused_matmul, matmul, upcast_for_sums};
use nnsight_lm::Seq;
use nnsight_macros::Module;

use crate::Result as Loaded;
use crate::loading::{Load, Loader};

/// `y = x W + b`, from the axis `I` to the axis `O`.
#[derive(Module)]
#[module(input: (Batch, Seq, I), output: (Batch, Seq, O), pointwise(I, O))]
pub struct Linear<C: Signature, I: DimName, O: DimName> {
    /// `(I, O)`, whatever the order in memory.
    #[tap(weight: (I, O), from())]
    weight: Matrix,
    /// `(O,)`
    bias: Option<Tensor>,
    place: Place,
    marker: PhantomData<fn() -> (C, I, O)>,
}

impl<C: Signature, I: DimName, O: DimName> Linear<C, I, O> {
    /// From a weight from `I` to `O`: a tensor of shape `(I, O)`, which may be a transposed view, or a [`Matrix`].
    pub fn new(weight: impl Into<Matrix>, bias: Option<Tensor>) -> Self {
        Linear { weight: weight.into(), bias, place: Place::default(), marker: PhantomData }
    }

    /// The type of its weights.
    pub fn dtype(&self) -> DType {
        self.weight.dtype()
    }
}

/// How a [`Linear`] is read.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinearOptions {
    /// Whether it has a bias.
    pub bias: bool,
    /// Whether the checkpoint has its weight as `(I, O)`, as GPT-2's are, and not as `(O, I)`.
    pub transposed: bool,
    /// The embedding that is its weight too, by its place in the checkpoint; it has been read before.
    pub tied_to: Option<&'static str>,
}

impl<F, C: Signature, I: DimName, O: DimName> Load<F> for Linear<C, I, O> {
    type Options = LinearOptions;

    fn load(loader: &mut Loader<'_, F>, LinearOptions { bias, transposed, tied_to }: LinearOptions) -> Loaded<Self> {
        let (from, to) = (loader.size::<I>()?, loader.size::<O>()?);
        let weight = match (tied_to, transposed) {
            (Some(table), _) => {
                let head = loader.name("weight");
                loader.weights().tied_head(&format!("{table}.weight"), &head)?
            }
            (None, true) => {
                let weight = loader.tensor("weight", &[from, to])?;
                loader.weights().matrix(weight)?
            }
            (None, false) => {
                let weight = loader.tensor("weight", &[to, from])?.t()?;
                loader.weights().matrix(weight)?
            }
        };
        let bias = bias.then(|| loader.tensor("bias", &[to])).transpose()?;
        Ok(Linear::new(weight, bias))
    }
}

impl<C: Signature, I: DimName, O: DimName> Forward for Linear<C, I, O> {
    fn forward(&self, x: &Tensor, cx: &mut Cx) -> Result<Tensor> {
        Ok(self.forward_owned(x, cx)?.into_tensor())
    }

    fn forward_owned(&self, x: &Tensor, cx: &mut Cx) -> Result<MaybeOwned> {
        let y = match cx.wants(&[Self::WEIGHT]) {
            false => {
                let [y] = fused_matmul(x, [&self.weight])?;
                y
            }
            true => {
                let weight = cx.parameter(Self::WEIGHT, &self.weight.tensor()?)?;
                let [wide_x, _] = upcast_for_sums([x, &weight])?;
                MaybeOwned::shared(matmul(&wide_x, &weight)?)
            }
        };
        self.with_bias(y, x.dtype())
    }
}

/// A linear map between any axes.
pub trait Map {
    /// The matrix.
    fn matrix(&self) -> &Matrix;
    /// A product with the bias, in the type of the input.
    ///
    /// # Errors
    /// Where the shapes do not fit.
    fn with_bias(&self, y: MaybeOwned, dtype: DType) -> Result<MaybeOwned>;
    /// Whether somebody uses one of its sites.
    fn is_looked_into(&self, cx: &Cx) -> bool;
    /// Runs it by itself.
    ///
    /// # Errors
    /// What an intervention fails with.
    fn call(&self, x: &Tensor, cx: &mut Cx) -> Result<MaybeOwned>;
}

impl<C: Signature, I: DimName, O: DimName> Map for Linear<C, I, O> {
    fn matrix(&self) -> &Matrix {
        &self.weight
    }
    fn with_bias(&self, y: MaybeOwned, dtype: DType) -> Result<MaybeOwned> {
        let y = match &self.bias {
            None => y,
            Some(bias) => add_bias(y, bias)?,
        };
        Ok(y.to_dtype(dtype)?)
    }
    fn is_looked_into(&self, cx: &Cx) -> bool {
        cx.looks_into(self)
    }
    fn call(&self, x: &Tensor, cx: &mut Cx) -> Result<MaybeOwned> {
        cx.call_owned(self, x)
    }
}

/// Several maps of the same input: as one product, if nobody looks into one of them.
///
/// # Errors
/// As the maps by themselves.
pub fn fused_linear<const N: usize>(maps: [&dyn Map; N], x: &Tensor, cx: &mut Cx) -> Result<[MaybeOwned; N]> {
    let mut results = match maps.iter().any(|map| map.is_looked_into(cx)) {
        true => maps.iter().map(|map| map.call(x, cx)).collect::<Result<Vec<_>>>()?,
        false => {
            let products = fused_matmul(x, maps.map(Map::matrix))?.into_iter().zip(maps);
            products.map(|(y, map)| map.with_bias(y, x.dtype())).collect::<Result<Vec<_>>>()?
        }
    }
    .into_iter();
    // As many as there are maps.
    Ok(std::array::from_fn(|_| results.next().expect("a result for every map")))
}

/// Queries of the positions that are wanted of a layer ([`Cx::wanted`]), keys and values of all.
///
/// # Errors
/// As the maps by themselves.
pub fn queries_keys_values([q, k, v]: [&dyn Map; 3], x: &Tensor, cx: &mut Cx) -> Result<[Tensor; 3]> {
    if cx.wants_all_positions() {
        return Ok(fused_linear([q, k, v], x, cx)?.map(MaybeOwned::into_tensor));
    }
    let [k, v] = fused_linear([k, v], x, cx)?.map(MaybeOwned::into_tensor);
    let [q] = fused_linear([q], &cx.wanted(x)?, cx)?.map(MaybeOwned::into_tensor);
    Ok([q, k, v])
}
