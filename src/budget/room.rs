//! Room for more: how many further functions of the configured sizes would fit the board.
//!
//! - What one costs is the difference of two budgets, with a second one of its kind and without: everything that grows with
//!   a function counts, also what it adds to snapshots and sled.

use crate::config::{Config, FUNCTIONS_MAX};
use crate::units::Bytes;

use super::{Budget, Plan};

/// What one further function costs, and how many of them would fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct More {
    /// Memory of one.
    pub memory: Bytes,
    /// Flash of one.
    pub flash: Bytes,
    /// How many fit.
    pub fit: u64,
}

/// Room for more functions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// As the smallest that is configured; its name.
    pub smallest: (String, More),
    /// As the mean of all that are configured.
    pub average: More,
    /// As the largest that is configured; its name.
    pub largest: (String, More),
}

impl Plan {
    /// How many more functions would fit; `None` without a function to compare with.
    #[must_use]
    pub fn room(&self) -> Option<Room> {
        let functions = &self.loaded.config.functions;
        let costs: Vec<(Bytes, Bytes)> = (0..functions.len()).map(|index| self.cost_of_a_second(index)).collect();
        let named = |index: usize| (functions[index].manifest.name.clone(), self.more(costs[index]));
        let smallest = (0..costs.len()).min_by_key(|index| costs[*index])?;
        let largest = (0..costs.len()).max_by_key(|index| costs[*index])?;
        let mean = |part: fn(&(Bytes, Bytes)) -> Bytes| {
            let sum: u64 = costs.iter().map(|cost| part(cost).0).sum();
            Bytes(sum.div_ceil(costs.len() as u64))
        };
        let average = self.more((mean(|cost| cost.0), mean(|cost| cost.1)));
        Some(Room { smallest: named(smallest), average, largest: named(largest) })
    }

    /// Memory and flash of another function like the one at `index`.
    fn cost_of_a_second(&self, index: usize) -> (Bytes, Bytes) {
        let (loaded, budget) = (&self.loaded, &self.budget);
        let mut config: Config = loaded.config.clone();
        config.functions.push(config.functions[index].clone());
        let mut modules = loaded.modules.clone();
        modules.extend(loaded.modules.get(index).copied());
        let more = Budget::new(&config, &loaded.board, &modules);
        let grown = |with: Bytes, without: Bytes| Bytes(with.0.saturating_sub(without.0));
        (grown(more.memory.total(), budget.memory.total()), grown(more.flash.total(), budget.flash.total()))
    }

    fn more(&self, (memory, flash): (Bytes, Bytes)) -> More {
        let (ledgers, slots) = (&self.budget, FUNCTIONS_MAX.saturating_sub(self.loaded.config.functions.len()) as u64);
        let times = |left: Bytes, each: Bytes| left.0.checked_div(each.0).unwrap_or(u64::MAX);
        let fit = times(ledgers.memory.left(), memory).min(times(ledgers.flash.left(), flash)).min(slots);
        More { memory, flash, fit: if self.fits() { fit } else { 0 } }
    }
}
