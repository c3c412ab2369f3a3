//! The register tile whose sums are outputs: V vectors × R rows, stored from the registers to where they belong.
//!
//! ```text
//!               V·lanes →
//!   R rows   ┌─────┬─────┐    acc[r][v] += splat(scalar[k][r]) · lanes[k][v]     for every step k
//!      ↓     │ acc │ acc │
//!            └─────┴─────┘    then Z neighbouring rows are interleaved, and the vectors stored
//! ```
//!
//! For layers whose sums are short (kernel = stride), where the stores decide. So the cache lines that are written next
//! are asked for between the steps. One call runs tiles side by side: with short vectors a tile takes a few hundred cycles.

// The loops over rows and vectors index several arrays in step, and unroll as they are.
#![allow(clippy::needless_range_loop)]

use pulp::{Simd, WithSimd};

use super::errand::Errand;
use super::places::{MOST_ROWS, MOST_SUMS, Places, Rows, Sums};
use super::register::anew;
use super::vector::Float;
use crate::machine::prefetch;
use crate::problem::epilogue::Activation;

/// Vectors of the widest tile.
pub const MOST_VECTORS: usize = 4;
/// Vectors of the widest tile of `rows` rows: its sums, vectors and a scalar fill the registers.
pub const fn widest(registers: usize, rows: usize) -> usize {
    let (sums, most) = if registers >= 32 { (MOST_SUMS, MOST_VECTORS) } else { (12, 3) };
    if rows == 0 || sums / rows > most { most } else { sums / rows }
}

/// Rows of the tallest tile whose rows come interleaved by `z`: 1, 2 or 4, `live` of which have products.
pub const fn tallest(registers: usize, z: usize, live: usize) -> usize {
    if live < 4 || z < 4 {
        6
    } else if registers >= 32 {
        8
    } else {
        4
    }
}

/// What tiles multiply. Distances in elements.
#[derive(Debug, Clone, Copy)]
pub struct Factors<'a, T> {
    /// The V vectors of step k lie at `k·lane_step`.
    pub lanes: &'a [T],
    /// See `lanes`.
    pub lane_step: usize,
    /// The scalar of row r in step k lies at `r·row_step + k·scalar_step`, from where those of a tile begin.
    pub scalars: &'a [T],
    /// See `scalars`.
    pub row_step: usize,
    /// See `scalars`.
    pub scalar_step: usize,
}

/// Tiles that take turns: they differ by one of their factors.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    /// Where its vectors begin, and its scalars.
    pub lanes: usize,
    /// See `lanes`.
    pub scalars: usize,
    /// Steps; none leaves what the sums start from.
    pub depth: usize,
    /// Where that begins.
    pub start: usize,
    /// Where its rows begin, from where those of all do.
    pub to: usize,
}

/// What the sums start from, each turn from its own begin on.
#[derive(Debug, Clone, Copy)]
pub enum Start<'a, T> {
    /// One value for each row.
    Rows(&'a [T]),
    /// V vectors, the same for all rows.
    Lanes(&'a [T]),
}

/// Rows that are likely to be written soon, for hints alone.
#[derive(Debug, Clone, Copy)]
pub struct Hint<'a, T> {
    /// Where row 0 would lie without its offset.
    pub to: *const T,
    /// Of its rows.
    pub offsets: &'a [usize],
}

/// A tile of those side by side, which differ by their vectors and places.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// Where its vectors begin, from those of a turn.
    pub start: usize,
    /// Where its sums go.
    pub places: &'a Places,
}

/// A tile of `rows` rows × `vectors` vectors whose rows are interleaved by `z`.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// R: those that have products.
    pub rows: usize,
    /// V.
    pub vectors: usize,
    /// Z: 1, 2 or 4.
    pub z: usize,
    /// Of Z rows that are interleaved, those that have products: all, or the first half. The others, which take no registers,
    /// are what the sums of the first one start from.
    pub live: usize,
}

/// All that tiles are told.
#[derive(Debug)]
pub struct Call<'a, T> {
    /// What they multiply.
    pub factors: Factors<'a, T>,
    /// Where the sums start.
    pub start: Start<'a, T>,
    /// What happens to them at the end.
    pub activation: Activation,
    /// The tiles side by side: one at least.
    pub parts: &'a [Part<'a>],
    /// All of them take these turns.
    pub turns: &'a [Turn],
    /// Where their rows go, each to its places: from here and from [`Turn::to`] on.
    pub to: *mut T,
    /// See `to`.
    pub offsets: &'a [usize; MOST_ROWS],
    /// What is written after the last of them, and the places in each cache line of a row of that: lines are asked for evenly over the
    /// steps before, as far as there are steps.
    pub then: Hint<'a, T>,
    /// See `then`.
    pub then_lines: &'a [usize],
    /// What is written beside each of the last turn, before the next, at the same places: where that is counted from.
    pub beside: &'a [*const T],
    /// Rows of V vectors of each part's errand that are copied in a turn, at most.
    pub rows_carried: usize,
}

/// Runs tiles side by side, turn after turn. `errands`: one for each part, or none.
///
/// The shape comes by value: read back as a whole from memory to which its parts were just written, it would wait for all stores before
/// it, those of the last tile's outputs.
///
/// # Safety
/// The places of all rows, counted from `call.to`, may be written, and nobody else accesses them meanwhile. The rows of errands
/// have V vectors.
#[inline(always)]
pub unsafe fn run<T: Float, S: Simd>(simd: S, shape: Shape, call: &Call<'_, T>, errands: &mut [Errand<T>]) {
    macro_rules! dispatch {
        ($($l:literal of $z:literal: $($r:literal)*;)*) => {
            match (shape.live, shape.z, shape.rows, shape.vectors) {
                $($(
                    ($l, $z, $r, 1) => dispatch!(@ $l $z $r 1),
                    ($l, $z, $r, 2) => dispatch!(@ $l $z $r 2),
                    ($l, $z, $r, 3) => dispatch!(@ $l $z $r 3),
                    ($l, $z, $r, 4) => dispatch!(@ $l $z $r 4),
                )*)*
                _ => unreachable!("{shape:?}"),
            }
        };
        (@ $l:literal $z:literal $r:literal $v:literal) => {
            if const { $v <= widest(S::REGISTER_COUNT, $r) && $r <= tallest(S::REGISTER_COUNT, $z, $l) } {
                simd.apart(Tiles::<T, $v, $r, $z, $l> { call, errands })
            } else {
                unreachable!("{shape:?}")
            }
        };
    }
    dispatch!(1 of 1: 1 2 3 4 5 6; 2 of 2: 2 4 6; 1 of 2: 1 2 3 4 5 6; 4 of 4: 4 8; 2 of 4: 2 4 6;);
}

/// Compiled apart, with what else is for the same instruction set: else all tiles of all instruction sets would be parts of their callers,
/// and the compiler could not work on them at the same time.
trait Apart: Simd {
    #[inline(never)]
    fn apart<Op: WithSimd>(self, op: Op) -> Op::Output {
        self.vectorize(op)
    }
}

impl<S: Simd> Apart for S {}

struct Tiles<'a, 'c, T, const V: usize, const R: usize, const Z: usize, const L: usize> {
    call: &'c Call<'a, T>,
    errands: &'c mut [Errand<T>],
}

impl<T: Float, const V: usize, const R: usize, const Z: usize, const L: usize> WithSimd
    for Tiles<'_, '_, T, V, R, Z, L>
{
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { call, errands } = self;
        let Call { factors: f, start, activation, parts, .. } = call;
        let lanes = T::lanes::<S>();
        let width = V * lanes;
        assert!((Z == 1 || f.row_step == 1) && f.scalar_step > 0);
        assert!(errands.is_empty() || errands.len() == parts.len());
        for part in *parts {
            part.places.check(lanes, Z * V);
        }
        let own = parts.first().map_or(0, |part| part.places.lines().len());
        let height = &call.offsets[..R / L];
        for (number, turn) in call.turns.iter().enumerate() {
            let Turn { depth, .. } = *turn;
            let (lanes_of_turn, scalars) = (&f.lanes[turn.lanes..], &f.scalars[turn.scalars..]);
            if depth > 0 {
                let rows = (R - 1) * f.row_step;
                let last = (depth - 1).checked_mul(f.scalar_step).and_then(|last| last.checked_add(rows));
                assert!(last.is_some_and(|last| last < scalars.len()));
            }
            let to = call.to.wrapping_add(turn.to);
            // What is written after this turn, and beside it.
            let (then, then_lines, beside) = match call.turns.get(number + 1) {
                Some(next) => {
                    let to = call.to.wrapping_add(next.to);
                    (Hint { to, offsets: height }, parts[0].places.lines(), &[][..])
                }
                None => (call.then, call.then_lines, call.beside),
            };
            // Evenly over the steps, since a core waits for few lines at a time; two at a time where there are few steps. All tiles
            // have about as many lines, and a division takes as long as a step.
            let asked = own * (R / L) * (1 + beside.len());
            let twice = asked > depth;
            let asks = if twice { asked.div_ceil(2) } else { asked };
            let ahead = (depth / asks.max(1)).max(1) * f.scalar_step;
            for (i, part) in parts.iter().enumerate() {
                let all = &lanes_of_turn[part.start..];
                let end =
                    depth.saturating_sub(1).checked_mul(f.lane_step).and_then(|end| end.checked_add(width));
                assert!(depth == 0 || end.is_some_and(|end| end <= all.len()));
                // SAFETY: as promised to `run`.
                let rows = unsafe { Rows::new(part.places, to, call.offsets) };
                let mut sums = [[T::splat(simd, T::default()); V]; R];
                match *start {
                    Start::Rows(values) => {
                        let values = &values[turn.start..][..R];
                        for r in 0..R {
                            sums[r] = [T::splat(simd, values[r]); V];
                        }
                    }
                    Start::Lanes(values) => {
                        let values: &[T::Vector<S>] = bytemuck::cast_slice(&values[turn.start..][..width]);
                        let row: [T::Vector<S>; V] = values.try_into().expect("V vectors");
                        sums = [row; R];
                    }
                }

                // SAFETY: `depth` steps were asserted to lie inside both factors.
                let mut steps =
                    unsafe { Steps::<T, S, V, R, Z>::new(&Factors { lanes: all, scalars, ..*f }, depth) };
                // What comes next: the tile beside it, or what is written then; and what lies beside.
                let (next, lines) = match parts.get(i + 1) {
                    Some(next) => (Hint { to, offsets: height }, next.places.lines()),
                    None => (then, then_lines),
                };
                let own = part.places.lines();
                let mut none = Errand::NONE;
                let errand = errands.get_mut(i).unwrap_or(&mut none);
                let mut carried = call.rows_carried;
                let half = |lines: &[usize]| if twice { lines.len() / 2 } else { 0 };
                sums = steps.ask(simd, &next, lines, half(lines), ahead, (&mut carried, errand), sums);
                for &to in beside {
                    let hint = Hint { to, offsets: height };
                    sums = steps.ask(simd, &hint, own, half(own), ahead, (&mut carried, errand), sums);
                }
                while carried > 0 && errand.is_left() {
                    // SAFETY: a row is left.
                    unsafe { errand.copy_row::<S, V>(simd) };
                    carried -= 1;
                }
                // SAFETY: all steps that are left.
                sums = unsafe { steps.take(simd, steps.end, sums) };
                let rest: &[T] = match *start {
                    Start::Rows(values) if L < Z => &values[turn.start..],
                    _ => &[],
                };
                rows.store_live::<S, V, R, Z, L>(simd, sums, rest, *activation);
            }
        }
    }
}

/// The steps of a sum that are left.
struct Steps<T, S, const V: usize, const R: usize, const Z: usize> {
    vectors: *const T,
    lane_step: usize,
    scalars: *const T,
    row_step: usize,
    scalar_step: usize,
    /// Where the scalars of a step after the last one would lie.
    end: *const T,
    simd: std::marker::PhantomData<S>,
}

impl<T: Float, S: Simd, const V: usize, const R: usize, const Z: usize> Steps<T, S, V, R, Z> {
    /// # Safety
    /// V vectors and a scalar for each row lie inside the factors for each step, and steps are some scalars apart.
    #[inline(always)]
    unsafe fn new(f: &Factors<'_, T>, depth: usize) -> Self {
        let Factors { lanes, lane_step, scalars, row_step, scalar_step } = *f;
        let (vectors, scalars) = (lanes.as_ptr(), scalars.as_ptr());
        Self {
            vectors,
            lane_step,
            scalars,
            row_step,
            scalar_step,
            end: scalars.wrapping_add(depth * scalar_step),
            simd: std::marker::PhantomData,
        }
    }

    /// Asks for lines of rows, two at a time, `half` of them apart (0: the same one again, which costs less than a question), copies a
    /// row of the errand, and after them takes steps over `ahead` scalars: whole steps.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)] // a record of them would go through memory
    fn ask(
        &mut self,
        simd: S,
        hint: &Hint<'_, T>,
        lines: &[usize],
        half: usize,
        ahead: usize,
        (carried, errand): (&mut usize, &mut Errand<T>),
        mut sums: Sums<T::Vector<S>, V, R>,
    ) -> Sums<T::Vector<S>, V, R> {
        let (first, second) = (&lines[..lines.len() - half], &lines[half..]);
        for offset in hint.offsets {
            let to = hint.to.wrapping_add(*offset);
            for (first, second) in first.iter().zip(second) {
                if self.scalars == self.end {
                    return sums;
                }
                prefetch::write(to.wrapping_add(*first));
                prefetch::write(to.wrapping_add(*second));
                if *carried > 0 && errand.is_left() {
                    // SAFETY: a row is left.
                    unsafe { errand.copy_row::<S, V>(simd) };
                    *carried -= 1;
                }
                let soon = self.scalars.wrapping_add(ahead).min(self.end);
                // SAFETY: whole steps, as far as there are any.
                sums = unsafe { self.take(simd, soon, sums) };
            }
        }
        sums
    }

    /// Adds the products of the steps before `until`.
    ///
    /// # Safety
    /// So many whole steps are left.
    #[inline(always)]
    unsafe fn take(
        &mut self,
        simd: S,
        until: *const T,
        mut sums: Sums<T::Vector<S>, V, R>,
    ) -> Sums<T::Vector<S>, V, R> {
        // Rows that are interleaved lie side by side: known distances take no registers.
        let row_step = if Z > 1 { 1 } else { self.row_step };
        while self.scalars != until {
            // SAFETY: a step that is left, as promised; it lies inside, as promised to `new`.
            unsafe {
                let from = self.vectors.cast::<T::Vector<S>>();
                let mut values = [T::splat(simd, T::default()); V];
                for v in 0..V {
                    values[v] = from.add(v).read_unaligned();
                }
                // Without a register for the last one it is an operand in memory.
                let tight = R * V + V + 1 >= S::REGISTER_COUNT;
                let mut last = from.add(V - 1);
                for r in 0..R {
                    let scalar = T::splat(simd, *self.scalars.add(r * row_step));
                    for v in 0..V - usize::from(tight) {
                        sums[r][v] = T::mul_add(simd, values[v], scalar, sums[r][v]);
                    }
                    if tight {
                        last = anew(last);
                        sums[r][V - 1] = T::mul_add(simd, last.read_unaligned(), scalar, sums[r][V - 1]);
                    }
                }
            }
            self.vectors = self.vectors.wrapping_add(self.lane_step);
            self.scalars = self.scalars.wrapping_add(self.scalar_step);
        }
        sums
    }
}
