//! WHICH kernel: the list, measured choices, the planner, and the plan that a user runs.

pub mod choice;
pub mod plan;
pub mod planner;
pub mod registry;
