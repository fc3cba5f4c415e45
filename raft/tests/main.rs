//! Stories and schedules of the Raft core, in one binary.
mod cluster;
mod schedules;
mod smoke;
mod witness;
