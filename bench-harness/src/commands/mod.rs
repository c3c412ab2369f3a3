//! One file per verb: its arguments (`Args`) and what it does (`run`).

pub mod compare;
pub mod describe;
pub mod import;
pub mod list;
pub mod rank;
pub mod report;
pub mod verify;
