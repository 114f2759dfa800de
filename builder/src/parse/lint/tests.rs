//! Good and bad examples for each rule.
