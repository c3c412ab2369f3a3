//! What people read: tables, pictures, one page of them, and their place in a README.

pub mod board;
pub mod page;
mod plot;
pub mod rank;
pub mod section;
pub mod sections;
pub mod splice;
pub mod study;
pub mod table;
pub mod versus;
