//! What people read: tables, and their place in a README.

pub mod rank;
pub mod splice;
