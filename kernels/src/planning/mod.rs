//! WHICH kernel: the list, the planner, and the plan that a user runs.

pub mod plan;
pub mod planner;
pub mod registry;
