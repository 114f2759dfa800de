//! Git repositories, from real servers on loopback: as contexts and as sources of `ADD`.

mod epoch;
mod forms;
mod hostile;
mod secrets;
mod servers;
mod ssh;
