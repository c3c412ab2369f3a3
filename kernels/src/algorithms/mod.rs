//! HOW: one file or folder per algorithm. None knows another.

pub mod depth_to_space;
pub mod depthwise;
pub mod gemm_col2im;
pub mod grouped_polyphase;
pub mod overlap_add;
pub mod overlap_save;
pub mod phase_merged;
pub mod pixel_lanes;
pub mod polyphase;
pub mod scatter;
pub mod separable;
pub mod sparse_csr;
pub mod weight_streaming;
pub mod winograd;
pub mod zero_insert;
