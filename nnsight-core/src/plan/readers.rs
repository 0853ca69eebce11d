//! Who sees what the model holds, from the end of a run backwards.

use std::collections::{BTreeMap, HashMap};

use super::order::SitePoint;
use super::positions::Positions;
use crate::graph::{At, NodeId};
use crate::sites::{Mixing, SiteTable};

/// Somebody who sees what the model holds at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reader {
    pub time: SitePoint,
    /// The node, or `None` for whoever looks at the tokens as they come.
    pub node: Option<NodeId>,
}

/// An edit, and what is known of where it goes.
pub(super) struct Edit<'a> {
    pub table: &'a SiteTable,
    pub at: At,
    pub site: usize,
    pub written: &'a Positions,
    /// The last position of the prompts: the one whose token a later step depends on.
    pub last: &'a Positions,
}

/// How far an edit gets.
pub(super) enum Sight {
    /// Nobody reads after it.
    Nobody,
    /// What is read after it does not depend on it, the last of all for example.
    Elsewhere(Reader),
    /// What is read after it depends on its site, but not on the positions that it writes.
    OtherPositions(Reader),
    /// Somebody sees it.
    Seen,
}

/// The readers of the rows of some invokes, the last first.
#[derive(Debug, Default)]
pub(super) struct Readers {
    last: Option<Reader>,
    steps: HashMap<u32, Step>,
}

/// The readers at one step.
#[derive(Debug, Default)]
struct Step {
    places: HashMap<usize, usize>,
    /// The sites that are read, the last first.
    sites: Vec<SiteReaders>,
    /// For each site that is written those of the sites that are read which depend on it, and how positions are mixed between.
    reached: HashMap<usize, (usize, Vec<(usize, Option<Mixing>)>)>,
}

#[derive(Debug)]
struct SiteReaders {
    site: usize,
    first: Reader,
    positions: Intervals,
}

impl Readers {
    /// Adds one that comes before all others.
    pub fn add(&mut self, table: &SiteTable, reader: Reader, read: &Positions) {
        self.last.get_or_insert(reader);
        let Some(site) = reader.time.visited(table) else { return };
        let Step { places, sites, .. } = self.steps.entry(reader.time.step).or_default();
        let place = *places.entry(site).or_insert(sites.len());
        if place == sites.len() {
            sites.push(SiteReaders { site, first: reader, positions: Intervals::default() });
        }
        sites[place].positions.add(read);
    }

    /// Forgets all: what they read is replaced.
    pub fn clear(&mut self) {
        *self = Readers::default();
    }

    /// How far an edit gets that comes before all of them.
    pub fn sight(&mut self, edit: &Edit<'_>) -> Sight {
        let Some(last) = self.last else { return Sight::Nobody };
        let Edit { table, at, site, written, last: end_read } = *edit;
        let end = table.at_rank(table.sites().len() - 1);
        let mut first_dependent = None;
        if last.time.step != at.step && (site == end || table.reaches(site, end)) {
            // A later step depends on the token chosen at the last position, and on the keys and values of all.
            let between = table.mixing_between(site, end).map(|mixing| mixing.and(Mixing::Causal));
            if written.reaches(end_read, between) {
                return Sight::Seen;
            }
            first_dependent = Some(last);
        }
        if let Some(Step { sites, reached, .. }) = self.steps.get_mut(&at.step) {
            let (known, dependent) = reached.entry(site).or_default();
            for (place, read) in sites.iter().enumerate().skip(*known) {
                if read.site == site || table.reaches(site, read.site) {
                    dependent.push((place, table.mixing_between(site, read.site)));
                }
            }
            *known = sites.len();
            if dependent.iter().rev().any(|&(place, between)| sites[place].positions.see(written, between)) {
                return Sight::Seen;
            }
            first_dependent = first_dependent.or(dependent.first().map(|&(place, _)| sites[place].first));
        }
        match first_dependent {
            Some(reader) => Sight::OtherPositions(reader),
            None => Sight::Elsewhere(last),
        }
    }
}

/// Ranges of positions that are read.
#[derive(Debug, Default)]
struct Intervals {
    /// Whether all are read at once, or it is not known which.
    all: bool,
    /// First and last of ranges of which none lies within another: both rise.
    ranges: BTreeMap<usize, usize>,
}

impl Intervals {
    fn add(&mut self, read: &Positions) {
        let Positions::Range(from, to) = *read else {
            self.all = true;
            return;
        };
        if self.ranges.range(..=from).next_back().is_some_and(|(_, other)| *other >= to) {
            return;
        }
        while let Some((&inner, _)) = self.ranges.range(from..).next().filter(|(_, other)| **other <= to) {
            self.ranges.remove(&inner);
        }
        self.ranges.insert(from, to);
    }

    /// Whether one of them sees what is written, as [`Positions::reaches`] says it of each.
    fn see(&self, written: &Positions, between: Option<Mixing>) -> bool {
        let Positions::Range(first, last) = *written else { return true };
        let furthest = match between {
            None => self.ranges.range(..=last).next_back(),
            Some(Mixing::Window(size)) => self.ranges.range(..last.saturating_add(size.max(1))).next_back(),
            Some(Mixing::Causal | Mixing::Scan) => self.ranges.last_key_value(),
            Some(Mixing::All) => return self.all || !self.ranges.is_empty(),
        };
        self.all || furthest.is_some_and(|(_, to)| *to >= first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_see_what_one_of_them_sees() {
        let reads = [(4, 6), (0, 1), (5, 9), (5, 5), (12, 12), (0, 3)].map(|(from, to)| Positions::Range(from, to));
        let mut intervals = Intervals::default();
        for (count, read) in reads.iter().enumerate() {
            intervals.add(read);
            for (first, last) in (0..15).flat_map(|first| (first..15).map(move |last| (first, last))) {
                for between in [None, Some(Mixing::Causal), Some(Mixing::Window(1)), Some(Mixing::Window(3)), Some(Mixing::All)] {
                    let written = Positions::Range(first, last);
                    let one_by_one = reads[..=count].iter().any(|read| written.reaches(read, between));
                    assert_eq!(intervals.see(&written, between), one_by_one, "{first} to {last} after {count}, {between:?}");
                }
            }
        }
        assert!(intervals.see(&Positions::All, None) && !intervals.see(&Positions::Range(13, 14), Some(Mixing::Causal)));
        assert!(intervals.see(&Positions::Range(13, 14), Some(Mixing::All)));
    }
}
