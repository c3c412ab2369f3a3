//! HOW: one file or folder per algorithm. None knows another.

pub mod scatter;
