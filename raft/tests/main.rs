//! Stories and schedules of the Raft core, in one binary.
mod cluster;
mod smoke;
mod witness;
