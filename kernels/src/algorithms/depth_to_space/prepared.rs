//! The prepared kernel: packed weights, and the task split of a run.

use super::blocking::{Blocking, Parts, not_finite};
use super::pack::{pack_bias, pack_bias_of_phases, pack_group};
use super::tiles::{Stripe, Tile, turns};
use super::{first, last};
use crate::contract::kernel::Prepared;
use crate::contract::request::{Refusal, Request, Weights};
use crate::machine::isa::Isa;
use crate::machine::parallel::{self, SharedOutput};
use crate::machine::scratch::{AlignedVec, Bytes64, Scratch};
use crate::machine::tensor::{Tensor, TensorMut};
use crate::microkernels::activation::activate;
use crate::microkernels::direct_tile::Turn;
use crate::microkernels::vector::Float;
use crate::problem::epilogue::Epilogue;
use crate::problem::geometry::Geometry;
use crate::problem::problem::Layout;

#[derive(Debug)]
pub struct PreparedDirect<T> {
    pub geometry: Geometry,
    pub epilogue: Epilogue,
    pub blocking: Blocking,
    isa: Isa,
    threads: usize,
    scratch: Scratch,
    /// Group after group, see [`pack_group`].
    pub weights: AlignedVec<T>,
    /// Group after group, [`Blocking::bias_step`] values each.
    pub bias: AlignedVec<T>,
    /// What outputs without products are, [`Blocking::rest_step`] values for each group.
    pub rest: AlignedVec<T>,
    /// The tiles of weights, and what each does.
    pub tiles: Vec<Tile>,
    pub turns: Vec<Turn>,
    /// Channels last.
    pub stripes: Vec<Stripe>,
}

impl<T: Float> PreparedDirect<T> {
    pub fn new(request: &Request<'_>, blocking: Blocking, weights: Weights<'_>) -> Result<Self, Refusal> {
        let (threads, scratch) = blocking.workers(request);
        let tiles = Tile::all(request.geometry, &blocking)?;
        let turns = turns(request.geometry, &blocking, &tiles)?;
        let mut prepared = Self {
            tiles,
            turns,
            stripes: Stripe::all(request.geometry, &blocking)?,
            geometry: request.geometry.clone(),
            epilogue: request.epilogue,
            isa: request.target.isa,
            threads,
            scratch,
            weights: AlignedVec::zeroed("packed weights", blocking.packed_weights())?,
            bias: AlignedVec::zeroed("bias", blocking.groups * blocking.bias_step())?,
            rest: AlignedVec::zeroed("activated bias", blocking.groups * blocking.rest_step())?,
            blocking,
        };
        prepared.pack(weights)?;
        Ok(prepared)
    }

    fn pack(&mut self, weights: Weights<'_>) -> Result<(), Refusal> {
        let b = &self.blocking;
        if b.axes.windows > 1 && !weights.kernel.all_finite() {
            return Err(not_finite().into());
        }
        let (kernel, bias) = weights.typed::<T>()?;
        for (group, packed) in self.weights.chunks_exact_mut(b.group_weights()).enumerate() {
            pack_group(&self.geometry, b, group, kernel, packed);
        }
        if let Some(bias) = bias {
            for (group, packed) in self.bias.chunks_exact_mut(b.bias_step()).enumerate() {
                pack_bias(b, group, bias, packed);
            }
            for (group, packed) in self.rest.chunks_exact_mut(b.rest_step()).enumerate() {
                pack_bias_of_phases(b, group, bias, packed);
            }
        } else {
            self.rest.fill(T::default());
        }
        activate(self.epilogue.activation, &mut self.rest);
        Ok(())
    }
}

impl<T: Float> Prepared for PreparedDirect<T> {
    fn scratch(&self) -> Scratch {
        self.scratch
    }

    fn run(&self, input: Tensor<'_>, output: TensorMut<'_>, scratch: &mut [Bytes64]) {
        let input = T::slice(&input).expect("checked by the plan");
        let output = SharedOutput::new(T::slice_mut(output).expect("checked by the plan"));
        let b = &self.blocking;
        let (tiles, units) = (Parts::new(self.tiles.len(), b.parts), Parts::new(b.units(), b.chunks));
        parallel::run_scratch(self.threads, scratch, b.slot(), b.tasks(), |slot, task| {
            let (number, task) = (task % b.parts, task / b.parts);
            let tiles = tiles.of(number);
            let (group, units) = (task / b.chunks, units.of(task % b.chunks));
            match b.layout {
                Layout::Nchw => {
                    self.isa.enter(first::Task { plan: self, input, output, slot, group, units, tiles })
                }
                Layout::Nhwc => self.isa.enter(last::Task { plan: self, input, output, group, units, tiles }),
            }
        });
    }

    fn repack(&mut self, weights: Weights<'_>) -> Result<(), Refusal> {
        self.pack(weights)
    }
}
