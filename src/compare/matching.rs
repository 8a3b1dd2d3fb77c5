//! Rows of one side against rows of the other, as multisets.
//!
//! 'The same after normalization' is no equivalence: a value halfway between two
//! milliseconds is the same as either. So rows are not looked up by a canonical form. They
//! are sorted into heaps by a key that same rows always share, and inside a heap a matching
//! of greatest size is sought.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};

use crate::compare::cell::{ColumnPair, KeyKind};
use crate::compare::rows::{Rows, RulesUsed, same};

/// Judgements of a pair of rows that one comparison may take.
const JUDGEMENTS_MAX: usize = 200_000;
/// Rows that are moved to another partner to make room for one.
const MOVES_MAX: usize = 500;

/// Rows that found no partner.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// Of the primary.
    pub(crate) primary: Vec<usize>,
    /// Of the shadow.
    pub(crate) shadow: Vec<usize>,
}

impl Left {
    /// Whether all found one.
    pub(crate) fn is_empty(&self) -> bool {
        self.primary.is_empty() && self.shadow.is_empty()
    }
}

/// It would take too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMuch;

/// Matches rows of the two answers to one statement.
#[derive(Debug)]
pub(crate) struct Matcher<'a> {
    /// The columns.
    pub(crate) pairs: &'a [ColumnPair],
    /// The primary's rows.
    pub(crate) primary: &'a Rows<'a>,
    /// The shadow's rows.
    pub(crate) shadow: &'a Rows<'a>,
    kinds: Vec<KeyKind>,
    budget: usize,
}

#[derive(Default)]
struct Heap {
    primary: Vec<usize>,
    shadow: Vec<usize>,
}

// === impl Matcher ===

impl<'a> Matcher<'a> {
    /// A matcher for two answers.
    pub(crate) fn new(
        pairs: &'a [ColumnPair],
        primary: &'a Rows<'a>,
        shadow: &'a Rows<'a>,
    ) -> Self {
        let kinds = pairs.iter().map(KeyKind::of).collect();
        Self { pairs, primary, shadow, kinds, budget: JUDGEMENTS_MAX }
    }

    /// Whether all rows of two ranges are the same, one after the other.
    pub(crate) fn in_order(&self, rules: &mut RulesUsed) -> bool {
        let mut needed = RulesUsed::new();
        let same = self.primary.len() == self.shadow.len()
            && (0..self.primary.len())
                .all(|at| same(self.pairs, self.primary.row(at), self.shadow.row(at), &mut needed));
        if same {
            rules.extend(needed);
        }
        same
    }

    /// Matches two sets of rows; what is left has no partner.
    pub(crate) fn multiset(
        &mut self,
        primary: impl Iterator<Item = usize>,
        shadow: impl Iterator<Item = usize>,
        rules: &mut RulesUsed,
    ) -> Result<Left, TooMuch> {
        let mut heaps: HashMap<u64, Heap> = HashMap::new();
        for at in primary {
            heaps.entry(self.key(at, true)).or_default().primary.push(at);
        }
        for at in shadow {
            heaps.entry(self.key(at, false)).or_default().shadow.push(at);
        }
        let mut left = Left::default();
        for heap in heaps.into_values() {
            self.heap(heap, &mut left, rules)?;
        }
        left.primary.sort_unstable();
        left.shadow.sort_unstable();
        Ok(left)
    }

    fn key(&self, at: usize, of_primary: bool) -> u64 {
        let rows = if of_primary { self.primary } else { self.shadow };
        let mut hasher = DefaultHasher::new();
        for ((pair, kind), cell) in self.pairs.iter().zip(&self.kinds).zip(rows.row(at)) {
            let ty = if of_primary { &pair.primary.ty } else { &pair.shadow.ty };
            kind.hash(ty, *cell, &mut hasher);
        }
        hasher.finish()
    }

    fn judged(&mut self, one: usize, other: usize, rules: &mut RulesUsed) -> Result<bool, TooMuch> {
        self.budget = self.budget.checked_sub(1).ok_or(TooMuch)?;
        Ok(same(self.pairs, self.primary.row(one), self.shadow.row(other), rules))
    }

    fn heap(
        &mut self,
        mut heap: Heap,
        left: &mut Left,
        rules: &mut RulesUsed,
    ) -> Result<(), TooMuch> {
        // Sorted by their bytes, same rows mostly stand at the same place.
        heap.primary.sort_by_key(|at| self.primary.row(*at));
        heap.shadow.sort_by_key(|at| self.shadow.row(*at));
        let mut graph = Graph { edges: HashMap::new(), partner: vec![None; heap.shadow.len()] };
        for one in 0..heap.primary.len() {
            let mut seen = vec![false; heap.shadow.len()];
            if !self.place(one, &heap, &mut graph, &mut seen, 0)? {
                left.primary.extend(heap.primary.get(one));
            }
        }
        for (at, partner) in graph.partner.iter().enumerate() {
            match partner.and_then(|one| heap.primary.get(one)) {
                Some(one) => {
                    if let Some(other) = heap.shadow.get(at) {
                        same(self.pairs, self.primary.row(*one), self.shadow.row(*other), rules);
                    }
                }
                None => left.shadow.extend(heap.shadow.get(at)),
            }
        }
        Ok(())
    }

    /// Finds a partner for a row, moving others to another partner where they have one.
    fn place(
        &mut self,
        one: usize,
        heap: &Heap,
        graph: &mut Graph,
        seen: &mut [bool],
        depth: usize,
    ) -> Result<bool, TooMuch> {
        if depth > MOVES_MAX {
            return Err(TooMuch);
        }
        let width = heap.shadow.len();
        // Its own place first: in a sorted heap that is nearly always the right one.
        let order = std::iter::once(one).chain((0..width).filter(move |at| *at != one));
        for other in order.filter(|at| *at < width) {
            if seen.get(other).copied().unwrap_or(true) {
                continue;
            }
            if !self.edge(one, other, heap, graph)? {
                continue;
            }
            if let Some(seen) = seen.get_mut(other) {
                *seen = true;
            }
            let holder = graph.partner.get(other).copied().flatten();
            let free = match holder {
                None => true,
                Some(holder) => self.place(holder, heap, graph, seen, depth + 1)?,
            };
            if free {
                if let Some(partner) = graph.partner.get_mut(other) {
                    *partner = Some(one);
                }
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn edge(
        &mut self,
        one: usize,
        other: usize,
        heap: &Heap,
        graph: &mut Graph,
    ) -> Result<bool, TooMuch> {
        if let Some(known) = graph.edges.get(&(one, other)) {
            return Ok(*known);
        }
        let (Some(row), Some(candidate)) = (heap.primary.get(one), heap.shadow.get(other)) else {
            return Ok(false);
        };
        let same = self.judged(*row, *candidate, &mut RulesUsed::new())?;
        graph.edges.insert((one, other), same);
        Ok(same)
    }
}

/// Which rows of a heap are the same, as far as it was asked, and who holds whom.
struct Graph {
    edges: HashMap<(usize, usize), bool>,
    partner: Vec<Option<usize>>,
}
