//! One file per verb: its arguments (`Args`) and what it does (`run`).

pub mod choose;
pub mod compare;
pub mod describe;
pub mod doctor;
pub mod import;
mod layers;
pub mod list;
pub mod measure;
pub mod merge;
pub mod options;
pub mod rank;
pub mod report;
pub mod serve;
pub mod tune;
pub mod verify;
