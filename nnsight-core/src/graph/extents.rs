//! How far each row of a batch reaches, and what operations make of that.

use std::borrow::Cow;

use super::{Op, Region, Span};

/// Which entries of a tensor are each row's own, if rows differ in that: prompts of different lengths are padded, and texts end one by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Extents {
    /// The axis of the rows, or `None` once one of them was picked.
    pub rows: Option<usize>,
    /// The axes along which rows differ, and the entries of each row.
    pub axes: Vec<(usize, Vec<Span>)>,
    /// Whether each row is there at all: a text that has ended takes no part in later steps.
    pub present: Vec<bool>,
    /// Whether rows go on with their last entry, so that what comes after is no padding but a repetition.
    pub continued: bool,
}

/// A tensor as [`Extents`] see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outline<'a> {
    /// The names of its axes.
    pub names: &'a [String],
    /// Their sizes, as far as they are known.
    pub sizes: &'a [Option<usize>],
    pub extents: Option<&'a Extents>,
}

/// Why an operation cannot be done without taking padding in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mixing {
    /// Rows differ along this axis.
    Along(String),
    /// This row has no entry there.
    Outside { axis: String, row: usize, size: usize },
    /// This row had ended before.
    Ended(usize),
}

type Found = std::result::Result<Option<Extents>, Mixing>;

impl Extents {
    /// Of rows that stand along an axis.
    pub(crate) fn new(rows: usize, axes: Vec<(usize, Vec<Span>)>, present: Vec<bool>) -> Self {
        Extents { rows: Some(rows), axes, present, continued: false }
    }

    /// The entries of the rows along an axis, if they differ there.
    pub(crate) fn along(&self, axis: usize) -> Option<&[Span]> {
        self.axes.iter().find(|(other, _)| *other == axis).map(|(_, spans)| spans.as_slice())
    }

    /// The first row that had ended before.
    pub(crate) fn ended(&self) -> Option<usize> {
        self.present.iter().position(|present| !present)
    }

    /// The numbers of entries of the rows along the first axis along which they differ.
    pub(crate) fn lengths(&self) -> Option<Vec<usize>> {
        self.axes.first().map(|(_, spans)| spans.iter().map(|span| span.len).collect())
    }

    /// The same after the axes have moved; `None` for one that is gone.
    fn moved(&self, to: impl Fn(usize) -> Option<usize>) -> Self {
        let axes = self.axes.iter().filter_map(|(axis, spans)| Some((to(*axis)?, spans.clone()))).collect();
        Extents { rows: self.rows.and_then(&to), axes, ..self.clone() }
    }

    /// The same, or nothing if all rows are there and alike.
    pub(crate) fn simplified(mut self, sizes: &[Option<usize>]) -> Option<Self> {
        self.axes.retain(|(axis, spans)| {
            let size = sizes.get(*axis).copied().flatten();
            spans.iter().any(|span| span.start != 0 || Some(span.len) != size)
        });
        (!self.axes.is_empty() || self.rows.is_some() && self.ended().is_some()).then_some(self)
    }

    /// Refuses an operation that takes the entries of an axis together.
    fn no_mixing(&self, axis: usize, names: &[String]) -> std::result::Result<(), Mixing> {
        if self.along(axis).is_some() {
            return Err(Mixing::Along(names.get(axis).cloned().unwrap_or_default()));
        }
        if self.rows != Some(axis) {
            return Ok(());
        }
        match (self.axes.first(), self.ended()) {
            (Some((ragged, _)), _) => Err(Mixing::Along(names.get(*ragged).cloned().unwrap_or_default())),
            (None, Some(row)) => Err(Mixing::Ended(row)),
            (None, None) => Ok(()),
        }
    }

    /// Refuses an operation that takes all entries together.
    fn none_mixed(&self, names: &[String]) -> std::result::Result<(), Mixing> {
        let axes = self.axes.iter().map(|(axis, _)| *axis).chain(self.rows);
        axes.into_iter().try_for_each(|axis| self.no_mixing(axis, names))
    }

    /// The same after new outermost axes.
    pub(crate) fn inside(&self, new: usize) -> Self {
        self.moved(|axis| Some(axis + new))
    }

    /// Those of some of the rows.
    pub(crate) fn rows_of(&self, kept: Span) -> Self {
        let kept = kept.start..kept.start + kept.len;
        let axes = self.axes.iter().map(|(axis, spans)| (*axis, spans.get(kept.clone()).unwrap_or_default().to_vec())).collect();
        Extents { axes, present: self.present.get(kept).unwrap_or_default().to_vec(), ..self.clone() }
    }

    /// The same without an axis.
    pub(crate) fn without(&self, gone: usize) -> Self {
        self.moved(|axis| (axis != gone).then(|| axis - usize::from(axis > gone)))
    }

    /// A part of it, counted as the tensor's entries are.
    fn part(&self, region: &Region, names: &[String], sizes: &[Option<usize>]) -> Found {
        let (mut part, mut sizes) = (self.clone(), sizes.to_vec());
        let mut gone = Vec::new();
        for step in &region.0 {
            let axis = usize::from(step.axis);
            if step.single {
                gone.push(axis);
            }
            let Some(taken) = sizes.get(axis).copied().flatten().and_then(|size| step.resolve(size)) else {
                // Of generated tokens it is not known how many there are; past its end a text goes on with its last.
                match part.along(axis) {
                    Some(_) if !(part.continued && step.single) => return Err(Mixing::Along(names.get(axis).cloned().unwrap_or_default())),
                    _ => continue,
                }
            };
            sizes[axis] = Some(taken.len);
            if part.rows == Some(axis) {
                part = part.rows_of(taken);
                if let (true, Some(_)) = (step.single, part.ended()) {
                    return Err(Mixing::Ended(taken.start));
                }
            }
            if let Some((_, spans)) = part.axes.iter_mut().find(|(other, _)| *other == axis) {
                for (row, span) in spans.iter_mut().enumerate() {
                    let (start, end) = (span.start.max(taken.start), (span.start + span.len).min(taken.start + taken.len));
                    if step.single && start >= end && part.present.get(row) != Some(&false) {
                        return Err(Mixing::Outside { axis: names.get(axis).cloned().unwrap_or_default(), row, size: span.len });
                    }
                    *span = Span { start: start.saturating_sub(taken.start), len: end.saturating_sub(start) };
                }
            }
        }
        gone.sort_unstable();
        gone.dedup();
        let kept = sizes.iter().enumerate().filter(|(axis, _)| !gone.contains(axis)).map(|(_, size)| *size).collect::<Vec<_>>();
        let part = gone.iter().rev().fold(part, |part, &axis| part.without(axis));
        Ok(part.simplified(&kept))
    }
}

impl Outline<'_> {
    /// What an operation on this tensor alone makes of its rows.
    fn alone(&self, op: &Op) -> Found {
        let Some(extents) = self.extents else { return Ok(None) };
        let found = match op {
            Op::Reduce { axis: None, .. } => {
                extents.none_mixed(self.names)?;
                return Ok(None);
            }
            Op::Reduce { axis: Some(axis), keep, .. } => {
                extents.no_mixing(*axis, self.names)?;
                if *keep { extents.clone() } else { extents.without(*axis) }
            }
            Op::Softmax { axis, .. } | Op::CumSum { axis } => {
                extents.no_mixing(*axis, self.names)?;
                extents.clone()
            }
            Op::TopK { .. } => {
                extents.no_mixing(self.names.len().saturating_sub(1), self.names)?;
                extents.clone()
            }
            Op::Permute { order, .. } => extents.moved(|axis| order.iter().position(|&from| from == axis)),
            Op::Split { axis, .. } => {
                extents.no_mixing(*axis, self.names)?;
                extents.moved(|other| Some(other + usize::from(other > *axis)))
            }
            Op::Merge { axis, .. } => {
                extents.no_mixing(*axis, self.names)?;
                extents.no_mixing(axis + 1, self.names)?;
                extents.moved(|other| Some(other - usize::from(other > *axis)))
            }
            Op::Slice(region) => return extents.part(region, self.names, self.sizes),
            Op::Apply { axes, .. } => return self.applied(extents, &axes.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>()),
            Op::Custom { names, .. } => return self.applied(extents, &names.iter().map(String::as_str).collect::<Vec<_>>()),
            Op::Stack { .. } => extents.moved(|axis| Some(axis + 1)),
            _ => extents.clone(),
        };
        Ok(Some(found))
    }

    /// A function of the program sees padding, and is trusted with it for as long as the axes stay.
    fn applied(&self, extents: &Extents, names: &[&str]) -> Found {
        let position = |axis: usize| names.iter().position(|name| self.names.get(axis).is_some_and(|own| own == name));
        match extents.axes.iter().map(|(axis, _)| *axis).chain(extents.rows).find(|&axis| position(axis).is_none()) {
            Some(axis) => extents.no_mixing(axis, self.names).map(|()| Some(extents.moved(position))),
            None => Ok(Some(extents.moved(position))),
        }
    }

    /// Holds the rows of a value against those of the part of this tensor that it is written to.
    pub(crate) fn takes(&self, region: &Region, value: &Outline<'_>) -> std::result::Result<(), Mixing> {
        let mut part = Cow::Borrowed(self.names);
        let mut sizes = self.sizes.to_vec();
        let mut gone = Vec::new();
        for step in &region.0 {
            let axis = usize::from(step.axis);
            if let Some(size) = sizes.get_mut(axis) {
                *size = size.and_then(|size| step.resolve(size)).map(|span| span.len);
            }
            if step.single {
                gone.push(axis);
            }
        }
        let extents = self.extents.map_or(Ok(None), |extents| extents.part(region, self.names, self.sizes))?;
        gone.sort_unstable();
        gone.dedup();
        for axis in gone.into_iter().rev().filter(|axis| *axis < sizes.len()).collect::<Vec<_>>() {
            sizes.remove(axis);
            part.to_mut().remove(axis);
        }
        Outline { names: &part, sizes: &sizes, extents: extents.as_ref() }.beside(value).map(drop)
    }

    /// What this and another tensor, lined up from their innermost axes outwards, have of rows.
    fn beside(&self, other: &Outline<'_>) -> Found {
        if other.names.len() > self.names.len() {
            return other.beside(self);
        }
        let offset = self.names.len() - other.names.len();
        let shifted = other.extents.map(|extents| extents.moved(|axis| Some(axis + offset)));
        // Whether a tensor without rows has one entry for all positions along an axis.
        let is_spread = |outline: &Outline<'_>, axis: Option<usize>| match axis.and_then(|axis| outline.sizes.get(axis)) {
            Some(size) => *size == Some(1),
            None => true,
        };
        let spread = |extents: &Extents, over: &Outline<'_>, offset: usize| {
            let whole = extents.axes.iter().find(|(axis, _)| !is_spread(over, axis.checked_sub(offset)));
            match whole {
                Some((axis, _)) => Err(Mixing::Along(self.names.get(*axis).cloned().unwrap_or_default())),
                None => Ok(Some(extents.clone())),
            }
        };
        match (self.extents, &shifted) {
            (None, None) => Ok(None),
            (Some(own), None) => spread(own, other, offset),
            (None, Some(others)) => spread(others, self, 0),
            (Some(own), Some(others)) => {
                let differs = |axis: &usize| own.along(*axis) != others.along(*axis);
                let all = || own.axes.iter().chain(&others.axes).map(|(axis, _)| axis);
                match all().find(|axis| differs(axis)) {
                    Some(axis) => Err(Mixing::Along(self.names.get(*axis).cloned().unwrap_or_default())),
                    None if own.rows != others.rows || own.present.len() != others.present.len() => {
                        Err(Mixing::Along(all().next().and_then(|axis| self.names.get(*axis)).cloned().unwrap_or_else(|| "Batch".into())))
                    }
                    None => {
                        let present = own.present.iter().zip(&others.present).map(|(a, b)| *a && *b).collect();
                        Ok(Some(Extents { present, continued: own.continued && others.continued, ..own.clone() }))
                    }
                }
            }
        }
    }
}

/// What an operation makes of the rows of its arguments.
///
/// # Errors
/// If it would take padding, or rows that had ended, for a row's own entries.
pub(crate) fn extents(op: &Op, args: &[Outline<'_>]) -> Found {
    let Some(first) = args.first().filter(|_| args.iter().any(|arg| arg.extents.is_some())) else { return Ok(None) };
    let others = &args[1..];
    match op {
        Op::Binary(_) | Op::Compare(_) | Op::Logic(_) | Op::Where => {
            // The sizes of the result do not matter for how the next argument lines up with the longest of those before.
            let mut all = *first;
            let mut found = first.extents.cloned();
            for other in others {
                let together = Outline { extents: found.as_ref(), ..all }.beside(other)?;
                all = if other.names.len() > all.names.len() { *other } else { all };
                found = together;
            }
            Ok(found)
        }
        Op::Choose => args.get(1).zip(args.get(2)).map_or(Ok(None), |(yes, no)| yes.beside(no)),
        Op::Grad => Ok(first.extents.cloned()),
        Op::SetGrad => args.get(2).map_or(Ok(None), |value| first.beside(value)).map(|_| None),
        Op::Patch(region) => {
            others.first().map_or(Ok(()), |value| first.takes(region, value))?;
            Ok(first.extents.cloned())
        }
        Op::Scatter { axis } | Op::IndexSelect { axis } => {
            first.extents.map_or(Ok(()), |extents| extents.no_mixing(*axis, first.names))?;
            Ok(first.extents.cloned())
        }
        Op::Pick { axis } | Op::Gather { axis } => {
            first.extents.map_or(Ok(()), |extents| extents.no_mixing(*axis, first.names))?;
            let own = first.extents.cloned();
            Ok(if matches!(op, Op::Pick { .. }) { own.map(|extents| extents.without(*axis)) } else { own })
        }
        Op::MatMul => product(first, others),
        Op::Cat { axis } => {
            if let Some(extents) = args.iter().find_map(|arg| arg.extents) {
                extents.no_mixing(*axis, first.names)?;
            }
            alike(first, others)
        }
        Op::Stack { .. } => alike(first, others).and_then(|_| first.alone(op)),
        Op::Loop(body) => {
            let over = body.over.and_then(|axis| Some((axis, args.get(body.loop_carried)?)));
            if let Some((axis, rows)) = over {
                rows.extents.map_or(Ok(()), |extents| extents.no_mixing(axis, rows.names))?;
            }
            Ok(None)
        }
        _ => first.alone(op),
    }
}

/// The rows of tensors that have to be of the same rows.
fn alike(first: &Outline<'_>, others: &[Outline<'_>]) -> Found {
    let differs = others.iter().any(|other| other.extents != first.extents);
    match first.extents.or_else(|| others.iter().find_map(|other| other.extents)).filter(|_| differs) {
        Some(extents) => Err(Mixing::Along(extents.axes.first().and_then(|(axis, _)| first.names.get(*axis)).cloned().unwrap_or_default())),
        None => Ok(first.extents.cloned()),
    }
}

/// The rows of a matrix product `(.., N, K)` by `(.., K, M)`.
fn product(a: &Outline<'_>, others: &[Outline<'_>]) -> Found {
    let Some(b) = others.first() else { return Ok(a.extents.cloned()) };
    let inner = a.names.len().saturating_sub(1);
    a.extents.map_or(Ok(()), |extents| extents.no_mixing(inner, a.names))?;
    let Some(right) = b.extents else { return Ok(a.extents.cloned()) };
    right.no_mixing(b.names.len().saturating_sub(2), b.names)?;
    let columns = b.names.len().saturating_sub(1);
    let same = match a.extents {
        Some(left) => left.rows == right.rows && left.present == right.present,
        None => a.names.len() == b.names.len(),
    };
    if !same {
        return Err(Mixing::Along(right.axes.first().and_then(|(axis, _)| b.names.get(*axis)).cloned().unwrap_or_default()));
    }
    let mut axes = a.extents.map(|left| left.axes.clone()).unwrap_or_default();
    axes.extend(right.axes.iter().filter(|(axis, _)| *axis == columns).cloned());
    Ok(Some(Extents { axes, ..right.clone() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Binary, Reduce, Step};

    const SIZES: [Option<usize>; 3] = [Some(2), Some(4), Some(8)];

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    /// Two rows, of four and of two entries.
    fn two() -> Extents {
        Extents::new(0, vec![(1, vec![Span { start: 0, len: 4 }, Span { start: 2, len: 2 }])], vec![true; 2])
    }

    fn of(op: &Op, own: &Extents) -> Found {
        extents(op, &[Outline { names: &names(&["Batch", "Seq", "Hidden"]), sizes: &SIZES, extents: Some(own) }])
    }

    fn slice(axis: u8, start: i64, end: Option<i64>, single: bool) -> Op {
        Op::Slice(Region(vec![Step { axis, start, end, single }]))
    }

    #[test]
    fn parts_keep_what_is_each_rows_own() {
        let last = of(&slice(1, -3, None, false), &two()).unwrap().unwrap();
        assert_eq!(last.along(1), Some([Span { start: 0, len: 3 }, Span { start: 1, len: 2 }].as_slice()));
        assert_eq!(of(&slice(1, -2, None, false), &two()), Ok(None), "both rows have two entries");
        assert_eq!(of(&slice(1, -1, None, true), &two()), Ok(None));
        assert_eq!(of(&slice(1, -3, None, true), &two()), Err(Mixing::Outside { axis: "Seq".into(), row: 1, size: 2 }));
        let picked = of(&slice(0, 1, None, true), &two()).unwrap().unwrap();
        assert_eq!((picked.rows, picked.axes), (None, vec![(0, vec![Span { start: 2, len: 2 }])]));
    }

    #[test]
    fn what_takes_rows_or_their_positions_together_is_refused() {
        let reduce = |axis| Op::Reduce { reduce: Reduce::Mean, axis, keep: false };
        for axis in [None, Some(0), Some(1)] {
            assert_eq!(of(&reduce(axis), &two()), Err(Mixing::Along("Seq".into())), "{axis:?}");
        }
        assert_eq!(of(&reduce(Some(2)), &two()), Ok(Some(two())));
        let ended = Extents::new(0, Vec::new(), vec![false, true]);
        assert_eq!(of(&reduce(Some(0)), &ended), Err(Mixing::Ended(0)));
        assert_eq!(of(&reduce(Some(1)), &ended), Ok(Some(ended.clone())));
    }

    #[test]
    fn rows_meet_rows_of_the_same_lengths_only() {
        let (three, one) = (names(&["Batch", "Seq", "Hidden"]), names(&["Hidden"]));
        let own = two();
        let ragged = Outline { names: &three, sizes: &SIZES, extents: Some(&own) };
        let add = |other| extents(&Op::Binary(Binary::Add), &[ragged, other]);
        assert_eq!(add(ragged), Ok(Some(two())));
        assert_eq!(add(Outline { names: &one, sizes: &SIZES[2..], extents: None }), Ok(Some(two())));
        let spread = [Some(2), Some(1), Some(1)];
        assert_eq!(add(Outline { names: &three, sizes: &spread, extents: None }), Ok(Some(two())));
        let whole = Outline { names: &three, sizes: &SIZES, extents: None };
        assert_eq!(add(whole), Err(Mixing::Along("Seq".into())), "whose first entry would meet padding");
        let other = Extents { axes: vec![(1, vec![Span { start: 1, len: 3 }, Span { start: 0, len: 4 }])], ..two() };
        assert_eq!(add(Outline { extents: Some(&other), ..ragged }), Err(Mixing::Along("Seq".into())));
    }
}
