//! One axis cut into correlations of step 1, each with its form and its tiles.
//!
//! A stride phase whose taps lie D/g inputs apart splits once more: outputs whose number in the phase has the same residue
//! modulo D/g read inputs of one residue. Each such *sub-phase* is a correlation of neighbours, at distance D/g in the
//! input and S·D/g in the output.

use super::forms::Form;
use crate::contract::request::Declined;
use crate::problem::geometry::{AxisGeometry, Phase};

/// More phases or residues than this on an axis decline: blocks would hold hardly a tile of each.
const MOST: usize = 8;

/// Outputs of one residue of one phase.
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
    /// `None` for a residue without outputs.
    fn new(phase: &Phase, residue: usize, stride: usize) -> Result<Option<Self>, Declined> {
        if residue >= phase.outputs {
            return Ok(None);
        }
        let outputs = (phase.outputs - residue).div_ceil(phase.input_step);
        let form = best_form(phase.taps, outputs)?;
        let back = ((form.taps() - 1) * phase.input_step) as i64;
        Ok(Some(Self {
            phase: *phase,
            form,
            first_input: phase.input_index(residue, 0) - back,
            first_output: phase.first_output + residue * stride,
            outputs,
            tiles: outputs.div_ceil(form.outputs()),
        }))
    }

    /// Kernel index of the tap that meets input `j` of a window; `None` where the form has more taps than the phase.
    pub fn tap(&self, j: usize) -> Option<usize> {
        let m = self.form.taps() - 1 - j;
        (m < self.phase.taps).then(|| self.phase.tap(m))
    }

    /// Inputs that tiles `0..tiles` span, from the first to behind the last, at distance `step`.
    pub fn span(&self, tiles: usize, step: usize) -> usize {
        match tiles {
            0 => 0,
            tiles => ((tiles - 1) * self.form.outputs() + self.form.points() - 1) * step + 1,
        }
    }
}

/// The form with the fewest products; of equals the one with the fewest outputs, which adds less.
fn best_form(taps: usize, outputs: usize) -> Result<Form, Declined> {
    let fits = |form: &Form| match taps {
        1 => *form == Form::F11,
        4 => *form == Form::F25,
        _ => form.taps() == taps,
    };
    let products = |form: &Form| form.points() * outputs.div_ceil(form.outputs());
    Form::ALL.into_iter().filter(fits).min_by_key(products).ok_or_else(|| match taps {
        0 => Declined::because("some outputs meet no tap"),
        _ => Declined::because(format!("a phase has {taps} taps on one axis: forms have 1 to 5")),
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
}

impl Axis {
    /// Declines where a form is missing, and where an output meets no input: its error would have no bound.
    pub fn new(axis: &AxisGeometry) -> Result<Self, Declined> {
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
                subs.extend(SubPhase::new(phase, residue, stride)?);
            }
        }
        let unit = subs.iter().map(|s| s.form.outputs()).fold(1, lcm);
        Ok(Self { subs, step, distance: stride * step, unit })
    }

    /// Outputs of the longest sub-phase.
    pub fn longest(&self) -> usize {
        self.subs.iter().map(|s| s.outputs).max().unwrap_or(0)
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
