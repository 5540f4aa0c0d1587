//! The store against a model, on a disk that loses power, rots and fills.

mod crash;
mod damage;
mod full;
mod look;
mod ordinary;
mod rig;
