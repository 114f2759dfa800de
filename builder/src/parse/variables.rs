//! Variables of a stage, by name.
//!
//! A stage begins with all that the one below it has, and every step of a plan remembers what it was
//! given; a file may have tens of thousands of all three. So copies share what they have in common: a
//! copy costs nothing, a change the logarithm of the size.

use rpds::RedBlackTreeMapSync;

use super::expand::Environment;

/// Names and values in the order of the names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Variables {
    map: RedBlackTreeMapSync<String, String>,
}

impl Variables {
    pub(crate) fn insert(&mut self, name: String, value: String) {
        self.map.insert_mut(name, value);
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.map.keys().map(String::as_str)
    }
}

impl Environment for Variables {
    fn get(&self, name: &str) -> Option<&str> {
        self.map.get(name).map(String::as_str)
    }
}

impl Extend<(String, String)> for Variables {
    fn extend<I: IntoIterator<Item = (String, String)>>(&mut self, pairs: I) {
        for (name, value) in pairs {
            self.insert(name, value);
        }
    }
}

impl FromIterator<(String, String)> for Variables {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        let mut variables = Self::default();
        variables.extend(pairs);
        variables
    }
}
