//! Choosing from lists by regular expression, with help for names that match nothing.

use regex_lite::Regex;
use tconv::{Isa, Kernel, Registry};

use crate::cli::Failure;

/// The items whose name matches (all without a pattern); no match is a failure that names the nearest names.
pub fn matching<T>(
    what: &str,
    items: Vec<T>,
    name: impl Fn(&T) -> &str,
    pattern: Option<&str>,
) -> Result<Vec<T>, Failure> {
    let Some(pattern) = pattern else { return Ok(items) };
    let regex = Regex::new(pattern).map_err(|e| Failure(format!("bad pattern '{pattern}': {e}")))?;
    let names: Vec<String> = items.iter().map(|item| name(item).to_owned()).collect();
    let chosen: Vec<T> = items.into_iter().filter(|item| regex.is_match(name(item))).collect();
    if chosen.is_empty() {
        let near = nearest(pattern, &names).join(", ");
        return Err(Failure(format!("no {what} matches '{pattern}'; nearest: {near}")));
    }
    Ok(chosen)
}

/// The kernels whose name matches.
pub fn kernels(registry: &Registry, pattern: Option<&str>) -> Result<Vec<&'static dyn Kernel>, Failure> {
    matching("kernel", registry.iter().collect(), |k| k.name(), pattern)
}

/// The instruction set by name (an option), or the one that `TCONV_ISA` names, or all that this CPU has.
pub fn isas(name: Option<&str>) -> Result<Vec<Isa>, Failure> {
    match name {
        Some(name) => Ok(vec![Isa::by_name(name)?]),
        None if std::env::var(tconv::ISA_VARIABLE).is_ok_and(|v| !v.is_empty()) => Ok(vec![Isa::detect()?]),
        None => Ok(Isa::available()),
    }
}

/// The three names most like `wanted`.
fn nearest<'a>(wanted: &str, names: &'a [String]) -> Vec<&'a str> {
    let mut ranked: Vec<(f64, &str)> =
        names.iter().map(|n| (strsim::jaro_winkler(wanted, n), n.as_str())).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    ranked.into_iter().take(3).map(|(_, name)| name).collect()
}
