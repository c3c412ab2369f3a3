//! Times candidates against each other: short blocks, visited in random order, round after round.
//!
//! ```text
//! Run ──▶ Job (one workload) ──▶ Buffers, Expected ──check──▶ Contender ──sitting──▶ Series ──▶ statistics, records
//! ```
//!
//! A [`Contender`] is anything that can run k times and say how that went: a plan of this process ([`PlanContender`]), or
//! a program of its own ([`Live`](crate::peers::Live)). A sitting treats all of them alike.

pub mod block;
pub mod budget;
pub mod cache;
pub mod check;
pub mod contender;
pub mod duel;
mod guest;
pub mod pulse;
pub mod run;
pub mod shard;
pub mod sitting;
pub mod sittings;
pub mod slowed;
pub mod workload;

pub use block::{Block, Crew};
pub use cache::CacheMode;
pub use check::{Expected, WrongAnswer};
pub use contender::{Buffers, Contender, PlanContender};
pub use shard::Shard;
pub use sitting::{Series, Sitting, Stopped};
