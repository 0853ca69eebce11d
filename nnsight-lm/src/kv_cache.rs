//! The KV cache.

use candle_core::{Result, Tensor};
use nnsight_core::graph::Span;
use nnsight_core::module::{Cx, ModuleState};

use crate::TokenBatch;

/// The keys and values of earlier positions that an attention keeps. They are those that the model went on with, edits included.
#[derive(Debug, Default)]
pub struct KvCache {
    kept: Option<[Growing; 2]>,
    /// Whether they are those of another run, which every run begins with and none adds to.
    is_borrowed: bool,
}

/// As [`KvCache`].
#[deprecated(since = "0.2.0", note = "renamed to `KvCache`")]
pub type Past = KvCache;

impl KvCache {
    /// Keys and values of the module that is running, with those of earlier positions before them, and keeps them for later ones. If no other pass
    /// continues this one, they are returned as they are.
    ///
    /// # Shapes
    /// `(Batch, KvHeads, Seq, HeadDim)` each.
    ///
    /// # Errors
    /// If those of earlier positions are missing, because the module was skipped then.
    pub fn extend(cx: &mut Cx, keys: Tensor, values: Tensor) -> nnsight_core::Result<(Tensor, Tensor)> {
        let past = cx.batch::<TokenBatch>()?.past();
        match cx.state::<KvCache>()? {
            None => Ok((keys, values)),
            Some(cache) => Ok(cache.append(past, keys, values)?),
        }
    }

    /// Appends the keys and values of this pass to those of `past` earlier positions, and keeps all of them.
    fn append(&mut self, past: usize, keys: Tensor, values: Tensor) -> Result<(Tensor, Tensor)> {
        match &mut self.kept {
            Some(kept) if self.is_borrowed => {
                let [k, v] = kept.each_ref().map(Growing::all);
                let (k, v) = (k?, v?);
                let (rows, (own, heads, past, dim)) = (keys.dim(0)?, k.dims4()?);
                let repeat = |x: &Tensor| match own {
                    1 => x.expand((rows, heads, past, dim)),
                    _ => x.repeat((rows / own, 1, 1, 1)),
                };
                Ok((Tensor::cat(&[&repeat(&k)?, &keys], 2)?, Tensor::cat(&[&repeat(&v)?, &values], 2)?))
            }
            kept @ None if past == 0 => {
                let [k, v] = kept.insert([Growing::new(keys)?, Growing::new(values)?]);
                Ok((k.all()?, v.all()?))
            }
            Some([k, v]) if k.len == past => {
                k.append(&keys)?;
                v.append(&values)?;
                Ok((k.all()?, v.all()?))
            }
            _ => candle_core::bail!("this attention has no keys and values of earlier positions: it was not run for them"),
        }
    }
}

impl ModuleState for KvCache {
    fn branch(&self, rows: Span, padding: usize, positions: usize) -> Result<Option<Box<dyn ModuleState>>> {
        let part = |x: &Tensor| x.narrow(0, rows.start, rows.len)?.narrow(2, padding, positions);
        let part = |x: &Growing| Growing::new(part(&x.all()?)?);
        let kept = match &self.kept {
            Some([k, v]) => Some([part(k)?, part(v)?]),
            None => None,
        };
        Ok(Some(Box::new(KvCache { kept, is_borrowed: true })))
    }
}

/// Positions that are made room for at a time, at least.
const BLOCK: usize = 64;

/// A tensor that grows along its positions: with room at its end, so that a step copies its own positions and not all that came before.
#[derive(Debug)]
struct Growing {
    /// `(Batch, KvHeads, room, HeadDim)`. Views of its first positions are given away, and what they show is never overwritten.
    room: Tensor,
    len: usize,
}

impl Growing {
    fn new(x: Tensor) -> Result<Self> {
        Ok(Growing { len: x.dim(2)?, room: x })
    }

    fn all(&self) -> Result<Tensor> {
        self.room.narrow(2, 0, self.len)
    }

    fn append(&mut self, x: &Tensor) -> Result<()> {
        let len = self.len + x.dim(2)?;
        if x.track_op() || self.room.track_op() {
            // A gradient goes back to the parts.
            self.room = Tensor::cat(&[&self.all()?, x], 2)?;
        } else {
            if self.room.dim(2)? < len {
                let (rows, heads, _, dim) = self.room.dims4()?;
                let room = Tensor::zeros((rows, heads, (len + len / 2).max(len + BLOCK), dim), x.dtype(), x.device())?;
                room.slice_set(&self.all()?.contiguous()?, 2, 0)?;
                self.room = room;
            }
            self.room.slice_set(&x.contiguous()?, 2, self.len)?;
        }
        self.len = len;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    fn step(seed: f32, width: usize) -> Tensor {
        let entries = (0..2 * 3 * width * 4).map(|entry| seed + entry as f32).collect::<Vec<_>>();
        Tensor::from_vec(entries, (2, 3, width, 4), &Device::Cpu).unwrap()
    }

    fn list(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn steps_are_put_together_and_what_was_seen_stays() {
        let mut cache = KvCache::default();
        let mut parts = vec![step(0.0, 5)];
        let (first, _) = cache.append(0, parts[0].clone(), parts[0].clone()).unwrap();
        let mut seen = vec![(first.clone(), list(&first))];
        for index in 1..150 {
            let part = step(1000.0 * index as f32, 1);
            let (keys, values) = cache.append(4 + index, part.clone(), part.affine(2.0, 0.0).unwrap()).unwrap();
            parts.push(part);
            let all = Tensor::cat(&parts, 2).unwrap();
            assert_eq!(list(&keys), list(&all), "after {index} steps");
            assert_eq!(values.dims(), keys.dims());
            seen.push((keys.clone(), list(&keys)));
        }
        assert!(seen.iter().all(|(view, entries)| list(view) == *entries));
        assert!(cache.append(3, step(0.0, 1), step(0.0, 1)).is_err(), "other positions came before");
    }

    #[test]
    fn gradients_go_back_to_every_step() {
        let mut cache = KvCache::default();
        let (first, second) = (Var::from_tensor(&step(0.0, 2)).unwrap(), Var::from_tensor(&step(1.0, 1)).unwrap());
        cache.append(0, first.as_tensor().clone(), first.as_tensor().clone()).unwrap();
        let (keys, _) = cache.append(2, second.as_tensor().clone(), second.as_tensor().clone()).unwrap();
        let gradients = keys.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        assert!(gradients.get(&first).is_some() && gradients.get(&second).is_some());
    }
}
