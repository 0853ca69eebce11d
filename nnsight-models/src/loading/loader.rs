//! A place in a checkpoint, from which a module is read.

use candle_core::Tensor;
use nnsight_core::types::DimName;
use nnsight_lm::Sizes;

use super::weights::Weights;
use crate::{Error, Result};

/// What is read from a checkpoint. `#[module(config = …)]` writes it; modules without children say themselves how they are read.
///
/// # Examples
/// ```
/// use candle_core::Tensor;
/// use nnsight_lm::Hidden;
/// use nnsight_models::{Load, Loader, Result};
///
/// /// A number for every channel.
/// struct Gains(Tensor);
///
/// impl<F> Load<F> for Gains {
///     type Options = ();
///     fn load(loader: &mut Loader<'_, F>, (): ()) -> Result<Self> {
///         let hidden = loader.size::<Hidden>()?;
///         Ok(Gains(loader.tensor("gains", &[hidden])?))
///     }
/// }
/// ```
pub trait Load<F>: Sized {
    /// What it has to know beside its sizes: `#[child(bias = config.attention_bias)]` sets the field `bias`.
    type Options: Default;
    /// Reads it.
    ///
    /// # Errors
    /// If a tensor is not what it should be. What is missing is said after all has been read.
    fn load(loader: &mut Loader<'_, F>, options: Self::Options) -> Result<Self>;
}

/// A place in a checkpoint, from which a module with a config of the type `F` is read.
pub struct Loader<'a, F> {
    weights: &'a mut Weights,
    config: &'a F,
    sizes: &'a Sizes,
    path: String,
    layer: usize,
}

impl<'a, F> Loader<'a, F> {
    /// Reads a whole model.
    ///
    /// # Errors
    /// As [`Load::load`].
    pub fn read<M: Load<F>>(weights: &'a mut Weights, config: &'a F, sizes: &'a Sizes) -> Result<M> {
        M::load(&mut Loader { weights, config, sizes, path: String::new(), layer: 0 }, M::Options::default())
    }

    /// The config.
    pub fn config(&self) -> &'a F {
        self.config
    }

    /// The number of the layer that is being read; 0 outside of the layers.
    pub fn layer(&self) -> usize {
        self.layer
    }

    /// The checkpoint's tensors.
    pub fn weights(&mut self) -> &mut Weights {
        self.weights
    }

    /// The number of entries of an axis.
    ///
    /// # Errors
    /// [`Error::NoSuchSize`] if it is none of a transformer's.
    pub fn size<D: DimName>(&self) -> Result<usize> {
        let size = || self.sizes.dims().into_iter().find(|(name, _)| *name == D::NAME).map(|(_, size)| size);
        D::FIXED.or_else(size).ok_or(Error::NoSuchSize { axis: D::NAME })
    }

    /// What the checkpoint calls something at this place.
    pub fn name(&self, name: &str) -> String {
        match (self.path.as_str(), name) {
            ("", name) => name.to_string(),
            (path, "") => path.to_string(),
            (path, name) => format!("{path}.{name}"),
        }
    }

    /// A tensor at this place.
    ///
    /// # Errors
    /// As [`Weights::get`].
    pub fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.weights.get(&self.name(name), shape)
    }

    /// Reads what is at a place inside this one.
    ///
    /// # Errors
    /// What reading it fails with.
    pub fn child<M>(&mut self, name: &str, read: impl FnOnce(&mut Self) -> Result<M>) -> Result<M> {
        let inner = self.name(name);
        let outer = std::mem::replace(&mut self.path, inner);
        let child = read(self);
        self.path = outer;
        child
    }

    /// Reads a module for every layer, at the places `name.0`, `name.1` ….
    ///
    /// # Errors
    /// What reading one fails with.
    pub fn list<M>(&mut self, name: &str, read: impl Fn(&mut Self) -> Result<M>) -> Result<Vec<M>> {
        let layers = (0..self.sizes.layers).map(|layer| {
            self.layer = layer;
            self.child(&format!("{name}.{layer}"), &read)
        });
        let layers = layers.collect();
        self.layer = 0;
        layers
    }
}
