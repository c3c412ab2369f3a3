//! THE TRUTH: the f64 oracle, the forward convolution and its adjoints, and W as a matrix.

pub mod convolution;
pub mod norms;
pub mod oracle;
pub mod weight_matrix;
