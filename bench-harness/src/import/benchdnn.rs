//! Deconvolutions as oneDNN's benchdnn states them: `mb1_ic256oc128_ih32oh64kh4sh2ph1_n"up1"`.
//!
//! Keys are `g`, `mb`, `ic`, `oc` and, for each axis d, h, w, sizes of input `i` and output `o`, kernel `k`, stride `s`,
//! dilation `d` (0 = dense there, 1 = dense here) and crop `p` at the begin. A missing axis repeats the one before it; a
//! missing output is computed; a missing crop is what centres the output. What the output then lacks or has too much is
//! cropped or added at the end.

use tconv::Spec;

use super::{Imported, Names, workload};
use crate::cli::Failure;

/// Images where a problem does not say.
const DEFAULT_BATCH: i64 = 2;

/// All problems of a batch file: lines with options (`--…`) set nothing that a shape depends on, `#` begins a comment.
pub fn import(text: &str, source: &str) -> Result<Imported, Failure> {
    let (mut imported, mut names) = (Imported::default(), Names::default());
    let mut options: Vec<&str> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or("").trim();
        for word in words(line) {
            if word.starts_with("--") {
                options.push(word);
                continue;
            }
            let at = |problem: String| Failure(format!("{source}: line {}: '{word}': {problem}", number + 1));
            let stated = Stated::read(word).map_err(at)?;
            let name = match &stated.name {
                Some(name) => name.clone(),
                None => word.to_owned(),
            };
            let made =
                workload(names.unique(&name), &stated.spec().map_err(at)?, false, source.into(), "benchdnn");
            imported.workloads.push(made.map_err(|e| at(e.to_string()))?);
        }
    }
    let ignored: Vec<&str> =
        options.iter().copied().filter(|o| !o.starts_with("--batch") && !o.starts_with("--reset")).collect();
    if let Some(batch) = options.iter().find(|o| o.starts_with("--batch")) {
        imported.notes.push(format!("{source} includes another file, which is not followed: {batch}"));
    }
    if !ignored.is_empty() {
        let mut ignored = ignored;
        ignored.sort_unstable();
        ignored.dedup();
        imported.notes.push(format!("options that are no part of a shape: {}", ignored.join(" ")));
    }
    if imported.workloads.is_empty() {
        return Err(Failure(format!("{source}: no deconvolution, such as mb1_ic256oc128_ih32oh64kh4sh2ph1")));
    }
    Ok(imported)
}

/// Splits at blanks outside of quotes.
fn words(line: &str) -> Vec<&str> {
    let mut quoted = false;
    let blank = |c: char| {
        quoted ^= c == '"';
        c.is_whitespace() && !quoted
    };
    line.split(blank).filter(|word| !word.is_empty()).collect()
}

/// What a text states, axis by axis (d, h, w).
#[derive(Debug, Default)]
struct Stated {
    groups: Option<i64>,
    batch: Option<i64>,
    in_channels: Option<i64>,
    out_channels: Option<i64>,
    axes: [Axis; 3],
    name: Option<String>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Axis {
    input: Option<i64>,
    output: Option<i64>,
    kernel: Option<i64>,
    stride: Option<i64>,
    dilation: Option<i64>,
    padding: Option<i64>,
}

impl Stated {
    fn read(text: &str) -> Result<Self, String> {
        let mut stated = Self::default();
        let mut rest = text;
        while !rest.is_empty() {
            rest = rest.trim_start_matches('_');
            if let Some(name) = rest.strip_prefix('n') {
                stated.name = Some(name.trim_matches('"').to_owned()).filter(|n| !n.is_empty());
                break;
            }
            let digits = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
            let (key, after) = rest.split_at(digits);
            let end = after.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(after.len());
            let (digits, after) = after.split_at(end);
            if key.is_empty() && digits.is_empty() {
                return if after.is_empty() { Ok(stated) } else { Err(format!("unexpected '{after}'")) };
            }
            let value = digits.parse().map_err(|_| format!("'{key}' has no number"))?;
            let slot = stated.slot(key).ok_or_else(|| {
                format!("unknown key '{key}' (g, mb, ic, oc; i, o, k, s, d, p with d, h or w; n)")
            })?;
            if slot.replace(value).is_some() {
                return Err(format!("'{key}' is stated twice"));
            }
            rest = after;
        }
        Ok(stated)
    }

    fn slot(&mut self, key: &str) -> Option<&mut Option<i64>> {
        match key {
            "g" => return Some(&mut self.groups),
            "mb" => return Some(&mut self.batch),
            "ic" => return Some(&mut self.in_channels),
            "oc" => return Some(&mut self.out_channels),
            _ => {}
        }
        let &[what, axis] = key.as_bytes() else { return None };
        let axis = &mut self.axes[b"dhw".iter().position(|&a| a == axis)?];
        Some(match what {
            b'i' => &mut axis.input,
            b'o' => &mut axis.output,
            b'k' => &mut axis.kernel,
            b's' => &mut axis.stride,
            b'd' => &mut axis.dilation,
            b'p' => &mut axis.padding,
            _ => return None,
        })
    }

    fn spec(&self) -> Result<Spec, String> {
        let need = |value: Option<i64>, key: &str| value.ok_or_else(|| format!("no {key}"));
        let (cin, cout) = (need(self.in_channels, "ic")?, need(self.out_channels, "oc")?);
        let groups = self.groups.unwrap_or(1);
        if groups < 1 || cin % groups != 0 || cout % groups != 0 {
            return Err(format!("{groups} groups do not divide ic{cin} and oc{cout}"));
        }
        let present = |a: &Axis| a.input.or(a.kernel).or(a.output).is_some();
        let first = self.axes.iter().position(present).ok_or("no ih")?;
        let (mut input, mut weight) =
            (vec![self.batch.unwrap_or(DEFAULT_BATCH), cin], vec![cin, cout / groups]);
        let (mut strides, mut dilations, mut begins, mut ends, mut added) =
            (vec![], vec![], vec![], vec![], vec![]);
        let mut last = Axis::default();
        for (axis, letter) in self.axes.iter().zip(["d", "h", "w"]).skip(first) {
            // An axis that says nothing about its size is like the one before it.
            let axis = if axis.input.is_none() && axis.kernel.is_none() && axis.output.is_none() {
                last.with(axis)
            } else {
                *axis
            };
            let i = need(axis.input.or(last.input), &format!("i{letter}"))?;
            let k = need(axis.kernel.or(last.kernel), &format!("k{letter}"))?;
            last = axis;
            let (s, d) = (axis.stride.unwrap_or(1), axis.dilation.unwrap_or(0).saturating_add(1));
            let full = i128::from(i - 1) * i128::from(s) + i128::from(k - 1) * i128::from(d) + 1;
            let narrow = |v: i128| i64::try_from(v).map_err(|_| format!("axis {letter} is too large"));
            let begin = match (axis.padding, axis.output) {
                (Some(p), _) => p,
                (None, Some(o)) => narrow((full - i128::from(o)).div_euclid(2))?,
                (None, None) => 0,
            };
            let end = match axis.output {
                None => i128::from(begin),
                Some(o) => full - i128::from(o) - i128::from(begin),
            };
            input.push(i);
            weight.push(k);
            strides.push(s);
            dilations.push(d);
            begins.push(begin);
            ends.push(narrow(end.max(0))?);
            added.push(narrow((-end).max(0))?);
        }
        begins.extend(ends);
        Ok(Spec::new(&input, &weight)
            .stride(strides)
            .dilation(dilations)
            .pads(&begins)
            .output_padding(added)
            .groups(groups))
    }
}

impl Axis {
    /// Its values, but for those that `own` states.
    fn with(self, own: &Self) -> Self {
        Self {
            stride: own.stride.or(self.stride),
            dilation: own.dilation.or(self.dilation),
            padding: own.padding.or(self.padding),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Result<(String, String), String> {
        let imported = import(text, "file").map_err(|Failure(m)| m)?;
        let w = &imported.workloads[0];
        Ok((w.name.clone(), w.descriptor(tconv::Dtype::F32)))
    }

    /// Problems that oneDNN's own tests hold, with the sizes that its documentation gives them.
    #[test]
    fn problems_are_read() {
        for (text, expected) in [
            ("mb1_ic256oc128_ih64oh128kh4sh2dh0ph1", "f32:nchw:1x256x64x64:o128:k4x4:s2x2:p1x1"),
            ("mb1ic16ih16oc128oh32kh64sh2ph1", "f32:nchw:1x16x16x16:o128:k64x64:s2x2:p1+61x1+61"),
            ("ic64ih7oc64oh7kh1ph0_n\"multisum\"", "f32:nchw:2x64x7x7:o64:k1x1"),
            (
                "mb56_ic2oc3_ih6oh18kh3sh3dh0ph1_iw5ow15kw3sw3dw0pw1_n\"2d_strided_with_bias\"",
                "f32:nchw:56x2x6x5:o3:k3x3:s3x3:p1+0x1+0:op1x1",
            ),
            ("g17oc17ic17_od5id5kd3pd1_n\"tail\"", "f32:nchw:2x17x5x5x5:o17:k3x3x3:p1x1x1:g17"),
            ("oc17ic16_ow5iw5kw1pw0", "f32:nchw:2x16x5:o17:k1"),
            ("mb1ic4oc4_iw7kw3dw1", "f32:nchw:1x4x7:o4:k3:d2"),
            ("mb1_ic4oc4_ih5oh11kh4sh2", "f32:nchw:1x4x5x5:o4:k4x4:s2x2:p0+1x0+1"),
        ] {
            assert_eq!(one(text).map(|o| o.1).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn batches_have_options_comments_and_names() {
        let text = "# a comment\n--reset --dir=FWD_B --dt=f32\nmb1ic4oc4ih5kh3n\"two words\" mb1ic4oc4ih6kh3 # rest\n\n--dt=f32\nmb1ic4oc4ih6kh3\n";
        let imported = import(text, "file").unwrap();
        let names: Vec<&str> = imported.workloads.iter().map(|w| w.name.as_str()).collect();
        assert_eq!(names, ["two words", "mb1ic4oc4ih6kh3", "mb1ic4oc4ih6kh3_2"]);
        assert_eq!(imported.notes, ["options that are no part of a shape: --dir=FWD_B --dt=f32"]);
    }

    #[test]
    fn bad_problems_are_named_with_their_line() {
        for (text, words) in [
            ("\nmb1oc4ih5kh3", &["line 2", "no ic"][..]),
            ("mb1ic4oc4kh3", &["no ih"]),
            ("mb1ic4oc4ih5", &["no kh"]),
            ("mb1ic4oc4ih5kh3ih6", &["'ih'", "twice"]),
            ("mb1ic4oc4ih5kh3xh6", &["'xh'"]),
            ("mb1ic4oc4ih5kh", &["'kh' has no number"]),
            ("mb1ic4oc4ih5kh3!", &["!"]),
            ("g3ic4oc4ih5kh3", &["3 groups"]),
            ("mb1ic4oc4ih5kh3sh0", &["stride 0"]),
            ("mb1ic4oc4ih5kh99999999999999999999", &["kh"]),
            ("# nothing", &["no deconvolution"]),
        ] {
            let message = one(text).expect_err(text);
            for word in words {
                assert!(message.contains(word), "{text}: '{word}' is not in: {message}");
            }
        }
    }
}
