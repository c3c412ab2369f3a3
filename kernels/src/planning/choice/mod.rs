//! Which kernel was fastest where: choices that were measured, and how they speak for layers that were not.
//!
//! ```text
//!  user's file ┐            exact? ── measured here, shipped
//!  compiled in ┴─ Choices ─ like it? ─ nearest ── other number of threads ── cost model
//! ```
//!
//! What is compiled in may be of another kind of machine, the most like this one: then it says so instead (`other machine`).
//!
//! A database holds one [`Line`] for a problem, with all its candidates. [`Estimate`]s order the kernels that agree to run a
//! request: the same rule for every source, so that a plan can always say where its choice comes from. Look-ups read no
//! file and no clock. A candidate whose kernel has another revision of its speed since is void; the others of its line stay.

mod database;
mod estimate;
mod line;
mod nearest;
mod pin;
mod shipped;

pub use database::{Choices, Rejected, Report};
pub use estimate::{Choice, ChosenBy, Estimate};
pub use line::{Candidate, Line, Measured, SCHEMA};
pub use pin::Pin;
pub use shipped::shipped;

pub(super) use database::Key;
pub(super) use estimate::{Sources, order};
