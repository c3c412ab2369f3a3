//! A part of the workloads, for one of several machines. A workload is never divided: its ratios hold within one sitting.

use std::collections::BTreeSet;
use std::fmt;

/// One of several parts, written `2/4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// From 1 on.
    number: usize,
    of: usize,
}

impl Shard {
    /// `None` where that is no part of a whole.
    pub fn parse(text: &str) -> Option<Self> {
        let (number, of) = text.split_once('/')?;
        let (number, of) = (number.parse().ok()?, of.parse().ok()?);
        (1..=of).contains(&number).then_some(Self { number, of })
    }

    /// The items that belong to this part, in their order: a function of the sorted names alone. All items of one name
    /// stay together.
    pub fn part_of<T>(self, items: Vec<T>, name: impl Fn(&T) -> &str) -> Vec<T> {
        let names: BTreeSet<String> = items.iter().map(|item| name(item).to_owned()).collect();
        let mine: BTreeSet<&String> = names.iter().skip(self.number - 1).step_by(self.of).collect();
        items.into_iter().filter(|item| mine.contains(&name(item).to_owned())).collect()
    }

    /// As part of a file name.
    pub fn slug(self) -> String {
        format!("s{}of{}", self.number, self.of)
    }

    /// Which parts of this whole are not among `present`.
    pub fn missing(self, present: &[Self]) -> Vec<Self> {
        let all = (1..=self.of).map(|number| Self { number, of: self.of });
        all.filter(|part| !present.contains(part)).collect()
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_and_written() {
        for text in ["1/1", "3/4", "4/4"] {
            assert_eq!(Shard::parse(text).map(|s| s.to_string()).as_deref(), Some(text));
        }
        for bad in ["", "1", "0/4", "5/4", "1/0", "-1/2", "a/b", "1/2/3"] {
            assert_eq!(Shard::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn parts_are_a_partition_that_the_order_does_not_change() {
        let items = ["d", "a", "c", "a", "e", "b"];
        let part = |text: &str, items: &[&'static str]| {
            Shard::parse(text).unwrap().part_of(items.to_vec(), |item| item)
        };
        assert_eq!(part("1/2", &items), ["a", "c", "a", "e"]);
        assert_eq!(part("2/2", &items), ["d", "b"]);
        assert_eq!(part("2/2", &["b", "a", "e", "d", "c"]), ["b", "d"]);
        assert_eq!(part("1/1", &items), items);
        assert_eq!(part("7/7", &items), [""; 0]);
    }

    #[test]
    fn missing_parts_are_named() {
        let [first, third] = ["1/3", "3/3"].map(|text| Shard::parse(text).unwrap());
        assert_eq!(first.missing(&[third, first]), [Shard::parse("2/3").unwrap()]);
        assert_eq!(first.missing(&[]).len(), 3);
    }
}
