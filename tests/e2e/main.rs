//! The real programs together: real processes, real TLS on loopback, a tiny BERT, generated notes.

mod audit;
mod backup;
mod bad_input;
mod crash;
mod days;
mod encoders;
mod faults;
mod gate;
mod guard;
mod history;
mod leaving;
mod members;
mod methods;
mod network;
mod old_copy;
mod pruning;
mod rations;
mod release;
mod roles;
mod rotation;
mod setting;
mod several_runs;
mod standing;
mod strangers;
mod transfers;
mod whole_loop;
