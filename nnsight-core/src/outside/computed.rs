//! Operations on tensors with rows.

use std::panic::Location;

use crate::graph::{AxisRole, Mixing, Op, Outline, extents};
use crate::run::compute;
use crate::types::{Saved, differ};
use crate::{Error, Result};

/// A tensor and the names of its axes.
pub(super) type Named<'a> = (&'a Saved, &'a [&'a str]);

/// Where in the user's program.
pub(super) type Here = &'static Location<'static>;

/// Computes an operation, and finds out what becomes of the rows.
///
/// # Errors
/// [`Error::RowsDiffer`] and [`Error::RowEnded`] if it would mix padding in, [`Error::Mismatch`] if sizes do not fit, [`Error::Compute`] if
/// candle fails.
pub(super) fn computed(what: &str, op: &Op, args: &[Named<'_>], here: Here) -> Result<Saved> {
    let names = args.iter().map(|(_, names)| names.iter().map(ToString::to_string).collect::<Vec<_>>()).collect::<Vec<_>>();
    let sizes = args.iter().map(|(saved, _)| saved.dims().iter().map(|&size| Some(size)).collect::<Vec<_>>()).collect::<Vec<_>>();
    let outlines = args.iter().zip(names.iter().zip(&sizes)).map(|((saved, _), (names, sizes))| Outline { names, sizes, extents: saved.extents() });
    let found = extents(op, &outlines.collect::<Vec<_>>());
    let rows = || args.iter().find_map(|(saved, _)| saved.extents());
    let extents = match (found, rows()) {
        (Ok(extents), _) => extents,
        (Err(_), Some(extents)) => return Err(differ(&format!("`{what}`"), extents, here)),
        (Err(Mixing::Along(axis) | Mixing::Outside { axis, .. }), None) => return Err(mismatch(what, format!("rows differ along {axis}"), here)),
        (Err(Mixing::Ended(row)), None) => return Err(mismatch(what, format!("row {row} had ended"), here)),
    };
    let tensors = args.iter().map(|(saved, _)| saved.padded()).collect::<Vec<_>>();
    let source_line = Some(here.into());
    let result = compute(op, &tensors).map_err(|error| Error::Compute { op: what.to_string(), problem: Box::new(error), source_line })?;
    let sizes = result.dims().iter().map(|&size| Some(size)).collect::<Vec<_>>();
    Ok(Saved::computed(result, extents.and_then(|extents| extents.simplified(&sizes))))
}

/// Refuses what candle would broadcast, and the names of the axes do not.
pub(super) fn check_sizes(what: &str, (a, a_names): Named<'_>, (b, b_names): Named<'_>, here: Here) -> Result<()> {
    let offset = a.rank().saturating_sub(b.rank());
    for (index, (name, &size)) in b_names.iter().zip(b.dims()).enumerate() {
        let (own, found) = (a_names.get(offset + index).copied().unwrap_or_default(), a.dims().get(offset + index).copied().unwrap_or(1));
        // One prompt broadcasts to several.
        let spreads = AxisRole::of_name(name) == AxisRole::One || AxisRole::of_name(own) == AxisRole::Row && (size == 1 || found == 1);
        if size != found && !spreads {
            return Err(mismatch(what, format!("{own} has {found} entries on the left and {size} on the right"), here));
        }
    }
    Ok(())
}

fn mismatch(what: &str, problem: String, here: Here) -> Error {
    Error::Mismatch { op: what.to_string(), problem, source_line: Some(here.into()) }
}
