//! MLPs of which every position goes through a few, the experts (Shazeer et al. 2017): which those are, and what comes of them.

use candle_core::{DType, Tensor};
use nnsight_core::Result;
use nnsight_core::module::{Cx, Forward, Instrument};

/// The experts that every position goes to: the most probable, the best first; of equal ones, the first.
///
/// # Shapes
/// `probabilities`: `(Batch, Seq, Experts)`; the result: `(Batch, Seq, Chosen)`
///
/// # Errors
/// If the device fails.
pub fn most_probable(probabilities: &Tensor, chosen: usize) -> Result<Tensor> {
    let (rows, width, experts) = probabilities.dims3()?;
    let flat = probabilities.to_dtype(DType::F32)?.reshape((rows * width, experts))?.to_vec2::<f32>()?;
    let best = flat.iter().flat_map(|row| {
        let mut order = (0..experts as i64).collect::<Vec<_>>();
        order.sort_by(|&a, &b| row[b as usize].total_cmp(&row[a as usize]));
        order.truncate(chosen);
        order
    });
    Ok(Tensor::from_iter(best, probabilities.device())?.reshape((rows, width, chosen))?)
}

/// The way of every position through the experts.
pub struct Routes {
    /// `(Batch, Seq, Chosen)`
    chosen: Tensor,
    /// For each expert, which entries of `chosen` it is.
    entries: Vec<Vec<u32>>,
}

impl Routes {
    /// That of positions which go to some of so many experts.
    ///
    /// # Shapes
    /// `chosen`: `(Batch, Seq, Chosen)`
    ///
    /// # Errors
    /// If one of the experts does not exist.
    pub fn new(chosen: Tensor, experts: usize) -> Result<Self> {
        let chosen = chosen.to_dtype(DType::I64)?.contiguous()?;
        let mut entries = vec![Vec::new(); experts];
        for (entry, expert) in chosen.flatten_all()?.to_vec1::<i64>()?.into_iter().enumerate() {
            match usize::try_from(expert).ok().and_then(|expert| entries.get_mut(expert)) {
                Some(entries) => entries.push(entry as u32),
                None => {
                    return Err(candle_core::Error::msg(format!("a position is to go to expert {expert}, and there are {experts}, from 0 on")).into());
                }
            }
        }
        Ok(Routes { chosen, entries })
    }

    /// The probabilities of the experts that every position goes to, which are to add up to one if they are `normed`.
    ///
    /// # Shapes
    /// `probabilities`: `(Batch, Seq, Experts)`; the result: `(Batch, Seq, Chosen)`
    ///
    /// # Errors
    /// If the device fails.
    pub fn weights(&self, probabilities: &Tensor, normed: bool) -> Result<Tensor> {
        let weights = probabilities.contiguous()?.gather(&self.chosen, 2)?;
        Ok(if normed { weights.broadcast_div(&weights.sum_keepdim(2)?)? } else { weights })
    }

    /// The sum over the experts that each position goes to of what they return, by their weights.
    ///
    /// An expert is run for the positions that go to it. If somebody looks into it or edits it, it is run for all, so that its sites have the axes of
    /// any other module's; what it returns for positions that do not go to it is added nowhere.
    ///
    /// # Shapes
    /// `x`: `(Batch, Seq, Hidden)`, `weights`: `(Batch, Seq, Chosen)`; the result has the shape of `x`.
    ///
    /// # Errors
    /// What an expert, or an intervention in it, fails with.
    pub fn mix<M: Forward + Instrument>(&self, experts: &[M], x: &Tensor, weights: &Tensor, cx: &mut Cx) -> Result<Tensor> {
        let (rows, width, hidden) = x.dims3()?;
        let (positions, chosen) = (rows * width, self.chosen.dim(2)?);
        let flat = x.reshape((positions, hidden))?;
        let (mut outputs, mut order) = (Vec::with_capacity(experts.len()), Vec::with_capacity(positions * chosen));
        for (expert, entries) in experts.iter().zip(&self.entries) {
            let is_seen = cx.looks_into(expert);
            if entries.is_empty() && !is_seen {
                continue;
            }
            // Of an expert that somebody sees and no position goes to, a row is taken that is added nowhere: its gradients are zeros.
            let entries = if entries.is_empty() { vec![None] } else { entries.iter().copied().map(Some).collect() };
            let own = Tensor::from_iter(entries.iter().map(|entry| entry.map_or(0, |entry| entry / chosen as u32)), x.device())?;
            outputs.push(match is_seen {
                true => cx.call(expert, x)?.reshape((positions, hidden))?.index_select(&own, 0)?,
                false => cx.call(expert, &flat.index_select(&own, 0)?.unsqueeze(0)?)?.squeeze(0)?,
            });
            order.extend(entries);
        }
        // From the order of the experts back to that of the positions.
        let mut place = vec![0u32; positions * chosen];
        order.iter().enumerate().filter_map(|(at, entry)| Some((at, (*entry)?))).for_each(|(at, entry)| place[entry as usize] = at as u32);
        let place = Tensor::from_vec(place, positions * chosen, x.device())?;
        let outputs = Tensor::cat(&outputs, 0)?.index_select(&place, 0)?;
        let weighted = outputs.broadcast_mul(&weights.to_dtype(x.dtype())?.reshape((positions * chosen, 1))?)?;
        Ok(weighted.reshape((positions, chosen, hidden))?.sum(1)?.reshape((rows, width, hidden))?)
    }
}
