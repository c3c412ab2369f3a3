//! Channels first, the tiles of weights in the order in which a run takes them, worked out once: many are too short for that.

use super::blocking::{Blocking, WeightTile};
use super::pack::tile_start;
use crate::error::Error;
use crate::problem::geometry::Geometry;

/// A tile of weights.
#[derive(Debug, Clone, Copy)]
pub struct Tile {
    /// Its phase and number.
    pub number: WeightTile,
    /// Where its weights begin among those of the group; `None` where its phase has no tap.
    pub weights: Option<usize>,
    /// Steps of its sums: input channels of each tap.
    pub depth: usize,
    /// Its channels.
    pub channels: usize,
    /// Where the first of its rows begins among the bias of the group.
    pub bias: usize,
    /// Where its first channel lies among the outputs of the group, and its phase from there.
    pub plane: usize,
    pub row: usize,
    /// Tiles without taps that follow it.
    pub fills: usize,
}

impl Tile {
    /// All of them.
    pub fn all(g: &Geometry, b: &Blocking) -> Result<Vec<Self>, Error> {
        let [_, height, width] = g.output();
        let count = b.weight_tiles();
        let mut tiles: Vec<Self> = Vec::new();
        tiles
            .try_reserve_exact(count)
            .map_err(|_| Error::OutOfMemory { what: "tiles of weights", bytes: count * size_of::<Self>() })?;
        let mut next = b.weight_tile(0);
        tiles.extend((0..count).map(|_| {
            let number = next;
            next = b.next_tile(number);
            let channels = b.sides.of(number.side);
            let [taps, ..] = b.axes.taps(number.z, number.y);
            Self {
                number,
                weights: tile_start(b, number),
                depth: taps * b.group_in,
                channels: channels.len(),
                bias: channels.start * b.unit,
                plane: channels.start * g.output_plane(),
                row: (number.z * height + number.y) * width,
                fills: 0,
            }
        }));
        for i in (1..tiles.len()).rev() {
            if tiles[i].weights.is_none() {
                tiles[i - 1].fills = tiles[i].fills + 1;
            }
        }
        Ok(tiles)
    }
}
