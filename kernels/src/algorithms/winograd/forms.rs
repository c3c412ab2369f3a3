//! The algebra of one axis: F(m, r) makes m outputs of a correlation with r taps from n = m + r − 1 products.
//!
//! A window of n neighbouring inputs is turned into n points, r weights into as many; the points are multiplied one by one
//! and turned back into m outputs: Toom and Cook's interpolation, transposed (Winograd's minimal filters). Along several axes
//! one turn follows another.
//!
//! Points are at 0, 1, ∞ for n = 3, at 0, 1, −1, ∞ for n = 4, and at 0, 1, −1, 2, −½, ∞ for n = 6: these keep the error near
//! that of direct summation (measured on normally distributed numbers, all taps inside: at most 1.6 times; with ½ for −½ it would be 4 times).

use pulp::Simd;

use crate::microkernels::vector::Float;

/// F(m, r) along one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the name says it: F32 makes 3 outputs of 2 taps
pub enum Form {
    F11,
    F22,
    F32,
    F23,
    F25,
}

impl Form {
    /// All.
    pub const ALL: [Self; 5] = [Self::F11, Self::F22, Self::F32, Self::F23, Self::F25];

    /// Outputs of a tile (m).
    pub fn outputs(self) -> usize {
        match self {
            Self::F11 => 1,
            Self::F22 | Self::F23 | Self::F25 => 2,
            Self::F32 => 3,
        }
    }

    /// Taps (r).
    pub fn taps(self) -> usize {
        self.points() + 1 - self.outputs()
    }

    /// Points of a window, and its inputs (n).
    pub fn points(self) -> usize {
        match self {
            Self::F11 => 1,
            Self::F22 => 3,
            Self::F32 | Self::F23 => 4,
            Self::F25 => 6,
        }
    }
}

/// Where a turn reads and writes: some windows, each of several runs that are combined element by element. Distances in
/// elements.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    /// Windows.
    pub windows: usize,
    /// Elements of a run: whole vectors.
    pub run: usize,
    /// The first run of the first window.
    pub from: usize,
    /// Distance of the windows.
    pub from_window: usize,
    /// Distance of the runs of a window.
    pub from_step: usize,
    /// The same where it writes.
    pub to: usize,
    /// Distance of the windows.
    pub to_window: usize,
    /// Distance of the runs.
    pub to_step: usize,
}

impl Turn {
    /// One window.
    pub fn single(run: usize, from: usize, from_step: usize, to: usize, to_step: usize) -> Self {
        Self { windows: 1, run, from, from_window: 0, from_step, to, to_window: 0, to_step }
    }

    /// Asserts that `runs.0` runs of every window lie inside `from` elements, `runs.1` inside `to`, in whole vectors.
    #[inline(always)]
    fn check(&self, lanes: usize, runs: (usize, usize), from: usize, to: usize) {
        if self.windows == 0 {
            return;
        }
        let last = self.windows - 1;
        assert!(self.run.is_multiple_of(lanes));
        assert!(self.from + last * self.from_window + (runs.0 - 1) * self.from_step + self.run <= from);
        assert!(self.to + last * self.to_window + (runs.1 - 1) * self.to_step + self.run <= to);
    }
}

/// The loop of a turn: `$name`s are the vectors of the runs of a window, `$value`s go to its runs there.
macro_rules! each_window {
    ($turn:expr, $lanes:expr, $vector:ty, $from:expr, $to:expr, |$i:ident| [$($name:ident)*] => [$($value:expr),*]) => {
        for window in 0..$turn.windows {
            let mut $i = 0;
            while $i < $turn.run {
                // SAFETY: `check` has asserted that all runs of all windows lie inside, and a run is whole vectors.
                unsafe {
                    let mut at = $from.as_ptr().add($turn.from + window * $turn.from_window + $i);
                    $(
                        let $name = at.cast::<$vector>().read_unaligned();
                        at = at.wrapping_add($turn.from_step);
                    )*
                    let _ = at;
                    let mut at = $to.as_mut_ptr().add($turn.to + window * $turn.to_window + $i);
                    $(
                        at.cast::<$vector>().write_unaligned($value);
                        at = at.wrapping_add($turn.to_step);
                    )*
                    let _ = at;
                }
                $i += $lanes;
            }
        }
    };
}

/// Turns the weights of a form, `taps(0)`, `taps(1)`, … in the order of the inputs that they meet, into its points: runs as long as each
/// other.
#[inline(always)]
#[allow(unused_variables)] // not every point is made of all taps
pub fn weights<'a>(form: Form, taps: impl Fn(usize) -> &'a [f64], to: &mut [f64]) {
    let mut runs = to.chunks_exact_mut(to.len() / form.points());
    macro_rules! points {
        (|$taps:pat_param| $($value:expr),*) => {{
            $(point(&taps, runs.next().expect("as many runs as points"), |$taps| $value);)*
        }};
    }
    match form {
        Form::F11 => points!(|[a]| a),
        Form::F22 => points!(|[a, b]| a, a + b, -b),
        Form::F32 => points!(|[a, b]| a, (a + b) * 0.5, (a - b) * -0.5, -b),
        Form::F23 => points!(|[a, b, c]| a, (a + b + c) * 0.5, (a - b + c) * -0.5, -c),
        Form::F25 => points!(
            |[a, b, c, d, e]| a,
            (a + b + c + d + e) / -3.0,
            (a - b + c - d + e) / 3.0,
            (a + b * 2.0 + c * 4.0 + d * 8.0 + e * 16.0) / 15.0,
            (a * 16.0 - b * 8.0 + c * 4.0 - d * 2.0 + e) / -15.0,
            e
        ),
    }
}

/// One point of R taps.
#[inline(always)]
fn point<'a, const R: usize>(
    taps: &impl Fn(usize) -> &'a [f64],
    to: &mut [f64],
    value: impl Fn([f64; R]) -> f64,
) {
    // `map` and `from_fn` over arrays are calls that lack the instruction set.
    let mut runs: [&[f64]; R] = [&[]; R];
    for (tap, run) in runs.iter_mut().enumerate() {
        *run = &taps(tap)[..to.len()];
    }
    for (i, to) in to.iter_mut().enumerate() {
        let mut values = [0.0; R];
        for (value, run) in values.iter_mut().zip(runs) {
            *value = run[i];
        }
        *to = value(values);
    }
}

/// Turns windows of inputs into points.
#[inline(always)]
pub fn forward<T: Float, S: Simd>(simd: S, form: Form, turn: Turn, from: &[T], to: &mut [T]) {
    let lanes = T::lanes::<S>();
    turn.check(lanes, (form.points(), form.points()), from.len(), to.len());
    let add = |a, b| <T as Float>::add(simd, a, b);
    let sub = |a, b| T::sub(simd, a, b);
    macro_rules! windows {
        ([$($name:ident)*] => [$($value:expr),*]) => {
            each_window!(turn, lanes, T::Vector<S>, from, to, |i| [$($name)*] => [$($value),*])
        };
    }
    match form {
        Form::F11 => windows!([a] => [a]),
        Form::F22 => windows!([a b c] => [sub(a, b), b, sub(b, c)]),
        Form::F32 | Form::F23 => windows!([a b c d] => [sub(a, c), add(b, c), sub(b, c), sub(b, d)]),
        Form::F25 => {
            let constant = |c: f64| T::splat(simd, T::from_f64(c));
            let fma = |a, b, c| T::mul_add(simd, a, b, c);
            let (c05, c15, c20) = (constant(0.5), constant(1.5), constant(2.0));
            let (minus05, minus20, minus25) = (constant(-0.5), constant(-2.0), constant(-2.5));
            windows!([a b c d e f] => [
                fma(sub(b, d), c15, fma(c, minus20, add(a, e))),
                fma(d, minus05, fma(c, minus25, sub(e, b))),
                fma(c, c05, fma(d, minus25, add(b, e))),
                fma(sub(d, b), c05, sub(e, c)),
                fma(sub(b, d), c20, sub(e, c)),
                fma(sub(c, e), c15, fma(d, minus20, add(b, f)))
            ])
        }
    }
}

/// Turns the points of windows back into outputs, `add` (a run) added to each where there is one.
#[inline(always)]
pub fn back<T: Float, S: Simd>(simd: S, form: Form, turn: Turn, from: &[T], add: Option<&[T]>, to: &mut [T]) {
    turn.check(T::lanes::<S>(), (form.points(), form.outputs()), from.len(), to.len());
    match add {
        Some(add) => {
            let add = &add[..turn.run];
            back_with(
                simd,
                form,
                turn,
                from,
                |i, value| <T as Float>::add(simd, value, T::load(simd, &add[i..])),
                to,
            );
        }
        None => back_with(simd, form, turn, from, |_, value| value, to),
    }
}

/// [`back`], checked, with the last step of each output.
#[inline(always)]
fn back_with<T: Float, S: Simd>(
    simd: S,
    form: Form,
    turn: Turn,
    from: &[T],
    end: impl Fn(usize, T::Vector<S>) -> T::Vector<S>,
    to: &mut [T],
) {
    let lanes = T::lanes::<S>();
    let add = |a, b| <T as Float>::add(simd, a, b);
    let sub = |a, b| T::sub(simd, a, b);
    macro_rules! windows {
        ([$($name:ident)*] => [$($value:expr),*]) => {
            each_window!(turn, lanes, T::Vector<S>, from, to, |i| [$($name)*] => [$(end(i, $value)),*])
        };
    }
    match form {
        Form::F11 => windows!([a] => [a]),
        Form::F22 => windows!([a b c] => [add(a, b), add(b, c)]),
        Form::F32 => windows!([a b c d] => [add(a, add(b, c)), sub(b, c), add(d, add(b, c))]),
        Form::F23 => windows!([a b c d] => [add(a, add(b, c)), add(d, sub(b, c))]),
        Form::F25 => {
            let constant = |c: f64| T::splat(simd, T::from_f64(c));
            let fma = |a, b, c| T::mul_add(simd, a, b, c);
            let (c20, minus05) = (constant(2.0), constant(-0.5));
            windows!([a b c d e f] => [
                add(add(a, add(b, c)), add(d, e)),
                fma(e, minus05, fma(d, c20, add(f, sub(b, c))))
            ])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::isa::Isa;
    use pulp::WithSimd;

    /// Windows of integers through all three steps, in f64: equal to the correlation, whatever the numbers.
    struct Exact(Form, fastrand::Rng);
    impl WithSimd for Exact {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            const WINDOWS: usize = 3;
            let Self(form, mut random) = self;
            let (lanes, n, m) = (<f64 as Float>::lanes::<S>(), form.points(), form.outputs());
            for _ in 0..200 {
                // Multiples of 15, since some points of the weights are divided by 15.
                let g: Vec<f64> =
                    (0..form.taps()).map(|_| 15.0 * f64::from(random.i32(-1000..=1000))).collect();
                let inputs = (WINDOWS - 1) * m + n;
                let x: Vec<f64> = (0..inputs * lanes).map(|_| f64::from(random.i32(-1000..=1000))).collect();
                let in_vectors: Vec<f64> = g.iter().flat_map(|&g| vec![g; lanes]).collect();
                let (mut points, mut products) = (vec![0.0; n * lanes], vec![f64::NAN; n * WINDOWS * lanes]);
                weights(form, |tap| &in_vectors[tap * lanes..][..lanes], &mut points);
                let turn = Turn {
                    windows: WINDOWS,
                    run: lanes,
                    from: 0,
                    from_window: m * lanes,
                    from_step: lanes,
                    to: 0,
                    to_window: lanes,
                    to_step: WINDOWS * lanes,
                };
                forward(simd, form, turn, &x, &mut products);
                for (point, weight) in
                    products.chunks_exact_mut(WINDOWS * lanes).zip(points.iter().step_by(lanes))
                {
                    point.iter_mut().for_each(|v| *v *= weight);
                }
                let turn = Turn {
                    from_window: lanes,
                    from_step: WINDOWS * lanes,
                    to_window: m * lanes,
                    to_step: lanes,
                    ..turn
                };
                let (mut outputs, add) = (vec![f64::NAN; m * WINDOWS * lanes], vec![7.0; lanes]);
                back(simd, form, turn, &products, Some(&add), &mut outputs);
                for (i, y) in outputs.iter().enumerate() {
                    let expected: f64 = g.iter().enumerate().map(|(j, g)| g * x[i + j * lanes]).sum();
                    assert_eq!(*y, expected + 7.0, "{form:?} output {}", i / lanes);
                }
            }
        }
    }

    #[test]
    fn the_algebra_is_exact_on_integers() {
        for isa in Isa::available() {
            for (seed, form) in Form::ALL.into_iter().enumerate() {
                isa.enter(Exact(form, fastrand::Rng::with_seed(seed as u64)));
            }
        }
    }
}
