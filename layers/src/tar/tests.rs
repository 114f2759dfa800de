//! Tars both ways.
mod roundtrip;
