//! HOW: one file or folder per algorithm. None knows another.

pub mod polyphase;
pub mod scatter;
