//! The tiles of all phases, made once per plan.

use std::cmp::Reverse;
use std::ops::Range;

use super::blocking::{Blocking, Pixels};
use crate::error::Error;
use crate::microkernels::slab::equal_parts;
use crate::microkernels::small_tile::{MOST_ROWS, Row, Tap, Tiles, has_masks, push, tallest};
use crate::problem::geometry::{Geometry, Phase};

/// What a part of the batch runs for each block of output channels.
#[derive(Debug)]
pub struct Program {
    pub tiles: Tiles,
    pub phases: Vec<PhaseTiles>,
}

/// One phase along all axes.
#[derive(Debug)]
pub struct PhaseTiles {
    pub tiles: Range<usize>,
    /// Its taps, and those of all phases before.
    pub taps: usize,
    pub taps_before: usize,
}

/// A row of pixels, with the taps that meet the input along z and y and, where all pixels share them, x.
struct Line {
    row: Row,
    taps: [Range<usize>; 3],
}

impl Line {
    /// Lines of many taps first, equal ones together.
    fn order(&self) -> (Reverse<usize>, [(usize, usize); 3]) {
        let taps = self.taps.iter().map(Range::len).product();
        (Reverse(taps), [0, 1, 2].map(|a| (self.taps[a].start, self.taps[a].end)))
    }
}

impl Program {
    /// For `images` images.
    pub fn new(geometry: &Geometry, b: &Blocking, images: usize) -> Result<Self, Error> {
        let pixel_step = match b.kind {
            Pixels::Columns => geometry.axes()[2].axis.stride * b.vectors,
            Pixels::Images => b.outputs * b.vectors,
        };
        let mut program = Self { tiles: Tiles::new(b.vectors, pixel_step), phases: Vec::new() };
        let mut taps_before = 0;
        let [az, ay, ax] = geometry.axes();
        for pz in &az.phases {
            for py in &ay.phases {
                for px in &ax.phases {
                    let first = program.tiles.len();
                    let builder = Builder { geometry, b, phases: [pz, py, px] };
                    match b.kind {
                        Pixels::Columns => builder.columns(images, &mut program.tiles)?,
                        Pixels::Images => builder.images(images, &mut program.tiles)?,
                    }
                    let taps = pz.taps * py.taps * px.taps;
                    let tiles = first..program.tiles.len();
                    push("phases", &mut program.phases, PhaseTiles { tiles, taps, taps_before })?;
                    taps_before += taps;
                }
            }
        }
        Ok(program)
    }
}

struct Builder<'a> {
    geometry: &'a Geometry,
    b: &'a Blocking,
    phases: [&'a Phase; 3],
}

impl Builder<'_> {
    /// Elements from one position to the next along z, y, x, as tiles read them.
    fn steps(&self) -> [isize; 3] {
        let [_, height, width] = self.geometry.input().map(|n| n as isize);
        let unit = if self.b.kind == Pixels::Images { self.b.pixels as isize } else { 1 };
        [height * width * unit, width * unit, unit]
    }

    /// Input of tap 0 for position `q`, relative to the image.
    fn input(&self, q: [usize; 3]) -> isize {
        let steps = self.steps();
        (0..3).map(|a| self.phases[a].input_index(q[a], 0) as isize * steps[a]).sum()
    }

    /// The output pixel of position `q`.
    fn output(&self, q: [usize; 3]) -> usize {
        let [_, height, width] = self.geometry.output();
        let [z, y, x] =
            [0, 1, 2].map(|a| self.phases[a].first_output + q[a] * self.geometry.axes()[a].axis.stride);
        (z * height + y) * width + x
    }

    /// Inputs of one image, or of one block of images, of all channels.
    fn image_step(&self) -> isize {
        (self.b.groups * self.b.group_in * self.b.channel_step) as isize
    }

    /// Tiles of rows along x.
    fn columns(&self, images: usize, tiles: &mut Tiles) -> Result<(), Error> {
        let [pz, py, px] = self.phases;
        let masks = has_masks(self.b.registers);
        let mut x = 0;
        while x < px.outputs {
            // With masks, parts of equal length; without, neighbours that have the same taps.
            let same = if masks {
                px.outputs
            } else {
                (x + 1..px.outputs).find(|&q| px.valid_taps(q) != px.valid_taps(x)).unwrap_or(px.outputs)
            };
            let pixels = equal_parts(same - x, self.b.pixels).min(same - x);
            let mut lines = Vec::new();
            for n in 0..images {
                for z in 0..pz.outputs {
                    for y in 0..py.outputs {
                        let row = Row {
                            input: n as isize * self.image_step() + self.input([z, y, x]),
                            sums: (n * self.b.outputs + self.output([z, y, x])) * self.b.vectors,
                        };
                        let taps = [pz.valid_taps(z), py.valid_taps(y), 0..px.taps];
                        push("rows of tiles", &mut lines, Line { row, taps })?;
                    }
                }
            }
            let all = u32::MAX >> (32 - pixels);
            self.tiles(&mut lines, pixels, !masks, tiles, |mx| {
                let valid = px.valid_outputs(mx);
                let clip = |q: usize| q.clamp(x, x + pixels) - x;
                let (begin, end) = (clip(valid.start), clip(valid.end));
                if begin < end { all >> (pixels - (end - begin)) << begin } else { 0 }
            })?;
            x += pixels;
        }
        Ok(())
    }

    /// Tiles of positions, each with the same position of several images.
    fn images(&self, images: usize, tiles: &mut Tiles) -> Result<(), Error> {
        let [pz, py, px] = self.phases;
        let mut n = 0;
        while n < images {
            let pixels = self.b.pixels.min(images - n);
            let block = (n / self.b.pixels) as isize * self.image_step();
            let mut lines = Vec::new();
            for z in 0..pz.outputs {
                for y in 0..py.outputs {
                    for x in 0..px.outputs {
                        let row = Row {
                            input: block + self.input([z, y, x]),
                            sums: (n * self.b.outputs + self.output([z, y, x])) * self.b.vectors,
                        };
                        let taps = [pz.valid_taps(z), py.valid_taps(y), px.valid_taps(x)];
                        push("rows of tiles", &mut lines, Line { row, taps })?;
                    }
                }
            }
            self.tiles(&mut lines, pixels, true, tiles, |_| u32::MAX >> (32 - pixels))?;
            n += pixels;
        }
        Ok(())
    }

    /// Cuts lines of `pixels` pixels into tiles; `sorted`: only such of the same taps together. `columns`: the pixels of a line that have a
    /// tap along x.
    fn tiles(
        &self,
        lines: &mut [Line],
        pixels: usize,
        sorted: bool,
        tiles: &mut Tiles,
        columns: impl Fn(usize) -> u32,
    ) -> Result<(), Error> {
        if sorted {
            lines.sort_by_key(Line::order);
        }
        let [pz, py, px] = self.phases;
        let steps = self.steps();
        let rows = tallest(self.b.registers, self.b.vectors, pixels);
        for group in lines.chunk_by(|a, b| !sorted || a.taps == b.taps) {
            for lines in group.chunks(equal_parts(group.len(), rows)) {
                let mut rows = [lines[0].row; MOST_ROWS];
                for (row, line) in rows.iter_mut().zip(lines) {
                    *row = line.row;
                }
                let taps = (0..pz.taps)
                    .flat_map(|z| (0..py.taps).flat_map(move |y| (0..px.taps).map(move |x| [z, y, x])));
                let taps = taps.map(|m| {
                    let back: isize =
                        (0..3).map(|a| (m[a] * self.phases[a].input_step) as isize * steps[a]).sum();
                    let mut mask = 0;
                    for (r, line) in lines.iter().enumerate() {
                        if (0..3).all(|a| line.taps[a].contains(&m[a])) {
                            mask |= columns(m[2]) << (r * pixels);
                        }
                    }
                    Tap { number: (m[0] * py.taps + m[1]) * px.taps + m[2], shift: -back, pixels: mask }
                });
                tiles.push(&rows[..lines.len()], pixels, taps)?;
            }
        }
        Ok(())
    }
}
