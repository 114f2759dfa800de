//! Tars both ways.
mod foreign;
mod hostile;
mod peers;
mod roundtrip;
