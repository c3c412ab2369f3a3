//! Other libraries, measured beside our kernels in the same rounds.
//!
//! A peer is a program that stays alive and speaks JSON lines ([`protocol`]); one process for each peer and mode. It takes
//! part in a sitting as a [`Contender`](crate::measure::Contender) like any plan of this process, is verified against the
//! same oracle before its time counts, and is stopped while it is not its turn. What goes wrong with it is written down,
//! and the run goes on.
//!
//! ```text
//! list (what there is, what is installed) ──▶ Candidate ──▶ Live ──▶ Process ◀──lines──▶ the program
//! ```

pub mod list;
pub mod live;
pub mod process;
pub mod protocol;
mod visitors;

pub use list::{Peer, State};
pub use live::{Candidate, Live, Patience, Prepared};
pub use process::{Launch, Trouble};
pub use visitors::Visitors;
