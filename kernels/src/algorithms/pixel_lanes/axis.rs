//! One axis as the kernel walks it: positions that hold one output of each phase, and the windows that they read.
//!
//! Output o = S·q + σ − c: position q, phase σ, and c (`crop`) outputs that the first position lacks. Position q reads the
//! inputs q + e; window e serves the phases σ for which tap k·D = σ + b − S·e exists. These phases are neighbours, and
//! all windows but one at either end serve the same ones: so an axis is at most three [`Run`]s.
//!
//! ```text
//!   K = 4, S = 2, cropped by 1     c = 0: three runs, every position whole    c = 1: one run, one position more
//!   window                          −1      0      +1                          −1      0
//!   phase 0                         k=3    k=1                                 k=2    k=0
//!   phase 1                                k=2    k=0                          k=3    k=1
//! ```

use std::ops::Range;

use crate::problem::geometry::AxisGeometry;

/// Neighbouring windows that serve the same phases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The first window: position q reads input q + first.
    pub first: i64,
    /// Windows, and their distance.
    pub windows: usize,
    pub step: usize,
    /// The phases that they serve.
    pub phases: Range<usize>,
}

impl Run {
    /// Number `i` of its windows.
    pub fn window(&self, i: usize) -> i64 {
        self.first + (i * self.step) as i64
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = i64> + use<> {
        let (first, step) = (self.first, self.step as i64);
        (0..self.windows as i64).map(move |i| first + i * step)
    }

    /// The windows that meet an axis of `input` elements at position `q`.
    pub fn valid(&self, q: usize, input: usize) -> Range<usize> {
        let (at, step) = (q as i64 + self.first, self.step as i64);
        let end = (input as i64 - at + step - 1).div_euclid(step).clamp(0, self.windows as i64);
        let begin = (step - 1 - at).div_euclid(step).clamp(0, end);
        begin as usize..end as usize
    }
}

/// One axis, from a crop that leaves all its outputs in place.
#[derive(Debug, Clone)]
pub struct PositionAxis {
    /// Phases (S).
    pub stride: usize,
    /// Outputs that the first position lacks (c).
    pub crop: usize,
    pub output: usize,
    pub input: usize,
    pub positions: usize,
    /// Windows that any phase reads.
    pub reach: Range<i64>,
    /// Windows of all phases together.
    pub together: Vec<Run>,
    /// Windows of each phase alone.
    pub alone: Vec<Run>,
    kernel: usize,
    dilation: usize,
    /// b: the cropped outputs of whole positions.
    shift: usize,
}

impl PositionAxis {
    /// The crops worth a try: none, or what makes all phases of a position begin with the same input.
    pub fn crops(axis: &AxisGeometry) -> impl Iterator<Item = usize> + use<> {
        let crop = axis.axis.padding.0 % axis.axis.stride;
        [0, crop].into_iter().take(if crop > 0 { 2 } else { 1 })
    }

    /// With one of [`PositionAxis::crops`]. Stride or dilation is 1.
    pub fn new(axis: &AxisGeometry, crop: usize) -> Self {
        let a = &axis.axis;
        let mut this = Self {
            stride: a.stride,
            crop,
            output: axis.output,
            input: a.input,
            positions: (crop + axis.output).div_ceil(a.stride),
            reach: 0..1,
            together: Vec::new(),
            alone: Vec::new(),
            kernel: a.kernel,
            dilation: a.dilation,
            shift: a.padding.0 - crop,
        };
        this.together = this.runs(0..a.stride);
        this.alone = (0..a.stride).map(|phase| this.run_of(phase)).collect();
        if let (Some(first), Some(last)) = (this.together.first(), this.together.last()) {
            this.reach = first.first..last.window(last.windows - 1) + 1;
        }
        this
    }

    /// Inputs that a position reads beside its own.
    pub fn halo(&self) -> usize {
        (self.reach.end - 1 - self.reach.start) as usize
    }

    /// Output of phase `phase` of position `q`, if it is one.
    pub fn output_of(&self, q: usize, phase: usize) -> Option<usize> {
        (q * self.stride + phase).checked_sub(self.crop).filter(|&o| o < self.output)
    }

    /// The positions among `q` of which every output exists.
    pub fn whole(&self, q: &Range<usize>) -> Range<usize> {
        let begin = self.crop.div_ceil(self.stride).clamp(q.start, q.end);
        begin..((self.crop + self.output) / self.stride).clamp(begin, q.end)
    }

    /// The tap through which phase `phase` reads window `e`.
    pub fn tap(&self, phase: usize, e: i64) -> Option<usize> {
        let reach = (phase + self.shift) as i64 - e * self.stride as i64;
        let tap = usize::try_from(reach).ok().filter(|r| r.is_multiple_of(self.dilation))? / self.dilation;
        (tap < self.kernel).then_some(tap)
    }

    /// Where two phases read: the windows of the first alone, of both, of the second alone. They follow one another.
    pub fn windows_by_phases(&self) -> [usize; 3] {
        let mut windows = [0; 3];
        for run in &self.together {
            let kind = if run.phases.len() == 2 { 1 } else { 2 * run.phases.start };
            windows[kind] += run.windows;
        }
        windows
    }

    /// All windows of one phase; none where it has no tap.
    fn run_of(&self, phase: usize) -> Run {
        let mut runs = self.runs(phase..phase + 1);
        runs.pop().unwrap_or(Run { first: 0, windows: 0, step: 1, phases: phase..phase + 1 })
    }

    /// The windows of some phases, in runs.
    fn runs(&self, of: Range<usize>) -> Vec<Run> {
        let (stride, dilation) = (self.stride as i64, self.dilation as i64);
        let step = if self.stride == 1 { self.dilation } else { 1 };
        let last_tap = (self.kernel as i64 - 1) * dilation;
        // Tap 0 of the last phase reads the last window, the last tap of the first phase the first one.
        let first = ((of.start + self.shift) as i64 - last_tap + stride - 1).div_euclid(stride);
        let last = ((of.end - 1 + self.shift) as i64).div_euclid(stride);
        let mut runs: Vec<Run> = Vec::new();
        for e in (first..=last).step_by(step) {
            let served = |&phase: &usize| self.tap(phase, e).is_some();
            let Some(begin) = of.clone().find(served) else { continue };
            let phases = begin..begin + (begin..of.end).take_while(|p| served(p)).count();
            match runs.last_mut() {
                Some(run) if run.phases == phases && run.window(run.windows) == e => run.windows += 1,
                _ => runs.push(Run { first: e, windows: 1, step, phases }),
            }
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::geometry::Geometry;
    use crate::problem::limits::Limits;
    use crate::problem::spec::Spec;

    /// Every (output, tap, input) of the definition once, for both crops.
    #[test]
    fn runs_are_the_definition() {
        for (kernel, stride, dilation) in [
            (1i64, 1i64, 1i64),
            (3, 1, 2),
            (2, 4, 1),
            (4, 2, 1),
            (5, 2, 1),
            (9, 3, 1),
            (2, 2, 1),
            (7, 6, 1),
            (16, 8, 1),
            (5, 11, 1),
            (29, 14, 1),
        ] {
            for padding in 0..4 {
                let input = 5;
                let spec = Spec::new(&[1, 1, input as i64], &[1, 1, kernel]);
                let spec = spec.stride(stride).dilation(dilation).padding(padding);
                let Ok(problem) = spec.check(Limits::default()) else { continue };
                let geometry = Geometry::new(&problem).unwrap();
                let axis = &geometry.axes()[2];
                for crop in PositionAxis::crops(axis) {
                    let a = PositionAxis::new(axis, crop);
                    assert!(a.together.len() <= 3);
                    for runs in [&a.together, &a.alone] {
                        let mut found = Vec::new();
                        for q in 0..a.positions {
                            for run in runs {
                                for i in run.valid(q, input) {
                                    let e = run.window(i);
                                    let read = usize::try_from(q as i64 + e).unwrap();
                                    for phase in run.phases.clone() {
                                        let tap = a.tap(phase, e).unwrap();
                                        found.extend(a.output_of(q, phase).map(|o| (o, tap, read)));
                                    }
                                }
                            }
                        }
                        found.sort_unstable();
                        let mut defined = Vec::new();
                        for tap in 0..kernel as usize {
                            defined
                                .extend(axis.valid_inputs(tap).map(|i| (axis.output_index(i, tap), tap, i)));
                        }
                        defined.sort_unstable();
                        assert_eq!(found, defined, "k{kernel} s{stride} d{dilation} p{padding} crop {crop}");
                    }
                }
            }
        }
    }
}
