//! The tiles of weights in the order in which a run takes them, worked out once: many are too short for that.

use std::ops::Range;

use super::axes::{Axes, Pixel};
use super::blocking::{Blocking, WeightTile};
use super::pack::tile_start;
use crate::error::Error;
use crate::microkernels::direct_tile::Turn;
use crate::problem::geometry::Geometry;
use crate::problem::problem::Layout;

/// Tiles without taps before the next one whose lines are asked for, at most.
pub const MOST_HINTS: usize = 4;

/// A tile of weights.
#[derive(Debug, Clone, Copy)]
pub struct Tile {
    /// Its phase and number.
    pub number: WeightTile,
    /// Whether its phase has a tap.
    pub live: bool,
    /// Its channels, or its vectors of them.
    pub units: usize,
    /// Where its phase along z and y lies from phase 0, channels last with its run along x.
    pub phase: usize,
    /// The number of the positions along z and y that have outputs in its phase: phases that have the same lie alike.
    pub positions: usize,
    /// Tiles without taps that follow it.
    pub fills: usize,
}

impl Tile {
    /// All of them, channels first; channels last those with taps, since [`Stripe`]s are what the others fill.
    pub fn all(g: &Geometry, b: &Blocking) -> Result<Vec<Self>, Error> {
        let numbers = || {
            std::iter::successors(Some(b.weight_tile(0)), |&number| Some(b.next_tile(number)))
                .take(b.weight_tiles())
                .filter(|&number| b.layout == Layout::Nchw || tile_start(b, number).is_some())
        };
        let count = numbers().count();
        let mut tiles: Vec<Self> = Vec::new();
        tiles
            .try_reserve_exact(count)
            .map_err(|_| Error::OutOfMemory { what: "tiles of weights", bytes: count * size_of::<Self>() })?;
        // A few: cropped at each end of an axis, or not.
        let mut kinds = Vec::new();
        tiles.extend(numbers().map(|number| Self::new(g, b, number, &mut kinds)));
        for i in (1..tiles.len()).rev() {
            if !tiles[i].live {
                tiles[i - 1].fills = tiles[i].fills + 1;
            }
        }
        Ok(tiles)
    }

    fn new(g: &Geometry, b: &Blocking, number: WeightTile, kinds: &mut Vec<[[usize; 2]; 2]>) -> Self {
        let of_phase = [b.axes.z.positions_of(number.z), b.axes.y.positions_of(number.y)];
        let positions = kinds.iter().position(|kind| *kind == of_phase).unwrap_or(kinds.len());
        if positions == kinds.len() {
            kinds.push(of_phase);
        }
        let [_, height, width] = g.output();
        let units = b.sides.of(number.side);
        let row = (number.z * height + number.y) * width;
        let phase = match b.layout {
            Layout::Nchw => row,
            Layout::Nhwc => (row + number.run) * g.problem().out_channels(),
        };
        Self { number, live: tile_start(b, number).is_some(), units: units.len(), phase, positions, fills: 0 }
    }
}

/// What each tile does: weights and bias among those of the group, outputs from those of a pixel in phase 0.
pub fn turns(g: &Geometry, b: &Blocking, tiles: &[Tile]) -> Result<Vec<Turn>, Error> {
    let mut turns: Vec<Turn> = Vec::new();
    let bytes = size_of_val(tiles);
    turns
        .try_reserve_exact(tiles.len())
        .map_err(|_| Error::OutOfMemory { what: "tiles of weights", bytes })?;
    turns.extend(tiles.iter().map(|tile| {
        let units = b.sides.of(tile.number.side);
        let [taps, ..] = b.axes.taps(tile.number.z, tile.number.y);
        let weights = tile_start(b, tile.number).unwrap_or(0);
        let (channel, lanes, scalars) = match b.layout {
            Layout::Nchw => (units.start * g.output_plane(), 0, weights),
            Layout::Nhwc => (units.start * b.lanes, weights, 0),
        };
        Turn {
            lanes,
            scalars,
            depth: taps * b.group_in,
            start: units.start * b.unit,
            to: channel + tile.phase,
        }
    }));
    Ok(turns)
}

/// Channels last, phases without taps whose outputs lie together: those of a pixel are copied at once.
#[derive(Debug, Clone, Copy)]
pub struct Stripe {
    /// Its phase along z and y.
    pub z: usize,
    pub y: usize,
    /// Its first phase along x, and how many there are.
    pub first: usize,
    pub count: usize,
    /// Where it begins, from the outputs of a pixel in phase 0.
    pub phase: usize,
}

impl Stripe {
    /// All of them; channels first, none.
    pub fn all(g: &Geometry, b: &Blocking) -> Result<Vec<Self>, Error> {
        let (axes, [_, height, width]) = (&b.axes, g.output());
        let mut stripes: Vec<Self> = Vec::new();
        if b.layout == Layout::Nchw {
            return Ok(stripes);
        }
        let (phases, taps) = (axes.x.stride, axes.x.kernel.min(axes.x.stride));
        for (z, y) in (0..axes.z.stride).flat_map(|z| (0..axes.y.stride).map(move |y| (z, y))) {
            let begin = if axes.taps(z, y)[0] > 0 { taps } else { 0 };
            // Those of several groups lie apart.
            let count = if b.groups == 1 { phases - begin } else { 1 };
            let parts = if begin == phases { 0 } else { (phases - begin) / count };
            stripes.try_reserve(parts).map_err(|_| Error::OutOfMemory {
                what: "phases without taps",
                bytes: (stripes.len() + parts) * size_of::<Self>(),
            })?;
            stripes.extend((0..parts).map(|part| {
                let first = begin + part * count;
                let phase = ((z * height + y) * width + first) * g.problem().out_channels();
                Self { z, y, first, count, phase }
            }));
        }
        Ok(stripes)
    }

    /// What it takes of pixel (z, y, x): its phases along x that have outputs, counted from its first.
    #[inline(always)]
    pub fn of(&self, axes: &Axes, pixel: &Pixel) -> Range<usize> {
        if axes.z.output_of(pixel.z, self.z).is_none() || axes.y.output_of(pixel.y, self.y).is_none() {
            return 0..0;
        }
        let (x, first) = (&axes.x, pixel.x * axes.x.stride + self.first);
        let to = (x.crop + x.output).saturating_sub(first).min(self.count);
        x.crop.saturating_sub(first).min(to)..to
    }
}
