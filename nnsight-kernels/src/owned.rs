//! The claim that nobody else holds a tensor's storage, as a type.

use candle_core::{DType, Result, Tensor};

/// A tensor that knows whether its storage may be overwritten.
///
/// candle shares a storage among all clones and views of a tensor, and does not tell whether there are any. A tensor is *owned* from the kernel that
/// allocated it on until it is handed out: this type has no `Clone` and lends no `&Tensor`, and only kernels of this crate make an owned one
/// ([`MaybeOwned::copy_of`] among them). What comes from elsewhere is [shared](MaybeOwned::shared), and never overwritten.
#[derive(Debug)]
pub struct MaybeOwned {
    tensor: Tensor,
    is_owned: bool,
}

impl MaybeOwned {
    /// A tensor that others may hold.
    pub fn shared(tensor: Tensor) -> Self {
        MaybeOwned { tensor, is_owned: false }
    }

    /// A contiguous copy, which nobody else holds.
    ///
    /// # Errors
    /// If the device fails.
    pub fn copy_of(tensor: &Tensor) -> Result<Self> {
        let copy = if tensor.is_contiguous() { tensor.copy()? } else { tensor.force_contiguous()? };
        Ok(MaybeOwned::fresh(copy))
    }

    /// What a kernel has just allocated, and not handed to anybody yet.
    pub(crate) fn fresh(tensor: Tensor) -> Self {
        MaybeOwned { tensor, is_owned: true }
    }

    /// Whether it may be overwritten.
    pub fn is_owned(&self) -> bool {
        self.is_owned
    }

    /// The sizes of its axes.
    pub fn dims(&self) -> &[usize] {
        self.tensor.dims()
    }

    /// The number of its axes.
    pub fn rank(&self) -> usize {
        self.tensor.rank()
    }

    /// The type of its entries.
    pub fn dtype(&self) -> DType {
        self.tensor.dtype()
    }

    /// Whether candle records what is computed from it, for a gradient.
    pub fn track_op(&self) -> bool {
        self.tensor.track_op()
    }

    /// In another type; as it is if it has that type already.
    ///
    /// # Errors
    /// If the conversion does not exist.
    pub fn to_dtype(self, dtype: DType) -> Result<Self> {
        if self.dtype() == dtype { Ok(self) } else { Ok(MaybeOwned::fresh(self.tensor.to_dtype(dtype)?)) }
    }

    /// Hands out the tensor; from now on it is shared.
    pub fn share(&mut self) -> Tensor {
        self.is_owned = false;
        self.tensor.clone()
    }

    /// The tensor, for whoever is to hold it.
    pub fn into_tensor(self) -> Tensor {
        self.tensor
    }

    /// The tensor, for a kernel to read.
    pub(crate) fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    /// The tensor for a kernel to overwrite, if it may be and its entries follow each other.
    pub(crate) fn writable(&self) -> Option<&Tensor> {
        (self.is_owned && self.tensor.is_contiguous() && !self.tensor.track_op()).then_some(&self.tensor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn what_is_handed_out_is_no_longer_owned() {
        let x = Tensor::new(&[1f32, 2.0], &Device::Cpu).unwrap();
        assert!(!MaybeOwned::shared(x.clone()).is_owned());
        let mut copy = MaybeOwned::copy_of(&x).unwrap();
        assert!(copy.is_owned() && copy.writable().is_some());
        let held = copy.share();
        assert!(!copy.is_owned() && copy.writable().is_none());
        let sum = crate::add(copy, &x).unwrap().into_tensor();
        assert_eq!(held.to_vec1::<f32>().unwrap(), [1.0, 2.0]);
        assert_eq!(sum.to_vec1::<f32>().unwrap(), [2.0, 4.0]);
    }

    #[test]
    fn a_conversion_is_a_copy_and_none_is_none() {
        let shared = MaybeOwned::shared(Tensor::new(&[1f32], &Device::Cpu).unwrap());
        let same = shared.to_dtype(DType::F32).unwrap();
        assert!(!same.is_owned());
        assert!(same.to_dtype(DType::F64).unwrap().is_owned());
    }
}
