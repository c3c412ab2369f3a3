//! Choices of kernels: filled by measuring, asked, judged, and written down for programs that ship.
//!
//! ```text
//! Run ──▶ measurements ──lines──▶ Line ──▶ Database (a file) ──▶ tconv::Choices ──▶ Planner ──▶ Answer
//! recorded runs ─────────┘          └───▶ audit: what the choice costs where it was not measured
//! ```
//!
//! What a line means and how it is looked up is the library's business ([`tconv::planning::choice`]); here is what fills it.

pub mod answer;
pub mod audit;
pub mod database;
pub mod emit;
pub mod lines;
pub mod tune;

pub use answer::Answer;
pub use database::Database;
pub use tune::Effort;
