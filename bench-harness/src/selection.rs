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
        return Err(unknown(what, pattern, &names));
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

/// The failure for a name that nothing has: it tells the three names most like it.
pub fn unknown(what: &str, wanted: &str, names: &[impl AsRef<str>]) -> Failure {
    let likeness = |n: &str| strsim::jaro_winkler(wanted, n);
    let mut ranked: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    ranked.sort_by(|a, b| likeness(b).total_cmp(&likeness(a)));
    ranked.truncate(3);
    Failure(format!("no {what} matches '{wanted}'; nearest: {}", ranked.join(", ")))
}
