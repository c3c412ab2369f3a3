//! A kernel for testing the measuring itself: another one, made slower by a known share.

use std::hint::spin_loop;
use std::time::Instant;

use tconv::{
    Bytes64, Cost, Declined, Guarantees, Kernel, Prepared, Refusal, Registry, Request, Revisions, Scratch,
    Tensor, TensorMut, Variant, Weights,
};

/// Runs another kernel, then burns a share of the time that it took.
struct Slowed {
    name: &'static str,
    inner: &'static dyn Kernel,
    share: f64,
}

/// The registry with the kernel that `KERNEL+P%` names, where it names one: `polyphase+2%` is polyphase, 2 % slower.
/// Never part of the built-in list.
pub fn with_slowed(registry: Registry, name: &str) -> Registry {
    let Some((inner, share)) = parse(name) else { return registry };
    let (Some(inner), None) = (registry.get(inner), registry.get(name)) else { return registry };
    // Kernels live as long as the program; there are as many of these as the command line names.
    let name = Box::leak(name.to_owned().into_boxed_str());
    registry.with(Box::leak(Box::new(Slowed { name, inner, share })))
}

fn parse(name: &str) -> Option<(&str, f64)> {
    let (inner, percent) = name.strip_suffix('%')?.rsplit_once('+')?;
    let percent: f64 = percent.parse().ok()?;
    (0.0..=1000.0).contains(&percent).then_some((inner, percent / 100.0))
}

impl Kernel for Slowed {
    fn name(&self) -> &'static str {
        self.name
    }
    fn summary(&self) -> &'static str {
        "another kernel, slower on purpose: for tests of the harness"
    }
    fn revisions(&self) -> Revisions {
        self.inner.revisions()
    }
    fn guarantees(&self) -> Guarantees {
        self.inner.guarantees()
    }
    fn supports(&self, request: &Request<'_>) -> Result<(), Declined> {
        self.inner.supports(request)
    }
    fn variants(&self, request: &Request<'_>) -> Vec<Variant> {
        self.inner.variants(request)
    }
    fn cost(&self, request: &Request<'_>, variant: &Variant) -> Cost {
        self.inner.cost(request, variant)
    }
    fn prepare(&self, r: &Request<'_>, v: &Variant, w: Weights<'_>) -> Result<Box<dyn Prepared>, Refusal> {
        Ok(Box::new(Burning { inner: self.inner.prepare(r, v, w)?, share: self.share }))
    }
}

#[derive(Debug)]
struct Burning {
    inner: Box<dyn Prepared>,
    share: f64,
}

impl Prepared for Burning {
    fn scratch(&self) -> Scratch {
        self.inner.scratch()
    }
    fn run(&self, input: Tensor<'_>, output: TensorMut<'_>, scratch: &mut [Bytes64]) {
        let start = Instant::now();
        self.inner.run(input, output, scratch);
        let end = start.elapsed().mul_f64(1.0 + self.share);
        while start.elapsed() < end {
            spin_loop();
        }
    }
    fn repack(&mut self, weights: Weights<'_>) -> Result<(), Refusal> {
        self.inner.repack(weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_whose_and_by_how_much() {
        assert_eq!(parse("polyphase+2%"), Some(("polyphase", 0.02)));
        assert_eq!(parse("a+b+1.5%"), Some(("a+b", 0.015)));
        for plain in ["polyphase", "polyphase+2", "+2", "polyphase+x%", "polyphase+-1%"] {
            assert_eq!(parse(plain), None, "{plain}");
        }
    }

    #[test]
    fn only_known_kernels_are_slowed() {
        let registry = |name| with_slowed(Registry::builtin(), name);
        assert!(registry("scatter+3%").get("scatter+3%").is_some());
        assert!(registry("scater+3%").get("scater+3%").is_none());
        assert_eq!(registry("scatter").iter().count(), Registry::builtin().iter().count());
    }
}
