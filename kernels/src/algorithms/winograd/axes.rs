//! One axis cut into correlations of step 1, each with its form and its tiles.
//!
//! A stride phase whose taps lie D/g inputs apart splits once more: outputs whose number in the phase has the same residue
//! modulo D/g read inputs of one residue. Each such *sub-phase* is a correlation of neighbours, at distance D/g in the
//! input and S·D/g in the output.

use super::forms::Form;
use crate::contract::request::Declined;
use crate::problem::geometry::{AxisGeometry, Phase};

/// Two forms on one axis are taken where they save one product in so many: the weights of both are kept.
const WORTH: usize = 25;
/// More phases or residues than this on an axis decline: blocks would hold hardly a tile of each.
const MOST: usize = 8;

/// Outputs of one residue of one phase, or a part of them.
#[derive(Debug, Clone, Copy)]
pub struct SubPhase {
    phase: Phase,
    pub form: Form,
    /// Input index of the first input of the first tile; may lie outside the input.
    pub first_input: i64,
    /// The first output.
    pub first_output: usize,
    /// Outputs.
    pub outputs: usize,
    /// Tiles that cover them.
    pub tiles: usize,
}

impl SubPhase {
    /// The outputs of one residue of a phase; where `mixed`, in up to two parts of different forms.
    fn all(phase: &Phase, residue: usize, stride: usize, mixed: bool) -> Result<Vec<Self>, Declined> {
        let step = phase.input_step;
        let mut first = residue;
        let outputs = phase.outputs.saturating_sub(residue).div_ceil(step);
        let mut parts = Vec::with_capacity(2);
        for (form, outputs) in forms(phase.taps, outputs, mixed)? {
            let back = ((form.taps() - 1) * step) as i64;
            parts.push(Self {
                phase: *phase,
                form,
                first_input: phase.input_index(first, 0) - back,
                first_output: phase.first_output + first * stride,
                outputs,
                tiles: outputs.div_ceil(form.outputs()),
            });
            first += outputs * step;
        }
        Ok(parts)
    }

    /// Kernel index of the tap that meets input `j` of a window; `None` where the form has more taps than the phase.
    pub fn tap(&self, j: usize) -> Option<usize> {
        let m = self.form.taps() - 1 - j;
        (m < self.phase.taps).then(|| self.phase.tap(m))
    }

    /// Whether both have the same weights: residues of one phase have.
    pub fn has_weights_of(&self, other: &Self) -> bool {
        self.form == other.form && (0..self.form.taps()).all(|j| self.tap(j) == other.tap(j))
    }

    /// Inputs that tiles `0..tiles` span, from the first to behind the last, at distance `step`.
    pub fn span(&self, tiles: usize, step: usize) -> usize {
        match tiles {
            0 => 0,
            tiles => ((tiles - 1) * self.form.outputs() + self.form.points() - 1) * step + 1,
        }
    }
}

/// The form with the fewest products, and of equals the one with the fewest outputs, which adds less. Where `mixed` and
/// worth it, two: outputs that are no multiple of 3 end in tiles of 2.
fn forms(taps: usize, outputs: usize, mixed: bool) -> Result<Vec<(Form, usize)>, Declined> {
    let fits = |form: &Form| match taps {
        1 => *form == Form::F11,
        4 => *form == Form::F25,
        _ => form.taps() == taps,
    };
    let products = |form: &Form| form.points() * outputs.div_ceil(form.outputs());
    let best = Form::ALL.into_iter().filter(fits).min_by_key(products).ok_or_else(|| match taps {
        0 => Declined::because("some outputs meet no tap"),
        _ => Declined::because(format!("a phase has {taps} taps on one axis: forms have 1 to 5")),
    })?;
    let ends = 2 * [0, 2, 1][outputs % 3];
    let both = (outputs.saturating_sub(ends) / 3) * Form::F32.points() + ends / 2 * Form::F22.points();
    Ok(if mixed && taps == 2 && outputs > ends && WORTH * both <= (WORTH - 1) * products(&best) {
        vec![(Form::F32, outputs - ends), (Form::F22, ends)].into_iter().filter(|part| part.1 > 0).collect()
    } else if outputs > 0 {
        vec![(best, outputs)]
    } else {
        Vec::new()
    })
}

/// An axis.
#[derive(Debug, Clone)]
pub struct Axis {
    /// Every output belongs to exactly one.
    pub subs: Vec<SubPhase>,
    /// Distance of neighbouring inputs of a sub-phase (D/g).
    pub step: usize,
    /// Distance of neighbouring outputs of a sub-phase (S·D/g).
    pub distance: usize,
    /// Outputs of a sub-phase that are whole tiles in each of them.
    pub unit: usize,
    /// Outputs of the longest phase of one residue.
    pub longest: usize,
}

impl Axis {
    /// For each sub-phase the first that has the same weights.
    pub fn first_with_weights(&self) -> Vec<usize> {
        let first =
            |sub| self.subs.iter().position(|other| other.has_weights_of(sub)).expect("it has its own");
        self.subs.iter().map(first).collect()
    }

    /// Declines where a form is missing, and where an output meets no input: its error would have no bound. `mixed`: phases may
    /// be cut into parts of two forms.
    pub fn new(axis: &AxisGeometry, mixed: bool) -> Result<Self, Declined> {
        let stride = axis.axis.stride;
        let step = axis.phases[0].input_step;
        if stride > MOST || step > MOST {
            return Err(Declined::because(format!(
                "stride {stride} with taps {step} inputs apart: at most {MOST} each"
            )));
        }
        let mut subs = Vec::with_capacity(stride * step);
        for phase in &axis.phases {
            let unmet = |q: usize| phase.valid_taps(q).is_empty();
            if phase.taps > 0 && (unmet(0) || unmet(phase.outputs - 1) || axis.axis.input < step) {
                return Err(Declined::because("some outputs meet no input"));
            }
            for residue in 0..step {
                subs.extend(SubPhase::all(phase, residue, stride, mixed)?);
            }
        }
        let unit = subs.iter().map(|s| s.form.outputs()).fold(1, lcm);
        // The first residue of the first phase is the longest.
        let longest = axis.phases[0].outputs.div_ceil(step);
        Ok(Self { subs, step, distance: stride * step, unit, longest })
    }

    /// Whether some phase would be cut into parts of two forms, or take another one.
    pub fn mixes(axis: &AxisGeometry) -> bool {
        let forms = |mixed| Self::new(axis, mixed).map(|axis| axis.subs.into_iter().map(|s| s.form));
        matches!((forms(false), forms(true)), (Ok(one), Ok(two)) if !one.clone().eq(two.clone()))
    }

    /// Whether a product is saved at all.
    pub fn saves(&self) -> bool {
        self.subs.iter().any(|s| s.form != Form::F11)
    }
}

/// The least common multiple of two of 1, 2, 3, 6.
fn lcm(a: usize, b: usize) -> usize {
    if a.is_multiple_of(b) {
        a
    } else if b.is_multiple_of(a) {
        b
    } else {
        a * b
    }
}
