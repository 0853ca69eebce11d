//! What can be decoded: lists of token ids, what a trace gave back of them, and logits.

use candle_core::DType;
use nnsight_core::types::{Batch, Int, Part, Ranked, Shape, Tensor};
use nnsight_lm::{Seq, Vocab};

use crate::{Error, Result};

/// The token ids of one text.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the token ids of a text",
    label = "not token ids",
    note = "what is: a list of ids (`&[u32]`), or a tensor of kind `Int` with the axes `Seq` or `(Batch, Seq)`, such as `model.tokens()`"
)]
pub trait TokenIds {
    /// The ids.
    ///
    /// # Errors
    /// [`Error::SeveralTexts`] if there is more than one row.
    fn ids(&self) -> Result<Vec<u32>>;
}

/// The token ids of several texts.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not rows of token ids",
    label = "not rows of token ids",
    note = "what is: a tensor of kind `Int` with the axes `(Batch, Seq)`, such as `model.tokens()`, or lists of ids"
)]
pub trait TokenRows {
    /// The ids of each text.
    ///
    /// # Errors
    /// If an entry is not a token id.
    fn id_rows(&self) -> Result<Vec<Vec<u32>>>;
}

/// The shape of the logits of one position.
#[diagnostic::on_unimplemented(
    message = "a tensor of shape `{Self}` does not hold the logits of one position",
    label = "not of shape `(Vocab,)` or `(Batch, Vocab)`",
    note = "logits have the axis `Vocab`, and a position is taken with `.at(Seq, -1)`: `model.lm_head.output.at(Seq, -1)`"
)]
pub trait LogitsShape: Shape {}
impl LogitsShape for (Vocab,) {}
impl LogitsShape for (Batch, Vocab) {}

impl TokenIds for [u32] {
    fn ids(&self) -> Result<Vec<u32>> {
        Ok(self.to_vec())
    }
}
impl TokenIds for Vec<u32> {
    fn ids(&self) -> Result<Vec<u32>> {
        Ok(self.clone())
    }
}
impl<const N: usize> TokenIds for [u32; N] {
    fn ids(&self) -> Result<Vec<u32>> {
        Ok(self.to_vec())
    }
}

/// The entries of a tensor whose rows are alike.
fn entries<C, S>(tensor: &Tensor<C, S, Int>) -> Result<Vec<u32>> {
    let ids = tensor.whole()?.flatten_all()?.to_dtype(DType::I64)?.to_vec1::<i64>()?;
    ids.into_iter().map(|id| u32::try_from(id).map_err(|_| Error::NoToken { id })).collect()
}

macro_rules! one_text {
    ($($shape:ty),+) => {$(
        impl<C> TokenIds for Tensor<C, $shape, Int> {
            fn ids(&self) -> Result<Vec<u32>> {
                entries(self)
            }
        }
    )+};
}
one_text!((), (Seq,), (Part<Seq>,));

macro_rules! texts {
    ($($shape:ty),+) => {$(
        impl<C> TokenRows for Tensor<C, $shape, Int> {
            fn id_rows(&self) -> Result<Vec<Vec<u32>>> {
                self.rows()?.iter().map(entries).collect()
            }
        }
        impl<C> TokenIds for Tensor<C, $shape, Int> {
            fn ids(&self) -> Result<Vec<u32>> {
                let mut rows = self.id_rows()?;
                match (rows.pop(), rows.len()) {
                    (Some(only), 0) => Ok(only),
                    (_, others) => Err(Error::SeveralTexts { count: others + 1 }),
                }
            }
        }
    )+};
}
texts!((Batch,), (Batch, Seq), (Batch, Part<Seq>));

impl<C> TokenRows for Tensor<C, (Ranked,), Int> {
    fn id_rows(&self) -> Result<Vec<Vec<u32>>> {
        Ok(entries(self)?.into_iter().map(|id| vec![id]).collect())
    }
}
impl TokenRows for [Vec<u32>] {
    fn id_rows(&self) -> Result<Vec<Vec<u32>>> {
        Ok(self.to_vec())
    }
}
impl TokenRows for Vec<Vec<u32>> {
    fn id_rows(&self) -> Result<Vec<Vec<u32>>> {
        Ok(self.clone())
    }
}
