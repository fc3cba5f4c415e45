//! Stories and schedules of the Raft core, in one binary.
//!
//! The ids in the stories (`E1`, `R8`, `M7`) name the acceptance scenarios of the study of Raft cores; sections (`§3.4`)
//! are those of Ongaro's dissertation.

mod cluster;
mod damage;
mod election;
mod flow;
mod golden;
mod hostile;
mod lives;
mod machine;
mod membership;
mod paper;
mod reads;
mod replication;
mod restart;
mod room;
mod scenarios;
mod schedules;
mod smoke;
mod start;
mod status;
mod transfer;
mod verbs;
mod witness;
