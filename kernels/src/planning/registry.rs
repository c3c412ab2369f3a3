//! The list of kernels: everything else iterates it.

use crate::algorithms::depth_to_space::DepthToSpace;
use crate::algorithms::depthwise::Depthwise;
use crate::algorithms::gemm_col2im::GemmCol2im;
use crate::algorithms::grouped_polyphase::GroupedPolyphase;
use crate::algorithms::overlap_add::OverlapAdd;
use crate::algorithms::overlap_save::OverlapSave;
use crate::algorithms::phase_merged::PhaseMerged;
use crate::algorithms::pixel_lanes::PixelLanes;
use crate::algorithms::polyphase::Polyphase;
use crate::algorithms::scatter::Scatter;
use crate::algorithms::separable::Separable;
use crate::algorithms::sparse_csr::SparseCsr;
use crate::algorithms::weight_streaming::WeightStreaming;
use crate::algorithms::winograd::Winograd;
use crate::algorithms::zero_insert::ZeroInsert;
use crate::contract::kernel::Kernel;

/// The kernels that a planner may choose from: a value, not a global.
#[derive(Clone)]
pub struct Registry {
    kernels: Vec<&'static dyn Kernel>,
}

impl Registry {
    /// THE list. A new kernel of this crate is one line here.
    pub fn builtin() -> Self {
        Self {
            kernels: vec![
                &Scatter,
                &GemmCol2im,
                &ZeroInsert,
                &SparseCsr,
                &OverlapAdd,
                &PixelLanes,
                &PhaseMerged,
                &DepthToSpace,
                &Separable,
                &Depthwise,
                &WeightStreaming,
                &GroupedPolyphase,
                &Polyphase,
                &Winograd,
                &OverlapSave,
            ],
        }
    }

    /// The same with one more; a kernel of the same name is replaced.
    pub fn with(mut self, kernel: &'static dyn Kernel) -> Self {
        self.kernels.retain(|k| k.name() != kernel.name());
        self.kernels.push(kernel);
        self
    }

    /// All, in the order of the list.
    pub fn iter(&self) -> impl Iterator<Item = &'static dyn Kernel> + '_ {
        self.kernels.iter().copied()
    }

    /// By name.
    pub fn get(&self, name: &str) -> Option<&'static dyn Kernel> {
        self.iter().find(|k| k.name() == name)
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter().map(|k| k.name())).finish()
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::builtin()
    }
}
