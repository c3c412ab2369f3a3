//! Sizes that take a search, kept for who asks next: a planner asks a kernel what a request would cost, and has it prepared after
//! that; and layers of one network are often like the same measured ones.

use std::cell::RefCell;
use std::collections::VecDeque;

use super::request::{Declined, Request};
use crate::machine::isa::Target;
use crate::machine::tensor::Dtype;
use crate::problem::problem::Problem;

/// So many answers are kept, the newest.
const KEPT: usize = 16;

/// Answers to the last requests of a thread. They must depend on nothing but problem, type and target.
#[derive(Debug)]
pub struct Searched<A>(RefCell<VecDeque<Box<Kept<A>>>>);

/// A question and its answer.
type Kept<A> = (Asked, Result<A, Declined>);

#[derive(Debug, Clone, Copy, PartialEq)]
struct Asked {
    problem: Problem,
    dtype: Dtype,
    target: Target,
}

impl<A: Clone> Searched<A> {
    /// Of no request.
    pub const fn none_yet() -> Self {
        Self(RefCell::new(VecDeque::new()))
    }

    /// The answer to this request: a kept one, or that of `search`.
    pub fn answer(
        &self,
        request: &Request<'_>,
        search: impl FnOnce() -> Result<A, Declined>,
    ) -> Result<A, Declined> {
        let (problem, dtype, target) = (*request.geometry.problem(), request.dtype, request.target);
        let asked = Asked { problem, dtype, target };
        if let Some(kept) = self.0.borrow().iter().find(|kept| kept.0 == asked) {
            return kept.1.clone();
        }
        let answer = search();
        let mut kept = self.0.borrow_mut();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(Box::new((asked, answer.clone())));
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::isa::Isa;
    use crate::problem::epilogue::Epilogue;
    use crate::problem::geometry::Geometry;
    use crate::problem::limits::Limits;
    use crate::problem::problem::Accuracy;
    use crate::problem::spec::Spec;

    #[test]
    fn a_search_is_made_once_for_each_of_the_last_requests() {
        let searched = Searched::none_yet();
        let mut searches = 0;
        let mut ask = |width: usize, threads: usize| {
            let spec = Spec::new(&[1, 1, width as i64], &[1, 1, 1]);
            let geometry = Geometry::new(&spec.check(Limits::default()).unwrap()).unwrap();
            let request = Request {
                geometry: &geometry,
                dtype: Dtype::F32,
                epilogue: Epilogue::NONE,
                accuracy: Accuracy::Standard,
                target: Target { isa: Isa::PORTABLE, threads },
                weights: None,
            };
            let answer = searched.answer(&request, || {
                searches += 1;
                if width == 13 { Err(Declined::because("thirteen")) } else { Ok((width, threads)) }
            });
            assert_eq!(answer.ok(), (width != 13).then_some((width, threads)));
            searches
        };
        assert_eq!([ask(1, 1), ask(1, 2), ask(13, 1), ask(2, 1)], [1, 2, 3, 4]);
        assert_eq!([ask(1, 1), ask(1, 2), ask(13, 1), ask(2, 1)], [4; 4]);
        assert_eq!((100..100 + KEPT).map(|width| ask(width, 1)).last(), Some(4 + KEPT));
        assert_eq!(ask(1, 1), 4 + KEPT + 1);
    }
}
