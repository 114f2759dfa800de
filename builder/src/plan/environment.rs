//! The variables of a stage while it is planned.
//!
//! A file may have tens of thousands of variables, stages and commands. So a copy of the variables
//! costs nothing, a change the logarithm of their number, and the list that processes are given is
//! made once until something changes.

use std::sync::Arc;

use rpds::RedBlackTreeMapSync;

use crate::parse::Environment;

/// What variables are and what processes see: `ENV` and `ARG` alike, in the order in which they were
/// last set. The reference says that `ENV` always wins; BuildKit lets the later one win, and images are
/// to be the same.
#[derive(Debug, Clone, Default)]
pub(super) struct StageEnvironment {
    /// Name → when it was set, and to what.
    values: RedBlackTreeMapSync<String, (u64, String)>,
    /// When → name.
    order: RedBlackTreeMapSync<u64, String>,
    next: u64,
    list: Option<Arc<[String]>>,
}

impl StageEnvironment {
    pub(super) fn set(&mut self, name: &str, value: &str) {
        if let Some((before, _)) = self.values.get(name) {
            self.order.remove_mut(before);
        }
        let entry = (self.next, value.to_owned());
        self.values.insert_mut(name.to_owned(), entry);
        self.order.insert_mut(self.next, name.to_owned());
        self.next += 1;
        self.list = None;
    }

    /// `NAME=value` in order, and whether the list had to be made.
    pub(super) fn list(&mut self) -> (Arc<[String]>, bool) {
        if let Some(list) = &self.list {
            return (Arc::clone(list), false);
        }
        let value = |name: &String| self.get(name).unwrap_or_default();
        let names = self.order.values();
        let list: Arc<[String]> = names
            .map(|name| format!("{name}={}", value(name)))
            .collect();
        self.list = Some(Arc::clone(&list));
        (list, true)
    }
}

impl Environment for StageEnvironment {
    fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_that_of_the_last_change_and_copies_are_independent() {
        let mut one = StageEnvironment::default();
        for (name, value) in [("A", "1"), ("B", "2"), ("A", "3"), ("C", "")] {
            one.set(name, value);
        }
        let mut other = one.clone();
        other.set("B", "4");
        assert_eq!(*one.list().0, ["B=2", "A=3", "C="]);
        assert_eq!(*other.list().0, ["A=3", "C=", "B=4"]);
        assert!(!one.list().1);
        assert_eq!((one.get("A"), one.get("D")), (Some("3"), None));
    }
}
